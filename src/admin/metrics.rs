//! All figures of a node for Prometheus, as OpenMetrics text.
//!
//! Everything is read when somebody asks: from what workers publish anyway, so that a scrape costs
//! the messages nothing.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::report::{CountsReport, MembersReport, Reported, StrangersReport, snake_case};
use crate::api::{Node, PathTimes, Room, WorkerUse};
use crate::base::MemberState;
use crate::control::troubles::PeerTrouble;
use crate::member::MAX_RECORDS;
use crate::queue::times::{BOUNDS, Distribution};

/// What the answer says it is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn of(node: &Node) -> Result<String, fmt::Error> {
    let mut out = Gathered::default();
    out.info(
        "keyway_build",
        "What runs here.",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", env!("KEYWAY_COMMIT")),
            ("node", node.name()),
        ],
    );
    let health = node.health();
    out.gauge("keyway_up", "1 while the node is a member and takes messages.");
    out.sample(&[], u64::from(health.is_healthy()));
    out.gauge(
        "keyway_workers_stuck",
        "Workers whose turn lasts longer than `workers.slow_turn_ms`.",
    );
    out.sample(&[], health.stuck().count() as u64);
    members(&mut out, &MembersReport::of(node));
    out.gauge(
        "keyway_peers_in_trouble",
        "Nodes that run and do not get what is sent to them, or are not let in, by what is wrong.",
    );
    for what in PeerTrouble::SHORT {
        let alike = health.troubles.iter().filter(|trouble| trouble.what.short() == what);
        out.sample(&[("trouble", what)], alike.count() as u64);
    }
    workers(&mut out, &node.worker_use());
    paths(&mut out, &node.path_times());
    counts(&mut out, &CountsReport::from(node.counts()));
    out.counter(
        "keyway_part_events",
        "What each part beside routing has counted, as its name says.",
    );
    for count in node.part_counts() {
        out.sample(&[("part", count.part), ("event", count.event)], count.count);
    }
    strangers(&mut out, &StrangersReport::of(node));
    out.gauge("keyway_routees", "Routees in the table of each router.");
    for (index, router) in node.routers().into_iter().enumerate() {
        let index = index.to_string();
        let labels = [
            ("router", index.as_str()),
            ("path", router.path.as_str()),
            ("strategy", router.strategy.as_str()),
        ];
        out.sample(&labels, router.routees as u64);
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(out));
    let mut answer = String::with_capacity(8_192);
    text::encode(&mut answer, &registry)?;
    Ok(answer)
}

/// How busy workers are, and how full the ways to and from them.
fn workers(out: &mut Gathered, workers: &[WorkerUse]) {
    worker_figures(out, workers);
    outboxes(out, workers);
    destinations(out, workers);
}

/// A metric of each worker: its name, what it says, its kind, and where it is read.
type Figure = (&'static str, &'static str, MetricType, fn(&WorkerUse) -> Value);

/// What a worker does with its time.
const TIMES: [Figure; 4] = [
    (
        "keyway_worker_busy_seconds",
        "Time since the node's start in which the worker had something to do; its rate is how \
         busy it is.",
        MetricType::Counter,
        |worker| Value::Seconds(worker.awake.as_secs_f64()),
    ),
    (
        "keyway_worker_spinning_seconds",
        "Time since the node's start in which the worker looked for something to do, for \
         `workers.spin_us` each time; with the busy time, its rate is the share of a core in use.",
        MetricType::Counter,
        |worker| Value::Seconds(worker.spinning.as_secs_f64()),
    ),
    (
        "keyway_worker_asleep_seconds",
        "Time since the node's start in which the worker slept.",
        MetricType::Counter,
        |worker| Value::Seconds(worker.asleep.as_secs_f64()),
    ),
    (
        "keyway_worker_turn_seconds",
        "How long the worker's present turn has lasted; 0 while it sleeps.",
        MetricType::Gauge,
        |worker| Value::Seconds(worker.turn.as_secs_f64()),
    ),
];

