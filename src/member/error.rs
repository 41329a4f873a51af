//! What can go wrong, told apart by whose fault it is: a call that was refused, a datagram that
//! makes no sense, and the end of this node's membership.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::debug_as_display;
use crate::base::{Incarnation, NodeId};

use super::start::MemberConfigError;

/// A call was refused or a datagram was not usable. In every case nothing has changed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The peer sent something that no member of this version sends.
    #[error("cannot read a membership datagram of kind {kind}: {reason}")]
    Malformed {
        /// The datagram's first byte; 0 if it was empty.
        kind: u8,
        /// What did not fit.
        reason: &'static str,
    },
    /// The peer sent more than any member sends.
    #[error("a membership datagram of {bytes} bytes was dropped; none is longer than {limit}")]
    DatagramTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest that is read.
        limit: usize,
    },
    /// The directory is full; a cluster of this size is beyond what one node keeps track of.
    #[error("a member was not taken up: this node already keeps {limit} member records")]
    DirectoryFull {
        /// How many records fit.
        limit: usize,
    },
    /// A member of the cluster says that there is no room for this node.
    #[error(
        "this node was not let in: the cluster keeps {limit} member records already; remove members \
         that will not come back"
    )]
    ClusterFull {
        /// How many records fit.
        limit: u32,
    },
    /// A member says that it has no room for this node, which others know.
    #[error(
        "a member does not list this node: it keeps {limit} member records already; remove members \
         that will not come back"
    )]
    NotListed {
        /// How many records fit.
        limit: u32,
    },
    /// Members ask this node at the address it advertises, and what they send does not come.
    #[error(
        "nobody can reach this node at {address}, which it advertises: set `advertise` to the \
         address at which others reach it, over UDP as over TCP"
    )]
    NotReached {
        /// The address that leads nowhere, or to somebody else.
        address: SocketAddr,
    },
    /// A local change that would make the member record unusable.
    #[error("the member record was left as it is: {0}")]
    Refused(#[from] MemberConfigError),
    /// A member to remove that is not in the view.
    #[error("cannot remove node {0}: it is not in the view (it may have left or been removed)")]
    NotAMember(NodeId),
    /// A node that was told to remove itself.
    #[error("cannot remove node {0} on itself: let it leave instead")]
    DownSelf(NodeId),
    /// This node has left or was removed; only a new incarnation can do more.
    #[error("this node is no longer a member; start it anew with a higher incarnation")]
    Ended,
}

debug_as_display!(MemberError);

/// This node's membership is over, not by its own wish. The decider has stopped; the process must
/// stop accepting messages and can only come back under a higher incarnation.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberFault {
    /// Another live member has this node's name.
    #[error("the name of this node is taken by the member at {by}; give each node its own name")]
    NameTaken {
        /// Where the other member is.
        by: SocketAddr,
    },
    /// Another member that answers has this node's address, and still did when its death would have
    /// been noticed.
    #[error(
        "the advertised address {address} of this node is that of the member `{by}`, which answers \
         there; give each node an address of its own (`advertise`)"
    )]
    AddressTaken {
        /// The address that both advertise.
        address: SocketAddr,
        /// The other member's name.
        by: Arc<str>,
    },
    /// The cluster knows a later life of this node, at this or another address: this process was
    /// replaced while it was away, or its clock stands behind its previous life's.
    #[error(
        "this node was replaced by its incarnation {incarnation} at {by}; if that is its own address, \
         the clock of its machine has gone back since its last life: set the clock right, give the \
         node a member as a seed, which it asks before it starts, or start it again above that \
         incarnation (`NodeBuilder::incarnation_above`)"
    )]
    Superseded {
        /// Where the later life is.
        by: SocketAddr,
        /// Its incarnation; a restart must exceed it.
        incarnation: Incarnation,
    },
    /// Others hold the last word that there can be about this life of the node, and it was not this
    /// node that said it: nothing it says of itself from now on would count as later.
    #[error(
        "others hold the highest {what} that there is for this node, which it has not said: something \
         with the cluster's secret speaks in its name, so that nobody would take up what it says of \
         itself any more; find that, and restart this node: its next life begins anew"
    )]
    NothingLater {
        /// What has no next one: a record's version, or an identity's renewal.
        what: &'static str,
    },
    /// An operator or the partition policy removed this incarnation from the cluster.
    #[error("this node was removed from the cluster; restart it to join again")]
    Removed,
}

debug_as_display!(MemberFault);
