//! What must always hold, one invariant per file, and where each is checked. Checks look only at
//! what has just changed. A new one also has its line in `exercised.rs` and its row in
//! `docs/TESTING.md`.

pub mod agreement;
pub mod alarms;
pub mod asks;
pub mod bounds;
pub mod clashes;
pub mod counts;
pub mod deadlines;
pub mod deaf;
pub mod detection;
pub mod disturbed;
pub mod door;
pub mod ends;
pub mod exercised;
pub mod farewells;
pub mod fates;
pub mod flapping;
pub mod flows;
pub mod forgetting;
pub mod ghosts;
pub mod healing;
pub mod keys;
pub mod letters;
pub mod load;
pub mod log;
pub mod masks;
pub mod newer;
pub mod order;
pub mod outsiders;
pub mod owners;
pub mod panics;
pub mod parts;
mod passage;
pub mod placement;
pub mod progress;
pub mod protocol;
pub mod removal;
pub mod replaced;
pub mod rest;
pub mod rooms;
pub mod routers;
pub mod settling;
pub mod steadiness;
pub mod strangers;
pub mod tables;
pub mod turns;
pub mod watches;
pub mod withdrawal;

use std::sync::Arc;
use std::time::Duration;

use super::events::{ConnId, LifeId, Side};
use super::process::Fate;
use super::world::World;
use crate::base::{HandlerId, LogKind, MemberEvent, Time, View};
use crate::control::links::JobId;
use crate::control::{LogLine, ServeFailure};
use crate::member::MemberFault;
use crate::route::snapshot::Snapshot;
use crate::worker::Command;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant does not hold.
    pub invariant: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Events are told once the snapshot is published that shows what they tell of.
const MET: &str = "whoever shows others says that it has met them";
const EVENTS: &str = "a change is shown before it is told";

/// For how long a process waits for its workers to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What invariants remember.
pub struct Checks {
    /// Equal views give equal tables.
    pub tables: tables::Tables,
    /// Soon after the healing views agree.
    pub agreement: agreement::Agreement,
    /// After the healing all is well again.
    pub healing: healing::Healing,
    /// Who falls silent again and again is damped.
    pub flapping: flapping::Flapping,
    /// Who hears next to nothing is alone with what it believes.
    pub deaf: deaf::Deaf,
    /// Who is silent is known to be.
    pub detection: detection::Detection,
    /// What machines went through.
    pub disturbed: disturbed::Disturbed,
    /// How often somebody was called unreachable, and was.
    pub alarms: u64,
    /// Time goes on.
    pub progress: progress::Progress,
    /// How often a router's mask changed and its table did not.
    pub masked: u64,
    /// Which tables are asked for.
    pub jobs: masks::Jobs,
    /// What is written to logs.
    pub lines: log::Lines,
    /// How often who is within a router's limit changed, and only their keys moved.
    pub limits_moved: u64,
    /// How often a table with keys was followed by another one.
    pub tables_followed: u64,
    /// How often a change was told of, and shown.
    pub changes: u64,
    /// How often others were shown.
    pub met: u64,
    /// How often a member was removed from a view, for a reason.
    pub removals: u64,
    /// Who has ended.
    pub ghosts: ghosts::Ghosts,
    /// Lives that followed each other.
    pub replaced: replaced::Replaced,
    /// Who has left, and who knows it.
    pub farewells: farewells::Farewells,
    /// How often a view was shown while somebody advertised a wrong address.
    pub doors: u64,
    /// How many turns moved nothing, and wanted the next one at once.
    pub idle_turns: u64,
    /// After how many turns more messages had ended than before.
    pub counted: u64,
    /// How often something stood at its bound, and went no further.
    pub bounded: bounds::Bounded,
    /// The same of what waits between threads.
    pub rooms: rooms::Rooms,
    /// How often a dead flow was noticed in time.
    pub flows_noticed: u64,
    /// How often somebody was gone of whom something had been kept.
    pub forgotten: u64,
    /// What controls say to each other.
    pub letters: letters::Letters,
    /// How often a link was rightly closed for a long message that did not come to its end.
    pub stalled: u64,
    /// When all messages that have not ended were last looked for.
    pub found_at: Time,
    /// What a newer member said.
    pub newer: newer::Newer,
    /// Keys come to rest after the faults.
    pub steadiness: steadiness::Steadiness,
    /// How often a node of another cluster was told why it gets in nowhere.
    pub outsiders: u64,
    slots: usize,
}