/// What waits at a worker.
const WAITING: [Figure; 9] = [
    (
        "keyway_worker_queue_items",
        "Hand-overs of application threads that wait for the worker.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.queued as u64),
    ),
    (
        "keyway_worker_queue_capacity_items",
        "Hand-overs of application threads that the worker's queue has room for.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.queue_capacity as u64),
    ),
    (
        "keyway_worker_held_items",
        "Hand-overs of application threads that were taken in and wait for room on their link.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.held),
    ),
    (
        "keyway_worker_ring_items",
        "Items that wait in the rings from sibling workers and from control.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.rings),
    ),
    (
        "keyway_worker_inbox_bytes",
        "Bytes that were received and wait to be handled.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.inbox_bytes),
    ),
    (
        "keyway_worker_accepted_links",
        "Links that workers of other nodes have opened to the worker.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.accepted_links.taken),
    ),
    (
        "keyway_worker_accepted_links_limit",
        "Links that workers of other nodes may open to the worker: `links.max_accepted`.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.accepted_links.most),
    ),
    (
        "keyway_worker_open_asks",
        "Asks through this worker that have not ended yet.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.asks),
    ),
    (
        "keyway_worker_open_work",
        "Work of its routees that is under way on other threads.",
        MetricType::Gauge,
        |worker| Value::Whole(worker.fill.work),
    ),
];

fn worker_figures(out: &mut Gathered, workers: &[WorkerUse]) {
    for (name, help, kind, read) in TIMES.into_iter().chain(WAITING) {
        out.family(name, help, kind);
        for worker in workers {
            out.value(&[("worker", &worker.worker.to_string())], read(worker));
        }
    }
}

fn outboxes(out: &mut Gathered, workers: &[WorkerUse]) {
    type Side = fn(&Room) -> u64;
    let sides: [(&str, &str, Side); 2] = [
        (
            "keyway_worker_outbox_bytes",
            "Memory that outboxes hold, by whose account it is on.",
            |room| room.taken,
        ),
        (
            "keyway_worker_outbox_capacity_bytes",
            "Memory that outboxes may hold, by account.",
            |room| room.most,
        ),
    ];
    for (name, help, side) in sides {
        out.gauge(name, help);
        for worker in workers {
            let (index, fill) = (worker.worker.to_string(), &worker.fill);
            for (account, room) in [
                ("requests", &fill.requests),
                ("replies", &fill.replies),
                ("client_replies", &fill.client_replies),
            ] {
                out.sample(&[("worker", &index), ("account", account)], side(room));
            }
        }
    }
}

fn destinations(out: &mut Gathered, workers: &[WorkerUse]) {
    out.gauge(
        "keyway_destinations",
        "Workers of other nodes by how each worker's way there stands; full is an outbox that \
         takes nothing more.",
    );
    for worker in workers {
        let index = worker.worker.to_string();
        for (state, count) in [
            ("open", worker.ways.open),
            ("full", worker.ways.full),
            ("down", worker.ways.down),
            ("finished", worker.ways.finished),
        ] {
            out.sample(&[("worker", &index), ("state", state)], count as u64);
        }
    }
}

/// How long messages took, by path.
fn paths(out: &mut Gathered, paths: &[PathTimes]) {
    type Which = fn(&PathTimes) -> &Distribution;
    let each: [(&str, &str, Which); 2] = [
        (
            "keyway_handler_seconds",
            "Time in a path's handlers, from the frame to the end of the handler: a sample, the \
             first message of one in 16 turns of a worker.",
            |path| &path.handled,
        ),
        (
            "keyway_ask_seconds",
            "Asks of this node's application threads to a path, from sending to the reply: a \
             sample, one in 16 of those that were replied to.",
            |path| &path.asked,
        ),
    ];
    for (name, help, which) in each {
        out.family(name, help, MetricType::Histogram);
        for path in paths.iter().filter(|path| which(path).count() > 0) {
            out.value(&[("path", path.path.as_str())], Value::Times(Box::new(*which(path))));
        }
    }
}

fn members(out: &mut Gathered, report: &MembersReport) {
    out.gauge("keyway_members", "Members in view, by state and whether they answer.");
    for state in [MemberState::Joining, MemberState::Up, MemberState::Leaving] {
        for reachable in [true, false] {
            let here = report.members.iter();
            let count = here.filter(|m| m.state == state && m.reachable == reachable).count();
            let state = snake_case(&state);
            let labels = [
                ("state", state.as_str()),
                ("reachable", if reachable { "true" } else { "false" }),
            ];
            out.sample(&labels, count as u64);
        }
    }
    out.gauge(
        "keyway_members_limit",
        "Members that fit; a cluster that has so many lets nobody in.",
    );
    out.sample(&[], MAX_RECORDS as u64);
}

