//! What the compiler says when something is missing: it names the remedy.
//!
//! Run with `TRYBUILD=overwrite` to take down what it says now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// By program, the words of ours without which its error would not help.
const REMEDIES: [(&str, &[&str]); 11] = [
    ("float_key", &["`value.to_bits()`", "implement `HashKey` for it", "`router.key("]),
    ("future_reply", &["`cx.reply_later()`", "a future is no reply", "hand it to `AsyncReplies`"]),
    ("hooks", &["name the function to call: `started = Self::on_started`"]),
    ("keys", &["`#[message(key = field)]`, or none, `#[message(no_key)]`"]),
    ("misplaced", &["`#[message(name = \"...\", key = id)]`", "`#[routee(handles(A, B))]`"]),
    ("no_layout_inside", &["add `#[derive(keyway::Layout)]`", "take a `BTreeMap`"]),
    ("no_rkyv", &["add `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]` to it"]),
    ("not_a_routee", &["add `#[derive(keyway::Routee)]` and `#[routee(handles(...))]`"]),
    ("overaligned", &["take `align` out of its `#[rkyv(attr(repr(...)))]`", "convert it"]),
    ("recursive", &["Send a flat list instead, whose entries name their parent by index"]),
    ("recursive_by_others", &["Send a flat list whose entries name their parent by index"]),
];

/// The compiler has no place for words of ours there: what it says leads to them.
const FOUND: (&str, &str) = ("async_handle", "found future");

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the compiler says of a program. A text of several lines is one line of words.
fn says(program: &str) -> String {
    let said = read(&format!("tests/compile_errors/{program}.stderr"));
    let lines = said.lines().map(|line| line.trim_start_matches([' ', '|', '/']).trim());
    let lines = lines.map(|line| line.strip_prefix("///").unwrap_or(line).trim());
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn errors_name_the_remedy() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}

#[test]
fn the_remedies_are_in_what_the_compiler_says() {
    for (program, remedies) in REMEDIES {
        let said = says(program);
        for remedy in remedies {
            assert!(said.contains(remedy), "{program} does not say {remedy:?}:\n{said}");
        }
    }
    let programs =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors"));
    let programs: BTreeSet<PathBuf> =
        programs.unwrap().map(|entry| entry.unwrap().path()).collect();
    let programs = programs.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    let programs: Vec<&str> =
        programs.map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    let mut held: Vec<&str> = REMEDIES.iter().map(|(program, _)| *program).collect();
    held.push(FOUND.0);
    held.sort_unstable();
    assert_eq!(programs, held, "each program has its remedy here");
}

#[test]
fn who_looks_up_what_the_compiler_says_of_an_async_handler_finds_the_remedy() {
    let (program, found) = FOUND;
    assert!(says(program).contains(found));
    let source = read("src/worker/handler.rs");
    let (documents, _) = source.split_once("pub trait Handler<").unwrap();
    let (_, documents) = documents.rsplit_once("\n\n").unwrap();
    for words in [found, "`handle` is not `async`", "reply_later", "AsyncReplies"] {
        assert!(documents.contains(words), "{words:?} is not in the documents of `Handler`");
    }
}
