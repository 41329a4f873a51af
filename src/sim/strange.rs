//! What a seed may have beside the nodes of its cluster. Drawn from streams of its own.

use rand::{RngExt, SeedableRng};

use crate::base::Rng;

/// What its chance and that of others differ by.
const FORGER: u64 = 0x666f_7267_6572;

/// What there is; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Strange {
    /// Somebody who is no node tries to get in.
    pub forger: bool,
}

impl Strange {
    /// What a seed has.
    pub fn draw(seed: u64) -> Self {
        let one_in =
            |of: u32, stream: u64| Rng::seed_from_u64(seed ^ stream).random_range(0..of) == 0;
        Self { forger: one_in(8, FORGER) }
    }
}
