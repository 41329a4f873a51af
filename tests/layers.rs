//! Holds the source tree to its own rules: who may import whom, also among the files of one folder,
//! what every file begins with, how long it may be, where `unsafe` may stand.
//!
//! The order of the layers is told in `docs/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
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
    &["api", "testing"],
    &["admin"],
    &["bin"],
];

/// The front page and its macros: not a layer.
const FRONT: &str = "lib";

const MAX_LINES: usize = 600;

/// Folders some of whose modules still import each other in a circle, with these modules. None may
/// be added, and what is out of the circle is taken off.
const CIRCLES: &[(&str, &[&str])] =
    &[("sim", &["invariants", "ledger", "load", "process", "world"])];

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
fn documents_list_the_same_layers() {
    let read =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let readme = read("README.md");
    let (_, told) = readme.split_once("the library, in layers: ").unwrap();
    let (told, _) = told.split_once("macros/").unwrap();
    let told: Vec<Vec<&str>> =
        told.split('|').map(|layer| layer.split(',').map(str::trim).collect()).collect();
    assert_eq!(told, LAYERS);

    let architecture = read("docs/ARCHITECTURE.md");
    let (_, chapter) = architecture.split_once("| layer | what it knows |").unwrap();
    let rows = chapter.lines().skip(2).map_while(|row| row.strip_prefix("| `"));
    let told: Vec<Vec<&str>> = rows
        .map(|row| row.split('|').next().unwrap().split(',').map(name_in_code).collect())
        .collect();
    assert_eq!(told, LAYERS);
}

fn name_in_code(text: &str) -> &str {
    text.trim_matches([' ', '`'])
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

/// A module as its names from the crate's root: `["wire", "handshake", "error"]`.
type Module = Vec<String>;

/// What the modules of one tree import from each other, tests left out.
struct Imports {
    code: BTreeMap<Module, String>,
    /// By module: under which names it shows what its submodules define.
    shown: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Imports {
    fn of(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let code: BTreeMap<Module, String> = files
            .into_iter()
            .map(|(path, text)| (module_of(&path), without_tests(&without_comments(&text))))
            .filter(|(module, _)| !is_test(module))
            .collect();
        let mut shown: BTreeMap<Module, BTreeMap<String, Module>> = BTreeMap::new();
        for (module, text) in &code {
            for path in used_paths(text) {
                let inner = path.strip_prefix("self::").unwrap_or(&path);
                let names: Module = inner.split("::").map(str::to_owned).collect();
                if code.contains_key(&[module.as_slice(), &names[..1]].concat()) {
                    let last = names.last().unwrap().clone();
                    shown.entry(module.clone()).or_default().insert(last, names);
                }
            }
        }
        Self { code, shown }
    }

    /// The module that a path in `from` leads to; `None` for what is outside of this tree.
    fn resolve(&self, from: &[String], path: &str) -> Option<Module> {
        let mut names: Vec<String> = path.split("::").map(str::to_owned).collect();
        let mut module = match names[0].as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.to_vec(),
            _ => return None,
        };
        while let Some(first) = names.first().cloned() {
            let inner = [module.as_slice(), std::slice::from_ref(&first)].concat();
            if first == "super" {
                module.pop()?;
            } else if self.code.contains_key(&inner) {
                module = inner;
            } else if first != "crate" && first != "self" {
                let Some(shown) = self.shown.get(&module).and_then(|shown| shown.get(&first))
                else {
                    break;
                };
                names.splice(..1, shown.iter().cloned());
                continue;
            }
            names.remove(0);
        }
        Some(module)
    }

    /// By folder: which of its modules, each with all below it, imports which other.
    fn between_siblings(&self) -> BTreeMap<Module, BTreeSet<(String, String)>> {
        let mut edges: BTreeMap<Module, BTreeSet<(String, String)>> = BTreeMap::new();
        for (from, text) in &self.code {
            for path in used_paths(text) {
                let Some(to) = self.resolve(from, &path) else { continue };
                let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
                if let (true, Some(one), Some(other)) =
                    (common > 0, from.get(common), to.get(common))
                {
                    let edge = (one.clone(), other.clone());
                    edges.entry(from[..common].to_vec()).or_default().insert(edge);
                }
            }
        }
        edges
    }

    /// The modules of each folder from which imports lead back to themselves.
    fn circles(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found = BTreeMap::new();
        for (folder, edges) in self.between_siblings() {
            let reached = |from: &String| {
                let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
                while let Some(at) = open.pop() {
                    for (_, to) in edges.iter().filter(|(one, _)| one == at) {
                        if reached.insert(to) {
                            open.push(to);
                        }
                    }
                }
                reached.contains(from)
            };
            let modules: BTreeSet<String> =
                edges.iter().map(|(one, _)| one).filter(|one| reached(one)).cloned().collect();
            if !modules.is_empty() {
                found.insert(folder.join("/"), modules);
            }
        }
        found
    }
}

fn module_of(path: &Path) -> Module {
    let path = path.with_extension("");
    let mut names: Module = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| last == "mod" || last == FRONT) {
        names.pop();
    }
    names
}

