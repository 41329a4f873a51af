//! A network of its own for each node, in which one node's link can be cut and healed.
//!
//! Every node lives in a network namespace with one end of a veth pair; the other ends hang on a
//! bridge. Taking one end down is what pulling a cable is: packets vanish, no connection is reset.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Failure, Result};
use crate::process::{Cleanup, SpawnPlan};

use super::node::NODE_COMMAND;

/// The port on which all nodes listen, each on its own address.
const PORT: u16 = 7_400;

/// A bridge with a namespace for each node.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Distinguishes the names of this run from others'.
    tag: String,
    /// Namespaces made so far.
    spaces: Mutex<Vec<(String, Cleanup)>>,
    /// Removed after the namespaces.
    _bridge: Cleanup,
}

impl Network {
    /// Makes the bridge.
    ///
    /// # Errors
    /// Without root, the `ip` program, or namespaces; the reason says which.
    pub fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            let failure = Failure::new("make a network to cut links in", "needs root");
            return Err(failure.hint("run as root, or without `cut`"));
        }
        remove_stale();
        let tag = format!("{TAG}{}", std::process::id());
        let bridge = format!("{tag}-br");
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        let remove = bridge.clone();
        let cleanup = Cleanup::new(move || {
            // Nothing can be done about a failure at the end.
            let _ = ip(&["link", "del", &remove]);
        });
        ip(&["link", "set", &bridge, "up"])?;
        Ok(Self(Arc::new(Inner { tag, spaces: Mutex::default(), _bridge: cleanup })))
    }

    /// How the process of a node is started in a namespace of its own, and where it listens.
    pub fn place(&self, name: &str, number: u32, serves: bool) -> Result<(SpawnPlan, SocketAddr)> {
        let host = if serves { 10 + number as u8 } else { 2 };
        let tag = &self.0.tag;
        let space = format!("{tag}-{host}");
        let (outer, bridge) = (self.outer(host), format!("{tag}-br"));
        let address = Ipv4Addr::new(10, 213, 7, host);

        ip(&["netns", "add", &space])?;
        let (remove, remove_outer) = (space.clone(), outer.clone());
        let cleanup = Cleanup::new(move || {
            // Nothing can be done about a failure at the end. Both ends of a pair go together.
            let _ = ip(&["link", "del", &remove_outer]);
            let _ = ip(&["netns", "del", &remove]);
        });
        let mut spaces = self.0.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.push((space.clone(), cleanup));
        drop(spaces);
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
        ip(&["link", "set", &outer, "master", &bridge, "up"])?;
        ip(&["-n", &space, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;

        let program = std::env::current_exe()
            .map_err(|cause| Failure::new("find this program's own file", cause))?;
        let arguments = ["netns", "exec", &space]
            .map(Into::into)
            .into_iter()
            .chain([program.into_os_string(), NODE_COMMAND.into()]);
        let arguments: Vec<std::ffi::OsString> = arguments.collect();
        // `ip netns exec` replaces itself by the program, which keeps the process id.
        let plan = SpawnPlan::program(name, "ip", arguments);
        Ok((plan, SocketAddr::new(IpAddr::V4(address), PORT)))
    }

    /// Cuts a node off from all others, or heals that.
    pub fn cut(&self, number: u32, cut: bool) -> Result<()> {
        let outer = self.outer(10 + number as u8);
        ip(&["link", "set", &outer, if cut { "down" } else { "up" }])
    }

    fn outer(&self, host: u8) -> String {
        format!("{}v{host}", self.0.tag)
    }
}

/// What all names begin with, followed by the coordinating process's id.
const TAG: &str = "kw";

/// Removes the networks of runs that were killed outright.
fn remove_stale() {
    let is_stale = |name: &str| {
        let owner = name.strip_prefix(TAG).and_then(|rest| rest.split(['-', 'v']).next());
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
    };
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_stale(name)).collect()
    };
    // Another run may be removing them too. A pair's other end goes with its namespace.
    for space in names("/run/netns") {
        let _ = ip(&["netns", "del", &space]);
    }
    for link in names("/sys/class/net") {
        let _ = ip(&["link", "del", &link]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let line = format!("run `ip {}`", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|cause| Failure::new(&*line, cause).hint("install iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(line, said).hint("needs CAP_NET_ADMIN and CAP_SYS_ADMIN"))
}
