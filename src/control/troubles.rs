//! Peers that run and do not get what is sent to them, or do not get in: what is wrong is named while
//! it lasts, by a line of the log when it begins, rarely again, and when it is over.
//!
//! Membership does not see any of it: its datagrams arrive. Whatever begins it is seen on the way
//! to a connection, and it ends when a link opens, when a look finds that somebody listens there
//! again, when the peer is gone, or when nothing of the kind was seen for a while.

mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::joining::SeedState;
use super::log_line::LogLine;
use super::repeats::Repeats;
use super::{Control, ControlSink, ControlTimer};
use crate::base::{LogKind, LogLimiter, Member, NodeRef, Time, WorkerIndex};

/// How often it is looked whether something is over.
const LOOK: Duration = Duration::from_secs(5);
/// How long what no look can find out lasts after it was last seen.
const LASTS: Duration = Duration::from_secs(60);
/// The same for strangers: who wants to be let in calls every few seconds.
const STRANGER_LASTS: Duration = Duration::from_secs(20);
/// And for a member that answers nothing any more.
const UNREACHABLE_LASTS: Duration = Duration::from_secs(10);
/// How long a stranger may take to answer at its address before that is told. It has called again by
/// then: an answer to what was asked at its last call would have come before.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long the system must have said the same of a peer before that is told: a machine that goes
/// away leaves such words for a moment, and so does a process that is short of something.
const CONFIRMED: Duration = Duration::from_secs(2);
/// What is kept of members.
const MOST: usize = 64;
/// And of nodes that are none: anybody may cause these, where there is no secret.
const MOST_STRANGERS: usize = 16;

/// What is wrong between this node and a peer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerTrouble {
    /// It answers datagrams, and its machine or a firewall refuses connections.
    Refuses,
    /// It answers datagrams, and nothing comes back on connections.
    Vanish,
    /// It answers datagrams and takes connections, and says nothing on them, or closes them without a
    /// word.
    Mute,
    /// It answers datagrams, and this node's system says that connections cannot be made:
    /// [`Trouble::error`] has its words.
    Fails,
    /// It answers datagrams, and what takes connections at its address is something else, or does not
    /// let this node in: [`Trouble::error`] says what was wrong with the handshake.
    NoHandshake,
    /// This node's system does not send datagrams to it: [`Trouble::error`] has its words. To this
    /// node it is unreachable then, or soon will be.
    NotSent,
    /// It answers datagrams and takes connections, and what is sent on them vanishes again and
    /// again, as where large packets are dropped on the way.
    Swallowed,
    /// It answers datagrams, and takes nothing of what is sent to it, as while a handler holds its
    /// worker: [`Trouble::error`] says for how long and what waits.
    TakesNothing,
    /// It lets links be opened and closes them at once, again and again.
    ClosesLinks,
    /// It has no place for more links.
    NoPlace,
    /// It calls, and does not answer at the address that it advertises: it is no member here.
    NotThere {
        /// Where its datagrams come from.
        from: SocketAddr,
    },
}

impl PeerTrouble {
    /// Every kind in its few words, for whoever counts by them.
    pub const SHORT: [&str; 11] = [
        Self::Refuses.short(),
        Self::Vanish.short(),
        Self::Mute.short(),
        Self::Fails.short(),
        Self::NoHandshake.short(),
        Self::NotSent.short(),
        Self::Swallowed.short(),
        Self::TakesNothing.short(),
        Self::ClosesLinks.short(),
        Self::NoPlace.short(),
        "not at its address",
    ];

    /// In a few words, for a table or a label.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Refuses => "refuses connections",
            Self::Vanish => "connections vanish",
            Self::Mute => "takes connections and is silent",
            Self::Fails => "connections fail",
            Self::NoHandshake => "handshakes fail",
            Self::NotSent => "datagrams are not sent",
            Self::Swallowed => "what is sent vanishes",
            Self::TakesNothing => "takes nothing",
            Self::ClosesLinks => "closes links at once",
            Self::NoPlace => "has no place for more links",
            Self::NotThere { .. } => "not at its address",
        }
    }
}

