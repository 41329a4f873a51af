//! What can go wrong with a child process, by name.

use std::fmt;
use std::time::Duration;

use crate::error::Failure;

/// Why a child could not be started, or did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessError {
    /// It could not be started.
    NotStarted {
        /// The child's name in this run.
        name: String,
        /// The program that was to run.
        program: String,
        /// The system's reason.
        cause: String,
    },
    /// It did not answer or end in time. It may still be working.
    TimedOut {
        /// The child's name in this run.
        name: String,
        /// What it was told.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// It ended before it answered.
    Ended {
        /// The child's name in this run.
        name: String,
        /// What it was told.
        command: String,
        /// Its exit code or signal.
        status: String,
        /// The end of its log, when it has one.
        log_tail: String,
    },
    /// It answered with something that is not the expected answer: a defect.
    Garbled {
        /// The child's name in this run.
        name: String,
        /// What it was told.
        command: String,
        /// The beginning of what it said.
        line: String,
        /// What is wrong with it.
        cause: String,
    },
    /// It understood, tried, and failed.
    Refused {
        /// The child's name in this run.
        name: String,
        /// What it was told.
        command: String,
        /// Its own words.
        reason: String,
    },
    /// The system failed us in between.
    System {
        /// The child's name in this run.
        name: String,
        /// What was attempted with it.
        attempted: String,
        /// The system's reason.
        cause: String,
    },
}

impl fmt::Display for ProcessError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted { name, program, cause } => {
                write!(out, "could not start {name} ({program}): {cause}")
            }
            Self::TimedOut { name, command, after } => {
                write!(out, "{name} did not answer {command} within {after:?}")
            }
            Self::Ended { name, command, status, log_tail } => {
                write!(out, "{name} ended ({status}) before it answered {command}")?;
                if log_tail.is_empty() { Ok(()) } else { write!(out, "; it last said: {log_tail}") }
            }
            Self::Garbled { name, command, line, cause } => {
                write!(out, "{name} answered {command} with {line:?}: {cause}")
            }
            Self::Refused { name, command, reason } => {
                write!(out, "{name} failed at {command}: {reason}")
            }
            Self::System { name, attempted, cause } => {
                write!(out, "could not {attempted} {name}: {cause}")
            }
        }
    }
}

impl std::error::Error for ProcessError {}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Failure::new("work with a helper process", error)
    }
}
