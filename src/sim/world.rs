//! The simulated world: machines, the processes on them, the network between them, and the loop
//! that lets one thing happen after the other.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::clocks::LocalClock;
use super::events::{Event, LifeId, SlotId};
use super::forgery::Forged;
use super::invariants::exercised::Exercised;
use super::invariants::{Checks, Violation, fates};
use super::ledger::Ledger;
use super::load::{self, AppThread, Hands, Shared};
use super::names::Clashes;
use super::network::{Network, Owner, address};
use super::newer::{self, Heard};
use super::plan::Plan;
use super::process::{Fate, Life};
use super::scenario::Scenario;
use super::strange;
use super::streams::{Streams, stream, within_us};
use super::trace::Trace;
use super::work::{Processors, Step};
use crate::ask::left_open;
use crate::base::Time;
use crate::control::DATAGRAM_BYTES;
use crate::hash::HashSeed;
use crate::queue::pool::Pool;
use crate::wire::{Chunk, ClusterKey};

/// How long after the healing everything must agree and flow.
pub const BOUND: Duration = Duration::from_secs(10);
/// How long the phase without faults is.
const CALM: Duration = Duration::from_secs(15);
/// Before the end, applications fall silent for so long.
const SILENCE: Duration = Duration::from_secs(4);
/// Free chunks of a size that are kept.
const SPARE_CHUNKS: usize = 1_024;
/// What came of one simulation.
#[derive(Clone, Debug)]
pub struct Result {
    /// Which.
    pub scenario: Scenario,
    /// Fingerprint of all that happened.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// Messages that handlers took.
    pub handled: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// From the end of what went wrong until the last view changed.
    pub views_agreed: Option<Duration>,
    /// From the healing until every node had an answer from every routee.
    pub traffic_flows: Option<Duration>,
    /// How often a node saw that a flapping member was damped.
    pub damped: u64,
    /// How often a router's mask changed while its table stayed.
    pub masked: u64,
    /// How often tables were asked for, none of which was there.
    pub tables_wanted: u64,
    /// Lines of logs that were not the first of their kind, and came in time.
    pub later_lines: u64,
    /// How many routees were withdrawn.
    pub withdrawals: u64,
    /// How often the cluster was told of a path that is served on some workers of its node only.
    pub placed_on_some: u64,
    /// Messages that were handled where a path is served so.
    pub placed_handled: u64,
    /// Tables with routees of such paths, which were those that had been asked for.
    pub placed_tables: u64,
    /// How many routers ended with their last holder.
    pub routers_ended: u64,
    /// How often one was asked for that was there already.
    pub routers_shared: u64,
    /// How often whoever asked for a router was told that it routes.
    pub routers_told: u64,
    /// How often a join or leave changed who is within a router's limit, and moved no other key.
    pub limits_moved: u64,
    /// Messages handed in for what was withdrawn by then.
    pub sent_late: u64,
    /// Asks among them that ended as the worker says which knows the handler no more.
    pub told_unknown: u64,
    /// How often a link was kept although its peer's window had been shut for long.
    pub shut_kept: u64,
    /// How often a link was given up because its packets vanished.
    pub dead_flows: u64,
    /// How often it was looked whether that was noticed in time.
    pub flows_noticed: u64,
    /// How often somebody was gone of whom something had been kept.
    pub forgotten: u64,
    /// How often a node learned what another one had said of its load.
    pub load_words: u64,
    /// How often it was looked whether that was fresh.
    pub loads_fresh: u64,
    /// Questions for a load that were answered over channels.
    pub load_answers: u64,
    /// Questions that were lost, and told so.
    pub load_losses: u64,
    /// Letters between controls that were looked at.
    pub letters: u64,
    /// Letters that a channel may have lost.
    pub letters_lost: u64,
    /// How often a link was rightly closed for a long message that did not come to its end.
    pub stalled: u64,
    /// Ends of messages that were looked at, and were true.
    pub fates: fates::Seen,
    /// What a newer member said and others did not know.
    pub unknown: Heard,
    /// What somebody who is no node has tried.
    pub forged: Forged,
    /// How often each invariant was exercised.
    pub checks: Exercised,
    /// What was found wrong.
    pub violation: Option<Violation>,
}

