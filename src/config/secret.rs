//! The cluster's secret, which is never printed.

use std::fmt;

use super::{ConfigError, RefusedSetting};

pub(super) const SECRET_ALLOWED: &str = "16 to 1024 bytes";

/// What the nodes of a cluster share to prove that they belong to it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of 16 to 1,024 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        Self::named("secret", bytes.into())
    }

    pub(super) fn named(key: &str, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        if (16..=1_024).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        let shown = format!("({} bytes, not shown)", bytes.len());
        Err(RefusedSetting::new(key, shown, SECRET_ALLOWED).into())
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}
