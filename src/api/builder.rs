//! Describes a node before it starts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::node::Node;
use super::shared::{Door, Shared};
use crate::base::{Incarnation, debug_as_display};
use crate::config::{ConfigError, NodeConfig, Secret};
use crate::hash::HashSeed;
use crate::member::{PartitionPolicy, configured_policy};
use crate::net::discovery::{Discovery, SeedList};
use crate::part::{Faces, PartSettings};
use crate::runtime::start::{Settings, StartError, Started, start};
use crate::wire::auth::{ClusterKey, ClusterKeyError};

/// Why a node did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is unknown or impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster's name or the secret cannot be used.
    #[error(transparent)]
    Key(#[from] ClusterKeyError),
    /// A port or thread could not be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The settings want an admin port, which a node alone does not open.
    #[error(
        "`admin` = \"{address}\" would do nothing: `start` opens no admin port. Start the node by \
         `admin::start(builder)` (feature `admin`), take the address out with \
         `NodeBuilder::take_admin`, or leave the setting out"
    )]
    AdminNotServed {
        /// What `admin` is set to.
        address: SocketAddr,
    },
}

debug_as_display!(BuildError);

/// Describes a node: every setting of [`NodeConfig`] has its default until it is set here.
#[derive(Default)]
#[must_use = "a node runs from `start` on"]
pub struct NodeBuilder {
    config: NodeConfig,
    /// The first setting that could not be; told by `start`, so that calls can be chained.
    error: Option<ConfigError>,
    discovery: Option<Box<dyn Discovery>>,
    policy: Option<Box<dyn PartitionPolicy>>,
    clock_behind: Duration,
    incarnation_above: Option<Incarnation>,
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("config", &self.config)
            .field("error", &self.error)
            .field("discovery", &self.discovery.as_ref().map(|discovery| discovery.name()))
            .field("policy", &self.policy.as_ref().map(|policy| policy.name()))
            .finish()
    }
}

impl From<NodeConfig> for NodeBuilder {
    fn from(config: NodeConfig) -> Self {
        Self { config, ..Self::default() }
    }
}

impl Node {
    /// Describes a node before it is started.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }
}

impl NodeBuilder {
    /// The address to listen on, TCP for links and UDP for membership. Port 0 takes a free one.
    pub fn bind(mut self, address: impl ToString) -> Self {
        self.put("bind", &address.to_string());
        self
    }

