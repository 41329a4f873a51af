//! One node's control by itself, for the tests of this folder: hands that keep what they are given.

use super::*;
use crate::member::Manual;

pub(super) const WORKERS: u16 = 3;

pub(super) struct Bench {
    pub(super) control: Control,
    pub(super) hands: Hands,
}

/// What control wanted done and told, as far as a test looks at it.
#[derive(Default)]
pub(super) struct Hands {
    pub(super) commands: Vec<(WorkerIndex, Command<JobId>)>,
    pub(super) timers: Vec<(Time, ControlTimer)>,
    /// With how many others like it were left out in the log, if it is for the log.
    pub(super) overheard: Vec<(Report, Option<u64>)>,
    /// How many workers were still running when the node had stopped.
    pub(super) stopped: Vec<u16>,
}

impl Bench {
    /// A node that has started, alone.
    pub(super) fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 7_400));
        let local = LocalMember {
            name: "me".into(),
            address,
            incarnation: crate::base::Incarnation(1),
            workers: WORKERS,
            weight: 100,
            roles: Default::default(),
            metadata: Default::default(),
            app_version: "1".into(),
            services: Vec::new(),
        };
        let links = LinkConfig {
            handshake_timeout: Duration::from_secs(5),
            max_pending_handshakes: 8,
            max_frame_bytes: 4_096,
        };
        let control = Control::new(ControlParts {
            local,
            member: MemberConfig::default(),
            links,
            bind: address,
            policy: Box::new(Manual),
            key: ClusterKey::new("tests", None).unwrap(),
            leave_timeout: Duration::from_secs(20),
            parts: PartSettings::default(),
            seed: 1,
        });
        let mut bench = Self { control: control.unwrap(), hands: Hands::default() };
        bench.run(|control, hands| control.start(Time::ZERO, hands));
        bench
    }

    pub(super) fn run<R>(&mut self, call: impl FnOnce(&mut Control, &mut Hands) -> R) -> R {
        call(&mut self.control, &mut self.hands)
    }
}

impl ControlSink for Hands {
    fn send(&mut self, _: SocketAddr, _: &[u8]) -> Sent {
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
    fn publish(&mut self, _: Arc<Snapshot>) {}
    fn make_tables(&mut self, _: TableJob) {}
    fn nonce(&mut self) -> [u8; 32] {
        [7; 32]
    }
    fn connect(&mut self, _: JobId, _: SocketAddr, _: Option<u32>, _: Shake) {}
    fn accept(&mut self, _: JobId, _: Shake) {}
    fn turn_away(&mut self, _: &[u8]) {}
    fn keep(&mut self, _: JobId) {}
    fn write(&mut self, _: JobId, _: Vec<u8>) {}
    fn abort(&mut self, _: JobId) {}
    fn accepting(&mut self, _: bool) {}
    fn discover(&mut self) {}
}

impl ControlTells for Hands {
    fn routed(&mut self, _: u32) {}
    fn served(&mut self, _: HandlerId, _: Result<(), ServeFailure>) {}
    fn unserved(&mut self, _: HandlerId) {}
    fn join_state(&mut self, _: JoinState) {}
    fn events(&mut self, _: &Arc<View>, _: &[MemberEvent]) {}
    fn fault(&mut self, _: MemberFault) {}
    fn left(&mut self, _: bool) {}
    fn stopped(&mut self, running: u16) {
        self.stopped.push(running);
    }
    fn log(&mut self, _: LogLine) {}
    fn hears_dead_letters(&self) -> bool {
        false
    }
    fn dead_letter(&mut self, _: DeadLetter, _: Option<u64>) {}
    fn overheard(&mut self, report: Report, left_out: Option<u64>) {
        self.overheard.push((report, left_out));
    }
}