impl Checks {
    /// For a world with so many machines.
    pub fn new(slots: usize) -> Self {
        Self {
            tables: tables::Tables::default(),
            agreement: agreement::Agreement::default(),
            healing: healing::Healing::default(),
            flapping: flapping::Flapping::default(),
            deaf: deaf::Deaf::default(),
            detection: detection::Detection::default(),
            disturbed: disturbed::Disturbed::default(),
            alarms: 0,
            progress: progress::Progress::default(),
            masked: 0,
            jobs: masks::Jobs::default(),
            lines: log::Lines::default(),
            limits_moved: 0,
            tables_followed: 0,
            changes: 0,
            met: 0,
            removals: 0,
            ghosts: ghosts::Ghosts::default(),
            replaced: replaced::Replaced::default(),
            farewells: farewells::Farewells::default(),
            doors: 0,
            idle_turns: 0,
            counted: 0,
            bounded: bounds::Bounded::default(),
            rooms: rooms::Rooms::default(),
            flows_noticed: 0,
            forgotten: 0,
            letters: letters::Letters::default(),
            stalled: 0,
            found_at: Time::ZERO,
            newer: newer::Newer::default(),
            steadiness: steadiness::Steadiness::default(),
            outsiders: 0,
            slots,
        }
    }
}

/// What is looked at after a call of control.
pub enum Seen {
    /// A snapshot, and the one before.
    Published {
        /// The one before.
        before: Arc<Snapshot>,
        /// This one.
        now: Arc<Snapshot>,
        /// Whether it has told last that it has met others.
        met: bool,
    },
    /// It asks for tables, and has that of this router already.
    Wanted(Option<u32>),
    /// It wrote a line of this kind.
    Logged(LogKind),
    /// Whoever asked for this router is told that it routes; whether it is in the snapshot.
    Routed(u32, bool),
    /// Changes of membership, with the digests of the view after them and of the published one.
    Changed {
        /// After them.
        view: u64,
        /// As published.
        shown: u64,
        /// The changes.
        events: Vec<MemberEvent>,
    },
    /// The cluster was told what is served, or why it is not.
    Served(HandlerId, Result<(), ServeFailure>),
    /// Its workers are told to end their routees of a path.
    Withdraws(HandlerId),
    /// They have.
    Unserved,
    /// Its control wrote a line.
    Log(LogLine),
    /// It wrote to a channel, on this side of this connection.
    Wrote(JobId, (ConnId, Side), Vec<u8>),
    /// A connection that its control had is over.
    Over(JobId),
    /// It cannot go on.
    Fault(MemberFault),
    /// It has left its cluster; whether all was drained, and somebody knows.
    Left(bool),
    /// Its workers have stopped, but for so many.
    Stopped(u16),
}

impl Seen {
    /// What is looked at of a command to a worker.
    pub fn command<C>(command: &Command<C>) -> Option<Self> {
        match command {
            Command::Withdraw(handler) => Some(Self::Withdraws(*handler)),
            _ => None,
        }
    }
}

impl World {
    /// Looks at what a call of control came to.
    pub(super) fn see(&mut self, life: LifeId, seen: Seen) {
        if self.application.is_some() {
            return self.hear(life, seen);
        }
        match seen {
            Seen::Published { before, now, met } => {
                self.check_met(life, &now, met);
                self.check_snapshot(life, &before, &now);
            }
            Seen::Wanted(right_already) => self.check_wanted(life, right_already),
            Seen::Logged(kind) => self.check_pace(life, kind),
            Seen::Routed(router, shown) => self.routed(life, router, shown),
            Seen::Changed { view, shown, events } => {
                self.net.trace.note(self.net.now, life, "view", view);
                if view != shown {
                    self.blame(EVENTS, format!("life {life} was told of a change too early"));
                }
                self.checks.changes += u64::from(!events.is_empty());
                events.iter().for_each(|event| self.check_event(life, event));
            }
            Seen::Served(handler, Ok(())) => self.announced(life, handler),
            // Who leaves says nothing more of itself.
            Seen::Served(..) if self.lives[life].leaving => {}
            Seen::Served(_, Err(why)) => {
                self.blame(placement::NAME, format!("a path was not served: {why:?}"));
            }
            Seen::Withdraws(handler) => self.withdraws(life, handler),
            Seen::Unserved => self.unserved(life),
            Seen::Log(line) => self.check_line(life, line),
            Seen::Wrote(job, (conn, side), bytes) => {
                let to = self.net.controlled_by(conn, 1 - side);
                self.check_letters((life, job), to, &bytes);
            }
            Seen::Over(job) => self.channel_over((life, job)),
            Seen::Fault(fault) => {
                self.net.trace.note(self.net.now, life, "fault", 0);
                self.check_fault(life, &fault);
                self.kill(life, Fate::Downed);
                self.clashed(life, &fault);
            }
            Seen::Left(well) => {
                if well {
                    self.note_farewell(life);
                }
                self.left(life, well);
            }
            Seen::Stopped(running) => self.stopped(life, running),
        }
    }

