//! What one seed draws: which faults come and how strong, how the nodes are set up, how much is
//! sent.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use super::clocks;
use super::events::SlotId;
use super::faults::{Fault, RangeMs, Repeated};
use super::network::{address, nowhere};
use super::scenario::Scenario;
use super::strange::Strange;
use super::streams::stream;
use super::timings;
use super::weather::{Deafness, Weather};
use super::without::{Part, Without};
use super::work::Work;
use crate::base::{Rng, Time};
use crate::config::{LoadConfig, MembershipConfig, NodeConfig};
use crate::member::MemberConfig;
use crate::part::PartSettings;
use crate::queue::inject::Room;
use crate::worker::Limits;
use crate::worker::turn::InboxRoom;

/// How much and what is sent.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Threads of the application per process.
    pub threads: usize,
    /// The pause between two bursts.
    pub every_ms: RangeMs,
    /// Messages of one burst.
    pub burst: (u32, u32),
    /// Of a hundred messages, how many are asks.
    pub asks_percent: u32,
    /// Until when asks are answered.
    pub deadline_ms: RangeMs,
    /// The most bytes of a message beyond its fixed part.
    pub padding: u32,
    /// Messages whose handler panics, of a million.
    pub panic_ppm: u32,
}

/// What one seed does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Addresses there are; the first `scenario.nodes` have processes from the start.
    pub slots: usize,
    /// The network during the fault phase.
    pub weather: Weather,
    /// What comes again and again during the fault phase.
    pub faults: Vec<Repeated>,
    /// How long a killed process stays away.
    pub restart_ms: RangeMs,
    /// How long a pause takes.
    pub pause_ms: RangeMs,
    /// How long a partition takes.
    pub partition_ms: RangeMs,
    /// Machines that stop for moments all the time.
    pub slow: Vec<SlotId>,
    /// Machines whose first process starts late, with the time.
    pub late: Vec<(SlotId, u64)>,
    /// A machine more whose processes advertise this address in place of their own.
    pub misled: Option<(SlotId, SocketAddr)>,
    /// Machines whose processes left take another name, with a clock that went back.
    pub renames: bool,
    /// From when until when the last machine is cut off, again and again.
    pub flaps: Vec<(Time, Time)>,
    /// The machine that hears next to nothing, if there is one, and how badly.
    pub deaf: Option<(SlotId, Deafness)>,
    /// The machine whose processes are newer than all others.
    pub newer: Option<SlotId>,
    /// What there is beside nodes.
    pub strange: Strange,
    /// Nothing goes wrong.
    pub calm: bool,
    /// Members fall silent in the middle of long messages, and for longer than anybody waits.
    pub lets_wait: bool,
    /// How far the clocks of processes are off at most, in millionths.
    pub clocks_off_ppm: u32,
    /// Weights of the machines.
    pub weights: Vec<u32>,
    /// What is sent.
    pub traffic: Traffic,
    /// The workers' capacities.
    pub limits: Limits,
    /// Membership's settings.
    pub member: MemberConfig,
    /// The parts' settings.
    pub parts: PartSettings,
    /// How long a graceful leave may take.
    pub leave_timeout_ms: u64,
    /// How long a handshake may take.
    pub handshake_timeout_ms: u64,
    /// Hand-overs that may wait for one worker.
    pub injections: Room,
    /// What may wait between two workers.
    pub rings: Room,
    /// What receive buffers take.
    pub inboxes: InboxRoom,
    /// Asks of application threads that may be open per process.
    pub reply_slots: usize,
    /// Bytes of large replies that may wait there.
    pub replies_bytes: usize,
    /// How long work takes, if it takes any time.
    pub work: Option<Work>,
}

/// The faults of a seed make all members flap, and soon after the last one all must be used again.
const DAMP_MAX_MS: u64 = 2_000;
/// What may wait between two workers: either the places or the bytes are few.
pub const RINGS: [Room; 2] =
    [Room { items: 2, bytes: 1 << 20 }, Room { items: 64, bytes: 128 << 10 }];
/// The shortest that there is: who is paused where this is set is away for longer.
const TOMBSTONE_MS: u64 = 10_000;

/// How long a killed process stays away. Who comes back at once does so before others have seen the
/// end of its connections.
const RESTARTS_MS: [RangeMs; 4] = [(0, 0), (5, 200), (100, 3_000), (2_000, 10_000)];
/// Where times are equal: what comes often, and what comes seldom.
const OFTEN_MS: u64 = 250;
const SELDOM_MS: u64 = 1_000;

