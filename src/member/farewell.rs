//! How a member leaves: it tells everybody, and says it again until one of those that stay has shown
//! that it knows. From there it spreads as all news does.
//!
//! Whoever hears anything of who has left answers with that one's place among former members
//! (`tell_it_is_over` in `receive`). Nobody is waited for who was silent before the leave began, or
//! who leaves as well: what a leaver knows goes with it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{MemberState, NodeRef, Time};

use super::messages::{Body, Message};
use super::records::{Entry, is_gone};
use super::timer::TimerKind;
use super::{MemberSink, Membership, Stage, schedule};

/// How long after one farewell the next follows.
const REPEATS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];
/// And all further ones, while nobody has shown that it knows.
const REPEATS_UNHEARD: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// When the leave began.
    since: Option<Time>,
    /// How often it was said.
    said: usize,
    /// Some member that stays has shown that it knows.
    is_heard: bool,
}

impl Membership {
    /// Starts to leave: others send nothing new to this node from when they hear of it.
    pub fn leave(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.stage == Stage::Running && self.state() < MemberState::Leaving {
            self.farewell.since = Some(now);
            self.directory.own_mut().member_mut().state = MemberState::Leaving;
            self.publish_own(now, sink);
            self.push_own(now, sink);
            self.settle(now, sink);
        }
    }

    /// Leaves: nothing is in flight any more. Others forget this node when they hear of it;
    /// [`is_farewell_heard`](Self::is_farewell_heard) tells whether they have.
    pub fn left(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.stage != Stage::Running {
            return;
        }
        self.farewell.since.get_or_insert(now);
        let own = self.directory.own_mut();
        own.member_mut().state = MemberState::Left;
        // Without a later version the others find it silent.
        self.directory.raise_own();
        self.stage = Stage::Farewell;
        self.swim.leave(now, sink);
        self.say_farewell(now, sink);
        self.show(now, sink);
    }

    /// Says it, and again later: each time to everybody, since nobody knows who heard the last one.
    pub(super) fn say_farewell(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.push_own_everywhere(sink);
        let next = match REPEATS.get(self.farewell.said) {
            Some(next) => *next,
            None if self.is_farewell_heard() => return self.stage = Stage::Ended,
            None => REPEATS_UNHEARD,
        };
        self.farewell.said += 1;
        schedule(now, next, TimerKind::Farewell, sink);
    }

    /// Whether a member that stays has shown that it knows that this node has left, or there is none
    /// to tell.
    pub fn is_farewell_heard(&self) -> bool {
        self.farewell.is_heard || !self.directory.others().any(|entry| self.is_to_hear(entry))
    }

    /// Whether it stays, and was not silent before the leave began already.
    fn is_to_hear(&self, entry: &Entry) -> bool {
        let began = self.farewell.since;
        let silent_before = entry.unreachable_since.is_some_and(|since| Some(since) < began);
        entry.record.member.state < MemberState::Leaving && !silent_before
    }

    /// What others say to who has left: that they know, or that they leave as well.
    pub(super) fn hear_after_farewell(
        &mut self,
        now: Time,
        from: SocketAddr,
        payload: &[u8],
        sink: &mut dyn MemberSink,
    ) {
        self.answers.begin(payload.len());
        let Ok(Message { sender, body }) = Message::read(payload) else { return };
        let (me, sender) = (self.me(), sender.member);
        if sender.node == me.node {
            return;
        }
        // Also that it was removed, or has a successor.
        let is_over = |life: NodeRef, state| match life == me {
            true => is_gone(state),
            false => life.node == me.node && life.incarnation > me.incarnation,
        };
        let knows = match body {
            Body::Summary { entries, .. } => {
                entries.iter().any(|entry| is_over(entry.member, entry.state))
            }
            Body::Records { entries, .. } => {
                let records = || entries.iter().map(|entry| &entry.record);
                let own = records().find(|record| record.member.node_ref() == sender);
                if let Some(record) = own.filter(|_| self.current(sender).is_some()) {
                    self.directory.merge(now, record.clone(), false);
                    if !record.is_live() {
                        self.tell_it_is_over(now, from, sender, sink);
                    }
                }
                let mut lives = records().map(|record| &record.member);
                lives.any(|member| is_over(member.node_ref(), member.state))
            }
            _ => false,
        };
        let stays = |entry: &Entry| entry.record.member.state < MemberState::Leaving;
        self.farewell.is_heard |= knows && self.current(sender).is_some_and(stays);
    }
}