    /// What a node says of its joining speaks of the members that it shows.
    fn check_met(&mut self, life: LifeId, snapshot: &Snapshot, met: bool) {
        let View { me, members, .. } = &*snapshot.view;
        let sees = members.iter().any(|member| member.id != me.node);
        self.checks.met += u64::from(sees);
        if sees != met {
            let said = if met { "has" } else { "has not" };
            let members = members.len();
            self.blame(MET, format!("life {life} shows {members} members and {said} met others"));
        }
    }

    /// A process is about to publish a snapshot.
    pub(super) fn check_snapshot(
        &mut self,
        life: LifeId,
        before: &Snapshot,
        snapshot: &Arc<Snapshot>,
    ) {
        let name = |seen: String| format!("life {life}: {seen}");
        if let Err(seen) = self.checks.tables.check(before, snapshot) {
            self.blame(tables::NAME, name(seen));
        }
        let placed = self.ledger.lock().placements.check(before, snapshot);
        if let Err(seen) = placed {
            self.blame(placement::NAME, name(seen));
        }
        let held = self.ledger.lock().routers.check(life, snapshot);
        if let Err(seen) = held {
            self.blame(routers::NAME, name(seen));
        }
        let keys = keys::check(before, snapshot);
        let masks = masks::check(before, snapshot);
        match keys {
            Ok(looked) => {
                self.checks.limits_moved += looked.limits;
                self.checks.tables_followed += looked.tables;
            }
            Err(seen) => self.blame(keys::NAME, name(seen)),
        }
        match masks {
            Ok(masked) => self.checks.masked += masked,
            Err(seen) => self.blame(masks::NAME, name(seen)),
        }
        match door::check(&self.lives, &snapshot.view) {
            Ok(strangers) => self.checks.doors += u64::from(strangers > 0),
            Err(seen) if !self.lives[life].misled => self.blame(door::NAME, name(seen)),
            Err(_) => {}
        }
        self.check_strangers(life, &snapshot.view);
        self.check_outsider(life, &snapshot.view);
        self.check_forgotten(life, before, snapshot);
        self.check_flapping(life, &snapshot.view);
        self.check_steadiness(life, &before.view, &snapshot.view);
        self.check_deaf(life, &snapshot.view);
        let Checks { slots, bounded, .. } = &mut self.checks;
        if let Err(seen) = bounds::check_members(&snapshot.view, *slots, bounded) {
            self.blame(bounds::NAME, name(seen));
        }
    }

    /// A process saw a change of membership.
    pub(super) fn check_event(&mut self, life: LifeId, event: &MemberEvent) {
        self.net.trace.say(|| format!("life {life}: {}", removal::describe(event)));
        self.check_calm(life, event);
        self.check_alarm(life, event);
        self.check_namesake(life, event);
        self.check_ghost(life, event);
        self.check_replaced(life, event);
        self.note_shown_end(life, event);
        self.checks.removals += u64::from(matches!(event, MemberEvent::Removed(_)));
        if let Err(seen) = removal::check(&self.lives, life, event) {
            self.blame(removal::NAME, format!("life {life}: {seen}"));
        }
    }

    /// A process's membership says that it cannot go on.
    pub(super) fn check_fault(&mut self, life: LifeId, fault: &MemberFault) {
        let Some(fate) = self.lives.get(life) else { return };
        let told = fate.misled && matches!(fault, MemberFault::AddressTaken { .. });
        if !fate.downed && !told && !self.check_clash(life, fault) {
            self.blame(removal::NAME, format!("life {life} stopped without reason: {fault}"));
        }
    }

