//! Addresses that a test names before anything is bound there.
//!
//! A port that was free a moment ago may be taken by whatever connects or binds next on the same
//! machine. So each of these is an address of the loopback network that nothing else uses.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};

/// A place of its own.
pub fn place() -> SocketAddr {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = process::id().to_be_bytes();
    // Not 127.0.0.x, which others use.
    let high = high.max(1);
    (Ipv4Addr::new(127, high, low, GIVEN.fetch_add(1, Ordering::Relaxed)), 7400).into()
}
