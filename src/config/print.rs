//! The configuration as a TOML file that describes every setting.

use super::NodeConfig;
use super::field::Field;
use super::table::{Section, Setting};

/// How many other nodes there are in what is printed of memory.
const PRINTED_PEERS: usize = 2;

impl NodeConfig {
    /// This configuration as a TOML file in which every setting is described, with its default and
    /// its range. [`NodeConfig::from_toml_str`] reads it back, except for the secret, which is left
    /// out.
    pub fn to_toml(&self) -> String {
        let mut config = self.clone();
        let mut default = Self::default();
        let mut out = String::new();
        let mut section = "";
        let relations = self.relations();
        let memory = self.memory_by_setting(PRINTED_PEERS);
        for (setting, usual) in config.settings().into_iter().zip(default.settings()) {
            let (own_section, name) = setting.path.split_once('.').unwrap_or(("", setting.path));
            if !out.is_empty() {
                out.push('\n');
            }
            if own_section != section {
                section = own_section;
                out.push_str(&format!("[{section}]\n"));
            }
            let doc: String = setting.doc.concat();
            comment(&mut out, doc.trim());
            let related = relations.iter().filter(|related| related.path == setting.path);
            let related: String = related.map(|one| format!(", and {}", one.words())).collect();
            comment(
                &mut out,
                &format!("Takes {}{related}. Default: {}.", setting.allowed(), default_of(&usual)),
            );
            if let Some((_, most)) = memory.iter().find(|(path, _)| *path == setting.path) {
                comment(
                    &mut out,
                    &format!("Memory, among {} such nodes: {most}.", PRINTED_PEERS + 1),
                );
            }
            match setting.field.current() {
                Some(_) if matches!(setting.field, Field::Secret(_)) => {
                    out.push_str(&format!("# {name} is set, and not shown\n"));
                }
                Some(value) => out.push_str(&format!("{name} = {value}\n")),
                None => out.push_str(&format!("# {name} is not set\n")),
            }
        }
        out
    }
}

fn default_of(setting: &Setting<'_>) -> String {
    match (setting.shown, setting.field.current()) {
        (Some(words), _) => words.to_owned(),
        (None, Some(value)) => value.to_string(),
        (None, None) => "not set".to_owned(),
    }
}

/// Appends a text as TOML comments of at most 100 characters a line.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split(' ') {
        if width == 0 || width + 1 + word.len() > 100 {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push('\n');
}
