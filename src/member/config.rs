//! What an operator sets about membership, and what a node says about itself. Both are checked
//! once, here, so that nothing behind them has to doubt a value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{Incarnation, Member, MemberState, NodeId, Service};

use super::records::{MAX_RECORD_BYTES, Record};

/// Settings of the membership decider. The defaults suit a data-centre network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Where other members may be found, in any order; any of them may be down, and the node's own
    /// address may be among them (it then may form a cluster alone). Empty: form alone. At most 64.
    pub seeds: Vec<SocketAddr>,
    /// How many members (joining or up, reachable, this one included) must be in view before this
    /// node goes up; 1 to 4,096.
    pub min_members: u32,
    /// The same, per role.
    pub min_members_per_role: BTreeMap<Arc<str>, u32>,
    /// How often one member is probed; 50 to 10,000 ms. Each node sends one probe per period
    /// whatever the cluster's size, so a shorter one finds failures sooner at a constant cost.
    pub probe_period_ms: u64,
    /// How long a direct answer may take before others are asked to probe; 10 ms to less than half
    /// of `probe_period_ms`, since the indirect probe needs the rest. Take a high quantile of the
    /// network's round trip, or longer where processes stall.
    pub probe_timeout_ms: u64,
    /// How long a suspected member has to refute before it counts as unreachable; 100 to
    /// 60,000 ms. Detection takes about `1.5 * probe_period_ms + suspect_ms`; a pause shorter than
    /// this (garbage of another process, a slow disk) goes unnoticed.
    pub suspect_ms: u64,
    /// How often news about reachability are passed on while there are any; 20 to 10,000 ms.
    pub gossip_ms: u64,
    /// How often the record sets of two members are compared; 50 to 60,000 ms. What pushes lost is
    /// repaired at this pace.
    pub sync_ms: u64,
    /// How often unreachable members are called again; 100 to 60,000 ms. A heal is noticed at this
    /// pace.
    pub recontact_ms: u64,
    /// First pause between two calls at seeds that are not in view; 10 to 60,000 ms.
    pub seed_retry_min_ms: u64,
    /// Longest pause between two calls at seeds, reached by doubling; `seed_retry_min_ms` to
    /// 600,000 ms.
    pub seed_retry_max_ms: u64,
    /// How long a member that left or was removed is remembered, so that stale news cannot bring
    /// it back; 10,000 to 604,800,000 ms (a week).
    pub tombstone_ms: u64,
}

impl Default for MemberConfig {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            min_members: 1,
            min_members_per_role: BTreeMap::new(),
            probe_period_ms: 250,
            probe_timeout_ms: 80,
            suspect_ms: 1_000,
            gossip_ms: 200,
            sync_ms: 500,
            recontact_ms: 1_000,
            seed_retry_min_ms: 200,
            seed_retry_max_ms: 5_000,
            tombstone_ms: 600_000,
        }
    }
}

const MAX_SEEDS: u64 = 64;
const MAX_MEMBERS: u64 = 4_096;

impl MemberConfig {
    /// Checks every value against its range.
    pub fn validate(&self) -> Result<(), MemberConfigError> {
        let retry_min = self.seed_retry_min_ms;
        in_range("seeds", self.seeds.len() as u64, 0, MAX_SEEDS)?;
        in_range("min_members", u64::from(self.min_members), 1, MAX_MEMBERS)?;
        for least in self.min_members_per_role.values() {
            in_range("min_members_per_role", u64::from(*least), 0, MAX_MEMBERS)?;
        }
        in_range("probe_period_ms", self.probe_period_ms, 50, 10_000)?;
        in_range("probe_timeout_ms", self.probe_timeout_ms, 10, self.probe_period_ms / 2 - 1)?;
        in_range("suspect_ms", self.suspect_ms, 100, 60_000)?;
        in_range("gossip_ms", self.gossip_ms, 20, 10_000)?;
        in_range("sync_ms", self.sync_ms, 50, 60_000)?;
        in_range("recontact_ms", self.recontact_ms, 100, 60_000)?;
        in_range("seed_retry_min_ms", retry_min, 10, 60_000)?;
        in_range("seed_retry_max_ms", self.seed_retry_max_ms, retry_min, 600_000)?;
        in_range("tombstone_ms", self.tombstone_ms, 10_000, 604_800_000)
    }
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), MemberConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(MemberConfigError::OutOfRange { key, value, min, max })
    }
}

/// A membership setting, or something the node says about itself, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberConfigError {
    /// A number outside its range.
    #[error("membership setting `{key}` is {value}, but must be from {min} to {max}")]
    OutOfRange {
        /// The setting's name.
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
        path: Arc<str>,
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

/// What a node says about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMember {
    /// Unique in the cluster; 1 to 255 bytes.
    pub name: Arc<str>,
    /// Where others reach this node, over UDP as over TCP.
    pub address: SocketAddr,
    /// Higher than in every earlier life of this node, and of any other node that had this address:
    /// microseconds since the Unix epoch at start-up serve.
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
    pub(super) fn into_record(mut self) -> Result<Record, MemberConfigError> {
        if let SocketAddr::V6(address) = &mut self.address {
            // A flow label is no part of an address and is not sent.
            address.set_flowinfo(0);
        }
        let id = NodeId::from_name(&self.name);
        let mut record = Record {
            member: Member {
                name: self.name,
                id,
                address: self.address,
                incarnation: self.incarnation,
                state: MemberState::Joining,
                reachable: true,
                workers: self.workers,
                weight: self.weight,
                roles: self.roles,
                metadata: self.metadata,
                app_version: self.app_version,
                services: self.services,
            },
            version: 1,
        };
        normalise(&mut record)?;
        Ok(record)
    }
}

const MAX_LABEL_BYTES: usize = 255;

/// Brings a node's own record into the one form in which equal content has equal bytes, and
/// refuses what others would refuse to read.
pub(super) fn normalise(record: &mut Record) -> Result<(), MemberConfigError> {
    let member = &mut record.member;
    in_range("name", member.name.len() as u64, 1, MAX_LABEL_BYTES as u64)?;
    in_range("workers", u64::from(member.workers), 1, u64::from(u16::MAX))?;
    in_range("weight", u64::from(member.weight), 1, 1_000)?;
    label("app_version", &member.app_version)?;
    member.roles.iter().try_for_each(|role| label("roles", role))?;
    member.metadata.keys().try_for_each(|key| label("metadata", key))?;
    member.services.sort();
    for service in &mut member.services {
        service.messages.sort();
        service.messages.dedup();
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
