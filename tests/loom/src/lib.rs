//! `src/queue` compiled with loom's primitives: `cargo test --release -p keyway-loom` runs the
//! models in `src/queue/models.rs` through every interleaving.

// Only part of the crate is here, so that links in its documents to the rest lead nowhere.
#![allow(rustdoc::broken_intra_doc_links)]

#[path = "../../../src/queue/mod.rs"]
pub mod queue;