/// By when a cluster has formed in which one member flaps or is deaf.
pub const TROUBLES_BEGIN: Duration = Duration::from_secs(3);
/// The time that a flapping cluster needs: ten cuts, the longest wait after them, and the calm.
pub const FLAPPING_SECONDS: u64 = 3 + 60 + 16 + 4 + 15;

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len() as u64) as usize]
}

fn weather(rng: &mut Rng) -> Weather {
    let stream_most = one_of(rng, &[100, 300, 1_000, 8_000]);
    Weather {
        loss_ppm: one_of(rng, &[0, 0, 10_000, 50_000, 200_000]),
        duplicate_ppm: one_of(rng, &[0, 0, 20_000, 200_000]),
        straggler_ppm: one_of(rng, &[0, 0, 10_000, 50_000]),
        datagram_us: (30, one_of(rng, &[200, 1_000, 10_000, 60_000])),
        stream_us: (20, stream_most),
        piece_max: one_of(rng, &[7, 100, 1_500, 65_536, 1 << 20]),
        socket_bytes: one_of(rng, &[2_048, 16_384, 262_144]),
        give_up_ppm: one_of(rng, &[0, 20_000, 300_000]),
        wake_us: (2, one_of(rng, &[30, 100, 500, 3_000])),
        tables_us: (50, one_of(rng, &[200, 5_000, 100_000, 1_000_000])),
    }
}

fn faults(seed: u64) -> Vec<Repeated> {
    let mut faults = Vec::new();
    for draw in Fault::DRAWN {
        let rng = &mut stream(seed, &format!("{:?}", draw.fault));
        if rng.random_range(0..draw.of) == 0 {
            faults.push(Repeated { fault: draw.fault, every_ms: one_of(rng, draw.pauses_ms) });
        }
    }
    faults
}

/// How much is sent in a second by all together, on average: with more of it what a message meets is
/// nothing else, and a seed takes longer. Bursts come less often, and are smaller where they would
/// come too seldom.
const MESSAGES_A_SECOND: u64 = 60;
/// The longest pause between two bursts, on average.
const PAUSE_MS: u64 = 4_000;

impl Traffic {
    /// Makes pauses longer where more would be sent.
    fn within_budget(mut self, scenario: &Scenario, messages_a_second: u64) -> Self {
        let (nodes, workers) = (u64::from(scenario.nodes), u64::from(scenario.workers));
        // On average two messages for each of a thread's burst, and two of a routee's.
        let by_threads = self.threads as u64 * u64::from(self.burst.0 + self.burst.1);
        let by_all = nodes * (by_threads + 2 * workers);
        let pause_ms = 1_000 * by_all / messages_a_second;
        if pause_ms > PAUSE_MS {
            let most = u64::from(self.burst.1) * PAUSE_MS / pause_ms;
            self.burst.1 = self.burst.0.max(most as u32);
        }
        let (least, most) = self.every_ms;
        let (all, wanted) = (least + most, 2 * pause_ms.min(PAUSE_MS));
        if all < wanted {
            self.every_ms = (least * wanted / all, most * wanted / all);
        }
        self
    }
}

fn traffic(rng: &mut Rng) -> Traffic {
    let heavy = rng.random_range(0..8) == 0;
    Traffic {
        threads: rng.random_range(1..=2),
        every_ms: one_of(rng, &[(20, 200), (50, 500), (200, 2_000)]),
        burst: if heavy { (1, 200) } else { one_of(rng, &[(1, 1), (1, 4), (1, 12)]) },
        asks_percent: one_of(rng, &[5, 30, 70]),
        deadline_ms: one_of(rng, &[(1, 20), (5, 300), (200, 2_000)]),
        padding: one_of(rng, &[0, 50, 1_000, 20_000]),
        panic_ppm: one_of(rng, &[0, 0, 2_000]),
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        max_frame_bytes: 256 * 1024,
        outbox_bytes: one_of(rng, &[1_024, 16 * 1024, 256 * 1024]),
        max_work: 16,
        outboxes_bytes: one_of(rng, &[128 * 1024, 1 << 20, 32 << 20]),
        max_accepted: 512,
        retry_bytes: one_of(rng, &[4 * 1024, 1 << 20]),
        max_asks: one_of(rng, &[4, 64, 4_096]),
        ack_interval_ms: one_of(rng, &[1, 5, 20]),
        redial_min_ms: one_of(rng, &[5, 50]),
        redial_max_ms: one_of(rng, &[50, 1_000]),
    }
}

