//! What one call of a control wants done, for tests that carry it themselves: no threads, sockets or
//! clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyway::JoinState;
use keyway::base::{HandlerId, MemberEvent, Time, View, WorkerIndex};
use keyway::config::NodeConfig;
use keyway::control::letters::DeadLetter;
use keyway::control::links::shake::Shake;
use keyway::control::links::{JobId, LinkConfig};
use keyway::control::{
    Control, ControlParts, ControlSink, ControlTells, ControlTimer, LogLine, Sent, ServeFailure,
};
use keyway::member::{LocalMember, Manual, MemberConfig, MemberFault};
use keyway::part::PartSettings;
use keyway::route::job::TableJob;
use keyway::route::snapshot::Snapshot;
use keyway::wire::ClusterKey;
use keyway::worker::{Command, Report};

/// A control with the default settings, which joins by one seed. All it draws follows from `random`.
pub fn control(local: LocalMember, seed: SocketAddr, key: &ClusterKey, random: u64) -> Control {
    let config = NodeConfig::default();
    let parts = ControlParts {
        bind: local.address,
        local,
        member: MemberConfig { seeds: vec![seed], settings: config.membership.clone() },
        links: LinkConfig {
            handshake_timeout: Duration::from_secs(5),
            max_pending_handshakes: 128,
            max_frame_bytes: 1 << 20,
        },
        policy: Box::new(Manual),
        key: key.clone(),
        leave_timeout: Duration::from_secs(20),
        parts: PartSettings::new(&config),
        seed: random,
    };
    Control::new(parts).unwrap()
}

/// What a test keeps of what control tells.
pub trait Hears: Default {
    /// The view has changed so.
    fn events(&mut self, _: &[MemberEvent]) {}
    /// A line of the log.
    fn line(&mut self, _: LogLine) {}
    /// The node has left, drained or not.
    fn left(&mut self, _: bool) {}
}

/// What a call wants done, and what it told.
#[derive(Default)]
pub struct Collected<H> {
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    pub timers: Vec<(Time, ControlTimer)>,
    pub commands: Vec<(WorkerIndex, Command<JobId>)>,
    pub published: Vec<Arc<Snapshot>>,
    pub jobs: Vec<TableJob>,
    pub heard: H,
}

impl<H: Hears> ControlTells for Collected<H> {
    fn join_state(&mut self, _: JoinState) {}
    fn routed(&mut self, _: u32) {}
    fn served(&mut self, _: HandlerId, _: Result<(), ServeFailure>) {}
    fn unserved(&mut self, _: HandlerId) {}
    fn events(&mut self, _: &Arc<View>, events: &[MemberEvent]) {
        self.heard.events(events);
    }
    fn fault(&mut self, fault: MemberFault) {
        panic!("{fault:?}");
    }
    fn left(&mut self, drained: bool) {
        self.heard.left(drained);
    }
    fn stopped(&mut self, _: u16) {}
    fn log(&mut self, line: LogLine) {
        self.heard.line(line);
    }
    fn hears_dead_letters(&self) -> bool {
        false
    }
    fn dead_letter(&mut self, _: DeadLetter, _: Option<u64>) {}
    fn overheard(&mut self, _: Report, _: Option<u64>) {}
}

impl<H: Hears> ControlSink for Collected<H> {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Sent {
        self.sent.push((to, datagram.to_vec()));
        Sent::Taken
    }
    fn schedule(&mut self, at: Time, timer: ControlTimer) {
        self.timers.push((at, timer));
    }
    fn command(&mut self, worker: WorkerIndex, command: Command<JobId>) {
        self.commands.push((worker, command));
    }
    fn is_crowded(&self, _: WorkerIndex) -> bool {
        false
    }
    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.published.push(snapshot);
    }
    fn make_tables(&mut self, job: TableJob) {
        self.jobs.push(job);
    }
    fn nonce(&mut self) -> [u8; 32] {
        [7; 32]
    }
    // No connection comes about.
    fn connect(&mut self, _: JobId, _: SocketAddr, _: Option<u32>, _: Shake) {}
    fn accept(&mut self, _: JobId, _: Shake) {}
    fn turn_away(&mut self, _: &[u8]) {}
    fn keep(&mut self, _: JobId) {}
    fn write(&mut self, _: JobId, _: Vec<u8>) {}
    fn abort(&mut self, _: JobId) {}
    fn accepting(&mut self, _: bool) {}
    fn discover(&mut self) {}
}
