//! The configuration of a node: one place for every address, capacity and period.
//!
//! A configuration is the default, then a TOML file ([`NodeConfig::from_file`]), then the
//! environment ([`NodeConfig::apply_env`]), then single settings from flags or code
//! ([`NodeConfig::set`], or the public fields). [`NodeConfig::validate`] then checks what settings
//! must have in common. An unknown or impossible setting is refused by name, with what would do.
//!
//! Each setting is one row of one table, `config/settings.rs`; the top of `config/table.rs` says how
//! to add one. All capacities stand there, so that a node's memory bound can be added up before it
//! starts: [`NodeConfig::memory_bound`].

mod bound;
mod error;
mod field;
mod memory;
mod nearest;
mod print;
mod secret;
mod settings;
mod sizes;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use toml::{Table, Value};

pub use self::bound::MemoryBound;
pub use self::error::{ConfigError, LISTED_BY, RefusedSetting};
use self::field::{MAX_CORE, NODE_NAME};
pub use self::field::{MAX_MEMBERS, MAX_SEEDS, MAX_WEIGHT};
use self::nearest::nearest;
pub use self::secret::Secret;
pub use self::settings::*;
pub use self::sizes::QUEUE_ITEM_BYTES;
pub(crate) use self::sizes::{DEAD_LETTERS_BYTES, EVENTS_BYTES, STREAM_ITEMS};
#[cfg(test)]
pub(crate) use self::sizes::{MEMBER_BYTES, WORDS_BYTES};
use self::table::{Section, Setting};

/// What the name of an environment variable that sets something begins with.
pub const ENV_PREFIX: &str = "KEYWAY_";

/// The environment variable for the level of the log that `keyway node` writes. It is no setting: an
/// application's log is its own subscriber's.
pub const LOG_VARIABLE: &str = "KEYWAY_LOG";

/// Half of a member's record; the services have the other half.
const MAX_DESCRIPTION_BYTES: usize = 4_096;

impl TryFrom<Table> for NodeConfig {
    type Error = ConfigError;

    fn try_from(table: Table) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (name, value) in table {
            if !Self::SECTIONS.contains(&name.as_str()) {
                config.assign(&name, &name, value)?;
                continue;
            }
            let Value::Table(section) = value else {
                let allowed = format!("no value itself: write a section `[{name}]`");
                return Err(RefusedSetting::new(name, value.to_string(), allowed).into());
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
    /// Variables without the prefix are left alone, unknown ones with it refused; but those that
    /// Kubernetes sets where a service is called `keyway` (`KEYWAY_PORT`, `KEYWAY_SERVICE_HOST` and the
    /// like) are left alone as well, and so is [`LOG_VARIABLE`].
    pub fn apply_env(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let variable = variable.as_ref().to_string_lossy();
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else { continue };
            let is_service =
                name == "PORT" || ["PORT_", "SERVICE_"].iter().any(|it| name.starts_with(it));
            if is_service || variable == LOG_VARIABLE {
                continue;
            }
            let path = name.to_ascii_lowercase().replace("__", ".");
            let Some(setting) = self.setting(&path).filter(|_| env_name(&path) == variable) else {
                // A section has no variable of its own.
                let nearest = nearest(&path).filter(|path| self.setting(path).is_some());
                let nearest = nearest.map(|path| env_name(&path));
                return Err(ConfigError::Unknown { key: variable.into_owned(), nearest });
            };
            let Some(text) = value.as_ref().to_str() else {
                let allowed = setting.allowed();
                return Err(RefusedSetting::new(variable, "(not UTF-8)", allowed).into());
            };
            let value = setting.field.parse(text);
            self.assign(&variable, &path, value)?;
        }
        Ok(())
    }

    /// Sets one setting by its path, written as in the environment: `set("workers.count", "2")`.
    pub fn set(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        let value = match self.setting(path) {
            Some(setting) => setting.field.parse(text),
            None => Value::String(text.to_owned()),
        };
        self.assign(path, path, value)
    }

    fn setting(&mut self, path: &str) -> Option<Setting<'_>> {
        self.settings().into_iter().find(|setting| setting.path == path)
    }

    /// Changes one setting, known as `shown` to whoever made the change.
    fn assign(&mut self, shown: &str, path: &str, value: Value) -> Result<(), ConfigError> {
        let Some(mut setting) = self.setting(path) else {
            if Self::SECTIONS.contains(&path) {
                let inside = |setting: &Setting<'_>| setting.path.starts_with(&format!("{path}."));
                let first = self.settings().into_iter().find(inside);
                let first = first.map_or(path, |setting| setting.path);
                let allowed = format!("no value itself: set its settings one by one, as `{first}`");
                return Err(RefusedSetting::new(shown, value.to_string(), allowed).into());
            }
            return Err(ConfigError::Unknown { key: shown.to_owned(), nearest: nearest(path) });
        };
        if setting.field.assign(&value) {
            return Ok(());
        }
        Err(RefusedSetting::new(shown, setting.field.show(&value), setting.allowed()).into())
    }

