//! The commands that are about finished runs, one file each; those that measure are in `scenarios`.

pub mod compare;
pub mod readme;
pub mod report;
