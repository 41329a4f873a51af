//! What every layer speaks of: identities, time, randomness and the agreed view.

mod debug;
pub mod fate;
pub mod ids;
pub mod layout;
pub mod log_limit;
pub mod pace;
pub mod path;
pub mod pattern;
pub mod placement;
pub mod routee;
pub mod time;
pub mod timers;
pub mod view;

pub(crate) use debug::debug_as_display;
pub use ids::{DestinationId, HandlerId, Incarnation, MessageTypeId, NodeId, NodeRef, WorkerIndex};
pub use layout::{LayoutHash, MOST_ALIGNMENT};
pub use log_limit::{LogKind, LogLimiter, counted};
pub use path::{MAX_PATH_BYTES, Path, PathError};
pub use pattern::{PathPattern, PatternError};
pub use placement::{Placed, Placement, PlacementError};
pub use routee::{InstanceId, LifeNumber, RouteeId};
pub use time::Time;
pub use timers::{TimerKey, TimerWheel};
pub use view::{Member, MemberEvent, MemberState, MessageType, Service, TypeRef, View};

/// The random generator of every decider: seeded from outside, equal on every machine.
pub type Rng = rand::rngs::Xoshiro256PlusPlus;