/// One peer's trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// Which life of which node.
    pub peer: NodeRef,
    /// Its name.
    pub name: Arc<str>,
    /// The address that it advertises.
    pub address: SocketAddr,
    /// What is wrong.
    pub what: PeerTrouble,
    /// What the system or the handshake said of it, where that tells more.
    pub error: Option<Arc<str>>,
    /// Since when it is known, by this node's clock.
    pub since: Time,
}

impl Trouble {
    /// Whether it is of the same kind.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.what) == std::mem::discriminant(&other.what)
    }

    /// Whether it is told, when it was last seen then: a newcomer may still answer, and what the
    /// system says may pass.
    fn is_certain(&self, last: Time) -> bool {
        match self.what {
            PeerTrouble::NotThere { .. } => last.since(self.since) >= PATIENCE,
            PeerTrouble::Fails | PeerTrouble::NotSent => last.since(self.since) >= CONFIRMED,
            _ => true,
        }
    }
}

struct Known {
    trouble: Trouble,
    /// Since when something is wrong with it, this or another thing before.
    begun: Time,
    /// When it was last seen.
    last: Time,
    repeats: Repeats,
    /// A line said that it is so.
    told: bool,
    /// Another thing that is not certain yet, and when it was last seen.
    unsure: Option<(Trouble, Time)>,
}

impl Known {
    fn new(now: Time, trouble: Trouble, mut repeats: Repeats) -> Self {
        repeats.count();
        Self { begun: trouble.since, trouble, last: now, repeats, told: false, unsure: None }
    }

    /// Something is seen of the same peer.
    fn saw(&mut self, now: Time, mut seen: Trouble) {
        if self.trouble.is_like(&seen) {
            self.last = now;
            self.repeats.count();
            self.trouble = Trouble { since: self.trouble.since, ..seen };
            return;
        }
        // Who has no place closes links as well.
        let closes = seen.what == PeerTrouble::ClosesLinks;
        if closes && self.trouble.what == PeerTrouble::NoPlace && now.since(self.last) < LASTS {
            return;
        }
        // Whatever keeps datagrams from it keeps connections from it as well. What is not certain
        // yet hides nothing that is.
        if self.is_unsent() && (self.counts() || !seen.is_certain(now)) {
            return;
        }
        if self.counts() {
            // What the next look did not find again was for a moment.
            match self.unsure.take().filter(|(_, last)| now.since(*last) < 2 * LOOK) {
                Some((unsure, _)) if unsure.is_like(&seen) => seen.since = unsure.since,
                Some(not_sent)
                    if not_sent.0.what == PeerTrouble::NotSent
                        && seen.what == PeerTrouble::Fails =>
                {
                    self.unsure = Some(not_sent);
                    return;
                }
                _ => {}
            }
            if !seen.is_certain(now) {
                self.unsure = Some((seen, now));
                return;
            }
        } else {
            self.begun = seen.since;
        }
        self.repeats.renew();
        self.repeats.count();
        (self.trouble, self.last) = (seen, now);
    }

    /// Whether it is told.
    fn counts(&self) -> bool {
        self.trouble.is_certain(self.last)
    }

    fn is_stranger(&self) -> bool {
        matches!(self.trouble.what, PeerTrouble::NotThere { .. })
    }

    /// Whether it is over because it was not seen for a while: what is not taken is told every few
    /// seconds.
    fn has_passed(&self, now: Time) -> bool {
        let is_said_often = self.trouble.what == PeerTrouble::TakesNothing;
        is_said_often && now.since(self.last) >= UNREACHABLE_LASTS
    }

    fn is_unsent(&self) -> bool {
        self.trouble.what == PeerTrouble::NotSent
    }

    /// Whether a datagram was not sent, certain or not.
    fn may_be_unsent(&self) -> bool {
        let unsure = self.unsure.as_ref().map(|(unsure, _)| unsure.what);
        self.is_unsent() || unsure == Some(PeerTrouble::NotSent)
    }

