//! Walk of a message: `route/pick` comes before, `wire/encode` after.
//!
//! Where messages go, and how one finds out: from a router's pick, for all of its routees, or from a
//! reference to one. Handlers and application threads find it in the same way.

use std::fmt;

use crate::base::fate::Refusal;
use crate::base::{DestinationId, HandlerId, InstanceId, MemberState, Path, RouteeId, TypeRef};
use crate::route::accepted::misreads;
use crate::route::snapshot::{Reach, RouterState, Snapshot};
use crate::route::{NoRoutee, Pick};

/// Where one message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which destination of the snapshot.
    pub destination: DestinationId,
    /// Which handler there.
    pub handler: HandlerId,
}

/// Where a router sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one routee.
    One(Place),
    /// To each of [`places`].
    All,
}

/// A reference to a routee: the one of one registration of a path, on one worker of one life of a
/// node. One that panics is followed by a fresh one, which the reference then stands for; a node that
/// is started anew has others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteeRef {
    /// Who it is.
    pub id: RouteeId,
    /// Where it is served.
    pub path: Path,
}

/// `path@node/worker`, the node by the id that `/members` of the admin port shows.
impl fmt::Display for RouteeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.path, self.id.node.node, self.id.worker)
    }
}

/// A target of an ask's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Chosen before.
    Place(Place),
    /// Wherever a router sends a key when the attempt begins.
    Router {
        /// Its id in snapshots.
        router: u32,
        /// What is asked.
        message: &'static TypeRef,
        /// The key's hash, if the message has a key.
        key_hash: Option<u64>,
    },
}

/// What a pick of a router's strategy means.
///
/// # Errors
/// Why nobody was picked, in a sender's words.
#[inline]
pub fn route(state: &RouterState, pick: Pick) -> Result<Route, Refusal> {
    match pick {
        Pick::One(routee) => Ok(Route::One(place(state, routee))),
        Pick::All if state.active.is_empty() => Err(Refusal::NoRoutee),
        Pick::All => Ok(Route::All),
        Pick::None(NoRoutee::NoneUsable) => Err(Refusal::Unreachable),
        Pick::None(NoRoutee::MissingKey) => Err(Refusal::MissingKey),
        Pick::None(NoRoutee::LayoutMismatch) => Err(Refusal::LayoutMismatch),
        Pick::None(NoRoutee::InvalidPick | NoRoutee::StrategyPanicked) => {
            Err(Refusal::StrategyFailed)
        }
        Pick::None(NoRoutee::NoRoutees) => Err(Refusal::NoRoutee),
    }
}

/// The only place of an ask: a broadcast has no single reply.
///
/// # Errors
/// [`Refusal::NoSingleReply`].
#[inline]
pub fn single(route: Route) -> Result<Place, Refusal> {
    match route {
        Route::One(place) => Ok(place),
        Route::All => Err(Refusal::NoSingleReply),
    }
}

#[inline]
fn place(state: &RouterState, routee: u16) -> Place {
    let routee = usize::from(routee);
    Place {
        destination: state.destinations[routee],
        handler: state.table.routees()[routee].handler,
    }
}

/// The places of all active routees of a router for a message of this type; a refusal for each that
/// would misread it.
pub fn places(
    state: &RouterState,
    message: &TypeRef,
) -> impl Iterator<Item = Result<Place, Refusal>> {
    let accepted = state.table.accepted();
    let reads = accepted.is_everywhere(message.id);
    state.active.iter().map(move |routee| {
        if !reads && accepted.misreads(routee, message) {
            return Err(Refusal::LayoutMismatch);
        }
        Ok(place(state, routee))
    })
}

/// The place of one routee.
///
/// # Errors
/// [`Refusal::Stopped`] when that life of its node is over, [`Refusal::NoRoutee`] when its path is
/// not served on that worker, [`Refusal::LayoutMismatch`] when it would misread a message of this
/// type.
pub fn place_of(snapshot: &Snapshot, to: &RouteeRef, message: &TypeRef) -> Result<Place, Refusal> {
    let RouteeId { node, worker, instance: InstanceId { handler, .. } } = to.id;
    let found = snapshot.destinations.find(node, worker);
    let there = found.filter(|destination| destination.reach != Reach::Gone);
    let destination = there.ok_or(Refusal::Stopped)?.id;
    let member = snapshot.view.member(node.node);
    let service = member.and_then(|member| {
        let at = member.services.binary_search_by(|known| known.path.cmp(&to.path)).ok()?;
        Some(&member.services[at])
    });
    // What its node serves there now says nothing about another registration.
    if let Some(service) = service.filter(|service| service.handler == handler) {
        if !service.placed.contains(worker) {
            return Err(Refusal::NoRoutee);
        }
        if misreads(&service.messages, message) {
            return Err(Refusal::LayoutMismatch);
        }
    }
    Ok(Place { destination, handler })
}

