//! `keyway node`: settings, start, the line when it is ready, signals, and how it ended.

use std::collections::BTreeMap;
use std::env;
use std::io::IsTerminal;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyway::admin::{Admin, AdminPort};
use keyway::base::Incarnation;
use keyway::config::{ConfigError, LISTED_BY, LOG_VARIABLE, MemoryBound};
use keyway::member::MemberFault;
use keyway::{BuildError, Ended, Member, MemberState, Node, NodeBuilder, NodeConfig};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::filter::LevelFilter;

use super::cli::{NodeArgs, level};
use super::log::{Log, Rest};
use super::samples::Samples;
use super::{FAILED, FAULT, Failure, REFUSED, say};

/// When a node that has not become a member says so, first and then again.
const JOINING_FIRST: Duration = Duration::from_secs(5);
const JOINING_AGAIN: Duration = Duration::from_secs(30);

/// How soon after its start a node may find that its clock has gone back; later it was replaced.
const EARLY: Duration = Duration::from_secs(60);

/// Members that the line of a node that is ready names.
const SHOWN_NAMES: usize = 10;

/// Cluster sizes for which `--print-config` adds the memory up.
const BOUND_MEMBERS: [usize; 3] = [3, 10, 100];

pub(crate) fn run(arguments: &NodeArgs) -> Result<(), Failure> {
    let config = configure(arguments).map_err(|error| {
        let text = error.to_string();
        Failure::new(REFUSED, text.replace(LISTED_BY, "`keyway node --print-config`"))
    })?;
    if arguments.print_config {
        say(describe(&config));
        return Ok(());
    }
    let _rest_of_the_log = start_log(arguments.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FAILED, format!("starting a thread failed: {error}")))?;
    // Before the node starts, so that no signal ends it without a word.
    let signals = {
        let _inside = runtime.enter();
        Signals::new()
    };
    let mut signals =
        signals.map_err(|error| Failure::new(FAILED, format!("no signals: {error}")))?;
    match one_life(config.clone(), None, &runtime, &mut signals)? {
        None => Ok(()),
        // Once: two processes that take each other's place would go on for ever.
        Some(known) => one_life(config, Some(known), &runtime, &mut signals).map(drop),
    }
}

/// Runs a node to its end. Gives the incarnation that the next life must exceed, if this one found at
/// its beginning that its clock was set back since the last.
fn one_life(
    config: NodeConfig,
    above: Option<Incarnation>,
    runtime: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Incarnation>, Failure> {
    let began = Instant::now();
    let cluster = config.cluster.clone();
    let minimum = Minimum {
        members: config.membership.min_members,
        of_roles: config.membership.min_members_per_role.clone(),
    };
    let failed = |error| Failure::new(FAILED, error);
    let mut builder = NodeBuilder::from(config);
    if let Some(known) = above {
        builder = builder.incarnation_above(known);
    }
    let admin = builder.take_admin().map_err(|error| Failure::new(REFUSED, error))?;
    let admin_port = admin.map(AdminPort::open).transpose().map_err(failed)?;
    let Some(node) = start(builder, runtime, signals)? else { return Ok(None) };
    let node = Arc::new(node);
    let (is_first, early) = (above.is_none(), || began.elapsed() < EARLY);
    let samples = match Samples::serve(&node) {
        Ok(samples) => samples,
        // A member may have told it so by now.
        Err(error) => {
            let failed = || Failure::new(FAILED, format!("node `{}`: {error}", node.name()));
            let ended = node.end().ok_or_else(failed)?;
            return after(&node, ended, is_first && early());
        }
    };
    let admin = admin_port
        .map(|port| samples.offer(Admin::builder(Arc::clone(&node))).start(port))
        .transpose()
        .map_err(failed)?;
    tracing::info!(
        node = %node.name(),
        address = %node.bound(),
        advertised = %node.address(),
        cluster,
        admin = %admin_name(admin.as_ref()),
        "listening for other nodes"
    );
    let (admin, cluster) = (admin.as_ref(), cluster.as_str());
    let life = Life { node: &node, samples: &samples, admin, cluster, minimum: &minimum };
    let (ended, leaving) = runtime.block_on(life.live(signals));
    after(&node, ended, is_first && !leaving && early())
}

/// Starts the node on a thread of its own: it may take long to resolve the seeds' names, or to read a
/// file from elsewhere, and signals do not wait for that. Nothing if one came before.
fn start(
    builder: NodeBuilder,
    runtime: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Node>, Failure> {
    let (done, started) = oneshot::channel();
    // Whoever does not wait for it any more drops the node, which ends it.
    let starting = move || drop(done.send(builder.start()));
    std::thread::Builder::new()
        .name("keyway-start".to_owned())
        .spawn(starting)
        .map_err(|error| Failure::new(FAILED, format!("starting a thread failed: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            started = started => match started {
                Ok(started) => started.map(Some).map_err(refused),
                Err(_) => Err(Failure::new(FAILED, "the start of the node panicked")),
            },
            (name, _) = signals.next() => {
                say(format!("ended by {name} before the node had started\n"));
                Ok(None)
            }
        }
    })
}

/// The end of a life: which incarnation the next one must exceed, if it may be followed by one, or its
/// end in words.
fn after(node: &Node, ended: Ended, may_follow: bool) -> Result<Option<Incarnation>, Failure> {
    if let Ended::Fault(MemberFault::Superseded { by, incarnation }) = ended
        && may_follow
        // Whoever was told to leave does not come up again.
        && !node.is_leaving()
        && by == node.address()
    {
        tracing::warn!(
            known = incarnation.0,
            "the clock of this machine has gone back since this node's last life: it starts again \
             with an incarnation above that one"
        );
        return Ok(Some(incarnation));
    }
    epitaph(node, ended).map(|()| None)
}

/// Default, then file, then environment, then flags.
fn configure(arguments: &NodeArgs) -> Result<NodeConfig, ConfigError> {
    let mut config = match &arguments.config {
        Some(file) => NodeConfig::from_file(file)?,
        None => NodeConfig::default(),
    };
    config.apply_env(env::vars_os())?;
    let flags = [
        ("bind", &arguments.bind),
        ("advertise", &arguments.advertise),
        ("name", &arguments.name),
        ("cluster", &arguments.cluster),
        ("secret_file", &arguments.secret_file),
        ("workers.count", &arguments.workers),
        ("admin", &arguments.admin),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            config.set(key, value)?;
        }
    }
    for (key, values) in [("seeds", &arguments.seed), ("roles", &arguments.role)] {
        if !values.is_empty() {
            config.set(key, &values.join(","))?;
        }
    }
    for (key, value) in &arguments.set {
        config.set(key, value)?;
    }
    config.validate()?;
    Ok(config)
}

