//! Which seeds are run, and how many nodes each has.

use std::process::Command;
use std::str::FromStr;
use std::time::SystemTime;

/// How many nodes there are from the start: a number, or a range from which each seed takes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nodes {
    least: u16,
    most: u16,
}

impl Nodes {
    /// Those of a seed: one after the other has one more.
    pub fn of(self, seed: u64) -> u16 {
        let choices = u64::from(self.most - self.least) + 1;
        self.least + (seed % choices) as u16
    }
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|it| (1..=200).contains(it));
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Self { least, most }),
            _ => Err("must be a number from 1 to 200, or a range of such as 3-9".to_owned()),
        }
    }
}

const DAY_SECONDS: u64 = 86_400;

/// The first seed of this day for the commit that is checked out; of the day alone where there is
/// none.
pub fn fresh_seed() -> u64 {
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = head.map(|output| output.stdout).unwrap_or_default();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    first_seed(&commit, since.as_secs() / DAY_SECONDS)
}

/// So that a person can type it, and no two ranges are likely to meet.
fn first_seed(commit: &[u8], day: u64) -> u64 {
    let mut hash = day.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in commit {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 24) % 1_000_000_000 * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_a_range_have_every_number_of_nodes() {
        let nodes: Nodes = "3-9".parse().unwrap();
        let of: Vec<u16> = (0..8).map(|seed| nodes.of(seed)).collect();
        assert_eq!(of, [3, 4, 5, 6, 7, 8, 9, 3]);
        assert_eq!("5".parse::<Nodes>().unwrap().of(17), 5);
        for wrong in ["", "0", "201", "9-3", "3-", "x", "3-9-12"] {
            assert!(wrong.parse::<Nodes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_day_and_each_commit_has_seeds_of_its_own() {
        let (one, other) = (first_seed(b"one", 20_000), first_seed(b"other", 20_000));
        assert_ne!(one, other);
        assert_ne!(one, first_seed(b"one", 20_001));
        assert_eq!(one, first_seed(b"one", 20_000));
    }
}