    /// Whether a look can find that it is over.
    fn can_be_looked_at(&self) -> bool {
        let what = self.trouble.what;
        matches!(what, PeerTrouble::Refuses | PeerTrouble::Vanish | PeerTrouble::Fails)
    }

    /// Whether a link that opens ends it, or a look that finds who listens; with some, links open too.
    fn ends_with_a_link(&self, by_look: bool) -> bool {
        let stays = matches!(
            self.trouble.what,
            PeerTrouble::NoPlace
                | PeerTrouble::ClosesLinks
                | PeerTrouble::NotSent
                | PeerTrouble::Swallowed
                | PeerTrouble::TakesNothing
        );
        !stays && (!by_look || self.can_be_looked_at())
    }

    fn is_forgotten(&self, now: Time, is_reachable: bool) -> bool {
        let lasts = match (self.is_stranger(), is_reachable) {
            (true, _) => STRANGER_LASTS,
            // That it does not answer at all says enough, unless it is for a moment only.
            (false, false) => UNREACHABLE_LASTS,
            (false, true) if self.can_be_looked_at() && self.counts() => return false,
            (false, true) => LASTS,
        };
        now.since(self.last) >= lasts
    }
}

/// What is over, and may begin again.
struct Past {
    at: Time,
    is_stranger: bool,
    repeats: Repeats,
}

/// All that is known.
#[derive(Default)]
pub(super) struct Troubles {
    known: BTreeMap<NodeRef, Known>,
    /// Of what was over a moment ago: one that comes and goes is told once a minute.
    past: BTreeMap<NodeRef, Past>,
    /// What whoever asks is told.
    shown: Arc<[Trouble]>,
    news: bool,
    /// The next look is scheduled.
    looking: bool,
    log: LogLimiter,
}

impl Troubles {
    /// What this peer calls itself, and where it says that it is.
    pub fn whereabouts(&self, peer: NodeRef) -> Option<(Arc<str>, SocketAddr)> {
        let Trouble { name, address, .. } = &self.known.get(&peer)?.trouble;
        Some((Arc::clone(name), *address))
    }

    /// Whether what was last sent to there was not taken.
    pub fn is_unsent(&self, to: SocketAddr) -> bool {
        self.known.values().any(|known| known.trouble.address == to && known.may_be_unsent())
    }

    /// A datagram to there is taken. Gives the lines that say so.
    pub fn sent_again(&mut self, now: Time, there: impl Fn(&SocketAddr) -> bool) -> Vec<LogLine> {
        let reached = self.known.values_mut().filter(|known| there(&known.trouble.address));
        for known in reached.filter(|known| !known.is_unsent() && known.may_be_unsent()) {
            known.unsure = None;
        }
        self.end(now, |known| known.is_unsent() && there(&known.trouble.address))
    }

    /// It was seen. What there is no place for is left out.
    pub fn saw(&mut self, now: Time, seen: Trouble) {
        if let Some(known) = self.known.get_mut(&seen.peer) {
            return known.saw(now, seen);
        }
        let is_stranger = matches!(seen.what, PeerTrouble::NotThere { .. });
        let alike = || self.known.iter().filter(|(_, other)| other.is_stranger() == is_stranger);
        let is_full = alike().count() >= most(is_stranger);
        // A link that is down for a moment fails for all members at once.
        let gives_way = alike().find(|(_, other)| seen.is_certain(now) && !other.counts());
        let gives_way = gives_way.map(|(peer, _)| *peer).filter(|_| is_full);
        if let Some(peer) = gives_way {
            self.known.remove(&peer);
        }
        if !is_full || gives_way.is_some() {
            let past = self.past.remove(&seen.peer).filter(|past| now.since(past.at) < LASTS);
            let mut repeats = past.map(|past| past.repeats).unwrap_or_default();
            repeats.renew();
            self.known.insert(seen.peer, Known::new(now, seen, repeats));
        }
    }

