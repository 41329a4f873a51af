//! The table of all settings. `table.rs` says how to add one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Table;

use super::field::{CLUSTER, MAX_CORE, MAX_MEMBERS, MAX_WEIGHT, NODE_NAME, VERSION};
use super::secret::Secret;
use super::sizes::{
    ACCEPTED_BYTES, ASK_BYTES, CHUNK_BYTES, DIALED_BYTES, HAND_OVER_BYTES, HANDSHAKE_BYTES,
    KEPT_CHUNKS, QUEUE_ITEM_BYTES, REPLY_BYTES, SHARE_BYTES, SMALL_HAND_OVER_BYTES, WORK_BYTES,
};
use super::table::{choice, settings};

choice! {
    /// What happens to members that stay unreachable.
    PartitionChoice {
        /// Nothing, until an operator removes them.
        Manual = "manual",
        /// Whoever has been unreachable for `remove_after_ms` is removed. Both sides of a partition
        /// that lasts longer remove each other and go on.
        RemoveAfter = "remove-after",
    }
}

/// What is reckoned for a watch: one that is kept here for this worker's own, with the orders to
/// begin and end it, one for another node's worker, and what is told when it ends.
const WATCH_BYTES: u64 = 1_024;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256))
}

settings! {
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
    #[derive(Deserialize)]
    #[serde(try_from = "Table")]
    NodeConfig "" {
        /// The cluster's name; nodes of another cluster are turned away.
        cluster: String = "keyway".to_owned(), Text(&CLUSTER);
        /// The node's name, unique in the cluster. A node that restarts under the same name gets
        /// the same keys back.
        name: Option<String> = None, MaybeText(&NODE_NAME), shown "the advertised address";
        /// Where the node listens, TCP and UDP. Port 0 lets the system choose. Anything but
        /// loopback needs a secret.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7400)), Address;
        /// Where other nodes reach this one, if that is not `bind`. Needed when `bind` is 0.0.0.0
        /// or `[::]`, or link-local (`fe80::/10`). Port 0 stands for the port that the node came to listen on.
        advertise: Option<SocketAddr> = None, MaybeAddress, shown "the address of `bind`";
        /// Nodes to join through, in any order; those that are down are passed over. A name stands
        /// for all its addresses.
        seeds: Vec<String> = vec![], Seeds;
        /// What the cluster's nodes share to prove that they belong to it. Better kept in a file.
        secret: Option<Secret> = None, Secret;
        /// A file that holds the secret; a line break at its end does not count.
        secret_file: Option<PathBuf> = None, File;
        /// Labels that routers can ask for.
        roles: BTreeSet<String> = BTreeSet::new(), Roles;
        /// Free key-value pairs that other nodes can see.
        metadata: BTreeMap<String, String> = BTreeMap::new(), Metadata;
        /// Share of keys and load relative to other nodes: one with 200 gets twice as much as one
        /// with 100.
        weight: u32 = 100, Number(1, MAX_WEIGHT);
        /// The embedding application's version, for rolling upgrades.
        app_version: String = String::new(), Text(&VERSION);
        /// Where the admin HTTP port listens. Whoever reaches it can operate the node. In a program
        /// of your own, `keyway::admin::start` opens it.
        admin: Option<SocketAddr> = None, MaybeAddress;
        /// Whether `admin` may be anything but a loopback address.
        admin_allow_remote: bool = false, Flag;
        sections workers: WorkersConfig, links: LinksConfig, membership: MembershipConfig,
            watch: WatchConfig, load: LoadConfig;
    }

    /// The worker threads and their queues.
    WorkersConfig "workers." {
        /// Worker threads. Each owns its links, handlers and timers.
        count: usize = cores(), Number(1, 256), shown "as many as the machine has cores",
            takes Links |_, of| of.each(of.members.saturating_mul(DIALED_BYTES)),
            takes Free |count, _| count * KEPT_CHUNKS * CHUNK_BYTES;
        /// Whether each worker is pinned to a core.
        pin: bool = false, Flag;
        /// The core of the first worker when pinned; the others follow.
        first_core: usize = 0, Number(0, MAX_CORE);
        /// The core of each worker, instead of `first_core`.
        cores: Option<Vec<usize>> = None, Cores;
        /// How long a worker with nothing to do looks again before it sleeps. More is quicker for
        /// messages with pauses in between, and costs processor time.
        spin_us: u64 = 20, Number(0, 1_000_000);
        /// Messages, or runs of a batch, that can wait for one worker from the application's
        /// threads. The queue's places take about 100 bytes each from the start on; a message of up
        /// to 1,024 bytes takes as much more while it waits.
        inject_capacity: usize = 4_096, Number(64, 1_048_576),
            takes HandOvers |places, of| of.each(3 * places * HAND_OVER_BYTES),
            takes Free |places, of| of.each(places).min(16_384) * SMALL_HAND_OVER_BYTES;
        /// What longer ones and runs of a batch may take in that queue, in all. A run takes 64 KiB
        /// however short it is.
        inject_bytes: usize = 8 << 20, Number(65_536, 1 << 30),
            takes HandOvers |bytes, of| of.each(3 * (bytes + of.frame));
        /// What can wait between two of the node's own threads: commands of control and reports to
        /// it, and chunks of messages from one worker to another.
        ring_capacity: usize = 1_024, Number(64, 1_048_576),
            takes Rings |places, of| (of.workers * of.workers + 2) * places * QUEUE_ITEM_BYTES;
        /// What one worker may have on its way to all its siblings together; each of them takes an
        /// equal part, and one chunk of messages in any case.
        ring_bytes: usize = 4 << 20, Number(65_536, 1 << 30),
            takes Rings |bytes, of| of.each(
                // On the way, and what each sibling is handling.
                bytes.max(of.siblings() * of.frame) + of.siblings() * of.frame
            );
        /// When a worker is away for longer with what lay before it, its log names the handler that
        /// held it. While one runs, nothing else does on its worker.
        slow_turn_ms: u64 = 100, Number(1, 600_000);
        /// Asks from the application's threads that can be in flight, in the whole node.
        max_asks: usize = 65_536, Number(1, 1_048_576),
            takes Asks |asks, of| asks * (of.each(ASK_BYTES) + REPLY_BYTES);
        /// What the messages of idempotent asks may take on one worker, which are kept to be sent
        /// again: 1 KiB each at least. Who asks more is refused.
        retry_bytes: usize = 8 << 20, Number(65_536, 1 << 30),
            takes Asks |bytes, of| of.each(bytes + of.frame);
        /// What replies longer than 1 KiB may take, in the whole node, from when they come until
        /// the application's threads have taken them.
        replies_bytes: usize = 16 << 20, Number(65_536, 16 << 30),
            takes Asks |bytes, of| bytes + of.frame;
        /// Work that one worker's routees can have under way on other threads at a time.
        max_work: usize = 1_024, Number(1, 65_536),
            takes Work |pieces, of| of.each(pieces * WORK_BYTES);
    }

    /// The connections between nodes.
    LinksConfig "links." {
        /// The longest message with its header. Should be equal on all nodes: a message that the
        /// receiving one does not take is refused.
        max_frame_bytes: usize = 1 << 20, Number(1_024, 64 << 20);
        /// What one link holds for a slow peer before senders are told that it is full. The longest
        /// message must fit.
        outbox_bytes: usize = 4 << 20, Number(65_536, 1 << 30), at_least max_frame_bytes,
            takes Free |bytes, _| (4 * bytes / CHUNK_BYTES).clamp(64, 4_096) * CHUNK_BYTES;
        /// What the outboxes of one worker's links take together. A link is full as well when it
        /// holds as much as is left of this. Replies have half as much again to members, and a
        /// quarter to clients.
        outboxes_bytes: usize = 16 << 20, Number(262_144, 16 << 30), at_least outbox_bytes,
            takes Links |bytes, of| of.each(
                // One message with which the account of clients is passed, and what each has.
                (bytes / 4 * 7 + of.frame)
                    .saturating_add(of.sharing().saturating_mul(SHARE_BYTES + of.frame))
            );
        /// Connections that one worker takes from others, of which a quarter is kept for members.
        /// A cluster needs as many as the other nodes have workers.
        max_accepted: usize = 4_096, Number(16, 1_048_576),
            takes Links |links, of| of.each(links * ACCEPTED_BYTES);
        /// The receive buffer of one link.
        inbox_bytes: usize = 256 << 10, Number(65_536, 16 << 20);
        /// What the receive buffers of one worker's links take together beyond 4 KiB each. Half of
        /// it is for links on which much comes, a quarter each for long messages of members and of
        /// clients, or one that is longer; others wait.
        inboxes_bytes: usize = 16 << 20, Number(65_536, 16 << 30), at_least inbox_bytes,
            takes Links |bytes, of| of.each(bytes + 2 * of.frame);
        /// How long a connection has to prove that it belongs to the cluster.
        handshake_timeout_ms: u64 = 5_000, Number(10, 60_000);
        /// How long nothing may come from a peer's machine that was sent something, until the link
        /// is given up and dialed anew. What was on it is unknown. A peer that is only busy is never
        /// given up: its machine acknowledges for it.
        dead_flow_ms: u64 = 1_500, Number(100, 600_000);
        /// The pause before a lost link is dialed again; it doubles with each failure.
        redial_min_ms: u64 = 100, Number(1, 60_000);
        /// The longest such pause.
        redial_max_ms: u64 = 5_000, Number(1, 600_000), at_least redial_min_ms;
        /// How often a receiver says how far it has come when it has nothing else to send.
        ack_interval_ms: u64 = 20, Number(1, 1_000);
        /// Connections that may be in their handshake at once; more are closed.
        max_pending_handshakes: usize = 128, Number(1, 65_536),
            takes Handshakes |talks, _| talks * HANDSHAKE_BYTES;
    }

    /// Who is here and who is not. The defaults suit a data-centre network.
    MembershipConfig "membership." {
        /// The cluster opens when it has this many members that are reachable, this one included.
        min_members: u32 = 1, Number(1, MAX_MEMBERS);
        /// And this many of each of these roles.
        min_members_per_role: BTreeMap<String, u32> = BTreeMap::new(), Counts;
        /// How often a member is probed. Each node sends one probe per period whatever the
        /// cluster's size, so a shorter one finds failures sooner at a constant cost.
        probe_period_ms: u64 = 250, Number(50, 10_000);
        /// How long a probed member has to answer before others are asked to probe it, which needs
        /// the rest of the period. Take a high quantile of the network's round trip, or longer
        /// where processes stall.
        probe_timeout_ms: u64 = 80, Number(10, 4_999), under_half_of probe_period_ms;
        /// How long a suspected member has to contradict before it counts as unreachable. Detection
        /// takes about 1.5 * `probe_period_ms` + `suspect_ms`; a shorter pause goes unnoticed.
        suspect_ms: u64 = 1_000, Number(100, 60_000);
        /// How often news is passed on while there is any.
        gossip_ms: u64 = 200, Number(20, 10_000);
        /// How often the record sets of two members are compared. What was lost on the way is
        /// repaired at this pace.
        sync_ms: u64 = 500, Number(50, 60_000);
        /// How often unreachable members are called again. A heal is noticed at this pace.
        recontact_ms: u64 = 1_000, Number(100, 60_000);
        /// The longest that a member which fell silent again and again has to answer without a break
        /// until it gets keys again. The wait begins at 1 s and doubles with each relapse; whoever
        /// was steady for the longest starts anew. 0: it is used at once, always.
        damp_max_ms: u64 = 60_000, Number(0, 3_600_000);
        /// The first pause between two calls at seeds that are not members; it doubles.
        seed_retry_min_ms: u64 = 200, Number(10, 60_000);
        /// The longest such pause.
        seed_retry_max_ms: u64 = 5_000, Number(10, 600_000), at_least seed_retry_min_ms;
        /// How long a member that left is remembered, so that stale news cannot bring it back. The
        /// time runs only while every member answers. One that was removed is remembered as long as
        /// there is room.
        tombstone_ms: u64 = 600_000, Number(10_000, 604_800_000);
        /// How long a graceful leave may take before the node goes anyway. A handler
        /// that begins to hold its worker in the last 6 s of it makes it up to 3 s longer, as does any
        /// that holds one where less than 12 s are set.
        leave_timeout_ms: u64 = 20_000, Number(200, 3_600_000);
        /// What happens to members that stay unreachable. With "manual", an operator removes them;
        /// with "remove-after" they are removed after `remove_after_ms`, by each side of a partition.
        partition_policy: PartitionChoice = PartitionChoice::Manual, Choice;
        /// After which time without an answer the policy "remove-after" removes a member.
        remove_after_ms: u64 = 3_600_000, Number(1_000, 604_800_000);
    }

    /// Watches of routees and nodes.
    WatchConfig "watch." {
        /// Watches that one worker keeps for its own handlers and applications, and as many again
        /// for the workers of other nodes. Applications may have so many for each worker.
        max_watches: usize = 16_384, Number(1, 1_048_576),
            takes Watches |watches, of| of.each(watches * WATCH_BYTES);
    }

    /// How busy nodes are.
    LoadConfig "load." {
        /// How often a node measures itself; what has changed is spread to the others.
        every_ms: u64 = 1_000, Number(100, 60_000);
    }
}
