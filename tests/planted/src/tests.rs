//! Holds the list to the sources as they are, without building anything.

use std::collections::BTreeSet;

use super::*;

/// Mistakes that must be on the list whatever else is.
const KINDS: &[&str] = &[
    "acknowledgement-one-behind",
    "correlation-kept-after-timeout",
    "ask-timer-not-cancelled",
    "removed-life-not-told",
    "digest-without-weight",
    "drained-one-early",
    "outbox-dropped-on-redial",
    "broadcast-skips-the-last",
    "slots-by-place",
    "unreachable-never-cleared",
    "tombstones-forgotten",
    "received-count-kept-over-reconnect",
    "wheel-wraps",
    "empty-proof-accepted",
    "frame-over-the-limit-accepted",
    "refused-chunk-goes-to-the-end",
    "detector-never-gives-up",
    "leave-without-drain",
];

const LEAST: usize = 60;

fn all() -> Vec<Mistake> {
    mistakes::load(&root()).unwrap()
}

#[test]
fn every_text_stands_once_in_its_file_and_the_edited_files_are_rust() {
    let edited = edits::apply(&all(), |file| read(&root(), file)).unwrap();
    assert!(edited.len() > 20);
    for (path, text) in &edited {
        if let Err(error) = syn::parse_file(text) {
            panic!("{path} is not Rust with its mistakes in it: {error}");
        }
    }
}

/// A mistake that is off changes nothing: what a text calls is called by the one in its place too.
#[test]
fn each_text_stands_in_what_is_put_in_its_place() {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let literals = ["_", "true", "Some"];
    for Mistake { name, find, put, .. } in all() {
        let there: BTreeSet<&str> = put.split(|c| !is_part(c)).collect();
        let lost = find.split(|c| !is_part(c)).find(|word| {
            let is_name = !word.starts_with(|c: char| c.is_ascii_digit());
            is_name && !literals.contains(word) && !there.contains(word)
        });
        assert_eq!(lost, None, "{name} leaves it out also while it is off");
    }
}

#[test]
fn names_are_short_and_each_is_given_once() {
    let mut names = BTreeSet::new();
    for Mistake { name, what, .. } in all() {
        assert!(name.len() <= 48, "{name} is long");
        assert!(
            name.chars().all(|c| c.is_ascii_lowercase() || "-0123456789".contains(c)),
            "{name}"
        );
        assert!(what.ends_with('.') && what.len() <= 140, "{name}: one sentence, not too long");
        assert!(names.insert(name.clone()), "two mistakes are called {name}");
    }
}

#[test]
fn the_list_has_every_layer_and_every_kind_that_must_be_there() {
    let all = all();
    assert!(all.len() >= LEAST, "only {} mistakes", all.len());
    for layer in mistakes::LAYERS {
        assert!(all.iter().any(|one| one.layer == *layer), "no mistake in {layer}");
    }
    for kind in KINDS {
        assert!(all.iter().any(|one| one.name == *kind), "no mistake of the kind {kind}");
    }
}

#[test]
fn whoever_asks_a_test_says_why_the_simulator_cannot_tell() {
    let all = all();
    for one in &all {
        assert_eq!(one.test.is_some(), one.because.is_some(), "{}: test and because", one.name);
        if let Noticer::Test { target, filter } = one.noticer() {
            assert!(!filter.is_empty() && !one.flapping, "{}", one.name);
            let path = root().join("tests").join(target).with_extension("rs");
            assert!(target == "lib" || path.is_file(), "{}: no test target {target}", one.name);
        }
    }
}

/// The source of the module that a test's name begins with, or of the nearest one around it that has
/// a file of its own, with those that it names by their paths.
fn source_of(target: &str, modules: &[&str]) -> String {
    let top = match target {
        "lib" => "src".to_owned(),
        _ => format!("tests/{target}"),
    };
    for length in (0..=modules.len()).rev() {
        let module = [&[&*top], &modules[..length]].concat().join("/");
        for path in [format!("{module}.rs"), format!("{module}/mod.rs")] {
            let Ok(source) = read(&root(), &path) else { continue };
            let folder = root().join(&path).parent().expect("a folder").to_owned();
            let elsewhere = source.split("#[path = \"").skip(1).filter_map(|rest| {
                let (file, _) = rest.split_once('"')?;
                read(&folder, file).ok()
            });
            return elsewhere.collect::<String>() + &source;
        }
    }
    panic!("no source of {modules:?} in {top}");
}

