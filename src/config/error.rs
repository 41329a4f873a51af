//! Why a configuration was refused.

use crate::base::debug_as_display;
use std::io;
use std::path::PathBuf;

/// What lists all settings for whoever writes a program; a command may name another way.
pub const LISTED_BY: &str = "`NodeConfig::default().to_toml()`";

/// A setting cannot have this value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` = {value} is refused: it takes {allowed}")]
#[non_exhaustive]
pub struct RefusedSetting {
    /// The setting, or the environment variable.
    pub key: String,
    /// The value as it was given; secrets are not shown.
    pub value: String,
    /// The values that would do.
    pub allowed: String,
}

debug_as_display!(RefusedSetting);

impl RefusedSetting {
    pub(super) fn new(
        key: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), value: value.into(), allowed: allowed.into() }
    }
}

/// Why a configuration was refused.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("there is no setting `{key}`{}", suggest(.nearest))]
    Unknown {
        /// The name as it was given.
        key: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The setting cannot have this value.
    #[error(transparent)]
    Refused(#[from] RefusedSetting),
    /// The text is no TOML.
    #[error("line {line} is no TOML: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read the {what} {}: {source}; check path and permissions", path.display())]
    Read {
        /// What was to be read from it.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A configuration file was read, but not accepted.
    #[error("in {}: {source}", path.display())]
    InFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ConfigError>,
    },
}

debug_as_display!(ConfigError);

fn suggest(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; {LISTED_BY} lists them all"),
    }
}