fn member(rng: &mut Rng, seed_count: usize) -> MemberConfig {
    MemberConfig {
        seeds: (0..seed_count).map(address).collect(),
        settings: MembershipConfig {
            min_members: if rng.random_range(0..4) == 0 { 2 } else { 1 },
            damp_max_ms: DAMP_MAX_MS,
            ..MembershipConfig::default()
        },
    }
}

fn weights(rng: &mut Rng, slots: usize) -> Vec<u32> {
    let drawn = (0..slots).map(|_| one_of(rng, &[100, 100, 50, 300]));
    // Those of a misled member more, of one of another cluster, and of one with another's name.
    drawn.chain([100; 3]).collect()
}

/// The wrong address that a member more advertises.
fn misled(rng: &mut Rng) -> Option<SocketAddr> {
    match rng.random_range(0..8) {
        0 => Some(nowhere()),
        1 => Some(address(0)),
        _ => None,
    }
}

impl Plan {
    /// What the seed says; each thing follows from a stream of its own, and all may come together but
    /// for these: in a calm seed there is nothing else than a newer member, and where members are let
    /// wait there are no faults but these pauses and leaves.
    pub fn draw(scenario: &Scenario) -> Self {
        let nodes = usize::from(scenario.nodes);
        let seed_count = nodes.min(3);
        let chance = |name| stream(scenario.seed, name);
        let one_in = |name, of: u32| chance(name).random_range(0..of) == 0;
        let faults = faults(scenario.seed);
        let joins = faults.iter().any(|known| known.fault == Fault::MassJoin);
        let slots = if joins { 2 * nodes } else { nodes };
        let (mut pausing, mut starts) = (chance("slow"), chance("late"));
        let slow = (0..slots).filter(|_| pausing.random_range(0..12) == 0).collect();
        let mut late = Vec::new();
        if starts.random_range(0..4) == 0 {
            late.extend((0..seed_count).map(|slot| (slot, starts.random_range(500..8_000))));
        }
        let newer = one_in("newer", 8).then_some(nodes - 1);
        let mut traffic = traffic(&mut chance("traffic"));
        // What a newer member says more it says with its messages.
        let of = if newer.is_some() { 8 } else { 1 };
        traffic = traffic.within_budget(scenario, of * MESSAGES_A_SECOND);
        let misled = misled(&mut chance("misled")).map(|address| (slots, address));
        let drawn_slots = slots + usize::from(misled.is_some());
        let strange = Strange::draw(scenario.seed, nodes, drawn_slots);
        let every_ms = one_of(&mut chance("load"), &[150, 1_000, 1_000]);
        let mut plan = Self {
            slots: drawn_slots + strange.guests().count(),
            misled,
            renames: one_in("renames", 8),
            flaps: Vec::new(),
            deaf: None,
            newer,
            strange,
            calm: false,
            lets_wait: false,
            weather: weather(&mut chance("weather")),
            faults,
            restart_ms: one_of(&mut chance("restart"), &RESTARTS_MS),
            pause_ms: one_of(&mut chance("pause"), &[(5, 300), (200, 2_000), (1_000, 8_000)]),
            partition_ms: one_of(
                &mut chance("partition"),
                &[(50, 1_000), (500, 5_000), (3_000, 12_000)],
            ),
            slow,
            late,
            clocks_off_ppm: clocks::draw(scenario.seed),
            weights: weights(&mut chance("weights"), slots),
            traffic,
            limits: limits(&mut chance("limits")),
            member: member(&mut chance("member"), seed_count),
            parts: PartSettings { load: LoadConfig { every_ms }, ..PartSettings::default() },
            leave_timeout_ms: one_of(&mut chance("leave"), &[700, 2_000]),
            handshake_timeout_ms: one_of(&mut chance("handshake"), &[500, 3_000]),
            injections: Room {
                items: one_of(&mut chance("injections"), &[64, 1_024]),
                bytes: one_of(&mut chance("injected bytes"), &[1 << 17, 1 << 20]),
            },
            inboxes: InboxRoom {
                usual_bytes: 4 << 10,
                all_bytes: one_of(&mut chance("inboxes"), &[16 << 10, 1 << 20]),
            },
            reply_slots: 256,
            replies_bytes: 1 << 20,
            work: Work::draw(scenario.seed),
            rings: one_of(&mut chance("rings"), &RINGS),
        };
        plan.draw_times(scenario.seed);
        if newer.is_some() && one_in("calm", 2) {
            plan.calm_down();
            (plan.calm, plan.strange.namesake) = (true, None);
        } else if plan.strange.namesake.is_some() {
            plan.calm_down();
        } else if one_in("waits", 16) {
            plan.let_wait();
            if one_in("forgets", 4) {
                plan.member.settings.tombstone_ms = TOMBSTONE_MS;
            }
        }
        plan
    }

