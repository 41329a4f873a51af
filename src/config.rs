//! The configuration of a node: one place for every address, capacity and period.
//!
//! A configuration is the default, then a TOML file ([`NodeConfig::from_file`]), then the
//! environment ([`NodeConfig::apply_env`]), then single settings from flags or code
//! ([`NodeConfig::set`], or the public fields). [`NodeConfig::validate`] then checks what settings
//! must have in common. An unknown or impossible setting is refused by name, with what would do.
//!
//! All capacities stand here, so that a node's memory bound can be added up before it starts:
//! [`NodeConfig::memory_bound`].

mod keys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use self::keys::{Field, KEYS, Key, SECTIONS};

/// What the name of an environment variable that sets something begins with.
pub const ENV_PREFIX: &str = "KEYWAY_";

/// What [`NodeConfig::memory_bound`] reckons for one item in a queue, without a body it points to.
pub const QUEUE_ITEM_BYTES: u64 = 128;
/// What [`NodeConfig::memory_bound`] reckons for one ask in flight: its slot, deadline and timer.
pub const ASK_BYTES: u64 = 256;
/// What [`NodeConfig::memory_bound`] reckons for a connection that has not proved itself yet.
pub const HANDSHAKE_BYTES: u64 = 4_096;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("there is no setting `{key}`{}", suggest(.nearest))]
    Unknown {
        /// The name as it was given.
        key: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// The setting cannot have this value.
    #[error("`{key}` = {value} is refused: it takes {allowed}")]
    Refused {
        /// The setting, or the environment variable.
        key: String,
        /// The value as it was given; secrets are not shown.
        value: String,
        /// The values that would do.
        allowed: String,
    },
    /// The text is no TOML.
    #[error("line {line} is no TOML: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read the {what} {}: {source}; check path and permissions", path.display())]
    Read {
        /// What was to be read from it.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A configuration file was read, but not accepted.
    #[error("in {}: {source}", path.display())]
    InFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ConfigError>,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => "; `keyway node --print-config` lists them all".to_owned(),
    }
}

/// What the nodes of a cluster share to prove that they belong to it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of 16 to 1,024 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        Self::named("secret", bytes.into())
    }

    fn named(key: &str, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        if (16..=1_024).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(ConfigError::Refused {
            key: key.to_owned(),
            value: format!("({} bytes, not shown)", bytes.len()),
            allowed: keys::SECRET_ALLOWED.to_owned(),
        })
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// What happens to members that stay unreachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartitionPolicy {
    /// Nothing, until an operator removes them.
    #[default]
    Manual,
}

/// Everything a node needs to know before it starts. `config.to_toml()` describes each setting.
///
/// ```
/// use keyway::config::NodeConfig;
///
/// let mut config = NodeConfig::from_toml_str("cluster = 'shop'\n[workers]\ncount = 4")?;
/// config.apply_env([("KEYWAY_WORKERS__COUNT", "2")])?;
/// config.set("seeds", "127.0.0.1:7401,127.0.0.1:7402")?;
/// config.validate()?;
/// assert_eq!((config.workers.count, config.seeds.len()), (2, 2));
///
/// let refused = NodeConfig::from_toml_str("[workers]\ncount = 0").unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "`workers.count` = 0 is refused: it takes an integer from 1 to 256"
/// );
/// # Ok::<(), keyway::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct NodeConfig {
    /// The cluster's name; nodes of another cluster are turned away.
    pub cluster: String,
    /// The node's name, see [`NodeConfig::node_name`].
    pub name: Option<String>,
    /// Where the node listens, TCP and UDP. Port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Where other nodes reach it, see [`NodeConfig::advertised`].
    pub advertise: Option<SocketAddr>,
    /// `host:port` of nodes to join through; discovery resolves them.
    pub seeds: Vec<String>,
    /// The cluster's secret, see [`NodeConfig::load_secret`].
    pub secret: Option<Secret>,
    /// The file that holds the cluster's secret.
    pub secret_file: Option<PathBuf>,
    /// Labels that routers can ask for.
    pub roles: BTreeSet<String>,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// Share of keys and load relative to other nodes.
    pub weight: u32,
    /// The embedding application's version, for rolling upgrades.
    pub app_version: String,
    /// Where the admin HTTP port listens, if at all.
    pub admin: Option<SocketAddr>,
    /// Whether the admin port may be reachable from other machines.
    pub admin_allow_remote: bool,
    /// The worker threads and their queues.
    pub workers: WorkersConfig,
    /// The connections between nodes.
    pub links: LinksConfig,
    /// Who is here and who is not.
    pub membership: MembershipConfig,
}

