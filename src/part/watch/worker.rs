//! A worker's half of watch: what its own handlers and applications watch, and what the workers
//! of other nodes watch here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::members::{Known, Members};
use super::wire::Op;
use super::{Gone, GoneReason, Target, TooManyWatches};
use crate::base::{HandlerId, InstanceId, LifeNumber, NodeRef, RouteeId, WorkerIndex};
use crate::part::{LinkChange, LinkRef, Outlet, RouteeChange, To, WorkerPart};
use crate::wire::WireError;

/// How long a watch whose asking was dropped waits before it is asked for again.
const RETRY: Duration = Duration::from_millis(500);

/// A node may be unknown for two of these at most before it counts as gone, and for one at least:
/// its record may still be on its way.
const UNKNOWN: Duration = Duration::from_millis(1_500);

/// How many unconfirmed watches one timer asks for again, and how many ends it says again.
const RETRIES_AT_ONCE: usize = 1_024;

pub(super) const COUNTERS: &[&str] = &["begun", "gone", "stopped", "refused", "unknown_frames"];
pub(super) const BEGUN: usize = 0;
pub(super) const GONE: usize = 1;
pub(super) const STOPPED: usize = 2;
pub(super) const REFUSED: usize = 3;
pub(super) const UNKNOWN_FRAMES: usize = 4;

/// Token of the timer that asks again.
const RETRY_TOKEN: u64 = 0;

/// Token of the timer that looks at watches of unknown nodes.
const UNKNOWN_TOKEN: u64 = 1;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watcher {
    /// A routee of this worker, with its token.
    Routee(InstanceId, u64),
    /// An application, with its number.
    Application(u64),
}

/// What control, or a handler of this worker, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOrder {
    /// Watch this; a watcher that watches already is told of the new target only.
    Watch {
        /// For whom.
        watcher: Watcher,
        /// What.
        target: Target,
    },
    /// Stop.
    Unwatch {
        /// For whom.
        watcher: Watcher,
    },
}

/// What control's half is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// What an application watches is gone.
    Gone {
        /// The application's number.
        token: u64,
        /// Why.
        reason: GoneReason,
    },
    /// An application's watch that was stopped is forgotten here.
    Stopped {
        /// The application's number.
        token: u64,
    },
}

struct Watch {
    watcher: Watcher,
    target: Target,
    /// The life that the other side keeps the watch for; `None` before it said so.
    life: Option<LifeNumber>,
    /// The link has taken the asking: it comes to an answer, or the link to its end. A second one
    /// would only fill a link that is blocked.
    asked: bool,
}

/// A worker's half.
pub struct WatchWorker {
    me: NodeRef,
    limit: usize,
    next_id: u64,
    watches: BTreeMap<u64, Watch>,
    watchers: BTreeMap<Watcher, u64>,
    by_node: BTreeMap<NodeRef, BTreeSet<u64>>,
    /// Watches that the other side has not confirmed; a timer runs while no link has taken some.
    unconfirmed: BTreeSet<u64>,
    retry_set: bool,
    /// Where the next round of asking again begins, so that each comes to its turn.
    retry_from: u64,
    /// Watches that were stopped, and the other side does not know: the link to it had no room. Each
    /// has its place until that is said, by the same timer.
    unsaid: BTreeMap<u64, (NodeRef, WorkerIndex)>,
    /// Where the next round of saying so begins.
    unsaid_from: u64,
    /// Watches of nodes that are not known: those that one look has seen already, and the new
    /// ones. A timer runs while there are some.
    unknown: [BTreeSet<u64>; 2],
    unknown_set: bool,
    members: Arc<Members>,
    /// What is watched here: by handler, from which link under which id.
    watched: BTreeMap<HandlerId, BTreeSet<(LinkRef, u64)>>,
    /// The same, by link.
    by_link: BTreeMap<LinkRef, BTreeSet<(u64, HandlerId)>>,
    watched_count: usize,
    /// Which life of each handler runs.
    lives: BTreeMap<HandlerId, LifeNumber>,
}

type Out<'a, 'b> = &'a mut Outlet<'b, Report>;

