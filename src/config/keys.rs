//! The table of all settings: name, meaning, range and place, for every way of setting them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::{NodeConfig, PartitionPolicy, Secret};

/// One setting.
pub(super) struct Key {
    pub(super) path: &'static str,
    /// For `to_toml`: what it is.
    pub(super) doc: &'static str,
    /// In words, where the default's value would mislead.
    pub(super) default: Option<&'static str>,
    pub(super) field: fn(&mut NodeConfig) -> Field<'_>,
}

/// Where a setting is kept, and what it takes.
pub(super) enum Field<'a> {
    Number { slot: &'a mut dyn Number, min: u64, max: u64 },
    Cores(&'a mut Option<Vec<usize>>),
    Flag(&'a mut bool),
    Address(&'a mut SocketAddr),
    MaybeAddress(&'a mut Option<SocketAddr>),
    Text(&'a mut String, &'static Rule),
    MaybeText(&'a mut Option<String>, &'static Rule),
    Seeds(&'a mut Vec<String>),
    Roles(&'a mut BTreeSet<String>),
    Metadata(&'a mut BTreeMap<String, String>),
    Counts(&'a mut BTreeMap<String, usize>),
    Secret(&'a mut Option<Secret>),
    File(&'a mut Option<PathBuf>),
    Policy(&'a mut PartitionPolicy),
}

/// What a text must be like.
pub(super) struct Rule {
    allowed: &'static str,
    check: fn(&str) -> bool,
}

/// The integer types that settings are kept in.
pub(super) trait Number {
    fn get(&self) -> u64;
    /// The value is in the setting's range, which is within the type's.
    fn put(&mut self, value: u64);
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn get(&self) -> u64 {
                *self as u64
            }
            fn put(&mut self, value: u64) {
                *self = value as $type;
            }
        }
    )*};
}
number!(u32 u64 usize);

fn name_of(text: &str, most: usize, more: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c);
    (1..=most).contains(&text.len()) && text.chars().all(allowed)
}

fn is_role(text: &str) -> bool {
    name_of(text, 64, "")
}

/// `host:port`, an IPv6 address in brackets.
fn is_seed(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    name_of(host, 253, "") && port.parse::<u16>().is_ok_and(|port| port != 0)
}

const CLUSTER: Rule = Rule {
    allowed: "1 to 64 characters of a-z, A-Z, 0-9, `.`, `_` and `-`",
    check: |text| name_of(text, 64, ""),
};
const NODE_NAME: Rule = Rule {
    allowed: "1 to 128 characters of a-z, A-Z, 0-9, `.`, `_`, `-`, `:`, `[` and `]`",
    check: |text| name_of(text, 128, ":[]"),
};
const VERSION: Rule = Rule {
    allowed: "up to 64 printable ASCII characters",
    check: |text| text.len() <= 64 && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
};
const ADDRESS: &str = "an IP address with a port, such as \"127.0.0.1:7400\" or \"[::1]:7400\"";
pub(super) const SECRET_ALLOWED: &str = "16 to 1024 bytes";

const MAX_SEEDS: usize = 1_024;
const MAX_ROLES: usize = 64;
const MAX_METADATA: usize = 64;
const MAX_CORE: u64 = 1_023;
const MAX_MEMBERS: u64 = 10_000;

/// The tables of the TOML file.
pub(super) const SECTIONS: &[&str] = &["workers", "links", "membership"];

/// A number's row.
macro_rules! number_key {
    ($path:literal, $($at:ident).+, $min:literal..=$max:expr, $doc:literal) => {
        Key {
            path: $path,
            doc: $doc,
            default: None,
            field: |config| Field::Number { slot: &mut config.$($at).+, min: $min, max: $max },
        }
    };
}

/// Any other row.
macro_rules! key {
    ($path:literal, $kind:ident($($at:ident).+ $(, $rule:expr)?), $doc:literal) => {
        key!($path, $kind($($at).+ $(, $rule)?), $doc, None)
    };
    ($path:literal, $kind:ident($($at:ident).+ $(, $rule:expr)?), $doc:literal, $default:expr) => {
        Key {
            path: $path,
            doc: $doc,
            default: $default,
            field: |config| Field::$kind(&mut config.$($at).+ $(, $rule)?),
        }
    };
}

/// All settings, in the order in which they are printed.
pub(super) const KEYS: &[Key] = &[
    key!(
        "cluster",
        Text(cluster, &CLUSTER),
        "The cluster's name; nodes of another cluster are turned away."
    ),
    key!(
        "name",
        MaybeText(name, &NODE_NAME),
        "The node's name, unique in the cluster. A node that restarts under the same name gets the \
         same keys back.",
        Some("the advertised address")
    ),
    key!(
        "bind",
        Address(bind),
        "Where the node listens, TCP and UDP. Port 0 lets the system choose. Anything but loopback \
         needs a secret."
    ),
    key!(
        "advertise",
        MaybeAddress(advertise),
        "Where other nodes reach this one, if that is not `bind`. Needed when `bind` is 0.0.0.0 or \
         [::]. Port 0 stands for the port that the node came to listen on.",
        Some("the address of `bind`")
    ),
    key!(
        "seeds",
        Seeds(seeds),
        "Nodes to join through, in any order; those that are down are passed over."
    ),
    key!(
        "secret",
        Secret(secret),
        "What the cluster's nodes share to prove that they belong to it. Better kept in a file."
    ),
    key!(
        "secret_file",
        File(secret_file),
        "A file that holds the secret; a line break at its end does not count."
    ),
    key!("roles", Roles(roles), "Labels that routers can ask for."),
    key!("metadata", Metadata(metadata), "Free key-value pairs that other nodes can see."),
    number_key!(
        "weight",
        weight,
        1..=1_000,
        "Share of keys and load relative to other nodes: one with 200 gets twice as \
         much as one with 100."
    ),
    key!(
        "app_version",
        Text(app_version, &VERSION),
        "The embedding application's version, for rolling upgrades."
    ),
    key!(
        "admin",
        MaybeAddress(admin),
        "Where the admin HTTP port listens. Whoever reaches it can operate the node."
    ),
    key!(
        "admin_allow_remote",
        Flag(admin_allow_remote),
        "Whether `admin` may be anything but a loopback address."
    ),
    Key {
        path: "workers.count",
        doc: "Worker threads. Each owns its links, handlers and timers.",
        default: Some("as many as the machine has cores"),
        field: |config| Field::Number { slot: &mut config.workers.count, min: 1, max: 256 },
    },
    key!("workers.pin", Flag(workers.pin), "Whether each worker is pinned to a core."),
    number_key!(
        "workers.first_core",
        workers.first_core,
        0..=MAX_CORE,
        "The core of the first worker when pinned; the others follow."
    ),
    key!(
        "workers.cores",
        Cores(workers.cores),
        "The core of each worker, instead of `first_core`."
    ),
    number_key!(
        "workers.spin_us",
        workers.spin_us,
        0..=1_000_000,
        "How long a worker with nothing to do looks again before it sleeps. More is quicker for \
         messages with pauses in between, and costs processor time."
    ),
    number_key!(
        "workers.inject_capacity",
        workers.inject_capacity,
        64..=1_048_576,
        "Messages that can wait for one worker from the application's threads."
    ),
    number_key!(
        "workers.ring_capacity",
        workers.ring_capacity,
        64..=1_048_576,
        "Messages that can wait between two of the node's own threads."
    ),
    number_key!(
        "workers.max_asks",
        workers.max_asks,
        1..=1_048_576,
        "Asks from the application's threads that can be in flight, in the whole node."
    ),
    number_key!(
        "links.max_frame_bytes",
        links.max_frame_bytes,
        1_024..=64 << 20,
        "The longest message with its header. Should be equal on all nodes."
    ),
    number_key!(
        "links.outbox_bytes",
        links.outbox_bytes,
        65_536..=1 << 30,
        "What one link holds for a slow peer before senders are told that it is full. At least \
         `max_frame_bytes`."
    ),
    number_key!(
        "links.inbox_bytes",
        links.inbox_bytes,
        65_536..=16 << 20,
        "The receive buffer of one link."
    ),
    number_key!(
        "links.handshake_timeout_ms",
        links.handshake_timeout_ms,
        10..=60_000,
        "How long a connection has to prove that it belongs to the cluster."
    ),
    number_key!(
        "links.redial_min_ms",
        links.redial_min_ms,
        1..=60_000,
        "The pause before a lost link is dialed again; it doubles with each failure."
    ),
    number_key!(
        "links.redial_max_ms",
        links.redial_max_ms,
        1..=600_000,
        "The longest such pause. At least `redial_min_ms`."
    ),
    number_key!(
        "links.ack_interval_ms",
        links.ack_interval_ms,
        1..=1_000,
        "How often a receiver says how far it has come when it has nothing else to send."
    ),
    number_key!(
        "links.max_pending_handshakes",
        links.max_pending_handshakes,
        1..=65_536,
        "Connections that may be in their handshake at once; more are closed."
    ),
    number_key!(
        "membership.min_members",
        membership.min_members,
        1..=MAX_MEMBERS,
        "The cluster opens when it has this many members."
    ),
    key!(
        "membership.min_members_per_role",
        Counts(membership.min_members_per_role),
        "And this many of each of these roles."
    ),
    number_key!(
        "membership.probe_period_ms",
        membership.probe_period_ms,
        50..=60_000,
        "How often a member is probed."
    ),
    number_key!(
        "membership.probe_timeout_ms",
        membership.probe_timeout_ms,
        10..=60_000,
        "How long a probed member has to answer before others are asked to probe it. Less than \
         `probe_period_ms`."
    ),
    number_key!(
        "membership.suspect_ms",
        membership.suspect_ms,
        50..=600_000,
        "How long a suspected member has to contradict before it counts as unreachable."
    ),
    number_key!(
        "membership.gossip_ms",
        membership.gossip_ms,
        10..=60_000,
        "How often news is passed on."
    ),
    number_key!(
        "membership.leave_timeout_ms",
        membership.leave_timeout_ms,
        0..=3_600_000,
        "How long a graceful leave may take before the node goes anyway."
    ),
    key!(
        "membership.partition_policy",
        Policy(membership.partition_policy),
        "What happens to members that stay unreachable. With \"manual\", an operator removes them."
    ),
];

pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The setting that was probably meant: by its whole path, or by its last part in another section.
pub(super) fn nearest(path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(path);
    let sections = SECTIONS.iter().map(|&section| (edits(path, section), section));
    let keys = KEYS.iter().map(|key| {
        let elsewhere = edits(&name, &last(key.path)) + 1;
        (edits(path, key.path).min(elsewhere), key.path)
    });
    // More than a third of the letters wrong is another word.
    let (distance, nearest) = keys.chain(sections).min_by_key(|&(distance, _)| distance)?;
    (distance <= 1 + name.len() / 3).then(|| nearest.to_owned())
}

/// The Levenshtein distance. Long inputs are not worth the time: they are near to nothing.
fn edits(from: &str, to: &str) -> usize {
    if from.len() > 100 {
        return usize::MAX - 1;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

impl Field<'_> {
    /// The values it takes, in words that complete «it takes ...».
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Number { min, max, .. } => format!("an integer from {min} to {max}"),
            Self::Cores(_) => format!("a list of core numbers from 0 to {MAX_CORE}"),
            Self::Flag(_) => "true or false".to_owned(),
            Self::Address(_) | Self::MaybeAddress(_) => ADDRESS.to_owned(),
            Self::Text(_, rule) | Self::MaybeText(_, rule) => rule.allowed.to_owned(),
            Self::Seeds(_) => format!(
                "a list of up to {MAX_SEEDS} of \"host:port\", a port being from 1 to 65535"
            ),
            Self::Roles(_) => {
                format!("a list of up to {MAX_ROLES} labels, each {}", CLUSTER.allowed)
            }
            Self::Metadata(_) => format!(
                "a map of up to {MAX_METADATA} texts of up to 1024 bytes, each under a key of {}",
                CLUSTER.allowed
            ),
            Self::Counts(_) => {
                format!("a map from role to an integer from 1 to {MAX_MEMBERS}")
            }
            Self::Secret(_) => SECRET_ALLOWED.to_owned(),
            Self::File(_) => "a path".to_owned(),
            Self::Policy(_) => "\"manual\"".to_owned(),
        }
    }

    /// Takes the value over if it is one of those; else nothing changes.
    pub(super) fn assign(&mut self, value: &Value) -> bool {
        self.try_assign(value).is_some()
    }

    fn try_assign(&mut self, value: &Value) -> Option<()> {
        // Settings that may be absent are taken away by the empty text: the environment has no
        // other way to say so.
        let unset = value.as_str() == Some("");
        match self {
            Self::Number { slot, min, max } => slot.put(number(value, *min, *max)?),
            Self::Cores(slot) if unset => **slot = None,
            Self::Cores(slot) => {
                let core = |value| number(value, 0, MAX_CORE).map(|core| core as usize);
                **slot = Some(value.as_array()?.iter().map(core).collect::<Option<_>>()?);
            }
            Self::Flag(slot) => **slot = value.as_bool()?,
            Self::Address(slot) => **slot = value.as_str()?.parse().ok()?,
            Self::MaybeAddress(slot) if unset => **slot = None,
            Self::MaybeAddress(slot) => **slot = Some(value.as_str()?.parse().ok()?),
            Self::Text(slot, rule) => **slot = text(value, rule.check)?,
            Self::MaybeText(slot, _) if unset => **slot = None,
            Self::MaybeText(slot, rule) => **slot = Some(text(value, rule.check)?),
            Self::Seeds(slot) => **slot = texts(value, MAX_SEEDS, is_seed)?,
            Self::Roles(slot) => **slot = texts(value, MAX_ROLES, is_role)?,
            Self::Metadata(slot) => {
                let table = value.as_table().filter(|table| table.len() <= MAX_METADATA)?;
                let pair = |(key, value): (&String, &Value)| {
                    let value = text(value, |text| text.len() <= 1_024)?;
                    is_role(key).then(|| (key.clone(), value))
                };
                **slot = table.iter().map(pair).collect::<Option<_>>()?;
            }
            Self::Counts(slot) => {
                let table = value.as_table().filter(|table| table.len() <= MAX_ROLES)?;
                let pair = |(role, count): (&String, &Value)| {
                    let count = number(count, 1, MAX_MEMBERS)? as usize;
                    is_role(role).then(|| (role.clone(), count))
                };
                **slot = table.iter().map(pair).collect::<Option<_>>()?;
            }
            Self::Secret(slot) if unset => **slot = None,
            Self::Secret(slot) => **slot = Some(Secret::new(value.as_str()?).ok()?),
            Self::File(slot) if unset => **slot = None,
            Self::File(slot) => **slot = Some(PathBuf::from(value.as_str()?)),
            Self::Policy(slot) => **slot = value.clone().try_into().ok()?,
        }
        Some(())
    }

    /// The value it has; `None` if it is not set.
    pub(super) fn current(&self) -> Option<Value> {
        let list = |texts: &mut dyn Iterator<Item = &String>| {
            Value::Array(texts.cloned().map(Value::String).collect())
        };
        Some(match self {
            Self::Number { slot, .. } => integer(slot.get()),
            Self::Cores(slot) => {
                let cores = slot.as_ref()?.iter();
                Value::Array(cores.map(|&core| integer(core as u64)).collect())
            }
            Self::Flag(slot) => Value::Boolean(**slot),
            Self::Address(slot) => Value::String(slot.to_string()),
            Self::MaybeAddress(slot) => Value::String(slot.as_ref()?.to_string()),
            Self::Text(slot, _) => Value::String((**slot).clone()),
            Self::MaybeText(slot, _) => Value::String((**slot).clone()?),
            Self::Seeds(slot) => list(&mut slot.iter()),
            Self::Roles(slot) => list(&mut slot.iter()),
            Self::Metadata(slot) => Value::Table(
                slot.iter().map(|(key, text)| (key.clone(), Value::String(text.clone()))).collect(),
            ),
            Self::Counts(slot) => Value::Table(
                slot.iter().map(|(role, &count)| (role.clone(), integer(count as u64))).collect(),
            ),
            // Only checked and counted, never printed; a secret that is no text came from code
            // and was checked there.
            Self::Secret(slot) => {
                Value::String(String::from_utf8(slot.as_ref()?.as_bytes().to_vec()).ok()?)
            }
            Self::File(slot) => Value::String(slot.as_ref()?.to_str()?.to_owned()),
            Self::Policy(slot) => Value::try_from(**slot).ok()?,
        })
    }

    /// A value for an error message.
    pub(super) fn show(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Secret(_), Value::String(secret)) => {
                format!("({} bytes, not shown)", secret.len())
            }
            (Self::Secret(_), _) => "(not a text, not shown)".to_owned(),
            _ => {
                // Long ones are cut: the beginning shows which it is.
                let shown = value.to_string();
                match shown.char_indices().nth(200) {
                    Some((end, _)) => format!("{}...", &shown[..end]),
                    None => shown,
                }
            }
        }
    }

    /// Reads a value from an environment variable or a flag. What cannot be read stays a text,
    /// which [`Field::assign`] then refuses.
    pub(super) fn parse(&self, text: &str) -> Value {
        let whole = || Value::String(text.to_owned());
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let number = |text: &str| text.trim().replace('_', "").parse::<i64>().map(Value::Integer);
        match self {
            Self::Number { .. } => number(text).unwrap_or_else(|_| whole()),
            Self::Cores(_) if text.is_empty() => whole(),
            Self::Cores(_) => {
                parts().map(number).collect::<Result<_, _>>().map_or_else(|_| whole(), Value::Array)
            }
            Self::Flag(_) => text.trim().parse().map_or_else(|_| whole(), Value::Boolean),
            Self::Seeds(_) | Self::Roles(_) => {
                Value::Array(parts().map(|part| Value::String(part.to_owned())).collect())
            }
            Self::Metadata(_) | Self::Counts(_) => {
                let pair = |part: &str| {
                    let (key, value) = part.split_once('=')?;
                    let value = match self {
                        Self::Counts(_) => number(value).ok()?,
                        _ => Value::String(value.to_owned()),
                    };
                    Some((key.to_owned(), value))
                };
                parts().map(pair).collect::<Option<Table>>().map_or_else(whole, Value::Table)
            }
            _ => whole(),
        }
    }
}

fn integer(value: u64) -> Value {
    // Beyond TOML's integers only when set in code, and then out of every range as well.
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn number(value: &Value, min: u64, max: u64) -> Option<u64> {
    let number = u64::try_from(value.as_integer()?).ok()?;
    (min..=max).contains(&number).then_some(number)
}

fn text(value: &Value, check: fn(&str) -> bool) -> Option<String> {
    value.as_str().filter(|text| check(text)).map(str::to_owned)
}

fn texts<C: FromIterator<String>>(
    value: &Value,
    most: usize,
    check: fn(&str) -> bool,
) -> Option<C> {
    let values = value.as_array().filter(|values| values.len() <= most)?;
    values.iter().map(|value| text(value, check)).collect()
}
