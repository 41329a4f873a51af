//! One failure type for the whole program: what was attempted, why it failed, what to do.

use std::fmt;

/// The result of anything that can fail on the way to a measurement.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failed attempt, in the three parts that a reader needs.
///
/// ```
/// use loadgen::error::Failure;
/// let failure = Failure::new("bind the listener", "address in use").hint("choose another port");
/// assert_eq!(
///     failure.to_string(),
///     "could not bind the listener: address in use (choose another port)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    attempted: String,
    cause: String,
    remedy: Option<String>,
}

impl Failure {
    /// A failure to do `attempted` (an infinitive without "to"), for the reason `cause`.
    pub fn new(attempted: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { attempted: attempted.into(), cause: cause.to_string(), remedy: None }
    }

    /// Adds what the person in front of the screen can do about it.
    pub fn hint(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "could not {}: {}", self.attempted, self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(out, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Names the attempt at the place where an error is passed on.
pub trait Attempt<T> {
    /// Turns an error into a [`Failure`] to do `what`.
    fn attempting(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> Attempt<T> for std::result::Result<T, E> {
    fn attempting(self, what: &str) -> Result<T> {
        self.map_err(|cause| Failure::new(what, cause))
    }
}
