//! Your own routees in the simulator: a whole cluster in one thread of a test, on a fake clock and
//! a fake network, with the nodes' own code. What happens follows from a seed and from what the test
//! orders, so that a test that failed once fails again. Minutes of a cluster's life take
//! milliseconds; nothing sleeps.
//!
//! ```
//! use std::time::Duration;
//!
//! use keyway::testing::{Cluster, Router};
//! # use keyway::{Context, Handler, Message, Routee};
//! # use rkyv::{Archive, Deserialize, Serialize};
//! # #[derive(Archive, Serialize, Deserialize, Message)]
//! # #[message(name = "doc.add", key = cart, reply = u32)]
//! # struct AddItem { cart: u64 }
//! # #[derive(Default, Routee)]
//! # #[routee(handles(AddItem))]
//! # struct Carts(u32);
//! # impl Handler<AddItem> for Carts {
//! #     type Reply = u32;
//! #     fn handle(&mut self, _: &ArchivedAddItem, _: &mut Context<'_>) -> u32 {
//! #         self.0 += 1;
//! #         self.0
//! #     }
//! # }
//!
//! let mut cluster =
//!     Cluster::of(3).seed(7).serve("/user/carts", |_worker| Carts::default()).start();
//! let carts = Router::consistent_hash("/user/carts");
//! assert_eq!(cluster.ask(0, &carts, &AddItem { cart: 7 }), Ok(1));
//!
//! // Two machines are cut off from the third, which both sides see.
//! cluster.cut(&[0, 1], &[2]);
//! let seen = |it: &Cluster| it.reachable(0) == [0, 1] && it.reachable(2) == [2];
//! assert!(cluster.run_until(Duration::from_secs(5), seen));
//! cluster.heal();
//! assert!(cluster.run_until(Duration::from_secs(5), |it| it.reachable(2) == [0, 1, 2]));
//! ```
//!
//! The nodes run with the default settings. Time passes only in [`Cluster::run_for`],
//! [`Cluster::run_until`] and the calls that wait for something, such as [`Cluster::ask`]. A test
//! that panics while a cluster is there prints the cluster's seed.
//!
//! [`Probe`] stands for another service: it remembers what it was sent, and answers as it is told.
//! [`Solo`] is one routee by itself.
//!
//! What this is not: a handler that blocks, sleeps, or spawns threads and tasks does that in real
//! time, which the fake clock does not know, and such a test depends on the machine again. Ask
//! [`Context::now`](crate::Context::now) for the time, and
//! [`Context::wake_after`](crate::Context::wake_after) for a later one. Sockets, threads and files of
//! the operating system are not part of it: for that, start real nodes on loopback.

mod cluster;
mod probe;
mod router;
mod setup;
mod solo;

pub use self::cluster::{Asked, Cluster};
pub use self::probe::{Probe, ProbeRoutee};
pub use self::router::Router;
pub use self::setup::{ClusterBuilder, NodeSetup};
pub use self::solo::Solo;