    /// A worker's duty cycle is over. `fullest` is the most bytes an outbox held in it, by account.
    pub(super) fn check_worker(&mut self, life: LifeId, index: usize, fullest: [usize; 3]) {
        let Some(body) = self.lives[life].body.as_deref_mut() else { return };
        let (core, limits) = (&mut body.workers[index], &body.limits);
        let counts = core.worker.counts();
        let before = std::mem::replace(&mut core.sums, counts::sums(&counts));
        self.checks.counted += u64::from(core.sums.ended > before.ended);
        let usage = core.worker.usage();
        let asks = asks::running(&counts).and_then(|()| asks::moving(&usage));
        let received = counts.received;
        self.net.trace.note(self.net.now, life, "turn", core.sums.sent << 32 ^ core.sums.ended);
        let inboxes = core.turn.inbox_usage();
        let bounded = &mut self.checks.bounded;
        let inboxes = bounds::check_inboxes(inboxes, &self.plan.inboxes, limits, bounded);
        let outboxes = match usage.fullest_outbox > limits.outbox_bytes {
            true => core.worker.outboxes().try_for_each(|it| bounds::check_outbox(it, limits)),
            false => Ok(()),
        };
        let bounds = bounds::check_worker(&usage, fullest, limits, bounded)
            .and(inboxes.map_err(|seen| (bounds::INBOXES, seen)))
            .and(outboxes.map_err(|seen| (bounds::OUTBOXES, seen)));
        let total = body.sums();
        let mut ledger = self.ledger.lock();
        let handled = ledger.handled_of(life);
        let taken = ledger.handled_at(life, index);
        let fates = ledger.fates.check((life, index), &counts);
        let panics = ledger.panics.check((life, index), &counts);
        drop(ledger);
        let name = |seen: String| format!("life {life}, worker {index}: {seen}");
        if let Err(seen) = counts::running(total, received, handled, taken) {
            self.blame(counts::NAME, name(seen));
        }
        if let Err(seen) = fates {
            self.blame(fates::NAME, name(seen));
        }
        if let Err(seen) = panics {
            self.blame(panics::NAME, name(seen));
        }
        if let Err(seen) = asks {
            self.blame(asks::NAME, name(seen));
        }
        if let Err((bound, seen)) = bounds {
            self.blame(bound, name(seen));
        }
        self.check_watches();
    }

    /// A process has ended, and so many of its workers had not stopped: each was held by something
    /// while it was waited for.
    pub(super) fn check_stopped(&mut self, life: LifeId, running: u16) {
        let now = self.lives[life].local(self.net.now);
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let held = |since: Time| now.since(since) < STOP_PATIENCE && since > Time::ZERO;
        let paused = held(body.running_since);
        let excused = body
            .workers
            .iter()
            .filter(|core| paused || core.blocked_until > self.net.now || held(core.running_since));
        let excused = excused.count();
        if usize::from(running) > excused {
            let seen = format!("{running} workers did not stop, of which {excused} were held");
            self.blame(counts::NAME, format!("life {life} left: {seen}"));
        }
    }

    /// A process has left with everything drained, as it says.
    pub(super) fn check_left(&mut self, life: LifeId) {
        let total = self.total_counts(life);
        let ledger = self.ledger.lock();
        let (handled, open) = (ledger.handled_of(life), ledger.open_asks(life));
        drop(ledger);
        let outcome = counts::settled(&total, handled).and_then(|()| asks::settled(&total, open));
        if let Err(seen) = outcome {
            self.blame(counts::NAME, format!("life {life} left: {seen}"));
        }
    }

    /// The simulation is over: nothing is under way any more.
    pub(super) fn check_end(&mut self) {
        self.check_open_watches();
        self.check_kept_watches();
        self.check_reached();
        self.check_unknown_reasons();
        self.check_told_outsiders();
        for life in self.living() {
            self.check_questions(life);
            self.check_awaited(life);
            self.check_skipped_frames(life);
            let total = self.total_counts(life);
            let ledger = self.ledger.lock();
            let (handled, open) = (ledger.handled_of(life), ledger.open_asks(life));
            drop(ledger);
            if let Err(seen) = counts::settled(&total, handled) {
                self.blame(counts::NAME, format!("life {life} at the end: {seen}"));
            }
            if let Err(seen) = asks::settled(&total, open) {
                self.blame(asks::NAME, format!("life {life} at the end: {seen}"));
            }
            for thread in 0..self.plan.traffic.threads {
                self.collect(life, thread);
                let Some(body) = self.lives[life].body.as_deref() else { continue };
                let open = body.threads[thread].pending.len();
                if open > 0 {
                    let seen =
                        format!("life {life} at the end: {open} asks of its application are open");
                    self.blame(asks::NAME, seen);
                }
            }
            self.check_all_found(life);
        }
    }

    pub(super) fn total_counts(&self, life: LifeId) -> crate::base::fate::Counts {
        let mut total = crate::base::fate::Counts::default();
        for core in self.lives[life].body.iter().flat_map(|body| &body.workers) {
            total += core.worker.counts();
        }
        total
    }

    /// The processes that must be members in the end.
    pub(super) fn staying(&self) -> Vec<LifeId> {
        let lives = self.lives.iter().enumerate();
        lives.map(|(id, _)| id).filter(|id| self.is_staying(*id)).collect()
    }

    /// Whether a process must be a member in the end.
    fn is_staying(&self, life: LifeId) -> bool {
        let life = &self.lives[life];
        life.fate == Fate::Alive && !life.misled
    }
}
