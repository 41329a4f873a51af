//! Derive macros for keyway.
