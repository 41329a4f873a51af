//! Who a routee is: on which worker of which life of a node, and which life of its own.

use std::fmt;
use std::num::NonZeroU32;

use super::ids::{HandlerId, NodeRef, WorkerIndex};

/// Which life of a routee: each that a worker starts gets the next number. A fresh one takes the
/// place of one that panicked, and is another life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LifeNumber(NonZeroU32);

impl LifeNumber {
    /// A worker's first.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The life with this number; none has 0, which frames use for whichever runs.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The one after it. After 4 billion it begins again, when nothing speaks of the first any more.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU32::MIN))
    }

    /// Its number, never 0.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A routee within its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The registration that it runs for.
    pub handler: HandlerId,
    /// Which life. `None` is whichever runs when what is sent gets there: other workers know no
    /// more unless they were told. What a routee waits for names its life.
    pub life: Option<LifeNumber>,
}

impl InstanceId {
    /// Whichever life of a registration runs.
    pub const fn running(handler: HandlerId) -> Self {
        Self { handler, life: None }
    }

    /// Whether what is meant for this one is for `other`, which runs.
    #[inline]
    pub fn is(self, other: Self) -> bool {
        self.handler == other.handler && (self.life.is_none() || self.life == other.life)
    }
}

/// `handler` or `handler.life`
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.handler.0)?;
        self.life.map_or(Ok(()), |life| write!(f, ".{}", life.get()))
    }
}

/// A routee within the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteeId {
    /// Which life of which node.
    pub node: NodeRef,
    /// Which worker of it.
    pub worker: WorkerIndex,
    /// Which of that worker's routees.
    pub instance: InstanceId,
}

/// `node#incarnation/worker/instance`
impl fmt::Display for RouteeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.worker, self.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_meant_by_its_number_or_by_none() {
        let (first, second) = (LifeNumber::FIRST, LifeNumber::FIRST.next());
        let of = |handler, life| InstanceId { handler: HandlerId(handler), life };
        let runs = of(3, Some(second));
        assert!(of(3, None).is(runs) && of(3, Some(second)).is(runs));
        assert!(!of(3, Some(first)).is(runs) && !of(4, None).is(runs));
        assert_eq!(InstanceId::running(HandlerId(3)), of(3, None));
    }

    #[test]
    fn numbers_of_lives_are_never_0() {
        assert_eq!(LifeNumber::new(0), None);
        let last = LifeNumber::new(u32::MAX).unwrap();
        assert_eq!(last.next(), LifeNumber::FIRST);
    }

    #[test]
    fn it_fits_beside_a_token() {
        assert_eq!((size_of::<InstanceId>(), size_of::<RouteeId>()), (8, 32));
    }
}
