//! Puts mistakes into sources.

use std::collections::BTreeMap;

use crate::mistakes::{Mistake, SWITCH};

/// Where the switch stands in the copied tree.
pub const SWITCH_FILE: &str = "src/base/planted.rs";

/// The variable that names the mistake that is on.
pub const VARIABLE: &str = "KEYWAY_PLANTED";

/// The edited files, by path. `read` gives a file's text as it is.
pub fn apply(
    mistakes: &[Mistake],
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut edited = BTreeMap::new();
    for file in mistakes.iter().map(|mistake| mistake.file.as_str()) {
        if edited.contains_key(file) {
            continue;
        }
        let own = mistakes.iter().enumerate().filter(|(_, mistake)| mistake.file == file);
        edited.insert(file.to_owned(), edit(&read(file)?, own)?);
    }
    let modules = "src/base/mod.rs";
    let text = edited.remove(modules).map_or_else(|| read(modules), Ok)?;
    edited.insert(modules.to_owned(), text + "\npub mod planted;\n");
    edited.insert(SWITCH_FILE.to_owned(), switch(mistakes));
    Ok(edited)
}

/// A text with these mistakes of it, each with its number. All are looked up in the text as it is,
/// so that none depends on another.
fn edit<'a>(
    text: &str,
    mistakes: impl Iterator<Item = (usize, &'a Mistake)>,
) -> Result<String, String> {
    let mut places = Vec::new();
    for (number, mistake) in mistakes {
        let Mistake { name, file, find, put, .. } = mistake;
        let mut found = text.match_indices(find.as_str());
        let (Some((from, _)), None) = (found.next(), found.next()) else {
            let times = text.matches(find.as_str()).count();
            return Err(format!(
                "mistake {name}: its text stands {times} times in {file}, and must stand there \
                 once; renew `find`:\n{find}"
            ));
        };
        if !put.contains(SWITCH) {
            return Err(format!("mistake {name}: `put` does not ask for {SWITCH}"));
        }
        let put = put.replace(SWITCH, &format!("crate::base::planted::on({number})"));
        places.push((from, from + find.len(), put, name));
    }
    places.sort_by_key(|(from, ..)| *from);
    let (mut edited, mut done, mut before) = (String::new(), 0, "");
    for (from, to, put, name) in &places {
        if *from < done {
            return Err(format!("mistakes {before} and {name} edit the same text"));
        }
        edited += &text[done..*from];
        edited += put;
        (done, before) = (*to, name.as_str());
    }
    Ok(edited + &text[done..])
}

/// The source of the switch: reads the variable once.
fn switch(mistakes: &[Mistake]) -> String {
    let names: String =
        mistakes.iter().map(|mistake| format!("    {:?},\n", mistake.name)).collect();
    format!(
        r#"//! Which planted mistake is on.

use std::sync::OnceLock;

const NAMES: &[&str] = &[
{names}];

/// Whether the mistake with this number is.
pub fn on(number: usize) -> bool {{
    static ON: OnceLock<Option<usize>> = OnceLock::new();
    let on = ON.get_or_init(|| {{
        let name = std::env::var("{VARIABLE}").ok()?;
        Some(NAMES.iter().position(|one| *one == name).expect("a mistake of this name"))
    }});
    *on == Some(number)
}}
"#
    )
}
