//! Two helper processes on two cores with one loopback connection between them.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::peer::{PeerCommand, Task};
use super::{FloorPlan, PEER_COMMAND};
use crate::error::Result;
use crate::process::{SpawnPlan, Spawned};

/// How long the small steps may take on a machine that is busy with other things.
const STEP: Duration = Duration::from_secs(20);

/// The two ends; both end when this is dropped.
pub(super) struct Pair {
    driving: Spawned,
    serving: Spawned,
    task: Task,
    patience: Duration,
}

impl Pair {
    /// Starts both ends, the driving one on the plan's first core, and connects them.
    pub(super) fn connect(plan: &FloorPlan) -> Result<Self> {
        plan.check()?;
        let spawn =
            |name: &str, core| SpawnPlan::helper(name, [PEER_COMMAND]).on_cores(&[core]).spawn();
        let mut driving = spawn("the driving end", plan.cores.0)?;
        let mut serving = spawn("the serving end", plan.cores.1)?;
        let port = serving.call(&PeerCommand::Listen, STEP)?;
        let () = driving.call(&PeerCommand::Connect { port }, STEP)?;
        let () = serving.call(&PeerCommand::Accept, STEP)?;
        let task = Task {
            frame_bytes: plan.padded_frame_bytes(),
            warm_up: plan.warm_up(),
            duration: plan.duration,
            peer_pid: serving.pid(),
        };
        Ok(Self { driving, serving, task, patience: plan.patience() })
    }

    /// What the driving end needs to know.
    pub(super) fn task(&self) -> Task {
        self.task
    }

    /// Has one end serve and the other one drive, and returns what that one measured.
    ///
    /// Meanwhile this process sleeps, so as not to disturb them.
    pub(super) fn run<A: DeserializeOwned>(
        mut self,
        serve: &PeerCommand,
        drive: &PeerCommand,
    ) -> Result<A> {
        let serving = self.serving.start::<()>(serve)?;
        let driving = self.driving.start(drive)?;
        let measured = self.driving.finish(driving, self.patience)?;
        // It ends because the driving end has closed; a hang or an error must not pass unseen.
        self.serving.finish(serving, STEP)?;
        self.driving.close(STEP)?;
        self.serving.close(STEP)?;
        Ok(measured)
    }
}
