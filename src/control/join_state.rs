//! How far a node has got with joining, and what it has seen of each seed, for whoever asks.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::debug_as_display;
use crate::wire::datagram::DatagramError;
use crate::wire::handshake::HandshakeError;

/// How far a node has got with joining its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinState {
    /// It has no seeds besides itself, and has met nobody. Or it was a member among others, all of them
    /// are gone, and at no seed a node of its cluster is known to run: it is the cluster. It goes on
    /// to look for its seeds.
    #[default]
    Alone,
    /// It has seeds and has met nobody, or is alone again and a seed's node runs that has not let it
    /// in. One that is a seed itself, or is alone again, is a member all the same, of a cluster of one.
    Joining {
        /// What was last seen of each seed, by address.
        seeds: Vec<(SocketAddr, SeedState)>,
    },
    /// It has seeds, but no address of theirs that is of use, and has met nobody. It looks again every
    /// few seconds.
    NoAddress {
        /// What discovery said last: for example, which name cannot be resolved.
        why: Arc<str>,
    },
    /// It has met other members, and none of them lists it: it does not answer at the address that
    /// it advertises. It gets no keys, and nobody else knows of it.
    Unreached {
        /// What it advertises.
        address: SocketAddr,
        /// Which members say so, by their addresses.
        by: Vec<SocketAddr>,
    },
    /// It has met other members, some of which can be reached, and for two rounds of comparing and a
    /// second none of them was seen to list it: what it says of itself does not arrive. It gets no
    /// keys, and nobody else knows of it.
    Unlisted,
    /// It has met other members.
    Joined,
    /// It has ended, and joins nothing any more. [`Node::end`](crate::Node::end) tells how.
    Ended,
}

impl fmt::Display for JoinState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => {
                f.write_str("alone: it has no seeds and has met nobody, or all others are gone")
            }
            Self::Joining { .. } | Self::NoAddress { .. } => {
                write!(f, "joining: {}", self.obstacle().unwrap_or_default())
            }
            Self::Unreached { .. } | Self::Unlisted => {
                f.write_str(&self.obstacle().unwrap_or_default())
            }
            Self::Joined => f.write_str("joined"),
            Self::Ended => f.write_str(
                "ended: this node has left, was stopped, or could not go on; \
                     `Node::end` tells which",
            ),
        }
    }
}

impl JoinState {
    /// What stands in the way of joining, and what to do about it, in words: what was last seen of
    /// each seed. `None` if nothing does, and of a node that has ended.
    pub fn obstacle(&self) -> Option<String> {
        match self {
            Self::Alone | Self::Joined | Self::Ended => None,
            Self::Joining { seeds } => {
                let seeds = seeds.iter().map(|(seed, state)| format!("the seed {seed} {state}"));
                Some(seeds.collect::<Vec<_>>().join("; "))
            }
            Self::NoAddress { why } => Some(format!("no seed has an address: {why}")),
            Self::Unlisted => Some(
                "it sees other members and none of them lists it: their datagrams arrive here, and \
                 its own record does not arrive there; look for what drops UDP on the way from here, \
                 or only the longer datagrams, of up to 1,200 bytes, as a path with a small MTU does"
                    .to_owned(),
            ),
            Self::Unreached { address, by } => {
                let by = by.iter().map(|member| format!("the member at {member}"));
                let (by, why) = (by.collect::<Vec<_>>(), SeedState::CannotReach(*address));
                Some(format!("{} {why}", by.join(" and ")))
            }
        }
    }
}

