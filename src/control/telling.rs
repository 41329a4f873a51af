//! What the log says of changes of membership.

use super::{Control, ControlSink};
use crate::base::{LogKind, Member, MemberEvent, MemberState, Time};

impl Control {
    pub(super) fn say_events(
        &mut self,
        now: Time,
        events: &[MemberEvent],
        sink: &mut dyn ControlSink,
    ) {
        for event in events {
            let (what, member) = match event {
                MemberEvent::Damped(member) => {
                    self.say(now, LogKind::Member, sink, || describe_damped(now, member));
                    continue;
                }
                MemberEvent::Settled(member) => ("a damped member gets keys again", member),
                MemberEvent::Joined(member) => ("a member joined", member),
                MemberEvent::Changed(member) => ("a member changed", member),
                MemberEvent::Unreachable(member) if member.state == MemberState::Leaving => {
                    ("a member is leaving and answers no more", member)
                }
                MemberEvent::Unreachable(member) => ("a member is unreachable", member),
                MemberEvent::Reachable(member) => ("a member is reachable again", member),
                MemberEvent::Removed(member) if member.state == MemberState::Left => {
                    ("a member has left", member)
                }
                MemberEvent::Removed(member) => ("a member was removed", member),
            };
            let what = if member.node_ref() == self.me { "this node" } else { what };
            self.say(now, LogKind::Member, sink, || {
                format!("{what}: {} at {}, {:?}", member.name, member.address, member.state)
            });
        }
    }
}

fn describe_damped(now: Time, member: &Member) -> String {
    let left = member.damped_until.map_or(0, |until| until.since(now).as_millis());
    format!(
        "a member is damped: {} at {} fell silent again and again, and gets no keys until it has \
         answered for {left} ms on end: look at its network, its load, and whether others always \
         reach it at the address it advertises",
        member.name, member.address
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::{Incarnation, NodeId, NodeRef};

    #[test]
    fn a_damped_member_is_named_with_its_address_its_wait_and_what_to_look_at() {
        let id = NodeRef { node: NodeId::from_name("flaps"), incarnation: Incarnation(1) };
        let member = Member {
            name: "flaps".into(),
            damped_until: Some(Time::ZERO.plus(Duration::from_secs(7))),
            ..Member::plain(id, ([10, 0, 0, 9], 7_400).into())
        };
        let said = describe_damped(Time::ZERO.plus(Duration::from_secs(3)), &member);
        assert_eq!(
            said,
            "a member is damped: flaps at 10.0.0.9:7400 fell silent again and again, and gets no \
             keys until it has answered for 4000 ms on end: look at its network, its load, and \
             whether others always reach it at the address it advertises"
        );
    }
}
