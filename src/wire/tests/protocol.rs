//! Holds docs/PROTOCOL.md to the code: the tables of frames are what is written and read.

use crate::base::fate::DeathReason;
use crate::base::{HandlerId, MessageTypeId};
use crate::wire::codec::{Fixed, Place};
use crate::wire::header::{FIELDS, HEADER_VERSION, Header, at};
use crate::wire::{Fields, FrameKind, HEADER_BYTES};

/// What the first table of a chapter says in some of its columns, row by row.
pub(in crate::wire) fn table<const N: usize>(
    chapter: &str,
    columns: [&str; N],
) -> Vec<[String; N]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROTOCOL.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(chapter));
    let mut rows = lines.skip_while(|line| !line.starts_with('|')).map_while(cells);
    let titles = rows.next().unwrap_or_else(|| panic!("{chapter} has no table"));
    let places = columns.map(|column| {
        let place = titles.iter().position(|title| title == column);
        place.unwrap_or_else(|| panic!("{chapter} has no column {column}: {titles:?}"))
    });
    rows.skip(1).map(|row| places.map(|place| row[place].clone())).collect()
}

fn cells(row: &str) -> Option<Vec<String>> {
    let inner = row.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
}

/// How a table tells of a field: its offset, its size, its name.
pub(in crate::wire) fn row<T: Fixed>(place: Place<T>, name: &str) -> [String; 3] {
    [place.start().to_string(), T::BYTES.to_string(), name.to_owned()]
}

/// Holds some bytes to the chapter about them: these fields, one after the other, are all there is.
/// Where a table gives an offset or a size that is a number, it is this one.
pub(in crate::wire) fn holds(chapter: &str, bytes: &[u8], fields: &[(&str, &[u8])]) {
    let rows = table(chapter, ["offset", "size", "field"]);
    assert_eq!(rows.len(), fields.len(), "{chapter}: {rows:?}");
    let differs = |cell: &str, number| cell.parse().is_ok_and(|told: usize| told != number);
    let mut rest = bytes;
    for ([offset, size, name], (field, value)) in rows.iter().zip(fields) {
        assert_eq!(name, field, "{chapter}");
        let start = bytes.len() - rest.len();
        assert!(
            !differs(offset, start) && !differs(size, value.len()),
            "{chapter}: {field} at {start}"
        );
        rest =
            rest.strip_prefix(*value).unwrap_or_else(|| panic!("{chapter}: {field} in {rest:?}"));
    }
    assert_eq!(rest, b"", "{chapter}");
}

/// `UnknownHandler` as a table has it.
pub(in crate::wire) fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

#[test]
fn the_header_is_the_documented_one() {
    let header = [
        row(at::LENGTH, "length"),
        row(at::KIND, "version and kind"),
        row(at::FIELDS, "fields"),
        row(at::ZERO, "zero"),
        row(at::MESSAGE, "message"),
        row(at::TARGET, "target"),
    ];
    assert_eq!(table("### Header (16 bytes)", ["offset", "size", "field"]), header);
    assert_eq!((at::TARGET.end(), HEADER_BYTES), (16, 16));
}

#[test]
fn a_header_is_these_bytes() {
    let fields = Fields { deadline_us: Some(1), trace: Some([0; 4]), ..Fields::default() };
    let (message, target) = (MessageTypeId(0x0908_0706), HandlerId(0x0d0c_0b0a));
    let header = Header::new(0x4030_2010, FrameKind::Reply, &fields, message, target);
    let mut bytes = [0xee; HEADER_BYTES];
    header.write(&mut bytes);
    let [version_2_and_kind_3, deadline_and_trace] = [0x23, 0b10010];
    let expected = [
        [0x10, 0x20, 0x30, 0x40],
        [version_2_and_kind_3, deadline_and_trace, 0, 0],
        [6, 7, 8, 9],
        [10, 11, 12, 13],
    ];
    assert_eq!(bytes, *expected.as_flattened());
    assert_eq!(Header::parse(&bytes, u32::MAX), Ok(header));
}

#[test]
fn optional_fields_are_the_documented_ones() {
    let fields = FIELDS.iter().enumerate().map(|(bit, (name, size))| {
        let name = name.trim_end_matches("_us").replace('_', " ");
        [bit.to_string(), size.to_string(), name]
    });
    assert_eq!(table("### Fields", ["bit", "size", "field"]), fields.collect::<Vec<_>>());
}

#[test]
fn kinds_of_frames_are_the_documented_ones() {
    let known = (0..16_u8).filter_map(|number| {
        let mut bytes = [0; HEADER_BYTES];
        at::LENGTH.write(&mut bytes, HEADER_BYTES as u32);
        at::KIND.write(&mut bytes, HEADER_VERSION << 4 | number);
        let kind = Header::parse(&bytes, HEADER_BYTES as u32).ok()?.kind;
        (kind != FrameKind::Unknown).then(|| [number.to_string(), words(&format!("{kind:?}"))])
    });
    let mut documented = table("## Frames", ["kind", "name"]);
    assert_eq!(documented.pop(), Some(["8 to 15".to_owned(), String::new()]));
    assert_eq!(documented, known.collect::<Vec<_>>());
}

#[test]
fn reasons_of_failures_are_the_documented_ones() {
    let reasons =
        DeathReason::ALL.iter().map(|reason| [(*reason as u32).to_string(), words(reason.name())]);
    assert_eq!(table("### Failures", ["code", "name"]), reasons.collect::<Vec<_>>());
}
