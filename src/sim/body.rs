//! What a simulated process is made of: the same deciders as a real one, with ends that the world
//! moves.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::events::{LifeId, SlotId};
use super::invariants::settling::mourner;
use super::load::AppThread;
use super::mixed::Machine;
use super::network::{DEAD_FLOW, address};
use super::process::{Body, Core, Ends, Mail, Rings, Sums};
use super::strange::Outsider;
use super::streams::of_life;
use super::world::World;
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::control::links::LinkConfig;
use crate::control::{Control, ControlParts};
use crate::hash::HashSeed;
use crate::member::{LocalMember, Manual};
use crate::queue::board::Board;
use crate::queue::gate::Gate;
use crate::queue::inject::injector;
use crate::queue::reply::ReplySlots;
use crate::queue::wake::sleeper;
use crate::route::snapshot::Snapshot;
use crate::worker::command::Waiting;
use crate::worker::turn::Turn;
use crate::worker::{AppReply, Buffers, Limits, Worker, WorkerParts};

/// Handshakes of others that may be unfinished per process.
const HANDSHAKES: usize = 32;
/// As by default.
const SLOW_TURN: Duration = Duration::from_millis(100);

impl World {
    /// How the processes of a machine are set up.
    pub(super) fn machine(&self, slot: SlotId) -> Machine {
        let key = self.outsider(slot).map_or_else(|| self.key.clone(), Outsider::key);
        Machine::draw(&self.plan, &self.scenario, slot, key)
    }

    /// In which way the processes of a machine are none of the cluster's, if they are not.
    pub(super) fn outsider(&self, slot: SlotId) -> Option<Outsider> {
        self.plan.strange.outsider.filter(|(outsider, _)| *outsider == slot).map(|(_, kind)| kind)
    }

    pub(super) fn make_body(
        &mut self,
        life: LifeId,
        slot: SlotId,
        name: &str,
        me: NodeRef,
    ) -> Body {
        let machine = self.machine(slot);
        let mut rng = of_life(self.scenario.seed, life);
        let control = self.make_control((slot, name, me), &machine, rng.random());
        let max_frame_bytes = machine.limits.max_frame_bytes as usize;
        let own = Buffers::new(1, 1, max_frame_bytes, self.plan.replies_bytes);
        let (large, small) = self.chunks.clone();
        let buffers = Arc::new(Buffers { large, small, ..own });
        let replies = ReplySlots::new(self.plan.reply_slots);
        let seed = HashSeed(self.key.hash_seed());
        let Machine { workers, limits, .. } = machine;
        let rings = Rings::make(usize::from(workers), machine.rings);
        let cores = rings.into_iter().enumerate().map(|(index, rings)| {
            let index = WorkerIndex(index as u16);
            let given = (&buffers, &replies, rings);
            self.make_core((life, me, index), (workers, limits), rng.random(), given)
        });
        let cores = cores.collect();
        let threads = (0..self.plan.traffic.threads)
            .map(|thread| {
                let worker = thread % usize::from(workers);
                AppThread::new(life, worker, &self.ledger, seed, rng.random())
            })
            .collect();
        let view = Arc::clone(control.view());
        Body {
            control,
            limits,
            workers: cores,
            jobs: Default::default(),
            snapshot: Arc::new(Snapshot::empty(view)),
            met: false,
            buffers,
            replies,
            threads,
            ran: false,
            reports_after: Time::ZERO,
            paused: false,
            paused_at: Time::ZERO,
            backlog: Vec::new(),
            running_since: Time::ZERO,
            left: None,
            gate: Gate::of(me),
            refused: Default::default(),
        }
    }

    fn make_control(
        &self,
        (slot, name, me): (SlotId, &str, NodeRef),
        machine: &Machine,
        seed: u64,
    ) -> Control {
        let local = LocalMember {
            name: name.into(),
            address: match self.plan.misled {
                Some((misled, elsewhere)) if misled == slot => elsewhere,
                _ => address(slot),
            },
            incarnation: me.incarnation,
            workers: machine.workers,
            weight: self.plan.weights[slot],
            roles: Default::default(),
            metadata: Default::default(),
            app_version: machine.app_version.into(),
            services: Vec::new(),
        };
        Control::new(ControlParts {
            local,
            member: self.plan.member.clone(),
            links: LinkConfig {
                handshake_timeout: Duration::from_millis(self.plan.handshake_timeout_ms),
                max_pending_handshakes: HANDSHAKES,
                max_frame_bytes: machine.limits.max_frame_bytes,
            },
            bind: address(slot),
            policy: Box::new(Manual),
            key: machine.key.clone(),
            leave_timeout: Duration::from_millis(self.plan.leave_timeout_ms),
            parts: self.plan.parts.clone(),
            seed,
        })
        .expect("the plan's settings are in range")
    }

    fn make_core(
        &self,
        (life, me, index): (LifeId, NodeRef, WorkerIndex),
        (workers, limits): (u16, Limits),
        seed: u64,
        (buffers, replies, rings): (&Arc<Buffers>, &ReplySlots<AppReply>, Rings),
    ) -> Core {
        let (_, waker) = sleeper(|| ());
        let (injector, injected) = injector(self.plan.injections, waker);
        let parts = WorkerParts {
            me,
            index,
            workers,
            buffers: Arc::clone(buffers),
            replies: replies.clone(),
            injector: injector.clone(),
            settings: self.plan.parts.clone(),
            seed,
        };
        let times = (Duration::ZERO, SLOW_TURN, DEAD_FLOW);
        let mut worker = Worker::new(parts, limits, Time::ZERO);
        worker.mourn(mourner(&self.ledger, (life, usize::from(index.0))));
        Core {
            worker,
            turn: Turn::new(index, workers, times, self.plan.inboxes),
            ends: Ends {
                id: (life, usize::from(index.0)),
                commands: Mail::default(),
                waiting: Waiting::default(),
                injector,
                injected,
                rings,
                inbox_bytes: self.plan.inboxes.usual_bytes,
                sockets: Vec::new(),
                board: Board::new(),
                let_go: false,
                awaited: false,
            },
            blocked_until: Time::ZERO,
            blocked_at: Time::ZERO,
            running_since: Time::ZERO,
            turn_at: Time::NEVER,
            sums: Sums::default(),
            idle_turns: 0,
        }
    }
}
