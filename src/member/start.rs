//! What an operator sets about membership, and what a node says about itself. Both are checked
//! once, here, so that nothing behind them has to doubt a value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::debug_as_display;
use crate::base::{Incarnation, Member, MemberState, NodeId, Path, Placed, Service, WorkerIndex};
use crate::config::{MAX_SEEDS, MAX_WEIGHT, MembershipConfig, RefusedSetting};

use super::records::{MAX_RECORD_BYTES, Record};

/// What the membership decider is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberConfig {
    /// Where other members may be found, in any order; any of them may be down, and the node's own
    /// address may be among them (it then may form a cluster alone). Empty: form alone. Of more
    /// than [`MAX_SEEDS`] the first are used.
    pub seeds: Vec<SocketAddr>,
    /// The settings. [`Membership::new`](super::Membership::new) refuses what their table does.
    pub settings: MembershipConfig,
}

/// The seeds that are used: each once, and no more than [`MAX_SEEDS`].
pub(super) fn usable(seeds: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut known = BTreeSet::new();
    let seeds = seeds.into_iter().map(without_label);
    seeds.filter(|seed| known.insert(*seed)).take(MAX_SEEDS).collect()
}

/// A flow label is no part of an address: it is not sent, and nothing that comes has it.
pub(super) fn without_label(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(address) = &mut address {
        address.set_flowinfo(0);
    }
    address
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), MemberConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(MemberConfigError::OutOfRange { key, value, min, max })
    }
}

/// A membership setting, or something the node says about itself, cannot be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberConfigError {
    /// A setting that cannot have its value.
    #[error(transparent)]
    Setting(#[from] RefusedSetting),
    /// A number outside its range.
    #[error("`{key}` is {value}, but must be from {min} to {max}")]
    OutOfRange {
        /// Its name.
        key: &'static str,
        /// What was given.
        value: u64,
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// A text that is too long.
    #[error("`{key}` is {bytes} bytes long, but at most {limit} are allowed; shorten it")]
    TextTooLong {
        /// Which text.
        key: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// Two services with one path.
    #[error("the path `{path}` is served twice; give each handler a path of its own")]
    DuplicatePath {
        /// The path.
        path: Path,
    },
    /// Everything that a node says about itself must fit one datagram.
    #[error(
        "this node's member record takes {bytes} bytes, but one datagram carries {limit}: use \
         fewer or shorter services, roles or metadata"
    )]
    RecordTooLarge {
        /// The record's size as sent.
        bytes: usize,
        /// The largest that is sent.
        limit: usize,
    },
}

debug_as_display!(MemberConfigError);

/// What a node says about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMember {
    /// Unique in the cluster; 1 to 255 bytes.
    pub name: Arc<str>,
    /// Where others reach this node, over UDP as over TCP.
    pub address: SocketAddr,
    /// Higher than in every earlier life of this node, at most [`Incarnation::LAST`]: microseconds
    /// since the Unix epoch at start-up serve.
    pub incarnation: Incarnation,
    /// How many workers it has, from 1.
    pub workers: u16,
    /// Share of keys and load; 1 to 1,000.
    pub weight: u32,
    /// Free labels of at most 255 bytes.
    pub roles: BTreeSet<Arc<str>>,
    /// Free key-value pairs; keys of at most 255 bytes.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    /// The embedding application's version; at most 255 bytes.
    pub app_version: Arc<str>,
    /// What it serves, in any order.
    pub services: Vec<Service>,
}

impl LocalMember {
    pub(super) fn into_record(self) -> Result<Record, MemberConfigError> {
        let id = NodeId::from_name(&self.name);
        let mut record = Record {
            member: Arc::new(Member {
                name: self.name,
                id,
                address: without_label(self.address),
                incarnation: self.incarnation,
                state: MemberState::Joining,
                reachable: true,
                damped_until: None,
                workers: self.workers,
                weight: self.weight,
                roles: self.roles,
                metadata: self.metadata,
                app_version: self.app_version,
                services: self.services,
            }),
            version: 1,
            fit: 1,
            hold_ms: 0,
        };
        normalise(&mut record)?;
        Ok(record)
    }
}

const MAX_LABEL_BYTES: usize = 255;

/// Brings a node's own record into the one form in which equal content has equal bytes, and
/// refuses what others would refuse to read.
pub(super) fn normalise(record: &mut Record) -> Result<(), MemberConfigError> {
    let member = record.member_mut();
    in_range("name", member.name.len() as u64, 1, MAX_LABEL_BYTES as u64)?;
    in_range("incarnation", member.incarnation.0, 0, Incarnation::LAST.0)?;
    in_range("workers", u64::from(member.workers), 1, WorkerIndex::MOST.into())?;
    in_range("weight", u64::from(member.weight), 1, MAX_WEIGHT)?;
    label("app_version", &member.app_version)?;
    member.roles.iter().try_for_each(|role| label("roles", role))?;
    member.metadata.keys().try_for_each(|key| label("metadata", key))?;
    member.services.sort();
    for service in &mut member.services {
        service.messages.sort();
        service.messages.dedup();
        let named = service.placed.named();
        if let Some(last) = named.last() {
            in_range("services.workers", last.0.into(), 0, u64::from(member.workers) - 1)?;
        }
        let placed = Placed::new(named.to_vec(), member.workers);
        service.placed = placed.expect("they are sorted, and none is beyond the last");
    }
    if let Some(pair) = member.services.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(MemberConfigError::DuplicatePath { path: pair[0].path.clone() });
    }
    let bytes = record.encoded_bytes();
    if bytes > MAX_RECORD_BYTES {
        return Err(MemberConfigError::RecordTooLarge { bytes, limit: MAX_RECORD_BYTES });
    }
    Ok(())
}

fn label(key: &'static str, text: &str) -> Result<(), MemberConfigError> {
    if text.len() > MAX_LABEL_BYTES {
        let bytes = text.len();
        return Err(MemberConfigError::TextTooLong { key, bytes, limit: MAX_LABEL_BYTES });
    }
    Ok(())
}