    /// The address under which others reach this node, if it is not the bound one.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.config.advertise = Some(address);
        self
    }

    /// A node to join through. Any number, in any order; some may be down.
    pub fn seed(mut self, address: impl ToString) -> Self {
        self.config.seeds.push(address.to_string());
        self
    }

    /// The cluster's name, the same on all nodes.
    pub fn cluster(mut self, name: &str) -> Self {
        self.put("cluster", name);
        self
    }

    /// The node's name, unlike any other in the cluster. Keys follow it across restarts.
    pub fn name(mut self, name: &str) -> Self {
        self.config.name = Some(name.to_owned());
        self
    }

    /// The secret that all nodes of the cluster share.
    pub fn secret(mut self, secret: &str) -> Self {
        self.put("secret", secret);
        self
    }

    /// Adds a role.
    pub fn role(mut self, role: &str) -> Self {
        self.config.roles.insert(role.to_owned());
        self
    }

    /// This node's share of keys and load, see [`NodeConfig::weight`].
    pub fn weight(mut self, weight: u32) -> Self {
        self.put("weight", &weight.to_string());
        self
    }

    /// Adds a key-value pair that all members see.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.config.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The embedding application's version.
    pub fn app_version(mut self, version: &str) -> Self {
        self.put("app_version", version);
        self
    }

    /// How many workers the node has.
    pub fn workers(mut self, count: usize) -> Self {
        self.put("workers.count", &count.to_string());
        self
    }

    /// Pins worker 0 to the first of these cores, worker 1 to the second, and so on. Their number
    /// must be the number of workers.
    pub fn pin_to(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.config.workers.cores = Some(cores.into_iter().collect());
        self.config.workers.pin = true;
        self
    }

    /// How long a worker looks for work before it sleeps: a lower latency for a busier core.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.put("workers.spin_us", &spin.as_micros().to_string());
        self
    }

    /// The cluster opens for messages only when it has so many members.
    pub fn min_members(mut self, members: usize) -> Self {
        self.put("membership.min_members", &members.to_string());
        self
    }

    /// Finds addresses to join through in a way of your own, instead of by `seeds`. The first look is
    /// the start's own: in an async program, start a node whose discovery takes its time by
    /// `spawn_blocking`.
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discovery = Some(Box::new(discovery));
        self
    }

    /// Starts with an incarnation above this one, whatever the clock says. A node begins with what its
    /// clock says, or above what its seeds know of it. One without seeds, whose clock was set
    /// back since its last life, knows nothing of that, and ends as soon as a member does
    /// ([`MemberFault::Superseded`](crate::member::MemberFault::Superseded), with that incarnation):
    /// start it again above it.
    pub fn incarnation_above(mut self, known: Incarnation) -> Self {
        self.incarnation_above = Some(known);
        self
    }

    /// Starts as if the clock were behind by so much; for tests of restarts.
    #[doc(hidden)]
    pub fn clock_behind(mut self, behind: Duration) -> Self {
        self.clock_behind = behind;
        self
    }

    /// Decides in a way of your own which members are removed after a partition, instead of
    /// leaving that to an operator.
    pub fn partition_policy(mut self, policy: impl PartitionPolicy + 'static) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// Any other setting, by its key in the configuration file:
    /// `set("links.outbox_bytes", "8388608")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.put(key, value);
        self
    }

    fn put(&mut self, key: &str, value: &str) {
        if let Err(error) = self.config.set(key, value) {
            self.error.get_or_insert(error);
        }
    }

    /// Takes the setting `admin` out, for whoever opens that port; what is left is a node without
    /// one. `keyway::admin::start` does so.
    ///
    /// # Errors
    /// When a setting is unknown or impossible, `admin` or another.
    pub fn take_admin(&mut self) -> Result<Option<SocketAddr>, ConfigError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.config.validate()?;
        Ok(self.config.admin.take())
    }

    /// Starts the node. Works in and outside of any async runtime.
    ///
    /// # Errors
    /// A [`BuildError`] names the setting or the step that failed; nothing is left running then. So
    /// does the setting `admin`, see [`NodeBuilder::take_admin`].
    pub fn start(self) -> Result<Node, BuildError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let mut settings = settings(self.config)?;
        if let Some(address) = settings.config.admin {
            return Err(BuildError::AdminNotServed { address });
        }
        if let Some(discovery) = self.discovery {
            settings.discovery = discovery;
        }
        if let Some(policy) = self.policy {
            settings.policy = policy;
        }
        settings.clock_behind = self.clock_behind;
        settings.incarnation_above = self.incarnation_above;
        let seed = HashSeed(settings.key.hash_seed());
        let workers = &settings.config.workers;
        let parts = Faces::new(workers.count, &PartSettings::new(&settings.config));
        let slow_turn = Duration::from_millis(workers.slow_turn_ms);
        Ok(face(start(settings)?, seed, parts, slow_turn))
    }
}

fn settings(config: NodeConfig) -> Result<Settings, BuildError> {
    config.validate()?;
    let secret = config.load_secret()?;
    let key = ClusterKey::new(&config.cluster, secret.as_ref().map(Secret::as_bytes))?;
    let discovery = Box::new(SeedList::new(config.seeds.clone()));
    let policy = configured_policy(&config.membership);
    Ok(Settings {
        config,
        key,
        discovery,
        policy,
        clock_behind: Duration::ZERO,
        incarnation_above: None,
    })
}

fn face(started: Started, seed: HashSeed, parts: Faces, slow_turn: Duration) -> Node {
    let heard = started.heard;
    let doors = started
        .doors
        .into_iter()
        .map(|(injector, board, counts)| Door { injector, board, counts })
        .collect();
    let shared = Shared {
        me: started.me,
        name: started.name,
        address: started.address,
        bound: started.bound,
        clock: started.clock,
        seed,
        orders: started.orders,
        unroute: started.unroute,
        parts,
        dropped: started.dropped,
        snapshot: heard.snapshot,
        changes: heard.changes,
        events: heard.events,
        dead_letters: heard.dead_letters,
        ended: heard.ended,
        strangers: heard.strangers,
        join: heard.join,
        given_up: heard.given_up,
        leave: heard.leave,
        troubles: heard.troubles,
        gate: heard.gate,
        slow_turn,
        doors,
        buffers: started.buffers,
        replies: started.replies,
        keeper: Default::default(),
        ask_times: Default::default(),
        refused: Default::default(),
        next_home: Default::default(),
    };
    shared.measure_load();
    Node { shared: Arc::new(shared), thread: Mutex::new(Some(started.thread)) }
}
