//! How many watches applications may have.

use super::error::NodeError;
use crate::queue::{Allowance, Taken};

/// What the applications of a node may watch at a time.
pub(super) struct Places {
    most: usize,
    left: Allowance,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self { most, left: Allowance::new(most) }
    }

    pub fn take(&self) -> Result<Taken, NodeError> {
        self.left.take(1).ok_or(NodeError::TooManyWatches { most: self.most })
    }
}