/// What a process does when it starts, in a world whose routees are not the simulator's own.
pub type Application = Arc<dyn Fn(&mut World, LifeId)>;

/// Everything there is.
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) plan: Plan,
    pub(super) net: Network,
    pub(super) streams: Streams,
    pub(super) lives: Vec<Life>,
    /// By machine: the process that listens there.
    pub(super) slots: Vec<Option<LifeId>>,
    /// How often the processes of each machine took another name.
    pub(super) renamed: Vec<u32>,
    pub(super) ledger: Shared,
    pub(super) key: ClusterKey,
    pub(super) checks: Checks,
    pub(super) healed_at: Option<Time>,
    pub(super) next_partition: u64,
    /// Free chunks of all processes, large and small: most processes do not live for long.
    pub(super) chunks: (Pool<Chunk>, Pool<Chunk>),
    /// Whose routees run, if not the simulator's own: then nobody knows the truth that most
    /// invariants need.
    pub(super) application: Option<Application>,
    /// Who does what takes time.
    pub(super) processors: Processors,
    /// What comes of names that two processes have, and of clocks that went back.
    pub(super) clashes: Clashes,
    end: Time,
    over: bool,
}

impl World {
    /// A world in which the simulator's own load runs, and nothing has happened yet.
    pub fn new(scenario: Scenario, draw: fn(&Scenario) -> Plan) -> Self {
        let mut world = Self::empty(scenario, draw);
        world.begin();
        world
    }

    /// A world in which nothing is going to happen.
    pub(super) fn empty(scenario: Scenario, draw: fn(&Scenario) -> Plan) -> Self {
        let seed = scenario.seed;
        let mut plan = draw(&scenario);
        plan.leave_out(scenario.without);
        let trace = Trace::new(seed, scenario.print);
        trace.say(|| format!("{plan:#?}"));
        let ledger = Shared::new(Ledger::new(stream(seed, "routees"), plan.traffic.clone()));
        let net = Network::new(stream(seed, "network"), trace, plan.weather.clone(), plan.newer);
        let end = Time::ZERO.plus(Duration::from_secs(scenario.seconds));
        Self {
            slots: vec![None; plan.slots],
            renamed: vec![0; plan.slots],
            scenario,
            net,
            streams: Streams::new(seed),
            lives: Vec::new(),
            ledger,
            key: strange::cluster_key(),
            checks: Checks::new(plan.slots),
            healed_at: None,
            next_partition: 0,
            chunks: (Pool::new(SPARE_CHUNKS), Pool::new(SPARE_CHUNKS)),
            application: None,
            processors: Processors::default(),
            clashes: Clashes::default(),
            end,
            over: false,
            plan,
        }
    }

    /// Lets the next thing happen, if one does by then; else it is then.
    pub(super) fn step(&mut self, until: Time) -> bool {
        let Some((at, event)) = self.net.queue.pop(until) else {
            self.net.now = until;
            return false;
        };
        self.net.now = at;
        self.ledger.lock().now = at;
        self.check_progress(at);
        if self.application.is_none() {
            self.check_detection();
            self.find_messages();
        }
        self.happen(event);
        true
    }