fn is_test(module: &[String]) -> bool {
    module.iter().any(|name| name == "tests" || name == "testnet")
}

fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Every path that some code names from `crate`, `self` or `super` on, groups of `use` taken apart,
/// and what `use` says without any of these.
fn used_paths(code: &str) -> Vec<String> {
    let (mut paths, mut rest) = (Vec::new(), String::new());
    let mut code = code;
    while let Some(at) = next_word(code, "use ") {
        rest += &code[..at];
        let end = code[at..].find(';').map_or(code.len(), |end| at + end);
        paths.extend(taken_apart(&code[at + 4..end]));
        code = &code[end..];
    }
    rest += code;
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(root) {
            if !rest[..at]
                .ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
            {
                let path = &rest[at..];
                let end = path.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
                paths.push(path[..end.unwrap_or(path.len())].trim_end_matches(':').to_owned());
            }
        }
    }
    paths
}

fn next_word(code: &str, word: &str) -> Option<usize> {
    let is_free = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(word).map(|(at, _)| at).find(|at| is_free(*at))
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn taken_apart(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split_whitespace().collect()];
    };
    let before: String = before.split_whitespace().collect();
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| taken_apart(part)).map(|part| format!("{before}{part}")).collect()
}

#[test]
fn no_modules_of_one_folder_import_each_other_in_a_circle() {
    let imports = Imports::of(sources().into_iter().map(|source| (source.path, source.text)));
    assert!(imports.between_siblings().len() > 10, "are imports still found?");
    let mut found = imports.circles();
    for (folder, modules) in CIRCLES {
        let here: BTreeSet<String> = modules.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            found.remove(*folder).unwrap_or_default(),
            here,
            "in src/{folder}: see `CIRCLES`"
        );
    }
    assert!(found.is_empty(), "modules that import each other in a circle, by folder: {found:#?}");
}

#[test]
fn the_worker_reads_from_the_bottom_up_as_its_front_page_says() {
    const FOLDER: &str = "worker";
    let sources = sources();
    let front = sources.iter().find(|source| source.path == Path::new("worker/mod.rs")).unwrap();
    let lines = front.text.lines().map_while(|line| line.strip_prefix("//!"));
    let list = lines.filter(|line| line.starts_with(" - ") || line.starts_with("   "));
    let told: Vec<&str> = list.flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
    let place = |name: &str| match told.iter().position(|told| *told == name) {
        Some(place) => place,
        None => panic!("src/worker/mod.rs does not say where `{name}` stands"),
    };
    let imports = Imports::of(sources.iter().map(|it| (it.path.clone(), it.text.clone())));
    let folder = vec![FOLDER.to_owned()];
    for (from, to) in &imports.between_siblings()[&folder] {
        assert!(place(to) < place(from), "`{to}` stands above `{from}`, which imports it");
    }
    let mut files = BTreeSet::from(["Worker"]);
    for (from, text) in imports.code.iter().filter(|(from, _)| from.starts_with(&folder)) {
        let Some(name) = from.get(1) else { continue };
        files.insert(name);
        let leads_to_front = |path: &String| imports.resolve(from, path).as_ref() == Some(&folder);
        if used_paths(text).iter().any(leads_to_front) {
            assert!(place(name) > place("Worker"), "`{name}` stands below `Worker`, and names it");
        }
    }
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), files);
}

