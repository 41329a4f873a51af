//! What the admin face answers with, for servers to write and clients to read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::Node;
use crate::base::fate::{CountNames, Counts, DeathReason, Refusal, WorkEnd, counts};
use crate::base::{Member, MemberState, Service};

/// The members as one node sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReport {
    /// The name of the node that answers.
    pub me: String,
    /// Hash over all members: equal on nodes that see the same.
    pub view_digest: String,
    /// By name.
    pub members: Vec<MemberReport>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Unique in the cluster.
    pub name: String,
    /// Hash of the name.
    pub id: String,
    /// Where it can be reached.
    pub address: SocketAddr,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// Where it stands in its life.
    pub state: MemberState,
    /// Whether it answers.
    pub reachable: bool,
    /// Set while it answers and gets no keys, because it fell silent again and again: for how long
    /// it has to go on answering.
    pub damped_ms: Option<u64>,
    /// What is wrong with the way there although it answers, in a few words: see
    /// [`PeerTrouble::short`](crate::PeerTrouble::short).
    #[serde(default)]
    pub trouble: Option<String>,
    /// How many workers it has.
    pub workers: u16,
    /// Which part of the time its workers did not sleep, in thousandths, as it said last.
    pub busy_per_mille: Option<u16>,
    /// Whether one of its workers stands still, as it said last.
    pub stuck: bool,
    /// Its share of keys and load.
    pub weight: u32,
    /// Labels that routers can ask for.
    pub roles: BTreeSet<String>,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// The embedding application's version.
    pub app_version: String,
    /// What it serves, by path.
    pub services: BTreeMap<String, ServiceReport>,
}

/// What a member serves at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The messages it takes there, as `name#layout`.
    pub messages: Vec<String>,
    /// On which of its workers, in words: `every worker`, `one per node`, `worker 2` or
    /// `workers 1, 3`.
    pub placement: String,
    /// The same worker by worker.
    pub workers: Vec<u16>,
}

/// The routers of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutersReport {
    /// In the order in which they were built.
    pub routers: Vec<RouterReport>,
}

/// One router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterReport {
    /// Where its routees are.
    pub path: String,
    /// How it picks.
    pub strategy: String,
    /// How many routees there are now.
    pub routees: usize,
    /// Hash of the table: equal on nodes with equal views.
    pub table_digest: String,
}

/// A count in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported<'a> {
    /// One number.
    One(u64),
    /// A number for each reason, and the word for what these are.
    By(&'static str, &'a BTreeMap<String, u64>),
}

impl Reported<'_> {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        match self {
            Self::One(count) => *count,
            Self::By(_, counts) => counts.values().sum(),
        }
    }
}

macro_rules! report {
    ($($count:ident $(by $label:ident of $reason:ident)?: $metric:literal, $row:literal, $help:literal;)+) => {
        /// How many messages ended how. `sent` is the sum of `delivered`, `refused`, `dead`,
        /// `dead_at_peer`, `unknown` and `in_flight`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct CountsReport {
            $(
                #[doc = $help]
                $(#[doc = concat!("By ", stringify!($label), ".")])?
                #[serde(default)] // A node of another version may have none.
                pub $count: report!(@type $($reason)?),
            )+
            /// Messages that have not ended yet.
            pub in_flight: u64,
        }

        impl CountsReport {
            /// All but `in_flight`, which follows from them, and what each is called.
            pub fn each(&self) -> impl Iterator<Item = (CountNames, Reported<'_>)> {
                let counts = [$(report!(@reported self.$count $(by $label)?)),+];
                Counts::NAMES.into_iter().zip(counts)
            }
        }

        impl From<Counts> for CountsReport {
            fn from(counts: Counts) -> Self {
                Self {
                    $($count: report!(@value counts.$count $(by $reason)?),)+
                    in_flight: counts.in_flight(),
                }
            }
        }
    };
    (@type) => { u64 };
    (@type $reason:ident) => { BTreeMap<String, u64> };
    (@reported $self:ident.$count:ident) => { Reported::One($self.$count) };
    (@reported $self:ident.$count:ident by $label:ident) => {
        Reported::By(stringify!($label), &$self.$count)
    };
    (@value $counts:ident.$count:ident) => { $counts.$count };
    (@value $counts:ident.$count:ident by $reason:ident) => {
        by_reason(&$reason::NAMES, &$counts.$count)
    };
}

counts!(report);

