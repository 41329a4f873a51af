//! What is left out of what a seed draws: to see whether it fails without that as well.

use std::fmt;
use std::str::FromStr;

use super::faults::Fault;

/// Something that a seed may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Faults of one kind.
    Fault(Fault),
    /// Machines that stop for moments all the time.
    Slow,
    /// Machines that start late.
    Late,
    /// A member that advertises a wrong address.
    Misled,
    /// Machines that are set up differently.
    Mixed,
    /// A node of another cluster.
    Outsider,
    /// A node with another one's name.
    Namesake,
    /// Clocks that go back.
    Back,
    /// Other names for who comes back.
    Renames,
    /// A member that is newer than the others.
    Newer,
    /// Somebody who is no node.
    Forger,
    /// The time that work takes.
    Work,
    /// Loss and delays of the network.
    Weather,
    /// More than a few small messages.
    Load,
}

/// What is no fault, by the names that `--without` takes.
const OTHERS: [(&str, Part); 13] = [
    ("slow", Part::Slow),
    ("late", Part::Late),
    ("misled", Part::Misled),
    ("mixed", Part::Mixed),
    ("outsider", Part::Outsider),
    ("namesake", Part::Namesake),
    ("clocks", Part::Back),
    ("renames", Part::Renames),
    ("newer", Part::Newer),
    ("forger", Part::Forger),
    ("work", Part::Work),
    ("weather", Part::Weather),
    ("load", Part::Load),
];

/// All that can be left out, by name.
fn all() -> impl Iterator<Item = (&'static str, Part)> {
    Fault::NAMED.iter().map(|(name, fault)| (*name, Part::Fault(*fault))).chain(OTHERS)
}

/// What is left out of a plan; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without(u32);

impl Without {
    /// This and one thing more each, of all that is not left out yet.
    pub fn one_more(self) -> impl Iterator<Item = Self> {
        (0..all().count()).map(move |place| Self(self.0 | 1 << place)).filter(move |it| *it != self)
    }

    /// What is left out.
    pub fn parts(self) -> impl Iterator<Item = Part> {
        self.named().map(|(_, part)| part)
    }

    fn named(self) -> impl Iterator<Item = (&'static str, Part)> {
        all().enumerate().filter(move |(place, _)| self.0 & 1 << place != 0).map(|(_, part)| part)
    }
}

/// As [`FromStr`] reads it; empty when nothing is left out.
impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.named().map(|(name, _)| name).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Without {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut without = 0;
        for name in text.split(',').filter(|name| !name.is_empty()) {
            let place = all().position(|(known, _)| known == name).ok_or_else(|| {
                let known: Vec<&str> = all().map(|(name, _)| name).collect();
                format!("there is no {name:?} to leave out; there are: {}", known.join(", "))
            })?;
            without |= 1 << place;
        }
        Ok(Self(without))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let without: Without = "crash,weather".parse().unwrap();
        assert_eq!(without.to_string(), "crash,weather");
        assert_eq!("".parse(), Ok(Without::default()));
        assert_eq!(without.one_more().count(), all().count() - 2);
        let every = all().map(|(name, _)| name).collect::<Vec<_>>().join(",");
        assert_eq!(every.parse::<Without>().unwrap().to_string(), every);
        let error = "crash,rain".parse::<Without>().unwrap_err();
        assert!(error.contains("\"rain\"") && error.contains("mass-join"), "{error}");
    }
}
