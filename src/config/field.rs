//! Kinds of settings: where a value is kept, which values it takes, how it is read and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::secret::{SECRET_ALLOWED, Secret};

/// Where a setting is kept, and what it takes.
pub(crate) enum Field<'a> {
    Number(&'a mut dyn Number, u64, u64),
    Cores(&'a mut Option<Vec<usize>>),
    Flag(&'a mut bool),
    Address(&'a mut SocketAddr),
    MaybeAddress(&'a mut Option<SocketAddr>),
    Text(&'a mut String, &'static Rule),
    MaybeText(&'a mut Option<String>, &'static Rule),
    Seeds(&'a mut Vec<String>),
    Roles(&'a mut BTreeSet<String>),
    Metadata(&'a mut BTreeMap<String, String>),
    Counts(&'a mut BTreeMap<String, u32>),
    Secret(&'a mut Option<Secret>),
    File(&'a mut Option<PathBuf>),
    Choice(&'a mut dyn Choice),
}

/// A setting that is one of some names; made by `choice!`.
pub(crate) trait Choice {
    fn names(&self) -> Vec<&'static str>;
    fn chosen(&self) -> &'static str;
    /// False, and nothing changes, when there is no such name.
    fn choose(&mut self, name: &str) -> bool;
}

/// What a text must be like.
pub(crate) struct Rule {
    pub(super) allowed: &'static str,
    check: fn(&str) -> bool,
}

/// The integer types that settings are kept in.
pub(crate) trait Number {
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

pub(super) const CLUSTER: Rule = Rule {
    allowed: "1 to 64 characters of a-z, A-Z, 0-9, `.`, `_` and `-`",
    check: |text| name_of(text, 64, ""),
};
pub(super) const NODE_NAME: Rule = Rule {
    allowed: "1 to 128 characters of a-z, A-Z, 0-9, `.`, `_`, `-`, `:`, `[` and `]`",
    check: |text| name_of(text, 128, ":[]"),
};
pub(super) const VERSION: Rule = Rule {
    allowed: "up to 64 printable ASCII characters",
    check: |text| text.len() <= 64 && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
};
const ADDRESS: &str = "an IP address with a port, such as \"127.0.0.1:7400\" or \"[::1]:7400\"";

/// Seeds that can be given, and addresses to join through that are used of what discovery finds.
pub const MAX_SEEDS: usize = 64;
const MAX_ROLES: usize = 64;
const MAX_METADATA: usize = 64;
pub(super) const MAX_CORE: u64 = 1_023;
/// Members that a cluster can have.
pub const MAX_MEMBERS: u64 = 4_096;
/// The most that a member can weigh.
pub const MAX_WEIGHT: u64 = 1_000;

impl Field<'_> {
    /// The values it takes, in words that complete «it takes ...».
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Number(_, min, max) => format!("an integer from {min} to {max}"),
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
            Self::Choice(slot) => {
                let names = slot.names().into_iter().map(|name| format!("{name:?}"));
                names.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// Takes the value over if it is one of those; else nothing changes.
    pub(crate) fn assign(&mut self, value: &Value) -> bool {
        self.try_assign(value).is_some()
    }

    fn try_assign(&mut self, value: &Value) -> Option<()> {
        // Settings that may be absent are taken away by the empty text: the environment has no
        // other way to say so.
        let unset = value.as_str() == Some("");
        match self {
            Self::Number(slot, min, max) => slot.put(number(value, *min, *max)?),
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
                    let count = number(count, 1, MAX_MEMBERS)? as u32;
                    is_role(role).then(|| (role.clone(), count))
                };
                **slot = table.iter().map(pair).collect::<Option<_>>()?;
            }
            Self::Secret(slot) if unset => **slot = None,
            Self::Secret(slot) => **slot = Some(Secret::new(value.as_str()?).ok()?),
            Self::File(slot) if unset => **slot = None,
            Self::File(slot) => **slot = Some(PathBuf::from(value.as_str()?)),
            Self::Choice(slot) => return slot.choose(value.as_str()?).then_some(()),
        }
        Some(())
    }

    /// The value it has; `None` if it is not set.
    pub(crate) fn current(&self) -> Option<Value> {
        let list = |texts: &mut dyn Iterator<Item = &String>| {
            Value::Array(texts.cloned().map(Value::String).collect())
        };
        Some(match self {
            Self::Number(slot, ..) => integer(slot.get()),
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
                slot.iter()
                    .map(|(role, &count)| (role.clone(), integer(u64::from(count))))
                    .collect(),
            ),
            // Only checked and counted, never printed; a secret that is no text came from code
            // and was checked there.
            Self::Secret(slot) => {
                Value::String(String::from_utf8(slot.as_ref()?.as_bytes().to_vec()).ok()?)
            }
            Self::File(slot) => Value::String(slot.as_ref()?.to_str()?.to_owned()),
            Self::Choice(slot) => Value::String(slot.chosen().to_owned()),
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
            Self::Number(..) => number(text).unwrap_or_else(|_| whole()),
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