/// What came to the node's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangersReport {
    /// Connections that completed the handshake.
    pub accepted: u64,
    /// Connections that were refused or broke during the handshake.
    pub refused: u64,
    /// Connections that were turned away, because too many were unfinished, or waited for a worker
    /// that was held up.
    pub turned_away: u64,
    /// Connections by which members looked whether the node listens.
    #[serde(default)]
    pub looked: u64,
    /// Datagrams that were taken.
    pub datagrams_taken: u64,
    /// Datagrams of strangers, of another cluster, or with another secret.
    pub datagrams_not_ours: u64,
    /// Datagrams of this cluster that were not understood.
    pub datagrams_malformed: u64,
    /// Datagrams of this cluster for parts that this node does not know: their sender is newer.
    pub datagrams_skipped: u64,
    /// Datagrams of this cluster for this node's parts from who is no member here: one that was one,
    /// or of which this node has not heard yet.
    #[serde(default)]
    pub datagrams_no_members: u64,
    /// The node's own datagrams that its system did not take: no room in the socket, no way to there,
    /// or not permitted.
    #[serde(default)]
    pub datagrams_unsent: u64,
    /// Frames from other nodes' control threads that it does not know: their sender is newer.
    pub control_frames_skipped: u64,
    /// How often others took this node for dead although it was not.
    #[serde(default)]
    pub renewals: u64,
    /// How often this node itself gave a member up.
    #[serde(default)]
    pub verdicts: u64,
    /// Records of members that were left out, since another member that answers has their name.
    #[serde(default)]
    pub names_refused: u64,
    /// Records of members that found no room.
    #[serde(default)]
    pub not_listed: u64,
}

/// Whether the node takes messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The node's name.
    pub name: String,
    /// True if its own state is `up`, it goes on, others can reach it, and no worker has stood still
    /// for a second.
    pub healthy: bool,
    /// Its own state, or how it ended.
    pub state: String,
    /// Members that can be sent to, as it sees them.
    pub usable_members: usize,
    /// While it has met no other node, is alone again and not let in by a seed that runs, or is listed
    /// by none: what stands in the way, seed by seed, and what to do.
    #[serde(default)]
    pub joining: Option<String>,
    /// What its leave waits for, once that takes longer than a second.
    #[serde(default)]
    pub leaving: Option<String>,
    /// What is wrong between it and others: who, where, and what to do.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// What is not wrong yet and will be: the cluster nears the number of members that fit.
    #[serde(default)]
    pub warning: Option<String>,
    /// Workers whose turn takes too long: a handler blocks or computes.
    #[serde(default)]
    pub stuck: Vec<StuckReport>,
}

/// A worker that stands still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckReport {
    /// Which one.
    pub worker: u16,
    /// How long its turn has lasted.
    pub turn_ms: u64,
    /// The path whose handler it called last, if known.
    pub path: Option<String>,
    /// The name of the message's type, if it was called for one.
    #[serde(default)]
    pub message: Option<String>,
}

/// The request was refused, or could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// What was attempted, why it failed and what to do.
    pub error: String,
    /// What would be known instead, where something was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

