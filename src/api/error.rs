//! What a node says when it does not do what was asked of it.

use crate::base::debug_as_display;
use crate::runtime::proxies::OrderError;

/// Why a node did not do what was asked of it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Control said no, and why.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The node has stopped. [`Node::end`](super::Node::end) tells how.
    #[error("the node has stopped; `Node::end` tells why, and its log if it could not go on")]
    Stopped,
    /// This node's applications watch as much as they may.
    #[error(
        "cannot watch more: this node's applications have {most} watches, those included that were \
         dropped and that a worker has not forgotten yet; drop some, or raise `watch.max_watches`"
    )]
    TooManyWatches {
        /// How many there can be.
        most: usize,
    },
    /// It was called by a handler, whose worker's thread must not wait.
    #[error("a handler must not wait on its worker's thread: call this from another thread")]
    WouldBlock,
}

debug_as_display!(NodeError);
