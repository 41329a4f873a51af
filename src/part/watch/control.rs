//! Control's half of watch: tells workers which nodes are members and how others ended, and keeps
//! what applications watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::worker::{Ended, Members, Report, Watcher, WorkerOrder};
use super::{GoneReason, Target};
use crate::base::{MemberEvent, MemberState, View, WorkerIndex};
use crate::part::{ControlOutlet, ControlPart};

/// How many ends of nodes are remembered, so that a watch that comes late learns how it was.
const REMEMBERED_ENDS: usize = 1_024;

/// Called once when what an application watches is gone.
pub type Notify = Box<dyn FnOnce(GoneReason) + Send>;

/// What an application wants.
pub enum Order {
    /// Watch this.
    Watch {
        /// The application's own number for it, not used twice in the life of a node.
        token: u64,
        /// What to watch.
        target: Target,
        /// How to say that it is gone.
        notify: Notify,
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
    open: BTreeMap<u64, Notify>,
    ends: VecDeque<Ended>,
}

impl WatchControl {
    pub(super) fn new(workers: u16) -> Self {
        Self { workers, open: BTreeMap::new(), ends: VecDeque::new() }
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
        let nodes = view.members.iter().map(|member| member.node_ref()).collect();
        out.publish(Members { nodes, ends: self.ends.iter().copied().collect() });
    }

    fn order(&mut self, order: Order, out: &mut ControlOutlet<'_, Members, WorkerOrder>) {
        match order {
            Order::Watch { token, target, notify } => {
                self.open.insert(token, notify);
                let order = WorkerOrder::Watch { watcher: Watcher::Application(token), target };
                out.to_worker(self.keeper(token), order);
            }
            Order::Unwatch { token } => {
                if self.open.remove(&token).is_some() {
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
        let Report::Gone { token, reason } = report;
        // Nobody, when it was stopped meanwhile.
        if let Some(notify) = self.open.remove(&token) {
            notify(reason);
        }
    }

    fn timer(&mut self, _: u64, _: &mut ControlOutlet<'_, Members, WorkerOrder>) {}
}
