//! Whether a node takes messages from its application's threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use super::block_on::is_worker_thread;

/// It takes them.
const OPEN: u8 = 0;
/// Set once it was told to leave: what handlers do is brought to its end, and nothing new begins.
const LEAVING: u8 = 1;
/// Set once it takes nothing more.
const CLOSED: u8 = 2;

/// Whether a node takes messages from its application's threads. Goes one way only.
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

/// Why one is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The node leaves.
    Leaving,
    /// It has ended.
    Closed,
}

impl Gate {
    /// From now on only what handlers have begun may send.
    pub fn leave(&self) {
        self.0.fetch_or(LEAVING, Ordering::SeqCst);
    }

    /// From now on nothing is taken.
    pub fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Whether this thread may send now.
    ///
    /// # Errors
    /// Why it may not.
    #[inline]
    pub fn admits(&self) -> Result<(), Shut> {
        match self.0.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            state => shut(state),
        }
    }

    /// Whether nothing is taken.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether it was told to leave, also once nothing is taken.
    pub fn is_leaving(&self) -> bool {
        self.0.load(Ordering::SeqCst) & LEAVING != 0
    }
}

#[cold]
fn shut(state: u8) -> Result<(), Shut> {
    match state {
        LEAVING if is_worker_thread() || FOR_HANDLER.with(Cell::get) => Ok(()),
        LEAVING => Err(Shut::Leaving),
        _ => Err(Shut::Closed),
    }
}

std::thread_local! {
    static FOR_HANDLER: Cell<bool> = const { Cell::new(false) };
}

/// Does this for a handler, elsewhere than on its worker's thread: what it sends is a part of what
/// a node that leaves brings to its end.
pub fn for_handler<T>(act: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            FOR_HANDLER.with(|flag| flag.set(self.0));
        }
    }
    let _before = Before(FOR_HANDLER.with(|flag| flag.replace(true)));
    act()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_node_takes_what_is_done_for_handlers_and_a_closed_one_nothing() {
        let gate = Gate::default();
        let both = || (gate.admits(), for_handler(|| gate.admits()));
        assert_eq!(both(), (Ok(()), Ok(())));
        gate.leave();
        assert_eq!(both(), (Err(Shut::Leaving), Ok(())));
        gate.close();
        gate.leave();
        assert_eq!(both(), (Err(Shut::Closed), Err(Shut::Closed)));
    }

    #[test]
    fn what_is_done_for_a_handler_ends_with_it_also_by_a_panic() {
        let gate = Gate::default();
        gate.leave();
        for_handler(|| {
            for_handler(|| ());
            assert_eq!(gate.admits(), Ok(()), "it goes on");
        });
        assert!(std::panic::catch_unwind(|| for_handler(|| panic!("no"))).is_err());
        assert_eq!(gate.admits(), Err(Shut::Leaving));
    }
}