impl WatchWorker {
    pub(super) fn new(me: NodeRef, limit: usize) -> Self {
        Self {
            me,
            limit,
            next_id: 1,
            watches: BTreeMap::new(),
            watchers: BTreeMap::new(),
            by_node: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            retry_set: false,
            retry_from: 0,
            unsaid: BTreeMap::new(),
            unsaid_from: 0,
            unknown: Default::default(),
            unknown_set: false,
            members: Arc::default(),
            watched: BTreeMap::new(),
            by_link: BTreeMap::new(),
            watched_count: 0,
            lives: BTreeMap::new(),
        }
    }

    /// Whether one more watch of this worker's own would be kept.
    fn has_room(&self) -> bool {
        self.places_taken() < self.limit
    }

    fn places_taken(&self) -> usize {
        self.watches.len() + self.unsaid.len()
    }

    /// Whether a routee of this worker may begin a watch, or give an earlier one of its own another
    /// target, while so many have not been told yet of the ends of theirs: each of those has the
    /// place of its watch until then.
    ///
    /// # Errors
    /// [`TooManyWatches`] when all places are taken.
    pub fn admit(&self, watcher: Watcher, untold: usize) -> Result<(), TooManyWatches> {
        let others = self.places_taken() - usize::from(self.watchers.contains_key(&watcher));
        match others + untold < self.limit {
            true => Ok(()),
            false => Err(TooManyWatches { most: self.limit }),
        }
    }

    /// What is kept here for workers of other nodes and of this one: for whom, and by which of
    /// their watches.
    pub fn kept(&self) -> impl Iterator<Item = ((NodeRef, WorkerIndex), u64)> {
        self.by_link.iter().flat_map(|(link, kept)| kept.iter().map(|(id, _)| (link.peer, *id)))
    }

    /// Whether one of this worker's own watches has this number.
    pub fn watches(&self, id: u64) -> bool {
        self.watches.contains_key(&id)
    }

    // ---- what is watched from here ----

    fn begin(&mut self, watcher: Watcher, target: Target, out: Out<'_, '_>) {
        self.stop(watcher, out);
        if !self.has_room() {
            out.count(REFUSED, 1);
            return tell(watcher, GoneReason::TooManyWatches, out);
        }
        out.count(BEGUN, 1);
        let id = self.next_id;
        self.next_id += 1;
        let node = target.node();
        let life = match target {
            Target::Routee(routee) => routee.instance.life,
            Target::Node(_) => None,
        };
        self.watches.insert(id, Watch { watcher, target, life, asked: false });
        self.watchers.insert(watcher, id);
        self.by_node.entry(node).or_default().insert(id);
        match self.members.know(target) {
            Known::Gone(reason) => return self.end(id, reason, out),
            Known::Not if node != self.me => {
                self.unknown[1].insert(id);
                self.look_later(out);
            }
            Known::Not | Known::Member => {}
        }
        if matches!(target, Target::Routee(..)) {
            self.ask(id, out);
        }
    }

    fn look_later(&mut self, out: Out<'_, '_>) {
        if !self.unknown_set {
            self.unknown_set = true;
            out.after(UNKNOWN, UNKNOWN_TOKEN);
        }
    }

    /// Ends the watches whose nodes have been unknown for two looks.
    fn look_at_unknown(&mut self, out: Out<'_, '_>) {
        self.unknown_set = false;
        let [seen, new] = std::mem::take(&mut self.unknown);
        for id in seen {
            if self.is_unknown(id) {
                self.end(id, GoneReason::UnknownNode, out);
            }
        }
        self.unknown[0] = new.into_iter().filter(|id| self.is_unknown(*id)).collect();
        if !self.unknown[0].is_empty() {
            self.look_later(out);
        }
    }

    fn is_unknown(&self, id: u64) -> bool {
        let watch = self.watches.get(&id);
        watch.is_some_and(|watch| matches!(self.members.know(watch.target), Known::Not))
    }