/// What was last seen of a seed. The reasons are what the other side said without proof, and so
/// hints.
#[derive(Clone, Copy, Default, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedState {
    /// Nothing yet.
    #[default]
    #[error("has not answered yet")]
    Called,
    /// Its machine said that nothing listens there.
    #[error("refuses connections: no process listens there; start it, or correct the address")]
    Down,
    /// Nothing came back.
    #[error("does not answer: its machine is down, or a firewall drops what is sent to it")]
    Silent,
    /// It takes connections, but datagrams do not get through.
    #[error("takes connections and answers no datagram: does a firewall drop UDP to this port?")]
    NoDatagrams,
    /// Its datagrams come, and so far nothing by which this node is let in.
    #[error("answers, and has not let this node in yet")]
    Answers,
    /// Its cluster has as many members as fit.
    #[error(
        "has no room: its cluster has as many members as fit; remove those that will not come back \
         (`keyway down NAME`), or set `membership.partition_policy` to \"remove-after\" on the members"
    )]
    Full,
    /// It asks this node at the address that this node advertises, and what it sends there does not
    /// come.
    #[error(
        "cannot reach this node at {0}, which it advertises: set `advertise` to the address at \
         which others reach it"
    )]
    CannotReach(SocketAddr),
    /// It answers, and not at the address that it advertises, where this node asks it: this node does
    /// not take it for a member before it does.
    #[error(
        "answers, but advertises {0}, which cannot be reached from here: set its `advertise` to an \
         address that every node reaches, or open the way to there for UDP"
    )]
    Elsewhere(SocketAddr),
    /// This node's system does not send there; with the system's number of the error.
    #[error(
        "cannot be sent datagrams: {}; look at this machine's routes and at what its firewall lets out",
        std::io::Error::from_raw_os_error(*.0)
    )]
    NotSent(i32),
    /// Something else listens there.
    #[error("is no Keyway node: correct the address")]
    NotKeyway,
    /// No wire version is common to both.
    #[error("speaks another version: upgrade the older side")]
    OtherVersion,
    /// It belongs to a cluster with another name.
    #[error("belongs to another cluster: correct `cluster` or the address")]
    OtherCluster,
    /// Its secret is another.
    #[error("has another secret: configure the same on both")]
    OtherSecret,
    /// This node has a secret and the seed has none.
    #[error("has no secret and this node has one: configure the same on both")]
    SecretOnlyHere,
    /// The seed has a secret and this node has none.
    #[error("has a secret and this node has none: configure the same on both")]
    SecretOnlyThere,
    /// It has this node's name, or an earlier life of this node runs there.
    #[error("has this node's name: give each node a name of its own")]
    NameTaken,
    /// The address leads back to this node.
    #[error("is this node itself")]
    Itself,
    /// It has no time for strangers, or is about to stop.
    #[error("is busy or shutting down")]
    Busy,
}

debug_as_display!(SeedState);

impl SeedState {
    /// What a failed handshake says of the seed.
    pub(super) fn of_handshake(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::WrongMagic { .. }
            | HandshakeError::Malformed { .. }
            | HandshakeError::NotUnderstood { .. }
            | HandshakeError::WrongNode { .. }
            | HandshakeError::UnknownRefusal { .. } => Self::NotKeyway,
            HandshakeError::UnknownVersion { .. } | HandshakeError::UnknownPurpose { .. } => {
                Self::OtherVersion
            }
            HandshakeError::WrongCluster { .. } => Self::OtherCluster,
            HandshakeError::SecretOnlyHere => Self::SecretOnlyHere,
            HandshakeError::SecretOnlyThere => Self::SecretOnlyThere,
            HandshakeError::WrongProof => Self::OtherSecret,
            HandshakeError::SelfDial { dialer, acceptor } if dialer == acceptor => Self::Itself,
            HandshakeError::SelfDial { .. } => Self::NameTaken,
            // A greeting wants a worker that no node has, so this is how it ends well.
            HandshakeError::NoSuchWorker { .. } => Self::NoDatagrams,
            HandshakeError::Truncated { .. } => Self::Silent,
            HandshakeError::Busy
            | HandshakeError::ShuttingDown
            // Of links only, which a greeting wants none of.
            | HandshakeError::NoPlace { .. } => Self::Busy,
        }
    }

    /// Whether it says why a connection to the seed is refused, and not only how far one gets.
    pub(super) fn is_refusal(self) -> bool {
        let way = matches!(self, Self::Down | Self::Silent | Self::NoDatagrams | Self::Busy);
        !way && !matches!(self, Self::Called | Self::Answers)
    }

    /// Whether a node runs there that may be one of this node's cluster, and has not let it in.
    pub(super) fn keeps_out(self) -> bool {
        let other = matches!(self, Self::NotKeyway | Self::OtherCluster | Self::Itself);
        let knows = self.is_refusal() && !other && !matches!(self, Self::NotSent(_));
        knows || matches!(self, Self::Answers | Self::NoDatagrams)
    }

    /// What a datagram from the seed says of it that does not open; `None` for nothing certain.
    pub(super) fn of_datagram(error: DatagramError) -> Option<Self> {
        match error {
            DatagramError::UnknownVersion { .. } => Some(Self::OtherVersion),
            DatagramError::WrongCluster => Some(Self::OtherCluster),
            DatagramError::SecretOnlyHere => Some(Self::SecretOnlyHere),
            DatagramError::SecretOnlyThere => Some(Self::SecretOnlyThere),
            DatagramError::WrongTag => Some(Self::OtherSecret),
            DatagramError::PayloadTooLong { .. }
            | DatagramError::TooShort { .. }
            | DatagramError::TooLong { .. }
            | DatagramError::WrongMagic => None,
        }
    }
}
