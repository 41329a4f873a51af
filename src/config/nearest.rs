//! Which setting was probably meant by a name that none has.

use super::NodeConfig;
use super::table::Section;

/// The setting that was probably meant: by its whole path, or by its last part in another section.
pub(super) fn nearest(path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(path);
    let sections = NodeConfig::SECTIONS.iter().map(|&section| (edits(path, section), section));
    let mut default = NodeConfig::default();
    let settings = default.settings();
    let keys = settings.iter().map(|setting| {
        let elsewhere = edits(&name, &last(setting.path)) + 1;
        let unit = UNITS.iter().any(|unit| setting.path.strip_suffix(unit) == Some(path));
        let elsewhere = if unit { 0 } else { elsewhere };
        let reworded = if differ_by_a_word(path, setting.path) { A_WORD } else { usize::MAX };
        (edits(path, setting.path).min(elsewhere).min(reworded), setting.path)
    });
    // More than a third of the letters wrong is another word.
    let (distance, nearest) = keys.chain(sections).min_by_key(|&(distance, _)| distance)?;
    (distance <= 1 + name.len() / 3).then(|| nearest.to_owned())
}

/// What a name may end with that is left out easily.
const UNITS: [&str; 3] = ["_bytes", "_ms", "_us"];

/// As far as a name is with another word in it.
const A_WORD: usize = 2;

/// Whether one word of the name is another, as in `probe_interval_ms` for `probe_period_ms`.
fn differ_by_a_word(from: &str, to: &str) -> bool {
    let words = |name: &str| name.split(['.', '_']).count();
    let pairs = || from.split(['.', '_']).zip(to.split(['.', '_']));
    let others = pairs().filter(|(from, to)| from != to).count();
    words(from) == words(to) && words(from) > 2 && others == 1
}

/// The Levenshtein distance. Long inputs are not worth the time: they are near to nothing.
fn edits(from: &str, to: &str) -> usize {
    if from.len() > 100 {
        return usize::MAX - 1;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_unit_and_a_section_lead_to_what_is_meant() {
        let refusal = |path: &str, value: &str| {
            NodeConfig::default().set(path, value).unwrap_err().to_string()
        };
        for (path, meant) in [
            ("links.max_frame", "links.max_frame_bytes"),
            ("links.handshake_timeout", "links.handshake_timeout_ms"),
            ("workers.spin", "workers.spin_us"),
        ] {
            let expected = format!("there is no setting `{path}`; did you mean `{meant}`?");
            assert_eq!(refusal(path, "1"), expected);
        }
        let section = refusal("workers", "{count=3}");
        assert!(
            section.contains("no value itself") && section.contains("`workers.count`"),
            "{section}"
        );
        let unknown = refusal("qqqqqqqqqqqqqqqq", "1");
        assert!(unknown.contains("to_toml()") && !unknown.contains("keyway node"), "{unknown}");
    }
}
