//! What scenarios share.

pub mod pair;
pub mod run;
pub mod story;