impl MembersReport {
    /// As the node sees them now.
    pub fn of(node: &Node) -> Self {
        let view = node.view();
        let mut members: Vec<_> =
            view.members.iter().map(|member| MemberReport::of(node, member)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let view_digest = format!("{:016x}", view.digest);
        Self { me: node.name().to_owned(), view_digest, members }
    }
}

impl MemberReport {
    fn of(node: &Node, member: &Member) -> Self {
        let load = node.load(member.node_ref());
        let troubles = node.troubles();
        let trouble = troubles.iter().find(|trouble| trouble.peer == member.node_ref());
        let service = |service: &Service| {
            (service.path.to_string(), ServiceReport::of(service, member.workers))
        };
        let pair = |(key, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| {
            (key.to_string(), value.to_string())
        };
        Self {
            name: member.name.to_string(),
            id: member.id.to_string(),
            address: member.address,
            incarnation: member.incarnation.0,
            state: member.state,
            reachable: member.reachable,
            damped_ms: node.damped_for(member).map(|left| left.as_millis() as u64),
            trouble: trouble.map(|trouble| trouble.what.short().to_owned()),
            workers: member.workers,
            busy_per_mille: load.map(|load| load.busy_per_mille),
            stuck: load.is_some_and(|load| load.stuck),
            weight: member.weight,
            roles: member.roles.iter().map(ToString::to_string).collect(),
            metadata: member.metadata.iter().map(pair).collect(),
            app_version: member.app_version.to_string(),
            services: member.services.iter().map(service).collect(),
        }
    }
}

impl ServiceReport {
    fn of(service: &Service, workers: u16) -> Self {
        Self {
            messages: service.messages.iter().map(ToString::to_string).collect(),
            placement: service.placed.placement(&service.path, workers).to_string(),
            workers: service.placed.iter(workers).map(|worker| worker.0).collect(),
        }
    }
}

impl RoutersReport {
    /// As they are now.
    pub fn of(node: &Node) -> Self {
        let report = |router: crate::api::RouterInfo| RouterReport {
            path: router.path,
            strategy: router.strategy,
            routees: router.routees,
            table_digest: format!("{:016x}", router.table_digest),
        };
        Self { routers: node.routers().into_iter().map(report).collect() }
    }
}

impl StrangersReport {
    /// Up to now.
    pub fn of(node: &Node) -> Self {
        let strangers = node.strangers();
        Self {
            accepted: strangers.accepted,
            refused: strangers.refused,
            turned_away: strangers.turned_away,
            looked: strangers.looked,
            datagrams_taken: strangers.datagrams.taken,
            datagrams_not_ours: strangers.datagrams.not_ours,
            datagrams_malformed: strangers.datagrams.malformed,
            datagrams_skipped: strangers.datagrams.skipped,
            datagrams_no_members: strangers.datagrams.no_members,
            datagrams_unsent: strangers.unsent,
            control_frames_skipped: strangers.frames_skipped,
            renewals: strangers.membership.renewals,
            verdicts: strangers.membership.verdicts,
            names_refused: strangers.membership.names_refused,
            not_listed: strangers.membership.directory_full,
        }
    }
}

impl HealthReport {
    /// How the node is now.
    pub fn of(node: &Node) -> Self {
        let health = node.health();
        let state = match (&health.ended, health.state) {
            (Some(ended), _) => snake_case(ended),
            (None, Some(state)) => snake_case(&state),
            (None, None) => "not_a_member".to_owned(),
        };
        let stuck = health.stuck().map(|worker| StuckReport {
            worker: worker.worker.0,
            turn_ms: worker.turn.as_millis() as u64,
            path: worker.path.as_deref().map(str::to_owned),
            message: worker.message.as_deref().map(str::to_owned),
        });
        Self {
            name: node.name().to_owned(),
            healthy: health.is_healthy(),
            state,
            usable_members: health.usable_members,
            joining: health.join.obstacle(),
            leaving: node.leave_waits_for().map(|waits| waits.to_string()),
            troubles: health.troubles.iter().map(ToString::to_string).collect(),
            warning: health.crowding.map(|crowding| crowding.to_string()),
            stuck: stuck.collect(),
        }
    }
}

fn by_reason(reasons: &[&str], counts: &[u64]) -> BTreeMap<String, u64> {
    reasons.iter().map(|name| spelled(name)).zip(counts.iter().copied()).collect()
}

/// The name of an enum's variant as JSON and metrics spell it; what the variant holds is left out.
pub(super) fn snake_case(variant: &impl Debug) -> String {
    let name = format!("{variant:?}");
    spelled(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}

fn spelled(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn reasons_are_spelled_as_json_spells() {
        assert_eq!(spelled(Refusal::TooManyAsks.name()), "too_many_asks");
        assert_eq!(snake_case(&MemberState::Up), "up");
        assert_eq!(snake_case(&crate::Ended::Left { drained: true }), "left");
    }

    /// What dashboards and scripts read.
    const KEYS: [&str; 19] = [
        "sent",
        "delivered",
        "refused",
        "dead",
        "dead_at_peer",
        "unknown",
        "in_flight",
        "received",
        "received_dead",
        "asks",
        "replies",
        "failed_asks",
        "late_replies",
        "lost_replies",
        "void_wakes",
        "slow_turns",
        "skipped_frames",
        "work_begun",
        "work_ended",
    ];

    #[test]
    fn a_counts_report_has_every_count_under_its_own_name() {
        let counts = crate::base::fate::each_another();
        let report = serde_json::to_value(CountsReport::from(counts)).unwrap();
        for key in KEYS {
            assert!(report.get(key).is_some(), "`{key}` is gone: whoever reads it finds nothing");
        }
        for (key, count) in serde_json::to_value(counts).unwrap().as_object().unwrap() {
            let told = match &report[key] {
                Value::Object(by_reason) => by_reason.values().cloned().collect(),
                number => vec![number.clone()],
            };
            let counted = count.as_array().cloned().unwrap_or_else(|| vec![count.clone()]);
            let set = |numbers: Vec<Value>| -> BTreeSet<u64> {
                numbers.iter().map(|number| number.as_u64().unwrap()).collect()
            };
            assert_eq!(set(told), set(counted), "{key}");
        }
        let back: CountsReport = serde_json::from_value(report).unwrap();
        let names: Vec<_> = back.each().map(|(names, _)| names.name).collect();
        assert_eq!(
            names.len() + 1,
            serde_json::to_value(&back).unwrap().as_object().unwrap().len()
        );
    }

    #[test]
    fn a_report_of_a_node_that_knows_fewer_counts_is_read() {
        let older = r#"{"sent": 3, "delivered": 2, "refused": {"too_large": 1}, "in_flight": 0}"#;
        let report: CountsReport = serde_json::from_str(older).unwrap();
        let counts: BTreeMap<_, _> =
            report.each().map(|(names, count)| (names.name, count.total())).collect();
        assert_eq!((counts["sent"], counts["refused"], counts["work_ended"]), (3, 1, 0));
        assert!(serde_json::from_str::<CountsReport>("{}").is_err(), "no report at all");
    }

    #[test]
    fn a_counts_report_adds_up() {
        let mut counts = Counts { sent: 10, delivered: 4, unknown: 1, ..Counts::default() };
        counts.refused[Refusal::QueueFull as usize] = 2;
        counts.dead[DeathReason::Expired as usize] = 1;
        let report = CountsReport::from(counts);
        assert_eq!(report.refused["queue_full"], 2);
        assert_eq!(report.dead["expired"], 1);
        assert_eq!(report.in_flight, 2);
        assert_eq!(report.refused.len(), Refusal::ALL.len());
    }
}
