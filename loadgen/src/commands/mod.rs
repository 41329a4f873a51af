//! The commands, one file each; `main.rs` has their list.

pub mod floors;
mod pair;
pub mod quick;
mod run;
mod story;
