//! Holds the source tree to its own rules: who may import whom, what every file begins with, how
//! long it may be, where `unsafe` may stand.
//!
//! The order of the layers is told in `docs/ARCHITECTURE.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. A module imports only from layers before its own; modules that share a line
/// do not know each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["hash", "queue", "config"],
    &["wire"],
    &["member", "route", "ask"],
    &["part"],
    &["worker"],
    &["control"],
    &["net"],
    &["runtime", "sim"],
    &["api", "client"],
    &["admin"],
    &["bin"],
];

/// The front page and its macros: not a layer.
const FRONT: &str = "lib";

const MAX_LINES: usize = 600;

/// Files that may hold `unsafe`.
const UNSAFE: &[&str] = &["queue/reply.rs", "net/flow.rs"];

struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "src holds {} files only: is this the right folder?", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
        }
    }
}

/// The text without comments, strings left as they are.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that some code names, by `use` or by path: `crate::wire::..`,
/// `use crate::{ask, wire::Chunk}`, and from binaries `keyway::..`.
fn named_modules(code: &str, krate: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    let prefix = format!("{krate}::");
    for (at, _) in code.match_indices(&prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => modules.extend(leading_name(rest)),
            Some(group) => modules.extend(group_names(group)),
        }
    }
    modules
}

fn leading_name(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first name of each part of `a, b::{c, d}, e}`.
fn group_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut part) = (1, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            names.extend(leading_name(part.trim_start()));
            part.clear();
        } else {
            part.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why a module may not name another; `None` when it may.
fn objection(from: &str, to: &str) -> Option<String> {
    let (Some(mine), Some(theirs)) = (layer(from), layer(to)) else { return None };
    if from == to || theirs < mine {
        None
    } else if theirs == mine {
        Some(format!("`{from}` and `{to}` stand in one layer and must not know each other"))
    } else {
        Some(format!("`{to}` stands above `{from}`"))
    }
}

#[test]
fn imports_go_down_the_layers_only() {
    let mut objections = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == FRONT {
            continue;
        }
        assert!(
            layer(module).is_some(),
            "src/{module} has no place among the layers; give it one in tests/layers.rs and in \
             docs/ARCHITECTURE.md"
        );
        let code = without_comments(&source.text);
        let named = named_modules(&code, "crate").into_iter();
        let named = named.chain(named_modules(&code, "keyway"));
        for objection in named.filter_map(|named| objection(module, &named)) {
            objections.push(format!("src/{}: {objection}", source.path.display()));
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn every_file_says_its_role_first() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "these files do not begin with a `//!` line: {silent:?}");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");
}

#[test]
fn unsafe_stands_in_few_files_and_says_why_it_is_sound() {
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split_once("//").map_or(*line, |(code, _)| code);
            let is_unsafe = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"];
            if !is_unsafe.iter().any(|form| code.contains(form)) {
                continue;
            }
            let place = format!("src/{}:{}", source.path.display(), index + 1);
            assert!(
                UNSAFE.iter().any(|allowed| source.path == Path::new(allowed)),
                "{place}: `unsafe` stands in {UNSAFE:?} only"
            );
            let above = &lines[index.saturating_sub(8)..index];
            let explained = above.iter().any(|line| line.contains("// SAFETY:"));
            assert!(explained, "{place}: no `// SAFETY:` above this `unsafe`");
        }
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file does not find itself when the rule is widened.
    let marks = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["TO", "DO"].concat()];
    for source in sources() {
        for mark in &marks {
            assert!(!source.text.contains(mark), "src/{}: {mark}", source.path.display());
        }
    }
}

#[test]
fn the_reader_of_imports_sees_them() {
    let code = "use crate::base::{Time, fate::Refusal};\n\
                use crate::{ask, wire::{Chunk, Frame}, queue::ring};\n\
                fn f() -> crate::hash::HashSeed { not_crate::member::f() }";
    let names: Vec<_> = named_modules(code, "crate").into_iter().collect();
    assert_eq!(names, ["ask", "base", "hash", "queue", "wire"]);

    assert_eq!(objection("worker", "route"), None);
    assert_eq!(objection("route", "route"), None);
    assert!(objection("route", "worker").is_some_and(|why| why.contains("above")));
    assert!(objection("route", "member").is_some_and(|why| why.contains("one layer")));
    assert!(objection("worker", "control").is_some());
    assert!(objection("runtime", "sim").is_some());
}