    /// Asks the other side to keep a watch, and sees to it that it is asked again.
    fn ask(&mut self, id: u64, out: Out<'_, '_>) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Target::Routee(RouteeId { node, worker, instance }) = watch.target else { return };
        watch.asked = true;
        let op = Op::Watch { id, instance: InstanceId { life: watch.life, ..instance } };
        out.send(To::Peer(node, worker), op.code(), &op.body());
        self.unconfirmed.insert(id);
        self.retry_later(out);
    }

    fn retry_later(&mut self, out: Out<'_, '_>) {
        if !self.retry_set {
            self.retry_set = true;
            out.after(RETRY, RETRY_TOKEN);
        }
    }

    /// The asking for a watch was dropped: it is asked for again.
    fn unask(&mut self, id: u64, out: Out<'_, '_>) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.asked = false;
            self.unconfirmed.insert(id);
            self.retry_later(out);
        }
    }

    /// Says again what no link has taken.
    fn retry(&mut self, out: Out<'_, '_>) {
        self.retry_set = false;
        let (later, earlier) =
            (self.unconfirmed.range(self.retry_from..), self.unconfirmed.range(..self.retry_from));
        let unasked = |id: &&u64| self.watches.get(*id).is_some_and(|watch| !watch.asked);
        let watches = next_of(later.chain(earlier).filter(unasked), &mut self.retry_from);
        if watches.len() == RETRIES_AT_ONCE {
            self.retry_later(out);
        }
        watches.into_iter().for_each(|id| self.ask(id, out));

        let (later, earlier) =
            (self.unsaid.range(self.unsaid_from..), self.unsaid.range(..self.unsaid_from));
        let ends = next_of(later.chain(earlier).map(|(id, _)| id), &mut self.unsaid_from);
        for id in ends {
            if let Some(peer) = self.unsaid.remove(&id) {
                say_end(id, peer, out);
            }
        }
        if !self.unsaid.is_empty() {
            self.retry_later(out);
        }
    }

    /// Forgets a watch.
    fn remove(&mut self, id: u64) -> Option<Watch> {
        let watch = self.watches.remove(&id)?;
        self.watchers.remove(&watch.watcher);
        self.unconfirmed.remove(&id);
        self.unknown.iter_mut().for_each(|ids| {
            ids.remove(&id);
        });
        let node = watch.target.node();
        if let Some(ids) = self.by_node.get_mut(&node) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(watch)
    }

    /// A watch comes to its end: its watcher is told, once.
    fn end(&mut self, id: u64, reason: GoneReason, out: Out<'_, '_>) {
        if let Some(watch) = self.remove(id) {
            out.count(GONE, 1);
            tell(watch.watcher, reason, out);
        }
    }

    fn stop(&mut self, watcher: Watcher, out: Out<'_, '_>) {
        let Some(id) = self.watchers.get(&watcher).copied() else { return };
        let Some(watch) = self.remove(id) else { return };
        out.count(STOPPED, 1);
        if let Target::Routee(RouteeId { node, worker, .. }) = watch.target {
            say_end(id, (node, worker), out);
        }
    }

    /// The watches of a peer's routees that are kept over a link to it.
    fn to_peer(&self, (node, worker): (NodeRef, WorkerIndex)) -> Vec<u64> {
        let ids = self.by_node.get(&node).into_iter().flatten().copied();
        ids.filter(|id| match self.watches[id].target {
            Target::Routee(routee) => routee.worker == worker,
            Target::Node(_) => false,
        })
        .collect()
    }

    /// Whether an answer about a watch comes from where the watched routee is.
    fn is_from(&self, id: u64, from: LinkRef) -> bool {
        self.watches.get(&id).is_some_and(|watch| match watch.target {
            Target::Routee(routee) => (routee.node, routee.worker) == from.peer,
            Target::Node(_) => false,
        })
    }

    // ---- what is watched here ----

    fn keep(&mut self, from: LinkRef, id: u64, instance: InstanceId, out: Out<'_, '_>) {
        let handler = instance.handler;
        let running = self.lives.get(&handler).copied();
        let kept = self.watched.get(&handler).is_some_and(|all| all.contains(&(from, id)));
        let refusal = match running {
            None => Some(GoneReason::Withdrawn),
            running if !instance.is(InstanceId { handler, life: running }) => {
                Some(GoneReason::Replaced)
            }
            Some(_) if !kept && self.watched_count >= self.limit => {
                Some(GoneReason::TooManyWatches)
            }
            Some(_) => None,
        };
        let answer = match (refusal, running) {
            (None, Some(_)) => {
                if self.watched.entry(handler).or_default().insert((from, id)) {
                    self.by_link.entry(from).or_default().insert((id, handler));
                    self.watched_count += 1;
                }
                Op::Watching { id, life: running }
            }
            (refusal, _) => {
                let reason = refusal.unwrap_or(GoneReason::Withdrawn);
                Op::Gone { id, reason: reason as u32 }
            }
        };
        out.send(To::Link(from), answer.code(), &answer.body());
    }

    fn drop_one(&mut self, from: LinkRef, id: u64) {
        let Some(kept) = self.by_link.get_mut(&from) else { return };
        let of_id: Vec<(u64, HandlerId)> =
            kept.range((id, HandlerId(0))..=(id, HandlerId(u32::MAX))).copied().collect();
        for entry in of_id {
            kept.remove(&entry);
            self.watched_count -= 1;
            if let Some(watchers) = self.watched.get_mut(&entry.1) {
                watchers.remove(&(from, id));
                if watchers.is_empty() {
                    self.watched.remove(&entry.1);
                }
            }
        }
        if kept.is_empty() {
            self.by_link.remove(&from);
        }
    }

    /// Tells all who watch an instance here that it is gone.
    fn tell_watchers(&mut self, handler: HandlerId, reason: GoneReason, out: Out<'_, '_>) {
        for (from, id) in self.watched.remove(&handler).unwrap_or_default() {
            self.watched_count -= 1;
            if let Some(kept) = self.by_link.get_mut(&from) {
                kept.remove(&(id, handler));
                if kept.is_empty() {
                    self.by_link.remove(&from);
                }
            }
            let op = Op::Gone { id, reason: reason as u32 };
            out.send(To::Link(from), op.code(), &op.body());
        }
    }
}

