//! `loadgen readme`: the figures in the documents, again from the committed files.

use std::path::Path;

use crate::analysis::quote::documents;
use crate::error::{Attempt, Failure, Result};

/// Writes the figures of `results/` into the documents of the tree at the working directory. With
/// `check` it changes nothing and fails where one differs.
pub fn run(check: bool) -> Result<()> {
    for document in documents(Path::new("."))? {
        let name = document.path.display();
        match document.first_difference() {
            None => println!("unchanged   {name}"),
            Some((line, found, wanted)) if check => {
                let cause = format!("line {line} is\n  {found}\nand the files say\n  {wanted}\n");
                let attempt = format!("find the figures of results/ in {name}");
                let hint = "write them with `cargo run --release -p loadgen -- readme`";
                return Err(Failure::new(attempt, cause).hint(hint));
            }
            Some(_) => {
                let attempt = format!("write {name}");
                std::fs::write(&document.path, &document.wanted).attempting(&attempt)?;
                println!("written     {name}");
            }
        }
    }
    Ok(())
}