/// Tells a table that is empty because this node is not open yet, leaves, or is no member any more,
/// from one that nobody serves.
#[cold]
pub fn explain(refusal: Refusal, snapshot: &Snapshot) -> Refusal {
    let me = snapshot.view.member(snapshot.view.me.node);
    match me.map(|me| me.state) {
        _ if refusal != Refusal::NoRoutee => refusal,
        Some(MemberState::Joining) => Refusal::Joining,
        None if snapshot.view.version == 0 => Refusal::Joining,
        None => Refusal::Stopped,
        // It has taken its own routees out of its tables.
        Some(MemberState::Leaving) => Refusal::Leaving,
        Some(_) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;
    use crate::base::{LayoutHash, MessageType, View, WorkerIndex};
    use crate::hash::HashSeed;
    use crate::route::snapshot::{Destination, Destinations};
    use crate::route::{RouteTable, RouterSpec, StrategyKind};
    use crate::wire::Message;
    use crate::worker::testnet::{Ping, destination, member, node, reference};

    /// Three workers, of whom the given one does not answer.
    fn destinations(silent: Option<usize>) -> Destinations {
        let all = (0..3).map(|index| {
            let answers = silent != Some(index);
            Some(Destination {
                id: destination(index),
                node: node(index),
                worker: WorkerIndex(0),
                address: member(index).address,
                reach: if answers { Reach::Usable } else { Reach::Unreachable },
                routed: answers,
                damped: false,
            })
        });
        Destinations::new(all.collect(), NonZeroU32::MAX)
    }

    fn broadcast(view: &View, silent: Option<usize>) -> RouterState {
        let spec = RouterSpec::new("/echo".parse().unwrap(), StrategyKind::Broadcast, HashSeed(1));
        let table = RouteTable::build(view, &spec, None);
        let places_of = table.routees().iter().map(|it| destination(it.node.node.0 as usize - 1));
        let places_of: Arc<[DestinationId]> = places_of.collect();
        RouterState::new(Arc::new(spec), Arc::new(table), places_of, &destinations(silent))
    }

    #[test]
    fn a_reference_is_shown_by_path_node_and_worker() {
        assert_eq!(reference(1).to_string(), "/echo@0000000000000002/0");
    }

    #[test]
    fn a_broadcast_leaves_out_who_does_not_answer() {
        let view = View::new(node(0), 1, (0..3).map(member).collect());
        for silent in 0..3 {
            let state = broadcast(&view, Some(silent));
            let mut told: Vec<_> =
                places(&state, Ping::TYPE).map(|place| place.unwrap().destination).collect();
            told.sort();
            let others = (0..3).filter(|index| *index != silent).map(destination);
            assert_eq!(told, others.collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_would_misread_a_message_gets_none_and_the_others_do() {
        let mut members: Vec<_> = (0..3).map(member).collect();
        let other = LayoutHash(Ping::LAYOUT.0 ^ 1);
        members[1].services[0].messages = vec![MessageType::new(Ping::NAME, other)];
        let view = Arc::new(View::new(node(0), 1, members));
        let refused = Err(Refusal::LayoutMismatch);
        let expected = [Ok(destination(0)), refused, Ok(destination(2))];

        let mut told: Vec<_> = places(&broadcast(&view, None), Ping::TYPE)
            .map(|place| place.map(|place| place.destination))
            .collect();
        told.sort_by_key(|outcome| outcome.unwrap_or(destination(1)));
        assert_eq!(told, expected);

        let snapshot = Snapshot::new(1, view, destinations(None), Vec::new());
        for (index, expected) in expected.into_iter().enumerate() {
            let place = place_of(&snapshot, &reference(index), Ping::TYPE);
            assert_eq!(place.map(|place| place.destination), expected, "node {index}");
        }
    }
}