// What messages are counted by is a line in `counts!` of `base/fate/counts.rs`.
fn counts(out: &mut Gathered, counts: &CountsReport) {
    for (names, count) in counts.each() {
        out.counter(names.metric, names.help);
        match count {
            Reported::One(count) => out.sample(&[], count),
            Reported::By(label, counts) => {
                for (reason, count) in counts {
                    out.sample(&[(label, reason)], *count);
                }
            }
        }
    }
    out.gauge("keyway_messages_in_flight", "Messages that have not ended yet.");
    out.sample(&[], counts.in_flight);
}

fn strangers(out: &mut Gathered, strangers: &StrangersReport) {
    out.counter(
        "keyway_connections",
        "Connections to the node's port: accepted; refused, by name or because they broke; \
         turned_away, because too many were unfinished, or a worker was held up, or had no place \
         for one that was accepted; looked, by which members see that the node listens.",
    );
    for (outcome, count) in [
        ("accepted", strangers.accepted),
        ("refused", strangers.refused),
        ("turned_away", strangers.turned_away),
        ("looked", strangers.looked),
    ] {
        out.sample(&[("outcome", outcome)], count);
    }
    out.counter(
        "keyway_datagrams",
        "Datagrams to the node's port: taken; not_ours, of strangers, another cluster or with \
         another secret; malformed, of this cluster and not understood; skipped, for a part that \
         only newer nodes have; no_members, for a part from who is no member here.",
    );
    for (outcome, count) in [
        ("taken", strangers.datagrams_taken),
        ("not_ours", strangers.datagrams_not_ours),
        ("malformed", strangers.datagrams_malformed),
        ("skipped", strangers.datagrams_skipped),
        ("no_members", strangers.datagrams_no_members),
    ] {
        out.sample(&[("outcome", outcome)], count);
    }
    out.counter(
        "keyway_datagrams_unsent",
        "Datagrams of the node that its system did not take: no room in the socket, no way to there, \
         or not permitted.",
    );
    out.sample(&[], strangers.datagrams_unsent);
    out.counter(
        "keyway_membership",
        "What membership has counted: renewals, how often others took this node for dead although \
         it was not; verdicts, how often this node itself gave a member up; names_refused, records \
         that another member's name kept out; not_listed, records that found no room.",
    );
    for (event, count) in [
        ("renewals", strangers.renewals),
        ("verdicts", strangers.verdicts),
        ("names_refused", strangers.names_refused),
        ("not_listed", strangers.not_listed),
    ] {
        out.sample(&[("event", event)], count);
    }
    out.counter(
        "keyway_control_frames_skipped",
        "Frames from newer nodes' control threads, of kinds or parts that this one does not know.",
    );
    out.sample(&[], strangers.control_frames_skipped);
}

/// What was read, to be encoded.
#[derive(Debug, Default)]
struct Gathered {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    kind: MetricType,
    samples: Vec<(Labels, Value)>,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Debug)]
enum Value {
    Whole(u64),
    Seconds(f64),
    Times(Box<Distribution>),
}