/// The worker threads and their queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkersConfig {
    /// How many.
    pub count: usize,
    /// Whether each is pinned to a core.
    pub pin: bool,
    /// The first worker's core; the others follow.
    pub first_core: usize,
    /// The core of each worker, instead of `first_core`.
    pub cores: Option<Vec<usize>>,
    /// How long a worker with nothing to do looks again before it sleeps.
    pub spin_us: u64,
    /// Room in each worker's queue from application threads.
    pub inject_capacity: usize,
    /// Room in each queue between two of the node's own threads.
    pub ring_capacity: usize,
    /// How many asks from application threads can be in flight, in the whole node.
    pub max_asks: usize,
}

/// The connections between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinksConfig {
    /// The longest message, with its header.
    pub max_frame_bytes: usize,
    /// What one link holds for a slow peer before senders are told that it is full.
    pub outbox_bytes: usize,
    /// The receive buffer of one link.
    pub inbox_bytes: usize,
    /// How long a connection has to prove that it belongs to the cluster.
    pub handshake_timeout_ms: u64,
    /// The shortest pause before a lost link is dialed again.
    pub redial_min_ms: u64,
    /// The longest pause; it doubles up to here.
    pub redial_max_ms: u64,
    /// How often a receiver says how far it has come, when it has nothing else to send.
    pub ack_interval_ms: u64,
    /// How many connections may be in their handshake at once.
    pub max_pending_handshakes: usize,
}

/// Who is here and who is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipConfig {
    /// The cluster opens when it has this many members.
    pub min_members: usize,
    /// And this many of each of these roles.
    pub min_members_per_role: BTreeMap<String, usize>,
    /// How often a member is probed.
    pub probe_period_ms: u64,
    /// How long a probed member has to answer before others are asked to probe it.
    pub probe_timeout_ms: u64,
    /// How long a suspected member has to contradict before it counts as unreachable.
    pub suspect_ms: u64,
    /// How often news is passed on.
    pub gossip_ms: u64,
    /// How long a graceful leave may take.
    pub leave_timeout_ms: u64,
    /// What happens to members that stay unreachable.
    pub partition_policy: PartitionPolicy,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cluster: "keyway".to_owned(),
            name: None,
            bind: SocketAddr::from(([127, 0, 0, 1], 7400)),
            advertise: None,
            seeds: vec![],
            secret: None,
            secret_file: None,
            roles: BTreeSet::new(),
            metadata: BTreeMap::new(),
            weight: 100,
            app_version: String::new(),
            admin: None,
            admin_allow_remote: false,
            workers: WorkersConfig::default(),
            links: LinksConfig::default(),
            membership: MembershipConfig::default(),
        }
    }
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self {
            count: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256)),
            pin: false,
            first_core: 0,
            cores: None,
            spin_us: 20,
            inject_capacity: 8_192,
            ring_capacity: 4_096,
            max_asks: 65_536,
        }
    }
}

impl Default for LinksConfig {
    fn default() -> Self {
        Self {
            max_frame_bytes: 1 << 20,
            outbox_bytes: 4 << 20,
            inbox_bytes: 256 << 10,
            handshake_timeout_ms: 5_000,
            redial_min_ms: 100,
            redial_max_ms: 5_000,
            ack_interval_ms: 20,
            max_pending_handshakes: 128,
        }
    }
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self {
            min_members: 1,
            min_members_per_role: BTreeMap::new(),
            probe_period_ms: 250,
            probe_timeout_ms: 80,
            suspect_ms: 1_000,
            gossip_ms: 200,
            leave_timeout_ms: 30_000,
            partition_policy: PartitionPolicy::Manual,
        }
    }
}

