//! The commands, one file each; `main.rs` has their list.

pub mod floors;
