//! What is said of a router option that cannot be.

use crate::base::debug_as_display;
use std::fmt;

/// A router option has a value that it cannot have. Nothing was changed; correct the option.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot build the router: option `{key}` is {value}, but must be {range}")]
pub struct SpecError {
    /// The option's name.
    pub key: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values it can have.
    pub range: String,
}

debug_as_display!(SpecError);

impl SpecError {
    pub(crate) fn new(
        key: &'static str,
        value: impl fmt::Display,
        range: impl Into<String>,
    ) -> Self {
        Self { key, value: value.to_string(), range: range.into() }
    }
}