    /// Checks everything: each setting by itself (fields may have been set directly) and what they
    /// must have in common. Reads no file. What passes here is not refused by a later step.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check()?;
        self.check_built_in()?;
        self.check_identity()?;
        self.check_seeds()?;
        self.check_description()?;
        Ok(self.check_cores()?)
    }

    fn refuse(&self, path: &str, allowed: impl Into<String>) -> Result<(), RefusedSetting> {
        let mut copy = self.clone();
        let setting = copy.setting(path).expect("a setting's own name");
        let value = setting.field.current();
        let value = value.map_or("(not set)".to_owned(), |value| setting.field.show(&value));
        Err(RefusedSetting::new(path, value, allowed))
    }

    /// Who may reach the node must fit how it proves who belongs to it.
    fn check_identity(&self) -> Result<(), RefusedSetting> {
        if self.name.as_deref() == Some("") {
            // In a file or the environment this stands for none; in code there is `None`.
            return self.refuse("name", NODE_NAME.allowed);
        }
        if self.secret.is_some() && self.secret_file.is_some() {
            return self.refuse("secret_file", "no value beside `secret`: set one of them");
        }
        let (path, unless) = match self.advertise {
            None => ("bind", ", unless `advertise` says where other nodes reach this one"),
            Some(_) => ("advertise", " that nodes can dial"),
        };
        let told = self.advertise.unwrap_or(self.bind).ip();
        if told.is_unspecified() || told.is_multicast() {
            return self.refuse(path, format!("one specific address{unless}"));
        }
        if matches!(told, IpAddr::V6(told) if told.is_unicast_link_local()) {
            let allowed = format!(
                "no link-local address (fe80::/10), which means another machine on each link: a \
                 global or unique local one{unless}"
            );
            return self.refuse(path, allowed);
        }
        if self.secret.is_none() && self.secret_file.is_none() {
            let open = [("bind", Some(self.bind)), ("advertise", self.advertise)];
            for (path, address) in open {
                if address.is_some_and(|address| !address.ip().is_loopback()) {
                    let allowed = "a loopback address as long as neither `secret` nor \
                                   `secret_file` is set: anyone could join the cluster";
                    return self.refuse(path, allowed);
                }
            }
        }
        if self.admin.is_some_and(|admin| !admin.ip().is_loopback()) && !self.admin_allow_remote {
            let allowed = "a loopback address unless `admin_allow_remote` is true: whoever \
                           reaches it can operate the node";
            return self.refuse("admin", allowed);
        }
        Ok(())
    }

    /// A socket of one address family reaches none of the other.
    fn check_seeds(&self) -> Result<(), RefusedSetting> {
        let other_family = |seed: &&String| {
            let address: Result<SocketAddr, _> = seed.parse();
            address.is_ok_and(|address| address.is_ipv4() != self.bind.is_ipv4())
        };
        if let Some(seed) = self.seeds.iter().find(other_family) {
            let allowed = format!(
                "addresses of the family of `bind` ({}), from which {seed} cannot be reached",
                self.bind
            );
            return self.refuse("seeds", allowed);
        }
        let remote = |seed: &&String| {
            let address: Result<SocketAddr, _> = seed.parse();
            address.is_ok_and(|address| !address.ip().to_canonical().is_loopback())
        };
        let loopback = self.bind.ip().to_canonical().is_loopback();
        match self.seeds.iter().find(remote).filter(|_| loopback) {
            Some(seed) => {
                let allowed = format!(
                    "addresses of this machine where `bind` is a loopback address ({}), from which \
                     {seed} cannot be reached",
                    self.bind
                );
                self.refuse("seeds", allowed)
            }
            None => Ok(()),
        }
    }

    /// Every member keeps what a node says of itself, and it travels in one datagram.
    fn check_description(&self) -> Result<(), RefusedSetting> {
        let pairs = self.metadata.iter().map(|(key, value)| key.len() + value.len());
        let bytes = self.roles.iter().map(String::len).chain(pairs).sum::<usize>();
        if bytes > MAX_DESCRIPTION_BYTES {
            let allowed = format!(
                "what makes at most {MAX_DESCRIPTION_BYTES} bytes with `roles`, not {bytes}: it \
                 travels in one datagram"
            );
            return self.refuse("metadata", allowed);
        }
        Ok(())
    }

    /// Refuses settings of parts that are not compiled in.
    fn check_built_in(&self) -> Result<(), RefusedSetting> {
        if cfg!(not(feature = "admin")) && self.admin.is_some() {
            return self.refuse("admin", "no value in a build without the feature `admin`");
        }
        Ok(())
    }

    fn check_cores(&self) -> Result<(), RefusedSetting> {
        let WorkersConfig { first_core, count, .. } = self.workers;
        let Some(cores) = &self.workers.cores else {
            if self.workers.pin && first_core + count - 1 > MAX_CORE as usize {
                let allowed =
                    format!("so low that the last of {count} workers is on core {MAX_CORE}");
                return self.refuse("workers.first_core", allowed);
            }
            return Ok(());
        };
        if cores.len() != self.workers.count {
            let allowed = format!("one core per worker, so {} of them", self.workers.count);
            return self.refuse("workers.cores", allowed);
        }
        if cores.iter().collect::<BTreeSet<_>>().len() != cores.len() {
            return self.refuse("workers.cores", "each core once");
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
}

impl MembershipConfig {
    /// Checks this section alone, as [`NodeConfig::validate`] does.
    pub fn validate(&self) -> Result<(), RefusedSetting> {
        self.check()
    }
}

/// The name of the environment variable for a setting.
fn env_name(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}
