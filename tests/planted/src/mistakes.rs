//! The list of mistakes, as `mistakes/*.toml` say it.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Stands in `put` where the edited code asks whether this mistake is on.
pub const SWITCH: &str = "PLANTED";

/// The files of the list, one for each layer.
pub const LAYERS: &[&str] = &[
    "base", "hash", "queue", "wire", "member", "route", "ask", "parts", "worker", "links",
    "control", "net", "api",
];

/// One mistake: an edit that makes some code wrong while its switch is on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mistake {
    /// The file of the list that it stands in.
    #[serde(skip)]
    pub layer: &'static str,
    /// Short, with hyphens; by it a mistake is chosen.
    pub name: String,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The source that is edited, from the root of the repository.
    pub file: String,
    /// The text that is found there exactly once.
    pub find: String,
    /// What stands there instead.
    pub put: String,
    /// The test that shall notice it, where the simulator cannot: the test target (`lib`, or a
    /// file of `tests/`) and a filter of test names.
    #[serde(default)]
    pub test: Option<String>,
    /// Why the simulator cannot.
    #[serde(default)]
    pub because: Option<String>,
    /// Shall be noticed by the simulator's scenario of a flapping member.
    #[serde(default)]
    pub flapping: bool,
    /// With it there is no end: that is how it is noticed.
    #[serde(default)]
    pub hangs: bool,
}

/// Who shall notice a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticer<'a> {
    /// The simulator; with a flapping member, or with all other faults.
    Simulator { flapping: bool },
    /// The tests of a target whose names contain the filter.
    Test { target: &'a str, filter: &'a str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mistake: Vec<Mistake>,
}

impl Mistake {
    /// Who shall notice it.
    pub fn noticer(&self) -> Noticer<'_> {
        match self.test.as_deref().map(|test| test.split_once(' ').unwrap_or((test, ""))) {
            Some((target, filter)) => Noticer::Test { target, filter },
            None => Noticer::Simulator { flapping: self.flapping },
        }
    }
}

/// All mistakes, in the order of the layers and of their files.
pub fn load(root: &Path) -> Result<Vec<Mistake>, String> {
    let mut all = Vec::new();
    for layer in LAYERS {
        let path = root.join("tests/planted/mistakes").join(layer).with_extension("toml");
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let list: List =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        all.extend(list.mistake.into_iter().map(|mistake| Mistake { layer, ..mistake }));
    }
    Ok(all)
}
