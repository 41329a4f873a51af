//! Who is removed after a partition. Failure detection only ever marks members unreachable; what
//! becomes of them is decided here, by name, and never by default.

use std::time::Duration;

use crate::base::{NodeId, NodeRef, Time, View};
use crate::config::{MembershipConfig, PartitionChoice};

/// Decides which unreachable members are removed for good.
///
/// It is asked about once per `recontact_ms` on every node while members are unreachable. Each
/// node decides by its own view, so a policy must be made such that two sides of a partition do
/// not both carry on.
pub trait PartitionPolicy: Send {
    /// The policy's name, as it stands in configuration and reports.
    fn name(&self) -> &'static str;

    /// The nodes to remove now. `unreachable` is sorted by node and says for how long each
    /// unreachable member has been so. Nodes that are not unreachable members are ignored.
    fn decide(
        &mut self,
        now: Time,
        view: &View,
        unreachable: &[(NodeRef, Duration)],
    ) -> Vec<NodeId>;
}

/// Removes nobody: unreachable members stay until they come back or an operator removes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manual;

impl PartitionPolicy for Manual {
    fn name(&self) -> &'static str {
        PartitionChoice::Manual.name()
    }

    fn decide(&mut self, _: Time, _: &View, _: &[(NodeRef, Duration)]) -> Vec<NodeId> {
        Vec::new()
    }
}

/// Removes whoever has been unreachable for long enough. Each side of a partition that lasts longer
/// removes the other and goes on, so it does not suit where only one side may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveAfter(
    /// How long a member must have been unreachable.
    pub Duration,
);

impl PartitionPolicy for RemoveAfter {
    fn name(&self) -> &'static str {
        PartitionChoice::RemoveAfter.name()
    }

    fn decide(&mut self, _: Time, _: &View, unreachable: &[(NodeRef, Duration)]) -> Vec<NodeId> {
        let overdue = unreachable.iter().filter(|(_, time)| *time >= self.0);
        overdue.map(|(member, _)| member.node).collect()
    }
}

/// The policy that the settings name.
pub fn configured(settings: &MembershipConfig) -> Box<dyn PartitionPolicy> {
    match settings.partition_policy {
        PartitionChoice::Manual => Box::new(Manual),
        PartitionChoice::RemoveAfter => {
            Box::new(RemoveAfter(Duration::from_millis(settings.remove_after_ms)))
        }
    }
}
