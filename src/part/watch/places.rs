//! How many watches applications may have.

use crate::queue::{Allowance, Taken};

/// What the applications of a node may watch at a time.
pub struct Places {
    /// How many there are.
    pub most: usize,
    left: Allowance,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, left: Allowance::new(most) }
    }

    /// A place, if one is free.
    pub fn take(&self) -> Option<Taken> {
        self.left.take(1)
    }
}
