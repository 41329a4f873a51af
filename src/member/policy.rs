//! Who is removed after a partition. Failure detection only ever marks members unreachable; what
//! becomes of them is decided here, by name, and never by default.

use std::time::Duration;

use crate::base::{NodeId, NodeRef, Time, View};

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
        "manual"
    }

    fn decide(&mut self, _: Time, _: &View, _: &[(NodeRef, Duration)]) -> Vec<NodeId> {
        Vec::new()
    }
}