/// The next ones, going round; another round begins behind them.
fn next_of<'a>(ids: impl Iterator<Item = &'a u64>, from: &mut u64) -> Vec<u64> {
    let next: Vec<u64> = ids.copied().take(RETRIES_AT_ONCE).collect();
    *from = next.last().map_or(0, |last| last + 1);
    next
}

/// Lets the other side forget a watch.
fn say_end(id: u64, (node, worker): (NodeRef, WorkerIndex), out: Out<'_, '_>) {
    let op = Op::Unwatch { id };
    out.send(To::Peer(node, worker), op.code(), &op.body());
}

fn tell(watcher: Watcher, reason: GoneReason, out: Out<'_, '_>) {
    match watcher {
        Watcher::Routee(instance, token) => {
            out.deliver(instance, &Gone::new(token, reason));
        }
        Watcher::Application(token) => out.to_control(Report::Gone { token, reason }),
    }
}

impl WorkerPart for WatchWorker {
    type Facts = Members;
    type Order = WorkerOrder;
    type Report = Report;

    fn frame(
        &mut self,
        from: LinkRef,
        op: u8,
        body: &[u8],
        out: &mut Outlet<'_, Report>,
    ) -> Result<(), WireError> {
        let op = Op::parse(op, body).map_err(|_| WireError::Incomplete("watch"))?;
        match op {
            None => out.count(UNKNOWN_FRAMES, 1),
            Some(Op::Watch { id, instance }) => self.keep(from, id, instance, out),
            Some(Op::Unwatch { id }) => self.drop_one(from, id),
            Some(Op::Watching { id, life }) if self.is_from(id, from) => {
                self.unconfirmed.remove(&id);
                if let Some(watch) = self.watches.get_mut(&id) {
                    watch.life = life;
                }
            }
            Some(Op::Gone { id, reason }) if self.is_from(id, from) => {
                // A reason of a newer peer still says that it is gone.
                let reason = u8::try_from(reason).ok().and_then(GoneReason::from_code);
                self.end(id, reason.unwrap_or(GoneReason::Withdrawn), out);
            }
            // The word that it has ended may have come first, and keeps no place there.
            Some(Op::Watching { id, .. }) if from.dialed && !self.watches.contains_key(&id) => {
                say_end(id, from.peer, out);
            }
            // About a watch that was stopped meanwhile.
            Some(Op::Watching { .. } | Op::Gone { .. }) => {}
        }
        Ok(())
    }

