//! What becomes of links as the cluster changes: they follow the snapshot, open, fail, are taken from
//! peers, lost and dialed anew, and say at their end that nothing more comes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::burying::death;
use super::core::{Core, Timer, link_of};
use super::link::{LATE_DIAL, Link, LinkId, LinkState, Lower, OVERTAKEN, Role};
use super::purse::Account;
use super::request::Request;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{DestinationId, NodeRef, Time, WorkerIndex};
use crate::part::LinkChange;
use crate::route::snapshot::{Destination, Reach, Snapshot};
use crate::wire::{Fields, FrameKind};

/// Which part of the links that others may open is kept for members: a quarter.
const MEMBERS_PART: usize = 4;

/// How long after its peer was found to be leaving a link takes what other threads were told is
/// accepted: they look before they hand over, and a full queue lies between the two.
pub(super) const PARTING: Duration = Duration::from_millis(250);

/// How many connections in a row a peer closes with nothing said until that is told.
const IN_VAIN: u32 = 3;

/// How often it is looked whether all of that has gone out.
const PARTING_LOOK: std::time::Duration = std::time::Duration::from_millis(2);

/// On whose account replies to a peer wait: a node that is in no snapshot, or in none any more, is
/// a client.
fn replies_to(reach: Option<Reach>) -> Account {
    match reach {
        Some(Reach::Usable | Reach::Unreachable | Reach::Leaving) => Account::Replies,
        Some(Reach::Gone) | None => Account::Clients,
    }
}

