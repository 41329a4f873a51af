//! Holds the documents to what is there: the README's example is the one of the front page, its
//! links and files exist, its examples and figures can be found.
//!
//! That the example compiles and runs is shown by doctests: `src/lib.rs` includes the README.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The contents of the blocks that are fenced as this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let (mut blocks, mut open) = (Vec::new(), None::<String>);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) if found == language => open = Some(String::new()),
            (None, Some(_)) => open = Some("skipped".to_owned()),
            (Some(block), Some("")) => {
                if !block.starts_with("skipped") {
                    blocks.push(std::mem::take(block));
                }
                open = None;
            }
            (Some(block), _) if !block.starts_with("skipped") => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// All that is read by people, but for what the code says of itself.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/MESSAGES.md",
    "docs/PROTOCOL.md",
    "docs/TESTING.md",
    "docs/guide/testing.md",
];

#[test]
fn the_readme_and_the_front_page_show_the_same_program() {
    let front: String = read("src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let (readme, front) = (blocks(&read("README.md"), "rust"), blocks(&front, ""));
    assert_eq!(readme.len(), 1, "the README has one program");
    assert_eq!(readme, front);
}

#[test]
fn the_readme_has_two_set_up_commands() {
    let readme = read("README.md");
    let (_, set_up) = readme.split_once("## Set-up").expect("there is a chapter on set-up");
    let commands: Vec<String> = blocks(set_up, "sh")[0]
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(command, _)| command).trim().to_owned())
        .collect();
    assert_eq!(commands, ["cargo run --release -p loadgen -- quick", "cargo test --workspace"]);
}

#[test]
fn the_readme_names_every_example() {
    let readme = read("README.md");
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("| `{name}")), "the README does not mention {name}");
    }
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = PathBuf::from(document).parent().unwrap().to_owned();
        for target in links(&text) {
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { document.into() } else { folder.join(file) };
            assert!(root().join(&file).exists(), "{document} links to {target}");
            if !heading.is_empty() {
                let headings = headings(&read(file.to_str().unwrap()));
                assert!(
                    headings.iter().any(|known| known == heading),
                    "{document} links to {target}, but {} has no such heading",
                    file.display()
                );
            }
        }
    }
}

/// Where `[text](target)` leads.
fn links(text: &str) -> Vec<String> {
    text.match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// Headings in the form in which links name them.
fn headings(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn files_that_documents_name_exist() {
    // Source files are named as code: `src/wire/header.rs`, `results/2026-..`.
    let folders = ["src/", "results/", "tests/", "benches/", "docs/", "fuzz/", "loadgen/", ".ci/"];
    for document in DOCUMENTS {
        let text = read(document);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|folder| name.starts_with(folder))
                && !name.contains(|c: char| c.is_whitespace() || "<>*{".contains(c));
            // Braces and stars stand for several; `results/local` is made when it is needed.
            if is_path && !name.starts_with("results/local") {
                assert!(root().join(name).exists(), "{document} names {name}");
            }
        }
    }
}

/// Words in code that are files, and the others.
fn files_and_words(text: &str) -> (Vec<&str>, Vec<&str>) {
    text.split('`').skip(1).step_by(2).partition(|word| word.contains('/'))
}

#[test]
fn everyday_changes_are_made_where_the_table_says() {
    let text = read("docs/ARCHITECTURE.md");
    let (_, chapter) = text.split_once("## Where everyday changes are made").expect("a chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("another after it");
    let rows: Vec<&str> = chapter.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 10, "{rows:#?}");
    for row in rows {
        let (files, words) = files_and_words(row);
        assert!(!files.is_empty() && !words.is_empty(), "{row}");
        let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
        for word in words {
            assert!(texts.iter().any(|text| text.contains(word)), "no {word} in {files:?}");
        }
    }
}

#[test]
fn the_files_of_the_walk_say_what_comes_before_and_after() {
    let text = read("docs/ARCHITECTURE.md");
    let (_, chapter) = text.split_once("## The walk of one message").expect("a chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("another after it");
    let rows = chapter.lines().filter(|line| line.starts_with("| `"));
    let files: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert!(files.len() > 10 && files.contains(&"src/worker/core.rs"), "{files:?}");
    let speaks = |file: &str| {
        let text = read(file);
        let told = text.lines().take(2).collect::<String>();
        text.starts_with("//! Walk of a message")
            && told.contains(" before") | told.contains("starts here")
    };
    let silent: Vec<&str> = files.iter().copied().filter(|file| !speaks(file)).collect();
    assert!(silent.is_empty(), "no word of the walk in {silent:?}");
}