    /// How often what comes, and for how long is waited, beyond what limits and traffic say.
    fn draw_times(&mut self, seed: u64) {
        // Who is busy for long answers too late for a short suspicion.
        if self.work.is_none() {
            timings::draw(seed, &mut self.member.settings);
        }
        if stream(seed, "equal times").random_range(0..8) == 0 {
            self.make_times_equal();
        }
    }

    /// What has a deadline, a pause or a period of its own has the same as others: much is due at once.
    fn make_times_equal(&mut self) {
        self.traffic.deadline_ms = (OFTEN_MS, OFTEN_MS);
        (self.limits.redial_min_ms, self.limits.redial_max_ms) = (OFTEN_MS, OFTEN_MS);
        self.parts.load.every_ms = OFTEN_MS;
        let settings = &mut self.member.settings;
        timings::make_usual(settings);
        (settings.probe_period_ms, settings.gossip_ms) = (OFTEN_MS, OFTEN_MS);
        (settings.sync_ms, settings.seed_retry_min_ms) = (OFTEN_MS, OFTEN_MS);
        (settings.suspect_ms, settings.recontact_ms) = (SELDOM_MS, SELDOM_MS);
    }

    /// Nothing goes wrong but one thing more.
    fn calm_down(&mut self) {
        self.weather = self.weather.healed();
        self.faults.clear();
        self.slow.clear();
        self.late.clear();
        (self.misled, self.renames) = (None, false);
        (self.strange.outsider, self.strange.back) = (None, None);
    }

    /// Members fall silent in the middle of messages that are longer than what others have room for,
    /// and for longer than anybody waits.
    fn let_wait(&mut self) {
        self.lets_wait = true;
        self.strange.mixed = false;
        self.faults.retain(|known| known.fault == Fault::Leave);
        self.faults.push(Repeated { fault: Fault::Pause, every_ms: (1_000, 5_000) });
        self.pause_ms = (11_000, 14_000);
        self.weather.socket_bytes = 2_048;
        self.inboxes.all_bytes = 16 << 10;
        (self.traffic.padding, self.traffic.every_ms) = (20_000, (20, 200));
        self.limits.outbox_bytes = 256 * 1024;
    }

    /// As [`Plan::draw`], but nothing goes wrong.
    fn draw_steady(scenario: &Scenario) -> Self {
        let mut plan = Self::draw(scenario);
        plan.slots = usize::from(scenario.nodes);
        (plan.misled, plan.renames) = (None, false);
        (plan.newer, plan.strange, plan.calm) = (None, Strange::default(), false);
        plan.work = None;
        timings::make_usual(&mut plan.member.settings);
        plan.weather = plan.weather.healed();
        plan.faults.clear();
        plan.slow.clear();
        plan.late.clear();
        plan
    }

    /// As [`Plan::draw`], but nothing else goes wrong than that all share two processors.
    pub fn draw_crowded(scenario: &Scenario) -> Self {
        let plan = Self::draw_steady(scenario);
        Self { calm: true, work: Some(Work::draw_crowded(scenario.seed)), ..plan }
    }

    /// As [`Plan::draw`], but nothing else goes wrong than that one member hears next to nothing.
    pub fn draw_deaf(scenario: &Scenario) -> Self {
        let mut plan = Self::draw_steady(scenario);
        let usual = plan.weather.datagram_us;
        let deafness = [
            Deafness { lost_ppm: 950_000, late_us: usual },
            Deafness { lost_ppm: 850_000, late_us: usual },
            Deafness { lost_ppm: 0, late_us: (500_000, 2_500_000) },
            Deafness { lost_ppm: 0, late_us: (1_300_000, 1_300_000) },
        ];
        plan.deaf = Some((plan.slots - 1, one_of(&mut stream(scenario.seed, "deaf"), &deafness)));
        plan
    }

    /// As [`Plan::draw`], but nothing else goes wrong than that one member's links are cut and mended
    /// ten times.
    pub fn draw_flapping(scenario: &Scenario) -> Self {
        let mut plan = Self::draw_steady(scenario);
        let rng = &mut stream(scenario.seed, "flaps");
        plan.member.settings.damp_max_ms = one_of(rng, &[4_000, 8_000, 16_000]);
        let mut at = Time::ZERO.plus(TROUBLES_BEGIN);
        for _ in 0..10 {
            let until = at.plus(Duration::from_millis(rng.random_range(1_000..=3_000)));
            plan.flaps.push((at, until));
            at = until.plus(Duration::from_millis(rng.random_range(1_000..=3_000)));
        }
        plan
    }