#[test]
fn every_test_that_is_asked_stands_where_its_name_says() {
    for one in all() {
        let Noticer::Test { target, filter } = one.noticer() else { continue };
        let mut modules: Vec<&str> = filter.split("::").collect();
        let test = modules.pop().expect("a name");
        let function = format!("fn {test}");
        let source = source_of(target, &modules);
        assert!(source.contains(&function), "{}: no `{function}` for '{filter}'", one.name);
    }
}

#[test]
fn the_table_of_the_last_run_shows_mistakes_that_are_on_the_list() {
    let text = read(&root(), "docs/TESTING.md").unwrap();
    let (_, chapter) = text.split_once("\n## Planted mistakes\n").expect("a chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("another after it");
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    let mut layer = "";
    let mut shown = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [of, name, by, ..] = cells[..] else { panic!("{row}: too few cells") };
        layer = if of.is_empty() { layer } else { of };
        let known = all().iter().any(|one| one.layer == layer && one.name == name);
        assert!(known, "no mistake {name} in {layer}.toml");
        assert!(!by.is_empty(), "{name}: noticed by nobody");
        assert!(shown.insert(name), "{name} is shown twice");
    }
    assert!(shown.len() >= LEAST, "only {} mistakes are shown", shown.len());
}

fn mistake(name: &str, find: &str, put: &str) -> Mistake {
    let [name, what, find, put] = [name, "", find, put].map(str::to_owned);
    let file = "src/base/mod.rs".to_owned();
    let (test, because, flapping, hangs) = (None, None, false, false);
    Mistake { layer: "ask", name, what, file, find, put, test, because, flapping, hangs }
}

fn applied(mistakes: &[Mistake]) -> Result<String, String> {
    let mut edited = edits::apply(mistakes, |_| Ok("a(b, c); d(b);".to_owned()))?;
    Ok(edited.remove("src/base/mod.rs").unwrap())
}

#[test]
fn edits_ask_for_their_own_switch() {
    let two = [mistake("one", "d(b)", "d(b + PLANTED)"), mistake("two", "c", "PLANTED")];
    let text = applied(&two).unwrap();
    let on = |number| format!("crate::base::planted::on({number})");
    assert_eq!(text, format!("a(b, {}); d(b + {});\npub mod planted;\n", on(1), on(0)));
}

#[test]
fn edits_that_no_longer_fit_are_refused() {
    let refused = |mistakes: &[Mistake]| applied(mistakes).unwrap_err();
    assert!(refused(&[mistake("one", "e", "PLANTED")]).contains("stands 0 times"));
    assert!(refused(&[mistake("one", "b", "PLANTED")]).contains("stands 2 times"));
    assert!(refused(&[mistake("one", "c", "d")]).contains("does not ask"));
    let two = [mistake("one", "(b, c)", "PLANTED"), mistake("two", "c);", "PLANTED")];
    assert!(refused(&two).contains("one and two edit the same text"));
}

#[test]
fn a_run_without_an_end_notices_only_what_is_known_to_have_none() {
    let hung = || Verdict::Hangs { what: "a test: no end".to_owned(), seeds: None };
    let mut known = mistake("known", "", "PLANTED");
    known.hangs = true;
    let other = mistake("other", "", "PLANTED");
    let took = std::time::Duration::from_secs(1);
    let noticed = Verdict::Noticed { by: "a test".to_owned(), seeds: None };
    let rows = [
        Row::new(&known, hung(), took),
        Row::new(&other, hung(), took),
        Row::new(&other, noticed, took),
        Row::new(&known, Verdict::Unnoticed, took),
    ];
    let seen = rows.each_ref().map(|row| (row.is_noticed(), row.hangs()));
    assert_eq!(seen, [(true, false), (false, true), (true, false), (false, false)]);
    assert_eq!(rows[1].line(), "other: UNDECIDED: it hangs: a test: no end");
    let sum = "4 mistakes planted, 1 unnoticed, 1 undecided: they hang; try them again where nothing \
               else runs";
    assert_eq!(report::sum(&rows), sum);
}