impl TryFrom<Table> for NodeConfig {
    type Error = ConfigError;

    fn try_from(table: Table) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (name, value) in table {
            if !SECTIONS.contains(&name.as_str()) {
                config.assign(&name, &name, value)?;
                continue;
            }
            let Value::Table(section) = value else {
                return Err(ConfigError::Refused {
                    value: value.to_string(),
                    allowed: format!("no value itself: write a section `[{name}]`"),
                    key: name,
                });
            };
            for (key, value) in section {
                let path = format!("{name}.{key}");
                config.assign(&path, &path, value)?;
            }
        }
        Ok(config)
    }
}

impl NodeConfig {
    /// The default configuration changed by a TOML text. Each setting is checked by itself; what
    /// they must have in common is left to [`NodeConfig::validate`], as more may follow.
    pub fn from_toml_str(text: &str) -> Result<Self, ConfigError> {
        // The parser's own message quotes the line, which may hold the secret.
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            line: 1 + error.span().map_or(0, |span| {
                text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()
            }),
            reason: error.message().to_owned(),
        })?;
        Self::try_from(table)
    }

    /// As [`NodeConfig::from_toml_str`], from a file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            what: "configuration",
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml_str(&text).map_err(|source| ConfigError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Applies the environment, usually `std::env::vars_os()`: `KEYWAY_BIND`,
    /// `KEYWAY_WORKERS__COUNT` and so on, lists with commas, maps as `key=value,key=value`.
    /// Variables without the prefix are left alone, unknown ones with it refused.
    pub fn apply_env(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let variable = variable.as_ref().to_string_lossy();
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else { continue };
            let path = name.to_ascii_lowercase().replace("__", ".");
            let Some(key) = keys::find(&path).filter(|_| env_name(&path) == variable) else {
                // A section has no variable of its own.
                let nearest = keys::nearest(&path).filter(|path| keys::find(path).is_some());
                let nearest = nearest.map(|path| env_name(&path));
                return Err(ConfigError::Unknown { key: variable.into_owned(), nearest });
            };
            let Some(text) = value.as_ref().to_str() else {
                return Err(ConfigError::Refused {
                    key: variable.into_owned(),
                    value: "(not UTF-8)".to_owned(),
                    allowed: (key.field)(self).allowed(),
                });
            };
            let value = (key.field)(self).parse(text);
            self.assign(&variable, &path, value)?;
        }
        Ok(())
    }

    /// Sets one setting by its path, written as in the environment: `set("workers.count", "2")`.
    pub fn set(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        let value = match keys::find(path) {
            Some(key) => (key.field)(self).parse(text),
            None => Value::String(text.to_owned()),
        };
        self.assign(path, path, value)
    }

    /// Changes one setting, known as `shown` to whoever made the change.
    fn assign(&mut self, shown: &str, path: &str, value: Value) -> Result<(), ConfigError> {
        let Some(key) = keys::find(path) else {
            let nearest = keys::nearest(path);
            return Err(ConfigError::Unknown { key: shown.to_owned(), nearest });
        };
        let mut field = (key.field)(self);
        if field.assign(&value) {
            return Ok(());
        }
        Err(ConfigError::Refused {
            key: shown.to_owned(),
            value: field.show(&value),
            allowed: field.allowed(),
        })
    }

    /// Checks everything: each setting by itself (fields may have been set directly) and what they
    /// must have in common. Reads no file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        for key in KEYS {
            if let Some(value) = (key.field)(&mut copy).current() {
                copy.assign(key.path, key.path, value)?;
            }
        }
        let refuse = |path: &str, allowed: String| {
            let mut copy = self.clone();
            let key = keys::find(path).expect("a setting's own name");
            let field = (key.field)(&mut copy);
            let value = field.current().map_or("(not set)".to_owned(), |value| field.show(&value));
            Err(ConfigError::Refused { key: path.to_owned(), value, allowed })
        };

        if self.secret.is_some() && self.secret_file.is_some() {
            return refuse("secret_file", "no value beside `secret`: set one of them".to_owned());
        }
        match self.advertise {
            None if self.bind.ip().is_unspecified() => {
                let allowed = "one specific address, unless `advertise` says where other nodes \
                               reach this one";
                return refuse("bind", allowed.to_owned());
            }
            Some(address) if address.ip().is_unspecified() => {
                return refuse("advertise", "one specific address that nodes can dial".to_owned());
            }
            _ => {}
        }
        if self.secret.is_none() && self.secret_file.is_none() {
            let open = [("bind", Some(self.bind)), ("advertise", self.advertise)];
            for (path, address) in open {
                if address.is_some_and(|address| !address.ip().is_loopback()) {
                    let allowed = "a loopback address as long as neither `secret` nor \
                                   `secret_file` is set: anyone could join the cluster";
                    return refuse(path, allowed.to_owned());
                }
            }
        }
        if self.admin.is_some_and(|admin| !admin.ip().is_loopback()) && !self.admin_allow_remote {
            let allowed = "a loopback address unless `admin_allow_remote` is true: whoever \
                           reaches it can operate the node";
            return refuse("admin", allowed.to_owned());
        }

        let workers = &self.workers;
        if let Some(cores) = &workers.cores {
            if cores.len() != workers.count {
                let allowed = format!("one core per worker, so {} of them", workers.count);
                return refuse("workers.cores", allowed);
            }
            if cores.iter().collect::<BTreeSet<_>>().len() != cores.len() {
                return refuse("workers.cores", "each core once".to_owned());
            }
        }
        let links = &self.links;
        if links.outbox_bytes < links.max_frame_bytes {
            let allowed = format!(
                "at least `links.max_frame_bytes` ({}), or the longest message would never fit",
                links.max_frame_bytes
            );
            return refuse("links.outbox_bytes", allowed);
        }
        if links.redial_max_ms < links.redial_min_ms {
            let allowed = format!("at least `links.redial_min_ms` ({})", links.redial_min_ms);
            return refuse("links.redial_max_ms", allowed);
        }
        let membership = &self.membership;
        if membership.probe_timeout_ms >= membership.probe_period_ms {
            let allowed =
                format!("less than `membership.probe_period_ms` ({})", membership.probe_period_ms);
            return refuse("membership.probe_timeout_ms", allowed);
        }
        Ok(())
    }

    /// The cluster's secret, read from its file if it has one (a line break at its end does not
    /// count); `None` if the node runs without.
    pub fn load_secret(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(path) = &self.secret_file else { return Ok(self.secret.clone()) };
        let mut bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
            what: "secret file",
            path: path.clone(),
            source,
        })?;
        for end in [b'\n', b'\r'] {
            bytes.pop_if(|last| *last == end);
        }
        Secret::named("secret_file", bytes).map(Some)
    }

    /// Where other nodes reach this one, given where it came to listen. A port of 0 in `advertise`
    /// stands for the port of `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        match self.advertise {
            Some(address) if address.port() == 0 => SocketAddr::new(address.ip(), bound.port()),
            Some(address) => address,
            None => bound,
        }
    }

    /// The node's name: as configured, else its advertised address.
    pub fn node_name(&self, bound: SocketAddr) -> String {
        self.name.clone().unwrap_or_else(|| self.advertised(bound).to_string())
    }

    /// The most memory the node's bounded parts take with this many other nodes, when everything
    /// is full at once.
    ///
    /// It assumes that the others have as many workers as this one. Not in it: what handlers and
    /// entities hold, routing tables, and code.
    pub fn memory_bound(&self, peers: usize) -> MemoryBound {
        let workers = self.workers.count as u64;
        // Rings: worker to worker, and control to worker and back.
        let rings = workers.saturating_mul(workers + 1);
        let queued = workers
            .saturating_mul(self.workers.inject_capacity as u64)
            .saturating_add(rings.saturating_mul(self.workers.ring_capacity as u64));
        // One link per pair of workers, and one between the control threads.
        let links = (peers as u64).saturating_mul(workers.saturating_mul(workers) + 1);
        let link_bytes = (self.links.outbox_bytes as u64) + (self.links.inbox_bytes as u64);
        MemoryBound {
            queues_bytes: queued.saturating_mul(QUEUE_ITEM_BYTES),
            queued_bodies_bytes: queued.saturating_mul(self.links.max_frame_bytes as u64),
            asks_bytes: self.workers.max_asks as u64 * ASK_BYTES,
            links_bytes: links.saturating_mul(link_bytes),
            handshakes_bytes: self.links.max_pending_handshakes as u64 * HANDSHAKE_BYTES,
        }
    }

    /// The sum of [`NodeConfig::memory_bound`].
    pub fn memory_bound_bytes(&self, peers: usize) -> u64 {
        self.memory_bound(peers).total_bytes()
    }

    /// This configuration as a TOML file in which every setting is described, with its default and
    /// its range. [`NodeConfig::from_toml_str`] reads it back, except for the secret, which is left
    /// out.
    pub fn to_toml(&self) -> String {
        let mut config = self.clone();
        let mut default = Self::default();
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let (own_section, name) = key.path.split_once('.').unwrap_or(("", key.path));
            if !out.is_empty() {
                out.push('\n');
            }
            if own_section != section {
                section = own_section;
                out.push_str(&format!("[{section}]\n"));
            }
            key.describe(&mut out, &mut default);
            let field = (key.field)(&mut config);
            match field.current() {
                Some(_) if matches!(field, Field::Secret(_)) => {
                    out.push_str(&format!("# {name} is set, and not shown\n"));
                }
                Some(value) => out.push_str(&format!("{name} = {value}\n")),
                None => out.push_str(&format!("# {name} is not set\n")),
            }
        }
        out
    }
}