    /// Lets everything happen.
    pub fn run(mut self) -> Result {
        self.caught(|world| {
            while !world.over && world.step(world.end) {}
            if !world.over {
                world.check_end();
            }
        });
        let (checks, trace_hash) = (self.exercised(), self.fingerprint());
        let ledger = self.ledger.lock();
        Result {
            scenario: self.scenario,
            checks,
            trace_hash,
            events: self.net.trace.events(),
            handled: ledger.handled_total(),
            simulated: self.net.now.since(Time::ZERO),
            views_agreed: self.checks.agreement.took(),
            traffic_flows: self.checks.healing.traffic_flows(),
            damped: self.checks.flapping.damped,
            masked: self.checks.masked,
            tables_wanted: self.checks.jobs.wanted,
            later_lines: self.checks.lines.later,
            withdrawals: ledger.services.withdrawals() as u64,
            placed_on_some: ledger.placements.on_some,
            placed_handled: ledger.placements.handled,
            placed_tables: ledger.placements.tables,
            routers_ended: ledger.routers.ended,
            routers_shared: ledger.routers.shared,
            routers_told: ledger.routers.told,
            limits_moved: self.checks.limits_moved,
            sent_late: ledger.services.late,
            told_unknown: ledger.services.told_unknown,
            shut_kept: self.net.flows.shut,
            dead_flows: self.net.flows.dead,
            flows_noticed: self.checks.flows_noticed,
            forgotten: self.checks.forgotten,
            load_words: ledger.parts.loads.words,
            loads_fresh: ledger.parts.loads.fresh,
            load_answers: ledger.parts.loads.answers,
            load_losses: ledger.parts.loads.losses,
            letters: self.checks.letters.said,
            letters_lost: self.checks.letters.lost,
            stalled: self.checks.stalled,
            fates: ledger.fates.seen,
            unknown: self.checks.newer.all,
            forged: self.net.forger.as_ref().map(|forger| forger.forged).unwrap_or_default(),
            violation: ledger.violation.clone(),
        }
    }

    /// The fingerprint of all that has happened, how asks ended included.
    pub(super) fn fingerprint(&mut self) -> u64 {
        let outcomes = self.ledger.lock().outcomes.hash();
        self.net.trace.note(self.net.now, 0, "asks", outcomes);
        self.net.trace.hash()
    }

    fn begin(&mut self) {
        let late = self.plan.late.clone();
        for slot in 0..usize::from(self.scenario.nodes) {
            let after = match late.iter().find(|(known, _)| *known == slot) {
                Some((_, ms)) => Duration::from_millis(*ms),
                None => Duration::from_micros(self.streams.machines.random_range(0..200_000)),
            };
            self.net.queue.push(self.net.now.plus(after), Event::Start(slot));
        }
        let misled = self.plan.misled.map(|(slot, _)| (slot, 1));
        for (slot, seconds) in misled.into_iter().chain(self.plan.strange.guests()) {
            let at = self.net.now.plus(Duration::from_secs(seconds));
            self.net.queue.push(at, Event::Start(slot));
        }
        self.plan_flaps();
        if self.plan.strange.forger {
            self.begin_forging();
        }
        for fault in self.plan.faults.clone() {
            self.next_fault(fault.fault);
        }
        for slot in self.plan.slow.clone() {
            self.stumble(slot);
        }
        let heal = Time(self.end.0.saturating_sub(CALM.as_nanos() as u64));
        self.net.queue.push(heal, Event::Heal);
        let quiet = Time(self.end.0.saturating_sub(SILENCE.as_nanos() as u64));
        self.net.queue.push(quiet, Event::Quiet);
    }

    fn happen(&mut self, event: Event) {
        let event = self.for_somebody(event).and_then(|event| self.put_off(event));
        if let Some(event) = event {
            self.does(event);
        }
    }

    /// It happens, and takes its time.
    pub(super) fn does(&mut self, event: Event) {
        let (by, step) = (self.processor_of(&event), Step::of(&event));
        if !matches!(event, Event::Turn(..)) {
            self.took(by, step);
        }
        self.happens(event);
    }