impl Worker {
    /// Takes over a new snapshot of the cluster: where destinations are, what routers hold.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) {
        for slot in 0..self.core.destinations.len() {
            if let Some((id, link)) = self.core.destinations[slot]
                && snapshot.destinations.get(id).is_none()
            {
                self.core.destinations[slot] = None;
                self.core.gone.push(id);
                self.part_from(link);
            }
        }
        self.core.destinations.resize(snapshot.destinations.slots().len(), None);
        for destination in snapshot.destinations.iter() {
            let slot = destination.id.slot();
            if self.core.destinations[slot].is_none() {
                self.core.destinations[slot] = Some((destination.id, self.introduce(destination)));
            }
            self.follow(slot, destination.reach, snapshot.is_silent(destination));
        }
        self.follow_accepted(&snapshot);
        self.core.snapshot = Some(Arc::clone(&snapshot));
        self.core.refresh_routers(&snapshot);
        self.give_up_attempts();
    }

    /// What may be sent again does not wait for peers that do not answer, nor longer than it must.
    fn give_up_attempts(&mut self) {
        let Core { asks, ask_effects, now, .. } = &mut self.core;
        asks.hurry(*now, ask_effects);
        self.core.give_up_on(|_, link| link.silent);
        self.core.carry_asks();
    }

    fn introduce(&mut self, destination: &Destination) -> LinkId {
        let Destination { id: destination, node, worker, .. } = *destination;
        if node == self.core.me {
            let id = self.core.siblings[usize::from(worker.0)];
            self.core.links[id].destination = Some(destination);
            return id;
        }
        let role = Role::Dialed { destination };
        self.insert_link((node, worker), role, LinkState::Idle)
    }

    /// The life that a dialed link leads to is over.
    fn part_from(&mut self, id: LinkId) {
        let link = &mut self.core.links[id];
        if !matches!(link.role, Role::Dialed { .. }) {
            return;
        }
        // First, so that what a handler sends when it hears of a lost ask is refused.
        link.state = LinkState::Finished;
        // No thread is told of it any more.
        link.destination = None;
        if link.connected {
            self.give_up_connection(id);
        } else {
            self.forget_dialed(id);
        }
    }

    /// Sends nothing more on a connection. What its peer has said lies in the socket until this worker
    /// has time: only then what was written is judged.
    pub(super) fn give_up_connection(&mut self, id: LinkId) {
        self.core.links[id].given_up = true;
        self.core.requests.push(Request::ReadOut(id));
    }

    /// A dialed link to a life that is over has no connection any more.
    fn forget_dialed(&mut self, id: LinkId) {
        self.lose(id, DeathReason::Unreachable);
        self.link_changed(id, LinkChange::Closed);
        self.core.remove_link(id);
    }

    fn insert_link(
        &mut self,
        peer: (NodeRef, WorkerIndex),
        role: Role,
        state: LinkState,
    ) -> LinkId {
        let Core { links, limits, now, .. } = &mut self.core;
        let mut link = Link::new(peer, role, state, limits.outbox_bytes);
        link.opened_at = *now;
        links.insert(link)
    }

    /// Brings a dialed link in line with how far its destination can be reached.
    fn follow(&mut self, slot: usize, reach: Reach, silent: bool) {
        let Some((_, id)) = self.core.destinations[slot] else { return };
        let link = &mut self.core.links[id];
        if !matches!(link.role, Role::Dialed { .. }) {
            return;
        }
        link.silent = silent;
        let was_wanted = std::mem::replace(&mut link.wanted, reach == Reach::Usable);
        match reach {
            Reach::Usable if !was_wanted => self.peer_is_back(id),
            // What is lost meanwhile is dialed again when the peer is back.
            Reach::Usable | Reach::Unreachable | Reach::Gone => {}
            Reach::Leaving => match link.state {
                LinkState::Open | LinkState::Dialing | LinkState::Idle => {
                    if !link.parting {
                        (link.parting, link.parting_since) = (true, self.core.now);
                        self.core.timers.insert(self.core.now.plus(PARTING), Timer::Parting(id));
                        self.core.refresh_usable();
                    }
                }
                LinkState::Broken => link.state = LinkState::Finished,
                LinkState::Finished => {}
            },
        }
    }

    /// Other threads are shown now how the links stand. Where a handler took long, that is long after
    /// it was found.
    pub fn ways_shown(&mut self, now: Time) {
        let since = self.core.now;
        for (_, link) in self.core.links.iter_mut() {
            if link.parting_since == since {
                link.parting_since = now;
            }
        }
    }

    /// Ends a link whose peer leaves, as soon as everything has gone out that other threads were told
    /// is accepted: what waits in the worker's queue, and what is held until the link has room.
    pub(super) fn part_when_all_is_sent(&mut self, id: LinkId) {
        let Core { links, injector, published, timers, now, .. } = &mut self.core;
        let Some(link) = links.get_mut(id) else { return };
        let over = link.parting_since.plus(PARTING);
        if *now < over {
            timers.insert(over, Timer::Parting(id));
            return;
        }
        // For a moment it may have seemed to be a few more.
        let made = injector.handed_over_at_most();
        let behind = link.parting_behind.map_or(made, |known| known.min(made));
        link.parting_behind = Some(behind);
        let held = link.destination.is_some_and(|to| self.held.has(to));
        if held || published.tally.handed.get() < behind {
            timers.insert(now.plus(PARTING_LOOK), Timer::Parting(id));
            return;
        }
        self.finish(id);
    }

    /// Brings accepted links in line with how far their peers can be reached. Those of a life that
    /// is over are closed: a machine that vanished says no goodbye.
    fn follow_accepted(&mut self, snapshot: &Snapshot) {
        let mut gone = Vec::new();
        let Core { links, encoder, snapshot: before, .. } = &mut self.core;
        let before = before.as_deref();
        for (id, link) in links.iter_mut() {
            if !matches!(link.role, Role::Accepted { .. }) {
                continue;
            }
            let (node, worker) = link.peer;
            let known = snapshot.destinations.find(node, worker);
            // One that was leaving when it fell silent says no goodbye either.
            link.wanted = known.is_none_or(|known| !snapshot.is_silent(known));
            // One that is in no snapshot yet is new.
            let was_known =
                before.is_some_and(|before| before.destinations.find(node, worker).is_some());
            let member = snapshot.view.member(node.node);
            let is_replaced = member.is_some_and(|member| member.incarnation > node.incarnation);
            // It came and went between two snapshots that this worker took.
            let has_ended = is_replaced || snapshot.ended.contains(&node);
            link.outbox.charge(encoder, replies_to(known.map(|known| known.reach)));
            if known.is_none() && (was_known || has_ended) {
                gone.push(id);
            }
        }
        for id in gone {
            self.link_changed(id, LinkChange::Closed);
            self.core.remove_link(id);
            self.core.requests.push(Request::Close(id));
        }
    }

    /// Says on a link that nothing more will come.
    pub(super) fn finish(&mut self, id: LinkId) {
        let core = &mut self.core;
        let link = &mut core.links[id];
        if link.state == LinkState::Idle {
            link.state = LinkState::Finished; // Nothing was ever said there.
        }
        if link.fin_queued || !matches!(link.state, LinkState::Open | LinkState::Dialing) {
            return;
        }
        link.fin_queued = true;
        link.outbox.push_control(&mut core.encoder, FrameKind::Fin, &Fields::default(), 0, &[]);
        if link.state == LinkState::Open {
            link.state = LinkState::Finished;
        }
        core.mark_dirty(id);
    }

    /// This node leaves: its own peers are told that nothing more will come from here.
    pub fn finish_all(&mut self) {
        self.core.asks.close_down();
        let links = self.core.links.iter();
        let dialed = links.filter(|(_, link)| matches!(link.role, Role::Dialed { .. }));
        let dialed: Vec<LinkId> = dialed.map(|(id, _)| id).collect();
        for id in dialed {
            let link = &mut self.core.links[id];
            if link.state == LinkState::Broken {
                link.state = LinkState::Finished; // What a handler begins still would be lost there.
            }
            self.finish(id);
        }
    }

    /// The driver opened the connection that [`Request::Dial`] asked for. Returns false when
    /// nobody wants it any more; the driver drops it then.
    pub fn link_opened(
        &mut self,
        destination: DestinationId,
        takes: Option<NonZeroU32>,
    ) -> Option<LinkId> {
        let id = self.core.link_of(destination)?;
        let connection = self.core.links.next_connection();
        let link = &mut self.core.links[id];
        if link.state != LinkState::Dialing {
            return None;
        }
        link.state = if link.fin_queued { LinkState::Finished } else { LinkState::Open };
        (link.opened_at, link.heard_at) = (self.core.now, None);
        link.connection = connection;
        (link.connected, link.given_up) = (true, false);
        link.sent.delivered = 0;
        link.sent.dead = 0;
        let peer = link.peer.0;
        self.core.links[id].outbox.peer_takes(takes);
        self.core.requests.push(Request::Reached(peer));
        self.bury_too_large(id);
        self.core.mark_dirty(id);
        self.link_changed(id, LinkChange::Opened);
        self.core.refresh_usable();
        Some(id)
    }

    /// What waits for a link and is longer than its peer takes, as is known since it is open.
    fn bury_too_large(&mut self, id: LinkId) {
        let Core { links, encoder, .. } = &mut self.core;
        let too_large = links[id].outbox.take_too_large(encoder);
        for chunk in too_large {
            let Core { links, asks, ask_effects, now, published, buffers, .. } = &mut self.core;
            let reason = death(links[id].outbox.refuse(buffers, &chunk));
            let peer = links[id].peer.0;
            let requests = chunk.untouched_requests();
            links[id].sent.requests -= requests;
            published.tally.dead[reason as usize].add(requests);
            for ask in chunk.untouched_asks() {
                asks.failed(ask, id, reason, *now, ask_effects);
            }
            self.core.mourn_all(reason, &chunk);
            self.core.note_dead_in(reason, &chunk, Some(peer));
        }
        self.core.carry_asks();
    }

    /// A link is being dialed since a while: what may be sent again is tried elsewhere if that takes
    /// too long, and strategies that may pass over it do.
    pub(super) fn look_at_dial(&mut self, id: LinkId) {
        let Core { links, timers, now, .. } = &mut self.core;
        let Some(link) = links.get_mut(id) else { return };
        link.dial_watched = link.state == LinkState::Dialing && !link.is_late(*now);
        if link.dial_watched {
            timers.insert(link.dialed_at.plus(LATE_DIAL), Timer::Dial(id));
        } else if link.state == LinkState::Dialing {
            self.core.give_up_on(|on, _| on == id);
            self.core.refresh_usable();
            self.core.carry_asks();
        }
    }

    /// The connection that [`Request::Dial`] asked for could not be opened: what waited for it is
    /// dead, and it is not tried again for a while.
    pub fn dial_failed(&mut self, destination: DestinationId) {
        let Some(id) = self.core.link_of(destination) else {
            return;
        };
        if self.core.links[id].state == LinkState::Dialing {
            self.rest(id);
            self.core.refresh_usable();
        }
    }

    /// A dialed link is not tried again for a while, for longer each time.
    fn rest(&mut self, id: LinkId) {
        let limits = self.core.limits;
        let link = &mut self.core.links[id];
        link.redial_pause_ms =
            (link.redial_pause_ms * 2).clamp(limits.redial_min_ms, limits.redial_max_ms);
        let pause = Duration::from_millis(link.redial_pause_ms);
        let finished = link.fin_queued || link.parting;
        link.state = if finished { LinkState::Finished } else { LinkState::Broken };
        self.lose(id, DeathReason::Unreachable);
        self.link_changed(id, LinkChange::Closed);
        self.core.timers.insert(self.core.now.plus(pause), Timer::Redial(id));
    }

    /// A peer's worker dialed this one. An older connection of the same pair is dropped with all
    /// that was not taken from it, so that order holds across a reconnect. Returns `None` when
    /// this connection itself is the older one.
    pub fn accept(&mut self, node: NodeRef, worker: WorkerIndex, epoch: u64) -> Option<LinkId> {
        let now = self.core.now;
        let mut lower = None;
        let mut older = Vec::new();
        for (id, link) in self.core.links.iter().filter(|(_, link)| link.peer == (node, worker)) {
            let Role::Accepted { epoch: other } = link.role else { continue };
            older.push(id);
            if other > epoch {
                let overtaken = now.since(link.opened_at) < OVERTAKEN;
                lower = Some(if overtaken { Lower::Closed } else { Lower::Taken });
            }
        }
        let snapshot = self.core.snapshot.as_ref();
        let known = snapshot.and_then(|snapshot| snapshot.destinations.find(node, worker));
        let reach = known.map(|known| known.reach);
        if older.is_empty() && self.is_full_of_accepted(replies_to(reach)) {
            self.core.requests.push(Request::NoPlace(node, worker));
            return None;
        }
        if let Some(lower) = lower {
            self.core.requests.push(Request::Overtaken(node, worker, lower));
        }
        if lower == Some(Lower::Closed) {
            return None;
        }
        for id in older {
            self.link_changed(id, LinkChange::Closed);
            self.core.remove_link(id);
            self.core.requests.push(Request::Close(id));
        }
        let id = self.insert_link((node, worker), Role::Accepted { epoch }, LinkState::Open);
        let Core { links, encoder, .. } = &mut self.core;
        links[id].outbox.charge(encoder, replies_to(reach));
        self.link_changed(id, LinkChange::Opened);
        Some(id)
    }

    /// Whether no more links are taken from peers of this account: members have places that clients
    /// cannot fill.
    fn is_full_of_accepted(&self, account: Account) -> bool {
        let most = self.core.limits.max_accepted;
        match account {
            Account::Clients => {
                let clients = self.accepted().filter(|link| link.outbox.held().1 == account);
                clients.count() >= most - most / MEMBERS_PART || self.accepted().count() >= most
            }
            _ => self.accepted().count() >= most,
        }
    }

    /// The links that others have opened.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Link> {
        let links = self.core.links.iter().map(|(_, link)| link);
        links.filter(|link| matches!(link.role, Role::Accepted { .. }))
    }

    /// What was sent on a link vanishes: its connection is about to be given up.
    pub(super) fn flow_vanished(&mut self, id: LinkId) {
        let Some(link) = self.core.links.get(id) else { return };
        self.core.requests.push(Request::Vanished(link.peer.0, link.opened_at));
    }

    /// A link's connection was closed or broke.
    pub fn link_lost(&mut self, id: LinkId) {
        let Some(link) = self.core.links.get(id) else { return };
        let (peer, said_goodbye) = (link.peer.0, link.fin_received);
        let suspected = match link.role {
            Role::Own | Role::Sibling(_) => false,
            Role::Accepted { .. } => !said_goodbye,
            Role::Dialed { .. } => !link.is_over() && !link.given_up,
        };
        self.end_connection(id);
        if suspected {
            self.core.requests.push(Request::Suspect(peer));
        }
    }

    /// A link's connection is over, or given up.
    pub(in crate::worker) fn end_connection(&mut self, id: LinkId) {
        let Some(link) = self.core.links.get_mut(id) else { return };
        match link.role {
            Role::Own | Role::Sibling(_) => {}
            Role::Accepted { .. } => {
                self.link_changed(id, LinkChange::Closed);
                self.core.remove_link(id);
            }
            Role::Dialed { destination } => {
                (link.connected, link.given_up) = (false, false);
                if link_of(&self.core.destinations, destination) != Some(id) {
                    return self.forget_dialed(id);
                }
                let finished = link.is_over();
                let longest_rest = Duration::from_millis(self.core.limits.redial_max_ms);
                let in_vain = link.was_in_vain_again(self.core.now, longest_rest);
                if link.wanted && !finished && in_vain {
                    if link.in_vain >= IN_VAIN {
                        self.core.requests.push(Request::InVain(link.peer.0));
                    }
                    self.rest(id);
                    return self.core.refresh_usable();
                }
                let kept = link.outbox.rewind(&mut self.core.encoder);
                let unwritten = link.outbox.unwritten_asks();
                // Re-dial at once, whether or not anything waits: a refusal is the fastest
                // evidence that the peer is gone.
                let goes_on = link.wanted && !finished;
                link.state = if finished { LinkState::Finished } else { LinkState::Idle };
                if goes_on {
                    self.core.dial(id, destination);
                }
                self.core.settle(id, kept);
                if !goes_on {
                    self.core.bury(id, DeathReason::Unreachable);
                }
                self.fail_asks_but(&unwritten, id, AskError::LinkLost);
                if !goes_on {
                    self.fail_asks(id, AskError::Dead(DeathReason::Unreachable));
                }
                self.link_changed(id, LinkChange::Closed);
                self.core.refresh_usable();
            }
        }
    }

    /// Ends a dialed link's messages: unknown if written, dead if not.
    pub(super) fn lose(&mut self, id: LinkId, reason: DeathReason) {
        let link = &mut self.core.links[id];
        let kept = link.outbox.rewind(&mut self.core.encoder);
        let unwritten = link.outbox.unwritten_asks();
        self.core.settle(id, kept);
        self.core.bury(id, reason);
        self.fail_asks_but(&unwritten, id, AskError::LinkLost);
        self.fail_asks(id, AskError::Dead(reason));
    }

    pub(super) fn fail_asks(&mut self, link: LinkId, error: AskError) {
        self.fail_asks_but(&[], link, error);
    }

    /// Once anything of an ask was written it may have been handled, and must not be called dead; of
    /// these nothing was.
    pub(super) fn fail_asks_but(&mut self, unwritten: &[u64], link: LinkId, error: AskError) {
        let Core { asks, ask_effects, now, .. } = &mut self.core;
        asks.link_lost_but(unwritten, link, error, *now, ask_effects);
        self.core.carry_asks();
    }
}
