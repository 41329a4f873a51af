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
        (edits(path, setting.path).min(elsewhere), setting.path)
    });
    // More than a third of the letters wrong is another word.
    let (distance, nearest) = keys.chain(sections).min_by_key(|&(distance, _)| distance)?;
    (distance <= 1 + name.len() / 3).then(|| nearest.to_owned())
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
