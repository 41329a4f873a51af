//! Whether a node takes messages from its application's threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::base::NodeRef;

/// It takes them.
const OPEN: u8 = 0;
/// Set once it was told to leave: what handlers do is brought to its end, and nothing new begins.
const LEAVING: u8 = 1;
/// Set once it takes nothing more.
const CLOSED: u8 = 2;

/// Whether a node takes messages from its application's threads. Goes one way only.
#[derive(Debug)]
pub struct Gate {
    of: NodeRef,
    state: AtomicU8,
}

/// Why one is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The node leaves.
    Leaving,
    /// It has ended.
    Closed,
}

impl Gate {
    /// The open gate of this node.
    pub fn of(node: NodeRef) -> Self {
        Self { of: node, state: AtomicU8::new(OPEN) }
    }

    /// From now on only what the node's handlers have begun may send.
    pub fn leave(&self) {
        self.state.fetch_or(LEAVING, Ordering::SeqCst);
    }

    /// From now on nothing is taken.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Whether this thread may send now.
    ///
    /// # Errors
    /// Why it may not.
    #[inline]
    pub fn admits(&self) -> Result<(), Shut> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            state => self.shut(state),
        }
    }

    /// Whether nothing is taken.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether it was told to leave, also once nothing is taken.
    pub fn is_leaving(&self) -> bool {
        self.state.load(Ordering::SeqCst) & LEAVING != 0
    }

    #[cold]
    fn shut(&self, state: u8) -> Result<(), Shut> {
        match state {
            LEAVING if ACTS_FOR.with(Cell::get) == Some(self.of) => Ok(()),
            LEAVING => Err(Shut::Leaving),
            _ => Err(Shut::Closed),
        }
    }
}

std::thread_local! {
    /// The node whose handlers this thread acts for: of several in a process, each brings to its end
    /// what its own have begun.
    static ACTS_FOR: Cell<Option<NodeRef>> = const { Cell::new(None) };
}

/// Does this for a handler of a node, on its worker's thread or elsewhere: what it sends is a part
/// of what the node brings to its end when it leaves.
pub fn for_handler_of<T>(node: NodeRef, act: impl FnOnce() -> T) -> T {
    struct Before(Option<NodeRef>);
    impl Drop for Before {
        fn drop(&mut self) {
            ACTS_FOR.with(|node| node.set(self.0));
        }
    }
    let _before = Before(ACTS_FOR.with(|acts_for| acts_for.replace(Some(node))));
    act()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};

    const ME: NodeRef = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
    const OTHER: NodeRef = NodeRef { node: NodeId(2), incarnation: Incarnation(1) };

    #[test]
    fn a_leaving_node_takes_what_is_done_for_its_own_handlers_and_a_closed_one_nothing() {
        let gate = Gate::of(ME);
        let all = || {
            let [own, others] = [ME, OTHER].map(|node| for_handler_of(node, || gate.admits()));
            [gate.admits(), own, others]
        };
        assert_eq!(all(), [Ok(()); 3]);
        gate.leave();
        assert_eq!(all(), [Err(Shut::Leaving), Ok(()), Err(Shut::Leaving)]);
        gate.close();
        assert!(gate.is_closed() && gate.is_leaving(), "it has left");
        gate.leave();
        assert_eq!(all(), [Err(Shut::Closed); 3]);
    }

    #[test]
    fn what_is_done_for_a_handler_ends_with_it_also_by_a_panic() {
        let gate = Gate::of(ME);
        gate.leave();
        for_handler_of(ME, || {
            for_handler_of(OTHER, || ());
            assert_eq!(gate.admits(), Ok(()), "it goes on");
        });
        assert!(std::panic::catch_unwind(|| for_handler_of(ME, || panic!("no"))).is_err());
        assert_eq!(gate.admits(), Err(Shut::Leaving));
    }
}
