//! Streams of what happens: changes of membership, dead letters.

use std::sync::Arc;

use tokio::sync::watch;

use crate::base::MemberEvent;
use crate::base::debug_as_display;
use crate::queue::block_on::{block_on, is_worker_thread};
use crate::queue::foreign::shielded;
use crate::queue::stream::{StreamGap, StreamReader};
use crate::runtime::proxies::DeadLetter;
use crate::runtime::published::Ended;

/// Some items were missed, because the reader was too slow, or the node has stopped.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventGap {
    /// So many items were overwritten before they were read; reading goes on behind them.
    #[error("{0} items were missed; read the whole state once, for example `Node::view`")]
    Missed(u64),
    /// There will be no more.
    #[error("the node has stopped")]
    Stopped,
    /// It was called by a handler, whose worker's thread must not wait.
    #[error("a handler must not wait on its worker's thread: use `try_next`, or another thread")]
    WouldBlock,
}

debug_as_display!(EventGap);

impl From<StreamGap> for EventGap {
    fn from(gap: StreamGap) -> Self {
        match gap {
            StreamGap::Missed(missed) => Self::Missed(missed),
            StreamGap::Over => Self::Stopped,
        }
    }
}

macro_rules! stream {
    ($(#[$doc:meta])* $name:ident, $item:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            pub(super) items: StreamReader<$item>,
            pub(super) ended: watch::Receiver<Option<Ended>>,
        }

        impl $name {
            /// The next one.
            ///
            /// # Errors
            /// [`EventGap`] when some were missed or the node has stopped.
            pub async fn next(&mut self) -> Result<$item, EventGap> {
                shielded(async {
                    tokio::select! {
                        biased;
                        item = self.items.next() => Ok(item.map(Arc::unwrap_or_clone)?),
                        _ = self.ended.wait_for(Option::is_some) => Err(EventGap::Stopped),
                    }
                })
                .await
            }

            /// The next one if it is there already.
            ///
            /// # Errors
            /// As [`Self::next`].
            pub fn try_next(&mut self) -> Result<Option<$item>, EventGap> {
                // Looked at before the items: what came last is not missed.
                let over = self.ended.borrow().is_some();
                match self.items.try_next()? {
                    None if over => Err(EventGap::Stopped),
                    item => Ok(item.map(Arc::unwrap_or_clone)),
                }
            }

            /// The next one, blocking the thread.
            ///
            /// # Errors
            /// As [`Self::next`].
            pub fn wait(&mut self) -> Result<$item, EventGap> {
                if is_worker_thread() {
                    return Err(EventGap::WouldBlock);
                }
                block_on(self.next())
            }
        }
    };
}

stream! {
    /// Changes of membership, from the moment of subscribing.
    ///
    /// However many there are, the node holds the last 1,024 items for those who have not read them,
    /// and 4 MiB of them at most; of dead letters 1 MiB. Who is slower is told how many it missed.
    Events, MemberEvent
}

stream! {
    /// Messages that died on this node, with reason and number.
    DeadLetters, DeadLetter
}