fn describe(config: &NodeConfig) -> String {
    let mut out = config.to_toml();
    out.push_str("\n# Memory, when every queue and buffer is full at once:\n");
    for members in BOUND_MEMBERS {
        out.push_str(&format!("# {members} members: {}\n", config.memory_bound(members - 1)));
    }
    out.push_str(&format!("# Not in it are {}.\n", MemoryBound::OUTSIDE));
    out
}

fn start_log(flag: Option<LevelFilter>) -> Result<Rest, Failure> {
    let variable = match env::var_os(LOG_VARIABLE) {
        Some(text) => Some(level(&text.to_string_lossy()).map_err(|allowed| {
            let shown: String = text.to_string_lossy().chars().take(100).collect();
            let text = format!("`{LOG_VARIABLE}` = {shown:?} is refused: {allowed}");
            Failure::new(REFUSED, text)
        })?),
        None => None,
    };
    let (log, rest) = Log::to_stderr()
        .map_err(|error| Failure::new(FAILED, format!("starting a thread failed: {error}")))?;
    tracing_subscriber::fmt()
        .with_max_level(flag.or(variable).unwrap_or(LevelFilter::INFO))
        .with_writer(move || log.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would complain of a log that nobody reads on stderr itself, and panic.
        .log_internal_errors(false)
        .init();
    Ok(rest)
}

fn admin_name(admin: Option<&Admin>) -> String {
    admin.map_or("off".to_owned(), |admin| admin.address().to_string())
}

fn refused(error: BuildError) -> Failure {
    let code = match &error {
        BuildError::Config(_) | BuildError::Key(_) => REFUSED,
        _ => FAILED,
    };
    Failure::new(code, error)
}

/// The end of a node in words.
fn epitaph(node: &Node, ended: Ended) -> Result<(), Failure> {
    let name = node.name();
    match ended {
        Ended::Left { drained: true } => {
            say(format!("left: node `{name}` has left the cluster; everything was drained\n"));
            Ok(())
        }
        Ended::Left { drained: false } => {
            let waits = node.leave_waits_for().map(|waits| format!(": it gave up on {waits}"));
            let text = format!(
                "node `{name}` has left the cluster, but not everything was done within \
                 membership.leave_timeout_ms{}; {} messages sent from here had not ended",
                waits.unwrap_or_default(),
                node.counts().in_flight(),
            );
            Err(Failure::new(FAILED, text))
        }
        Ended::Fault(fault) => {
            Err(Failure::new(FAULT, format!("node `{name}` cannot go on: {fault}")))
        }
        Ended::WorkerLost(worker) => {
            let given_up = node.given_up().map(|it| format!(": {it}")).unwrap_or_default();
            let text = format!("node `{name}` cannot go on without its worker {worker}{given_up}");
            Err(Failure::new(FAULT, text))
        }
        Ended::Stopped => Err(Failure::new(FAILED, format!("node `{name}` was stopped"))),
    }
}

/// A running node, with all that its process looks after.
struct Life<'a> {
    node: &'a Node,
    samples: &'a Samples,
    admin: Option<&'a Admin>,
    cluster: &'a str,
    minimum: &'a Minimum,
}