    fn happens(&mut self, event: Event) {
        let now = self.net.now;
        match event {
            Event::Datagram { to, from, bytes } => self.datagram_came(to, from, bytes),
            Event::Timer(life, timer) => {
                self.net.trace.note(now, life, "timer", 0);
                self.control(life, |control, now, sink| control.timer(now, timer, sink));
            }
            Event::Report(life, report) => {
                self.net.trace.note(now, life, "report", 0);
                self.control(life, |control, now, sink| control.report(now, report, sink));
            }
            Event::Tables(life, made) => {
                self.net.trace.note(now, life, "tables", made.roster_digest);
                self.tables_are_made(life);
                self.control(life, |control, _, sink| control.tables_made(made, sink));
            }
            Event::Turn(life, index) => self.turn(life, index),
            Event::Syn(conn) => {
                self.net.trace.note(now, conn, "syn", 0);
                self.syn(conn);
            }
            Event::SynAnswer(conn, listens) => match self.net.owner(conn, 0) {
                Owner::Job(life) => {
                    self.net.queue.push(now, Event::Connected(life, conn, listens));
                }
                Owner::Forger => self.forger_connected(conn, listens),
                _ => {}
            },
            Event::Connected(life, conn, listens) => self.connected(life, conn, listens),
            Event::Deliver(conn, side) => self.bytes_came(conn, side),
            Event::Silent(conn) => self.net.silent(conn),
            Event::Noticed(conn, side) => self.check_flow(conn, side),
            Event::Writable(conn, side) => self.room_came(conn, side),
            Event::Pump(life, index) => self.pump(life, index),
            // Here the seeds never change.
            Event::Discovered(life) => {
                let found = Ok(self.plan.member.seeds.clone());
                self.control(life, |control, now, sink| {
                    control.discovered(now, "sim", found, sink);
                });
            }
            Event::Job(life, conn, side) => self.step_job(life, conn, side),
            Event::Application(life, thread) => self.application(life, thread),
            Event::Questions(life, flood) => self.questions(life, flood),
            Event::Routers(life) => self.routers(life),
            Event::News(life) => self.news(life),
            Event::Exit(life) => {
                self.control(life, |control, now, sink| control.stop(now, sink));
            }
            Event::Resume(life) => self.resume(life),
            Event::Stumble(slot) => self.stumbles(slot),
            // Whoever should be there was started with the healing.
            Event::Start(slot) if self.healed_at.is_none() || self.clashes.asks(slot) => {
                self.start(slot);
            }
            Event::Start(_) => {}
            Event::Serve(life) => self.serve(life),
            Event::Fault(fault) => self.fault(fault),
            Event::Mend(number) => self.net.walls.fall(number),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
            Event::Forge(came) => self.forge(came),
            Event::Operate => self.operate(),
            Event::Quiet => self.ledger.lock().quiet = true,
            Event::Free(processor) => self.goes_on(processor),
        }
        if self.ledger.lock().violation.is_some() {
            self.over = true;
        }
    }

    fn datagram_came(&mut self, to: SlotId, from: SlotId, bytes: Vec<u8>) {
        if let (Some(life), true) = (self.slots[to], !self.net.walls.is_between(from, to)) {
            self.net.trace.note(self.net.now, life, "received", bytes.len() as u64);
            let before = self.skipped_datagrams(life);
            self.control(life, |control, now, sink| {
                let read = &bytes[..bytes.len().min(DATAGRAM_BYTES)];
                control.datagram(now, address(from), read, sink);
            });
            if let Some(forger) = &mut self.net.forger {
                forger.hears(from, &bytes);
            }
            if newer::is_unknown(&bytes) {
                self.check_skipped_datagram(life, before);
            }
            self.check_kept(life);
        } else if self.clashes.asks(to) {
            self.hello_came(to, from, &bytes);
        }
        self.net.recycle(bytes);
    }

    /// Notes the first thing found wrong; the simulation ends with it.
    pub(super) fn blame(&mut self, invariant: &'static str, seen: String) {
        self.net.trace.say(|| format!("VIOLATION of {invariant}: {seen}"));
        self.ledger.lock().blame(invariant, seen);
    }

    // ---- processes ----

    /// Starts a process on a free machine.
    pub(super) fn start(&mut self, slot: SlotId) {
        if self.slots[slot].is_some() {
            return;
        }
        let Some((name, me)) = self.comes_as(slot) else { return };
        let (life, now) = (self.lives.len(), self.net.now);
        self.net.trace.note(now, life, "start", me.incarnation.0);
        self.net.trace.say(|| format!("life {life} is {me} on machine {slot}"));
        let clock = LocalClock::new(now, (self.scenario.seed, life), self.plan.clocks_off_ppm);
        self.ledger.lock().add_life(me, clock, usize::from(self.machine(slot).workers));
        let body = Box::new(self.make_body(life, slot, &name, me));
        let (fate, downed, leaving, body) = (Fate::Alive, false, false, Some(body));
        let misled = self.plan.misled.is_some_and(|(misled, _)| misled == slot)
            || self.outsider(slot).is_some();
        let set_up = (0, 0);
        self.lives.push(Life { slot, me, clock, fate, downed, leaving, misled, set_up, body });
        self.slots[slot] = Some(life);
        self.control(life, |control, now, sink| control.start(now, sink));
        match self.application.clone() {
            Some(application) => application(self, life),
            None => self.begin_load(life),
        }
    }