    /// As a node is by default, on machines and a network where nothing goes wrong by itself, and
    /// without a load: what happens follows from orders. The seed still decides how long everything
    /// takes, and so what comes first.
    pub fn quiet(scenario: &Scenario) -> Self {
        let mut plan = Self::draw(scenario);
        let config = NodeConfig::default();
        plan.slots = usize::from(scenario.nodes);
        (plan.misled, plan.newer, plan.calm) = (None, None, true);
        (plan.renames, plan.strange, plan.work) = (false, Strange::default(), None);
        plan.weather = Weather { socket_bytes: 262_144, ..plan.weather.healed() };
        plan.faults.clear();
        plan.slow.clear();
        plan.late.clear();
        plan.clocks_off_ppm = 0;
        plan.weights = vec![config.weight; plan.slots];
        plan.traffic.threads = 0;
        plan.limits = Limits::new(&config);
        plan.member.settings = config.membership.clone();
        plan.parts = PartSettings::default();
        plan.leave_timeout_ms = config.membership.leave_timeout_ms;
        plan.handshake_timeout_ms = config.links.handshake_timeout_ms;
        let NodeConfig { workers, .. } = &config;
        plan.injections = Room { items: workers.inject_capacity, bytes: workers.inject_bytes };
        plan.rings = Room { items: workers.ring_capacity, bytes: workers.ring_bytes };
        (plan.reply_slots, plan.replies_bytes) = (workers.max_asks, workers.replies_bytes);
        plan.inboxes = InboxRoom {
            usual_bytes: config.links.inbox_bytes,
            all_bytes: config.links.inboxes_bytes,
        };
        plan
    }

    /// Takes out of it what a scenario leaves out.
    pub fn leave_out(&mut self, without: Without) {
        for part in without.parts() {
            match part {
                Part::Fault(kind) => self.faults.retain(|known| known.fault != kind),
                Part::Slow => self.slow.clear(),
                Part::Late => self.late.clear(),
                Part::Misled => self.misled = None,
                Part::Renames => self.renames = false,
                Part::Newer => self.newer = None,
                Part::Forger => self.strange.forger = false,
                Part::Mixed => self.strange.mixed = false,
                Part::Outsider => self.strange.outsider = None,
                Part::Namesake => self.strange.namesake = None,
                Part::Back => self.strange.back = None,
                Part::Work => self.work = None,
                Part::Weather => self.weather = self.weather.healed(),
                Part::Load => {
                    let traffic = &mut self.traffic;
                    (traffic.threads, traffic.every_ms, traffic.burst) = (1, (200, 2_000), (1, 1));
                    (traffic.padding, traffic.panic_ppm) = (0, 0);
                }
            }
        }
    }

    /// Which machine is cut off again and again, if one is.
    pub fn flapping(&self) -> Option<SlotId> {
        (!self.flaps.is_empty()).then(|| self.slots - 1)
    }

    /// What every member record needs to be told apart by.
    pub fn name(slot: SlotId) -> String {
        format!("node-{slot}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_in_no_plan_and_the_rest_is_as_it_was() {
        let mut all = Without::default();
        while let Some(more) = all.one_more().next() {
            all = more;
        }
        let mut seen = Vec::new();
        for seed in 0..100 {
            let scenario =
                Scenario { seed, nodes: 5, workers: 2, seconds: 60, ..Scenario::default() };
            let draw = || Plan::draw(&scenario);
            let (drawn, mut bare) = (draw(), draw());
            bare.leave_out(all);
            assert!(bare.faults.is_empty() && bare.slow.is_empty() && bare.late.is_empty());
            assert!(bare.misled.is_none() && bare.newer.is_none() && !bare.renames);
            assert!(!bare.strange.forger && !bare.strange.mixed && bare.strange.back.is_none());
            assert_eq!(bare.strange.guests().count(), 0);
            assert_eq!((bare.weather.loss_ppm, bare.traffic.burst), (0, (1, 1)));
            assert_eq!(bare.limits.outbox_bytes, drawn.limits.outbox_bytes);
            for (at, one) in Without::default().one_more().enumerate() {
                let mut less = draw();
                less.leave_out(one);
                if format!("{less:?}") != format!("{drawn:?}") {
                    seen.push(at);
                }
            }
        }
        let parts = all.parts().count();
        let found = (0..parts).filter(|part| seen.contains(part)).count();
        assert_eq!(found, parts, "each of them is drawn by some seed, and then left out");
    }
}
