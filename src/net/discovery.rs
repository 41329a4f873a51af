//! Where a node learns of addresses to join through.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Finds the addresses of nodes that may be members already.
///
/// A node looks first on the thread that starts it, before the start returns, and then every few
/// seconds, on one where blocking is allowed; the next look waits for the one before. What is found
/// is a hint: addresses may be dead, or this node's own, and a look that fails, or panics, changes
/// nothing. A node whose first look fails waits for one that succeeds, as it does for a seed
/// that is down; one that is told that there are no seeds forms a cluster alone.
///
/// ```
/// use std::net::SocketAddr;
///
/// /// One address per line of a file that something else keeps up to date.
/// struct AddressFile(std::path::PathBuf);
///
/// impl keyway::Discovery for AddressFile {
///     fn name(&self) -> &str {
///         "address-file"
///     }
///
///     fn discover(&mut self) -> std::io::Result<Vec<SocketAddr>> {
///         let text = std::fs::read_to_string(&self.0)?;
///         Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
///     }
/// }
///
/// let builder = keyway::Node::builder().discovery(AddressFile("/run/nodes".into()));
/// # drop(builder);
/// ```
pub trait Discovery: Send + 'static {
    /// For logs.
    fn name(&self) -> &str;

    /// Looks once.
    ///
    /// # Errors
    /// When nothing could be learned this time.
    fn discover(&mut self) -> io::Result<Vec<SocketAddr>>;
}

/// Looks once. A panic is an error too: the next look may succeed.
///
/// # Errors
/// Why nothing was learned.
pub fn look(discovery: &mut dyn Discovery) -> Result<Vec<SocketAddr>, String> {
    match catch_unwind(AssertUnwindSafe(|| discovery.discover())) {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err("it panicked".to_owned()),
    }
}

/// The `seeds` of the configuration: addresses, or host names, each of which stands for all its
/// addresses of the moment.
#[derive(Clone, Debug)]
pub struct SeedList {
    seeds: Vec<String>,
}

impl SeedList {
    /// A list of `host:port`.
    pub fn new(seeds: Vec<String>) -> Self {
        Self { seeds }
    }
}

impl Discovery for SeedList {
    fn name(&self) -> &str {
        "seeds"
    }

    fn discover(&mut self) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        let mut failed = None;
        for seed in &self.seeds {
            match seed.to_socket_addrs() {
                Ok(addresses) => found.extend(addresses),
                Err(error) => {
                    let text = format!("the seed {seed:?} cannot be resolved: {error}");
                    failed = Some(io::Error::new(error.kind(), text));
                }
            }
        }
        match failed {
            // Any seed may be missing; none at all is worth a word.
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_resolved_and_missing_ones_passed_over() {
        let seeds = ["127.0.0.1:7400", "localhost:7401", "no-such-host.invalid:1"];
        let mut list = SeedList::new(seeds.map(String::from).to_vec());
        let found = list.discover().unwrap();
        assert_eq!(found[0], SocketAddr::from(([127, 0, 0, 1], 7400)));
        assert!(found[1..].iter().all(|address| address.port() == 7401));
    }

    #[test]
    fn when_nothing_resolves_the_error_names_the_seed() {
        let error = SeedList::new(vec!["no-such-host.invalid:1".into()]).discover().unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid:1"), "{error}");
    }

    #[test]
    fn no_seeds_are_no_error() {
        assert!(SeedList::new(Vec::new()).discover().unwrap().is_empty());
    }
}