    fn begin_load(&mut self, life: LifeId) {
        let seed = HashSeed(self.key.hash_seed());
        for spec in load::routers(seed) {
            self.route(life, spec);
        }
        self.next_routers(life);
        self.serve(life);
        self.measure(life);
        if self.net.newer == Some(self.lives[life].slot) {
            self.next_news(life);
        }
        for thread in 0..self.plan.traffic.threads {
            self.next_burst(life, thread);
        }
    }

    /// A process is gone, as after SIGKILL: its kernel closes its sockets.
    pub(super) fn kill(&mut self, life: LifeId, fate: Fate) {
        if self.lives[life].body.is_none() {
            return;
        }
        if self.application.is_none() {
            self.find_messages_of(life);
            self.check_tickets(life, fate);
            self.check_all_found(life);
        }
        self.net.trace.note(self.net.now, life, "killed", fate as u64);
        let slot = self.lives[life].slot;
        self.slots[slot] = None;
        self.lives[life].fate = fate;
        self.lives[life].body = None;
        self.clashes.ended_at.insert(life, self.net.now);
        self.net.drop_all(life);
        self.ledger.lock().forget(life);
        self.checks.healing.forget(life);
        self.note_killed(fate);
    }

    /// A process has left: application threads are refused from now on, and it stops.
    pub(super) fn left(&mut self, life: LifeId, well: bool) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        body.left = Some(well);
        body.gate.close();
        self.net.queue.push(self.net.now, Event::Exit(life));
    }

    /// A process that has left ends. A worker that a handler held, or that was paused, may not have
    /// stopped in time; what waits for it is not counted.
    pub(super) fn stopped(&mut self, life: LifeId, running: u16) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let well = body.left == Some(true) && running == 0;
        body.replies.close(|| Err(left_open(running > 0)));
        if self.application.is_none() {
            if well {
                self.check_left(life);
            }
            self.check_stopped(life, running);
        }
        self.kill(life, Fate::Left);
    }

    // ---- applications ----

    /// Plans a thread's next burst.
    pub(super) fn next_burst(&mut self, life: LifeId, thread: usize) {
        let (least, most) = self.plan.traffic.every_ms;
        let pause = within_us(&mut self.streams.applications, (least * 1_000, most * 1_000));
        self.net.queue.push(self.net.now.plus(pause), Event::Application(life, thread));
    }

    fn application(&mut self, life: LifeId, thread: usize) {
        self.collect(life, thread);
        if self.ledger.lock().quiet {
            return;
        }
        self.net.trace.note(self.net.now, life, "application", thread as u64);
        let worker = self.with_thread(life, thread, |thread, hands| {
            thread.burst(hands);
            thread.worker
        });
        if let Some(worker) = worker {
            self.nudge(life, worker);
        }
        self.next_burst(life, thread);
    }

    /// Lets one application thread do something.
    pub(super) fn with_thread<T>(
        &mut self,
        life: LifeId,
        thread: usize,
        act: impl FnOnce(&mut AppThread, &Hands<'_>) -> T,
    ) -> Option<T> {
        let now = self.lives[life].local(self.net.now);
        let body = self.lives[life].body.as_deref_mut()?;
        let mut threads = std::mem::take(&mut body.threads);
        let sender = body.sender(threads[thread].worker);
        let hands = Hands { sender, ledger: &self.ledger, now };
        let done = act(&mut threads[thread], &hands);
        body.threads = threads;
        Some(done)
    }
}