impl Life<'_> {
    /// How the node has ended, and whether a signal asked for that.
    async fn live(&self, signals: &mut Signals) -> (Ended, bool) {
        let started = Instant::now();
        let mut complaint = JOINING_FIRST;
        let mut ready = std::pin::pin!(self.ready());
        let (mut is_ready, mut leaving) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = self.node.ended() => return (ended, leaving),
                (name, number) = signals.next() => {
                    if leaving {
                        tracing::warn!(signal = name, "stopping at once");
                        process::exit(128 + number);
                    }
                    leaving = true;
                    tracing::info!(signal = name, "leaving; a second signal stops at once");
                    // It fails only when the node has ended, which the next round sees.
                    let _ = self.node.begin_leave();
                }
                () = &mut ready, if !is_ready && !leaving => {
                    is_ready = true;
                    say(self.ready_line());
                }
                () = tokio::time::sleep_until((started + complaint).into()),
                    if !is_ready && !leaving =>
                {
                    self.complain();
                    complaint += JOINING_AGAIN;
                }
            }
        }
    }

    /// Waits until the node is a member and its own routers lead somewhere.
    async fn ready(&self) {
        // An error means that the node has ended, which is seen elsewhere.
        if self.samples.ready().await.is_err() {
            std::future::pending().await
        }
    }

    fn ready_line(&self) -> String {
        let view = self.node.view();
        let mut names: Vec<&str> = view.members.iter().map(|member| &*member.name).collect();
        names.sort_unstable();
        let count = match names.len() {
            1 => "1 member".to_owned(),
            count => format!("{count} members"),
        };
        let more = if names.len() > SHOWN_NAMES { ", ..." } else { "" };
        names.truncate(SHOWN_NAMES);
        let admin = admin_name(self.admin);
        format!(
            "ready: node `{}` at {} in cluster `{}`, {count} ({}{more}), admin {admin}\n",
            self.node.name(),
            self.node.address(),
            self.cluster,
            names.join(", "),
        )
    }

    /// Says what the node waits for, besides its seeds: of those the library says so itself.
    fn complain(&self) {
        let view = self.node.view();
        let here = |member: &&Arc<Member>| member.reachable && member.state <= MemberState::Up;
        let here: Vec<_> = view.members.iter().filter(here).collect();
        let Minimum { members, of_roles } = self.minimum;
        let mut lacking = Vec::new();
        if here.len() < *members as usize {
            lacking.push(format!("{} of membership.min_members = {members} are here", here.len()));
        }
        for (role, least) in of_roles {
            let count = here.iter().filter(|member| member.roles.contains(&**role)).count();
            if count < *least as usize {
                lacking.push(format!(
                    "{count} of membership.min_members_per_role.{role} = {least} are here"
                ));
            }
        }
        if !lacking.is_empty() {
            tracing::warn!("waiting for more members: {}", lacking.join("; "));
        } else if self.node.join_state().obstacle().is_none() {
            tracing::warn!("waiting until the routers of this node lead to a routee");
        }
    }
}

/// How many members the cluster has to have before it opens.
struct Minimum {
    members: u32,
    of_roles: BTreeMap<String, u32>,
}

/// The signals that end a node.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_told_to_leave_does_not_come_up_again() {
        let known = Incarnation(7);
        for leaves in [false, true] {
            let node = Node::builder().bind("127.0.0.1:0").workers(1).start().unwrap();
            if leaves {
                // As the admin port does.
                node.begin_leave().unwrap();
            }
            let fault = MemberFault::Superseded { by: node.address(), incarnation: known };
            let next = after(&node, Ended::Fault(fault), true);
            match leaves {
                false => assert_eq!(next.unwrap(), Some(known)),
                true => assert_eq!(next.unwrap_err().code, FAULT),
            }
        }
    }
}