impl Gathered {
    /// Its samples get `_total` behind their name.
    fn counter(&mut self, name: &str, help: &str) {
        self.family(name, help, MetricType::Counter);
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, help, MetricType::Gauge);
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, help, MetricType::Info);
        self.sample(labels, 1);
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) {
        let (name, help) = (name.to_owned(), help.to_owned());
        self.families.push(Family { name, help, kind, samples: Vec::new() });
    }

    /// Of the family that was named last.
    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.value(labels, Value::Whole(value));
    }

    fn value(&mut self, labels: &[(&str, &str)], value: Value) {
        let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
        let family = self.families.last_mut().expect("a sample follows its family");
        family.samples.push((labels.iter().map(owned).collect(), value));
    }
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, samples } in &self.families {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                if let MetricType::Info = kind {
                    metric.encode_info(labels)?;
                } else {
                    value.encode(*kind, metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, mut metric: MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (MetricType::Counter, Self::Whole(value)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (MetricType::Counter, Self::Seconds(value)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (_, Self::Whole(value)) => metric.encode_gauge(value),
            (_, Self::Seconds(value)) => metric.encode_gauge(value),
            (_, Self::Times(times)) => {
                let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
                let buckets: Vec<_> = bounds.zip(times.buckets).collect();
                let sum = times.sum_ns as f64 / 1e9;
                metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fate::{Counts, each_another};

    fn encoded(out: Gathered) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(out));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    /// What dashboards read.
    const COUNTED: [&str; 18] = [
        "keyway_messages_sent",
        "keyway_messages_delivered",
        "keyway_messages_dead_at_peer",
        "keyway_messages_unknown",
        "keyway_messages_received",
        "keyway_asks",
        "keyway_asks_replied",
        "keyway_asks_failed",
        "keyway_replies_late",
        "keyway_replies_lost",
        "keyway_wakes_void",
        "keyway_slow_turns",
        "keyway_frames_skipped",
        "keyway_work_begun",
        "keyway_messages_refused",
        "keyway_messages_dead",
        "keyway_messages_received_dead",
        "keyway_work_ended",
    ];

    #[test]
    fn every_count_has_a_family_of_its_own() {
        let (counts, mut out) = (each_another(), Gathered::default());
        super::counts(&mut out, &CountsReport::from(counts));
        let text = encoded(out);
        for family in COUNTED {
            assert!(text.contains(&format!("# TYPE {family} counter\n")), "{family} in {text}");
        }
        for names in Counts::NAMES {
            assert!(text.contains(&format!("# HELP {} {}\n", names.metric, names.help)), "{text}");
        }
        // Each number once, those of each reason too.
        let told: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("keyway_") && !line.contains("in_flight"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect();
        let mut counted: Vec<u64> = format!("{}", serde_json::to_value(counts).unwrap())
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(counted.len() > Counts::NAMES.len());
        counted.sort_unstable();
        let mut told = told;
        told.sort_unstable();
        assert_eq!(told, counted);
        let labels =
            ["refused_total{reason=\"queue_full\"}", "work_ended_total{end=\"called_off\"}"];
        assert!(labels.iter().all(|label| text.contains(label)), "{text}");
    }

    #[test]
    fn families_come_with_their_samples_and_labels_are_escaped() {
        let mut out = Gathered::default();
        out.gauge("a", "One.");
        out.sample(&[], 1);
        out.counter("b", "Two.");
        out.sample(&[("x", "say \"\\\"\n"), ("y", "")], 2);
        out.info("c", "Three.", &[("version", "1")]);
        out.family("d", "Four.", MetricType::Histogram);
        let mut times = Distribution { sum_ns: 2_000_000_500, ..Distribution::default() };
        (times.buckets[1], times.buckets[BOUNDS.len()]) = (2, 1);
        out.value(&[("path", "/p")], Value::Times(Box::new(times)));
        let text = encoded(out);
        let (text, histogram) = text.split_at(text.find("# HELP d").unwrap());
        assert_eq!(
            text,
            "# HELP a One.\n# TYPE a gauge\na 1\n\
             # HELP b Two.\n# TYPE b counter\nb_total{x=\"say \\\"\\\\\\\"\\n\",y=\"\"} 2\n\
             # HELP c Three.\n# TYPE c info\nc_info{version=\"1\"} 1\n"
        );
        let bucket = |bound: &str| {
            let line = format!("d_bucket{{le=\"{bound}\",path=\"/p\"}} ");
            let (_, rest) = histogram.split_once(&line).unwrap_or_else(|| panic!("{histogram}"));
            rest.lines().next().unwrap().to_owned()
        };
        assert_eq!(["2e-7", "5e-7", "1.0", "+Inf"].map(bucket), ["0", "2", "2", "3"]);
        for line in ["d_sum{path=\"/p\"} 2.0000005\n", "d_count{path=\"/p\"} 3\n", "# EOF\n"] {
            assert!(histogram.contains(line), "{histogram}");
        }
    }
}