    fn link(&mut self, link: LinkRef, change: LinkChange, out: &mut Outlet<'_, Report>) {
        if !link.dialed {
            if change == LinkChange::Closed {
                let kept = self.by_link.get(&link).cloned().unwrap_or_default();
                kept.into_iter().for_each(|(id, _)| self.drop_one(link, id));
            }
            return;
        }
        for id in self.to_peer(link.peer) {
            match change {
                LinkChange::Opened => self.ask(id, out),
                LinkChange::Closed => self.unask(id, out),
            }
        }
    }

    fn routee(&mut self, instance: InstanceId, change: RouteeChange, out: &mut Outlet<'_, Report>) {
        let handler = instance.handler;
        let before = match change {
            RouteeChange::Started | RouteeChange::Replaced => {
                instance.life.and_then(|life| self.lives.insert(handler, life))
            }
            RouteeChange::Withdrawn => self.lives.remove(&handler),
        };
        if before.is_some() {
            // Its own watches were those of the life that is over.
            let ended = InstanceId { handler, life: before };
            let own = (Watcher::Routee(ended, 0), Watcher::Routee(ended, u64::MAX));
            let own: Vec<Watcher> =
                self.watchers.range(own.0..=own.1).map(|(watcher, _)| *watcher).collect();
            own.into_iter().for_each(|watcher| self.stop(watcher, out));
        }
        match change {
            RouteeChange::Started => {}
            RouteeChange::Replaced => self.tell_watchers(handler, GoneReason::Replaced, out),
            RouteeChange::Withdrawn => self.tell_watchers(handler, GoneReason::Withdrawn, out),
        }
    }

    fn told(&mut self, members: &Arc<Members>, out: &mut Outlet<'_, Report>) {
        let before = std::mem::replace(&mut self.members, Arc::clone(members));
        let nodes: Vec<NodeRef> = self.by_node.keys().copied().collect();
        for node in nodes {
            let was_member = matches!(before.know(Target::Node(node)), Known::Member);
            match (members.know(Target::Node(node)), was_member) {
                (Known::Member, true) | (Known::Not, false) => continue,
                _ => {}
            }
            for id in self.by_node.get(&node).cloned().unwrap_or_default() {
                match members.know(self.watches[&id].target) {
                    Known::Gone(reason) => self.end(id, reason, out),
                    // More have ended since than are remembered.
                    Known::Not if was_member => self.end(id, GoneReason::NodeDown, out),
                    Known::Not | Known::Member => {}
                }
            }
        }
    }

    fn order(&mut self, order: WorkerOrder, out: &mut Outlet<'_, Report>) {
        match order {
            WorkerOrder::Watch { watcher, target } => self.begin(watcher, target, out),
            WorkerOrder::Unwatch { watcher } => {
                self.stop(watcher, out);
                if let Watcher::Application(token) = watcher {
                    out.to_control(Report::Stopped { token });
                }
            }
        }
    }

    fn timer(&mut self, token: u64, out: &mut Outlet<'_, Report>) {
        if token == RETRY_TOKEN {
            self.retry(out);
        } else {
            self.look_at_unknown(out);
        }
    }

    fn crowded_out(
        &mut self,
        peer: (NodeRef, WorkerIndex),
        op: u8,
        body: &[u8],
        out: &mut Outlet<'_, Report>,
    ) {
        match Op::parse(op, body) {
            Ok(Some(Op::Watch { id, .. })) => self.unask(id, out),
            Ok(Some(Op::Unwatch { id })) => {
                self.unsaid.insert(id, peer);
                self.retry_later(out);
            }
            _ => {}
        }
    }

    fn cut_off(
        &mut self,
        _: (NodeRef, WorkerIndex),
        op: u8,
        body: &[u8],
        out: &mut Outlet<'_, Report>,
    ) {
        // Who cannot be reached keeps nothing for this worker, so that ends need not be said.
        if let Ok(Some(Op::Watch { id, .. })) = Op::parse(op, body) {
            self.unask(id, out);
        }
    }
}
