//! A line that control wants in the log.

use crate::base::LogKind;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// What it is about.
    pub kind: LogKind,
    /// How many of this kind were left out before it.
    pub left_out: u64,
    /// What it says.
    pub text: String,
}