/// The name of the environment variable for a setting.
fn env_name(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// What a node's bounded parts take at most; see [`NodeConfig::memory_bound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// All places in the queues between threads.
    pub queues_bytes: u64,
    /// Message bodies those places may point to, each as long as a message may be. Far above what
    /// a node sees, unless its messages really are that long.
    pub queued_bodies_bytes: u64,
    /// All asks that can be in flight.
    pub asks_bytes: u64,
    /// Outboxes and inboxes of all links.
    pub links_bytes: u64,
    /// Connections that have not proved themselves yet.
    pub handshakes_bytes: u64,
}

impl MemoryBound {
    /// The sum.
    pub fn total_bytes(&self) -> u64 {
        [
            self.queues_bytes,
            self.queued_bodies_bytes,
            self.asks_bytes,
            self.links_bytes,
            self.handshakes_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "at most {} MiB: links {}, queues {}, bodies in queues {}, asks {}, handshakes {}",
            mib(self.total_bytes()),
            mib(self.links_bytes),
            mib(self.queues_bytes),
            mib(self.queued_bodies_bytes),
            mib(self.asks_bytes),
            mib(self.handshakes_bytes),
        )
    }
}

impl Key {
    /// Appends what the setting is, as TOML comments.
    fn describe(&self, out: &mut String, default: &mut NodeConfig) {
        let field = (self.field)(default);
        let usual = match (self.default, field.current()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(value)) => value.to_string(),
            (None, None) => "not set".to_owned(),
        };
        comment(out, self.doc);
        comment(out, &format!("Takes {}. Default: {usual}.", field.allowed()));
    }
}

/// Appends a text as TOML comments of at most 100 characters a line.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split(' ') {
        if width == 0 || width + 1 + word.len() > 100 {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push('\n');
}
