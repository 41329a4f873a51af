//! `src/queue` compiled with loom's primitives: `cargo test --release -p keyway-loom` runs the
//! models in `src/queue/models.rs` through every interleaving.

#[path = "../../../src/queue/mod.rs"]
pub mod queue;
