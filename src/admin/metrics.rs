//! All figures of a node in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::report::{CountsReport, HealthReport, MembersReport, StrangersReport, snake_case};
use crate::api::Node;
use crate::base::MemberState;

/// What the answer says it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn of(node: &Node) -> String {
    let mut out = Text(String::with_capacity(4_096));
    let health = HealthReport::of(node);
    out.family("keyway_up", "gauge", "1 while the node is a member and takes messages.");
    out.sample("keyway_up", &[], u64::from(health.healthy));
    members(&mut out, &MembersReport::of(node));
    counts(&mut out, &CountsReport::from(node.counts()));
    strangers(&mut out, &StrangersReport::of(node));
    out.family("keyway_routees", "gauge", "Routees in the table of each router.");
    for (index, router) in node.routers().into_iter().enumerate() {
        let index = index.to_string();
        let labels = [
            ("router", index.as_str()),
            ("path", router.path.as_str()),
            ("strategy", router.strategy.as_str()),
        ];
        out.sample("keyway_routees", &labels, router.routees);
    }
    out.0
}

fn members(out: &mut Text, report: &MembersReport) {
    out.family("keyway_members", "gauge", "Members in view, by state and whether they answer.");
    for state in [MemberState::Joining, MemberState::Up, MemberState::Leaving] {
        for reachable in [true, false] {
            let here = report.members.iter();
            let count = here.filter(|m| m.state == state && m.reachable == reachable).count();
            let state = snake_case(&state);
            let labels = [
                ("state", state.as_str()),
                ("reachable", if reachable { "true" } else { "false" }),
            ];
            out.sample("keyway_members", &labels, count);
        }
    }
}

fn counts(out: &mut Text, counts: &CountsReport) {
    let single = [
        ("keyway_messages_sent_total", "Messages to be sent, refused ones included.", counts.sent),
        (
            "keyway_messages_delivered_total",
            "Messages a handler took, as acknowledged by its node.",
            counts.delivered,
        ),
        (
            "keyway_messages_dead_at_peer_total",
            "Accepted messages that the receiving node reported dead.",
            counts.dead_at_peer,
        ),
        (
            "keyway_messages_unknown_total",
            "Messages written to a link that was lost before they were acknowledged.",
            counts.unknown,
        ),
        (
            "keyway_messages_received_total",
            "Messages from other nodes that handlers here took.",
            counts.received,
        ),
        ("keyway_asks_total", "Asks that were accepted.", counts.asks),
        ("keyway_asks_replied_total", "Asks that got their reply.", counts.replies),
        ("keyway_asks_failed_total", "Asks that ended in an error.", counts.failed_asks),
        (
            "keyway_replies_late_total",
            "Replies that came after their ask had ended.",
            counts.late_replies,
        ),
        ("keyway_replies_lost_total", "Replies that could not be sent.", counts.lost_replies),
    ];
    for (name, help, value) in single {
        out.family(name, "counter", help);
        out.sample(name, &[], value);
    }
    out.family("keyway_messages_in_flight", "gauge", "Messages that have not ended yet.");
    out.sample("keyway_messages_in_flight", &[], counts.in_flight);
    let by_reason = [
        ("keyway_messages_refused_total", "Messages that were not accepted.", &counts.refused),
        ("keyway_messages_dead_total", "Accepted messages known to be dead.", &counts.dead),
        (
            "keyway_messages_received_dead_total",
            "Messages from other nodes that died here.",
            &counts.received_dead,
        ),
    ];
    for (name, help, reasons) in by_reason {
        out.family(name, "counter", help);
        for (reason, count) in reasons {
            out.sample(name, &[("reason", reason)], count);
        }
    }
}

fn strangers(out: &mut Text, strangers: &StrangersReport) {
    out.family("keyway_connections_total", "counter", "Connections to the node's port.");
    for (outcome, count) in [
        ("accepted", strangers.accepted),
        ("refused", strangers.refused),
        ("turned_away", strangers.turned_away),
    ] {
        out.sample("keyway_connections_total", &[("outcome", outcome)], count);
    }
    out.family("keyway_datagrams_total", "counter", "Datagrams to the node's port.");
    for (outcome, count) in [
        ("taken", strangers.datagrams_taken),
        ("not_ours", strangers.datagrams_not_ours),
        ("malformed", strangers.datagrams_malformed),
    ] {
        out.sample("keyway_datagrams_total", &[("outcome", outcome)], count);
    }
}

/// The text so far. Writing to a string cannot fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Text(String::new());
        out.sample("a", &[], 1);
        out.sample("b", &[("x", "say \"\\\"\n"), ("y", "")], 2);
        assert_eq!(out.0, "a 1\nb{x=\"say \\\"\\\\\\\"\\n\",y=\"\"} 2\n");
    }
}
