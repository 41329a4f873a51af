//! Control's half of watch: tells workers which nodes are members and how others ended, and keeps
//! what applications watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::members::{Ended, Members};
use super::worker::{Report, Watcher, WorkerOrder};
use super::{GoneReason, Target};
use crate::base::{MemberEvent, MemberState, View, WorkerIndex};
use crate::part::{ControlOutlet, ControlPart};

/// How many ends of nodes are remembered, so that a watch that comes late learns how it was.
const REMEMBERED_ENDS: usize = 1_024;

/// Who waits in an application for the end of what it watches. Dropped when neither this half nor a
/// worker keeps anything of the watch any more.
pub trait Notify: Send {
    /// Whether anybody still waits.
    fn is_wanted(&self) -> bool;
    /// It is gone; told once.
    fn tell(&mut self, reason: GoneReason);
}

/// What an application wants.
pub enum Order {
    /// Watch this.
    Watch {
        /// The application's own number for it, not used twice in the life of a node.
        token: u64,
        /// What to watch.
        target: Target,
        /// How to say that it is gone.
        notify: Box<dyn Notify>,
    },
    /// Stop watching.
    Unwatch {
        /// As given before.
        token: u64,
    },
}

/// Control's half.
pub struct WatchControl {
    workers: u16,
    open: BTreeMap<u64, Box<dyn Notify>>,
    /// Stopped by their applications; each has its place until its worker has forgotten it, so that
    /// no more is on the way to a worker that is held up than there are places.
    stopping: BTreeMap<u64, Box<dyn Notify>>,
    ends: VecDeque<Ended>,
    /// Of which members the workers were told.
    roster: Option<u64>,
}

impl WatchControl {
    pub(super) fn new(workers: u16) -> Self {
        let (open, stopping) = (BTreeMap::new(), BTreeMap::new());
        Self { workers, open, stopping, ends: VecDeque::new(), roster: None }
    }

    /// Applications' watches are spread over the workers.
    fn keeper(&self, token: u64) -> WorkerIndex {
        WorkerIndex((token % u64::from(self.workers.max(1))) as u16)
    }
}

impl ControlPart for WatchControl {
    type Facts = Members;
    type WorkerOrder = WorkerOrder;
    type Report = Report;
    type Order = Order;

    fn view(
        &mut self,
        view: &Arc<View>,
        events: &[MemberEvent],
        out: &mut ControlOutlet<'_, Members, WorkerOrder>,
    ) {
        for event in events {
            let MemberEvent::Removed(member) = event else { continue };
            let reason = match member.state {
                MemberState::Left | MemberState::Leaving => GoneReason::NodeLeft,
                _ => GoneReason::NodeDown,
            };
            if self.ends.len() == REMEMBERED_ENDS {
                self.ends.pop_front();
            }
            self.ends.push_back(Ended { node: member.node_ref(), reason });
        }
        let ended = events.iter().any(|event| matches!(event, MemberEvent::Removed(_)));
        if self.roster.replace(view.roster_digest) == Some(view.roster_digest) && !ended {
            return;
        }
        let nodes = view.members.iter().map(|member| (member.node_ref(), member.workers)).collect();
        out.publish(Members { nodes, ends: self.ends.iter().copied().collect() });
    }

    fn order(&mut self, order: Order, out: &mut ControlOutlet<'_, Members, WorkerOrder>) {
        match order {
            // Given up before it came here; the word of that may have come before it.
            Order::Watch { notify, .. } if !notify.is_wanted() => {}
            Order::Watch { token, target, notify } => {
                self.open.insert(token, notify);
                let order = WorkerOrder::Watch { watcher: Watcher::Application(token), target };
                out.to_worker(self.keeper(token), order);
            }
            Order::Unwatch { token } => {
                if let Some(notify) = self.open.remove(&token) {
                    self.stopping.insert(token, notify);
                    let watcher = Watcher::Application(token);
                    out.to_worker(self.keeper(token), WorkerOrder::Unwatch { watcher });
                }
            }
        }
    }

    fn report(
        &mut self,
        _: WorkerIndex,
        report: Report,
        _: &mut ControlOutlet<'_, Members, WorkerOrder>,
    ) {
        match report {
            Report::Gone { token, reason } => {
                if let Some(mut notify) = self.open.remove(&token) {
                    notify.tell(reason);
                }
                self.stopping.remove(&token);
            }
            Report::Stopped { token } => drop(self.stopping.remove(&token)),
        }
    }

    fn timer(&mut self, _: u64, _: &mut ControlOutlet<'_, Members, WorkerOrder>) {}
}