    /// Takes out what is over.
    fn take_out(&mut self, now: Time, is_over: impl Fn(&Known) -> bool) -> Vec<Known> {
        let over = self.known.iter().filter(|(_, known)| is_over(known));
        let over: Vec<NodeRef> = over.map(|(peer, _)| *peer).collect();
        let over: Vec<Known> = over.iter().filter_map(|peer| self.known.remove(peer)).collect();
        self.past.retain(|_, past| now.since(past.at) < LASTS);
        for known in over.iter().filter(|known| known.repeats.was_told()) {
            let is_stranger = known.is_stranger();
            let alike = self.past.values().filter(|past| past.is_stranger == is_stranger);
            if alike.count() < most(is_stranger) {
                let past = Past { at: now, is_stranger, repeats: known.repeats };
                self.past.insert(known.trouble.peer, past);
            }
        }
        over
    }

    /// Takes out what is over. Gives the lines that say so.
    fn end(&mut self, now: Time, is_over: impl Fn(&Known) -> bool) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for known in self.take_out(now, is_over).into_iter().filter(|known| known.told) {
            let kind = LogKind::TroubleOver;
            let Some(left_out) = self.log.line(now, kind) else { continue };
            let Trouble { name, address, what, since, .. } = &known.trouble;
            let (what, lasted) = (what.short(), now.since(known.begun).as_secs());
            let mut text = format!("{name} at {address}: over, after {lasted} s: {what}");
            if known.begun != *since {
                text += &format!(", for the last {} s", now.since(*since).as_secs());
            }
            lines.push(LogLine { kind, left_out, text });
        }
        lines
    }

    /// Gives the lines of what is to be told now, and keeps what whoever asks is told.
    fn tell(&mut self, now: Time) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for known in self.known.values_mut().filter(|known| known.counts()) {
            // Strangers must not keep members out of the log.
            let kind = if known.is_stranger() { LogKind::NotThere } else { LogKind::Trouble };
            // What has no room stays due.
            if !known.repeats.is_due(now) || !self.log.has_room(now, kind) {
                continue;
            }
            let Some(left_out) = self.log.line(now, kind) else { continue };
            known.told = true;
            let mut text = known.trouble.to_string();
            if let Some(times) = known.repeats.tell(now) {
                let lasted = now.since(known.trouble.since).as_secs();
                text += &format!("; so for {lasted} s, {times} times since it was last said");
            }
            lines.push(LogLine { kind, left_out, text });
        }
        let counts = self.known.values().filter(|known| known.counts());
        let shown: Arc<[Trouble]> = counts.map(|known| known.trouble.clone()).collect();
        self.news |= shown != self.shown;
        self.shown = shown;
        lines
    }
}

impl Control {
    /// What is wrong between this node and others, if that has changed since it was last asked for.
    pub fn trouble_news(&mut self) -> Option<Arc<[Trouble]>> {
        std::mem::take(&mut self.troubles.news).then(|| Arc::clone(self.troubles()))
    }

    /// What is wrong between this node and others.
    pub fn troubles(&self) -> &Arc<[Trouble]> {
        &self.troubles.shown
    }

    /// Something is wrong with a member. One that answers no datagrams either is unreachable, which
    /// says enough.
    pub(super) fn member_in_trouble(
        &mut self,
        now: Time,
        peer: NodeRef,
        what: PeerTrouble,
        error: Option<Arc<str>>,
        sink: &mut dyn ControlSink,
    ) {
        let member = self.membership.view().member(peer.node);
        let member = member.filter(|member| member.node_ref() == peer && member.reachable);
        if let Some(seen) = member.map(|member| of(now, member, what, error)) {
            self.in_trouble(now, seen, sink);
        }
    }

    /// A worker has heard nothing from a peer's for so long, and so many messages wait for it.
    pub(super) fn untaken(
        &mut self,
        now: Time,
        (peer, worker): (NodeRef, WorkerIndex),
        silent: Duration,
        waits: u64,
        sink: &mut dyn ControlSink,
    ) {
        let error = format!(
            "its worker {worker} has acknowledged nothing for {} s, and {waits} messages wait for it",
            silent.as_secs()
        );
        self.member_in_trouble(now, peer, PeerTrouble::TakesNothing, Some(error.into()), sink);
    }