#[test]
fn circles_are_found_whatever_way_the_import_is_written() {
    let circle = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| (path.into(), (*text).to_owned()));
        Imports::of(files).circles()
    };
    let modules = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let front =
        ("a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use self::two::{Two as T};");
    for (one, two) in [
        ("use super::two::Two;", "use super::one::One;"),
        ("use super::{two::{Two, x}};", "use crate::a::One;"),
        ("fn f() -> super::two::Two {}", "fn g(_: crate::a::one::One) {}"),
    ] {
        let found = circle(&[front, ("a/one.rs", one), ("a/two.rs", two)]);
        assert_eq!(found, BTreeMap::from([("a".to_owned(), modules(&["one", "two"]))]), "{one}");
    }
    // Through a third, and from a file below.
    let found = circle(&[
        ("a/mod.rs", ""),
        ("a/one.rs", ""),
        ("a/one/deep.rs", "use super::super::two::X;"),
        ("a/two.rs", "use super::three;"),
        ("a/three.rs", "use super::one;"),
        ("a/four.rs", "use super::one;"),
    ]);
    assert_eq!(found, BTreeMap::from([("a".to_owned(), modules(&["one", "three", "two"]))]));
    // Tests, comments and parents make none.
    let found = circle(&[
        ("a/mod.rs", "use one::One;\nuse crate::b::B;"),
        ("a/one.rs", "use super::two::Two;\nuse super::A;"),
        (
            "a/two.rs",
            "// use super::one::One;\n#[cfg(test)]\nmod tests {\n use super::super::one; }",
        ),
        ("b/mod.rs", "use crate::a::A;"),
    ]);
    assert_eq!(found, BTreeMap::new());
}

/// The types of a source that are errors, and of these the ones that `main` would print as a struct.
fn errors_by_debug(code: &str) -> (usize, Vec<String>) {
    let (mut count, mut found) = (0, Vec::new());
    for derive in code.split("#[derive(").skip(1) {
        let Some((traits, rest)) = derive.split_once(")]") else { continue };
        let traits: BTreeSet<&str> = traits.split(',').map(str::trim).collect();
        if !traits.contains("thiserror::Error") && !traits.contains("Error") {
            continue;
        }
        let words = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
        let name = words.skip_while(|word| !["enum", "struct"].contains(word)).nth(1);
        let name = name.unwrap_or_default().to_owned();
        count += 1;
        let calls = code.split("debug_as_display!(").skip(1);
        let named = calls
            .filter_map(|call| call.split_once(')'))
            .any(|(types, _)| types.split(',').any(|of| of.trim() == name));
        // One that is of any type writes the same by hand.
        let by_hand = code.contains(&format!("fmt::Debug for {name}<T>"));
        if traits.contains("Debug") || !named && !by_hand {
            found.push(name);
        }
    }
    (count, found)
}

#[test]
fn an_error_that_main_returns_is_printed_in_words() {
    let mut errors = 0;
    for source in sources().iter().filter(|source| source.module() != "bin") {
        let (count, wrong) = errors_by_debug(&without_comments(&source.text));
        errors += count;
        assert!(wrong.is_empty(), "{}: {wrong:?} need `debug_as_display!`", source.path.display());
    }
    assert!(errors > 30, "{errors} found only");
    let of = |derives: &str, rest: &str| {
        errors_by_debug(&format!(
            "#[derive({derives})]\n#[error(\"x\")]\npub enum Odd {{}}\n{rest}"
        ))
        .1
    };
    assert_eq!(of("Debug, thiserror::Error", ""), ["Odd"]);
    assert_eq!(of("Clone, Error", "debug_as_display!(Other);"), ["Odd"]);
    assert!(of("Clone, Error", "debug_as_display!(Other, Odd);").is_empty());
}
