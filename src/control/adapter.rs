//! Membership's hands: what it wants done goes to the driver, its payloads sealed.

use std::net::SocketAddr;
use std::sync::Arc;

use super::joining::Joining;
use super::pieces::Pieces;
use super::sending::{Sent, Told};
use super::troubles::{self, PeerTrouble, Trouble, Troubles};
use super::{ControlSink, ControlTimer};
use crate::base::{Member, MemberEvent, NodeRef, Time, View};
use crate::member::{MemberFault, MemberSink, MemberTimer};
use crate::wire::auth::ClusterKey;
use crate::wire::datagram;

/// Stands between membership and the driver.
pub(super) struct Adapter<'a> {
    pub me: NodeRef,
    pub key: &'a ClusterKey,
    pub sealed: &'a mut Vec<u8>,
    pub pieces: &'a mut Pieces,
    pub sink: &'a mut dyn ControlSink,
    pub now: Time,
    pub joining: &'a Joining,
    pub troubles: &'a Troubles,
    /// What the system said of datagrams.
    pub told: Told,
    /// Who has not shown yet that it is where it says.
    pub not_proven: Vec<Trouble>,
    /// The events of a change of the view.
    pub changed: Option<Vec<MemberEvent>>,
    /// The end, which is told last.
    pub fault: Option<MemberFault>,
}

impl MemberSink for Adapter<'_> {
    fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        // Membership keeps its payloads far below the cap; one over it would be lost like any
        // datagram.
        let Self { key, me, sealed, sink, told, .. } = self;
        let was_unsent = self.troubles.is_unsent(to) || self.joining.is_unsent(to);
        self.pieces.split(payload, |part, bytes| {
            if datagram::seal(key, *me, part, bytes, sealed).is_err() {
                return;
            }
            match sink.send(to, sealed) {
                Sent::Not(code) => drop(told.insert(to, Err(code))),
                Sent::Taken if was_unsent => drop(told.insert(to, Ok(()))),
                Sent::Taken | Sent::NoRoom => {}
            }
        });
    }

    fn schedule(&mut self, at: Time, timer: MemberTimer) {
        self.sink.schedule(at, ControlTimer::Member(timer));
    }

    fn view_changed(&mut self, _: &Arc<View>, events: &[MemberEvent]) {
        self.changed.get_or_insert_default().extend_from_slice(events);
    }

    fn not_proven(&mut self, member: &Member, from: SocketAddr) {
        let what = PeerTrouble::NotThere { from };
        self.not_proven.push(troubles::of(self.now, member, what, None));
    }

    fn fault(&mut self, fault: MemberFault) {
        self.fault = Some(fault);
    }
}