    pub(super) fn in_trouble(&mut self, now: Time, seen: Trouble, sink: &mut dyn ControlSink) {
        let (peer, what, address) = (seen.peer, seen.what, seen.address);
        self.troubles.saw(now, seen);
        if let PeerTrouble::NotThere { from } = what
            && from != address
            && self.troubles.known.get(&peer).is_some_and(|known| known.counts())
        {
            // If it is a seed, that is why this node does not join by it.
            self.joining.heard(now, from, SeedState::Elsewhere(address));
        }
        self.tell_troubles(now, Vec::new(), sink);
    }

    /// Messages to this peer get through, or somebody listens there.
    pub(super) fn out_of_trouble(
        &mut self,
        now: Time,
        peer: NodeRef,
        by_look: bool,
        sink: &mut dyn ControlSink,
    ) {
        if self.troubles.known.contains_key(&peer) {
            let over =
                |known: &Known| known.trouble.peer == peer && known.ends_with_a_link(by_look);
            let lines = self.troubles.end(now, over);
            self.tell_troubles(now, lines, sink);
        }
    }

    /// The view is another one: who is gone has no trouble any more, and who was not let in may be in
    /// by now, also with another life.
    pub(super) fn troubles_follow(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if self.troubles.known.is_empty() {
            return;
        }
        let view = Arc::clone(self.membership.view());
        let lines = self.troubles.end(now, |known| {
            let peer = known.trouble.peer;
            match view.member(peer.node) {
                Some(member) if known.is_stranger() => {
                    member.reachable && member.incarnation >= peer.incarnation
                }
                Some(member) => member.node_ref() != peer,
                None => !known.is_stranger(),
            }
        });
        self.tell_troubles(now, lines, sink);
    }

    /// It is looked whether something is over.
    pub(super) fn look_at_troubles(&mut self, now: Time, sink: &mut dyn ControlSink) {
        self.troubles.looking = false;
        let view = Arc::clone(self.membership.view());
        let over = self.troubles.end(now, |known| known.has_passed(now));
        // That nothing was seen for long shows not that it is over: nobody is told so.
        self.troubles.take_out(now, |known| {
            let member = view.member(known.trouble.peer.node);
            known.is_forgotten(now, member.is_some_and(|member| member.reachable))
        });
        self.tell_troubles(now, over, sink);
        let known = self.troubles.known.values().filter(|known| known.may_be_unsent());
        let unsent: Vec<_> = known.map(|known| known.trouble.peer).collect();
        self.member(now, sink, |membership, sink| membership.ask(&unsent, sink));
        let known = self.troubles.known.values().filter(|known| known.can_be_looked_at());
        let looks: Vec<_> = known
            .map(|it| {
                (it.trouble.peer, it.trouble.what == PeerTrouble::Refuses, it.trouble.address)
            })
            .collect();
        self.links(now, sink, |links, out| {
            for (peer, refuses, address) in looks {
                links.look_again(now, (peer, refuses), address, out);
            }
        });
    }

    pub(super) fn tell_troubles(
        &mut self,
        now: Time,
        before: Vec<LogLine>,
        sink: &mut dyn ControlSink,
    ) {
        for line in before.into_iter().chain(self.troubles.tell(now)) {
            sink.log(line);
        }
        if !self.troubles.known.is_empty() && !self.troubles.looking {
            self.troubles.looking = true;
            sink.schedule(now.plus(LOOK), ControlTimer::Troubles);
        }
    }
}

/// How many are kept of members, or of nodes that are none.
fn most(is_stranger: bool) -> usize {
    if is_stranger { MOST_STRANGERS } else { MOST }
}

/// A member's trouble as it is seen now.
pub(super) fn of(
    now: Time,
    member: &Member,
    what: PeerTrouble,
    error: Option<Arc<str>>,
) -> Trouble {
    let (peer, name) = (member.node_ref(), Arc::clone(&member.name));
    Trouble { peer, name, address: member.address, what, error, since: now }
}

#[cfg(test)]
mod tests;
