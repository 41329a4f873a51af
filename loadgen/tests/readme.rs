//! Holds the figures in the documents to the files in `results/`.

use std::path::Path;

use loadgen::analysis::quote::{BLOCKS, documents};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree's root")
}

#[test]
fn every_figure_is_what_the_committed_files_say() {
    for document in documents(root()).expect("reads") {
        if let Some((line, found, wanted)) = document.first_difference() {
            panic!(
                "{} line {line} is\n  {found}\nand the files say\n  {wanted}\nwrite it with \
                 `cargo run --release -p loadgen -- readme`",
                document.path.display()
            );
        }
    }
}

#[test]
fn the_readme_has_every_block() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("reads");
    for block in BLOCKS {
        assert!(readme.contains(&format!("<!-- figures:{block} -->\n")), "{block} is missing");
    }
}

/// A figure outside a block is held by nothing.
#[test]
fn no_figure_stands_outside_the_blocks() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("reads");
    let (_, rest) = readme.split_once("\n## Measured\n").expect("a chapter on figures");
    let (chapter, _) = rest.split_once("\n## ").expect("another chapter after it");
    let mut inside = false;
    for line in chapter.lines() {
        if line.starts_with("<!-- ") {
            inside = line.starts_with("<!-- figures:");
        } else if !inside {
            assert!(!line.contains(|c: char| c.is_ascii_digit()), "a figure by hand: {line}");
        }
    }
}

#[test]
fn a_changed_figure_is_noticed() {
    let mut documents = documents(root()).expect("reads");
    let readme = &mut documents[0];
    assert!(readme.found.contains("1.45 s"), "the silence of a cut stands in the table");
    readme.found = readme.found.replace("1.45 s", "0.45 s");
    let (_, found, wanted) = readme.first_difference().expect("a difference");
    assert!(found.contains("0.45 s") && wanted.contains("1.45 s"), "{found} {wanted}");
}
