//! Tables for people.

use std::collections::BTreeMap;

use keyway::admin::report::{
    CountsReport, MemberReport, MembersReport, Reported, RoutersReport, ServiceReport,
    StrangersReport,
};
use serde_json::Value;

/// Names of members in one line.
const SHOWN_NAMES: usize = 10;

pub(crate) fn members(report: &MembersReport) -> String {
    let mut rows = vec![
        ["NAME", "ADDRESS", "STATE", "WORKERS", "BUSY", "WEIGHT", "ROLES", "VERSION"]
            .map(str::to_owned),
    ];
    rows.extend(report.members.iter().map(|member| {
        let me = if member.name == report.me { " (asked)" } else { "" };
        [
            format!("{}{me}", member.name),
            member.address.to_string(),
            state(member),
            member.workers.to_string(),
            busy(member),
            member.weight.to_string(),
            or_dash(member.roles.iter().cloned().collect::<Vec<_>>().join(",")),
            or_dash(member.app_version.clone()),
        ]
    }));
    table(&rows) + &services(report)
}

/// Who serves what on which workers: members that do the same stand in one line, also those that
/// cannot be reached. Where not all who serve a path take the same messages, those that only some
/// take follow.
fn services(report: &MembersReport) -> String {
    let names = report.members.iter().map(|member| match member.reachable {
        true => member.name.clone(),
        false => format!("{} (unreachable)", member.name),
    });
    let names: Vec<String> = names.collect();
    let mut paths: BTreeMap<&str, Vec<(&str, &ServiceReport)>> = BTreeMap::new();
    for (member, name) in report.members.iter().zip(&names) {
        for (path, service) in &member.services {
            paths.entry(path).or_default().push((name, service));
        }
    }
    if paths.is_empty() {
        return String::new();
    }
    let mut rows = vec![["PATH", "SERVED ON", "MEMBERS"].map(str::to_owned)];
    for (path, servers) in &paths {
        let not_by_all = not_taken_by_all(servers);
        let mark = if not_by_all.is_empty() { "" } else { " (differs)" };
        let mut placements: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, service) in servers {
            placements.entry(&service.placement).or_default().push(name);
        }
        rows.extend(placements.iter().map(|(placement, names)| {
            [format!("{path}{mark}"), placement.to_string(), first_names(names)]
        }));
        rows.extend(not_by_all.iter().map(|(message, names)| {
            [format!("  {message}"), "taken by".to_owned(), first_names(names)]
        }));
    }
    format!("\n{}", table(&rows))
}

/// The messages, as `name#layout`, that some servers of a path take and others do not.
fn not_taken_by_all<'a>(
    servers: &[(&'a str, &'a ServiceReport)],
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut takers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in servers {
        for message in &service.messages {
            takers.entry(message).or_default().push(name);
        }
    }
    takers.retain(|_, names| names.len() < servers.len());
    takers
}

fn first_names(names: &[&str]) -> String {
    let shown = names[..names.len().min(SHOWN_NAMES)].join(", ");
    match names.len().saturating_sub(SHOWN_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// As the member said last, so that it may be a second old.
fn busy(member: &MemberReport) -> String {
    let share = member.busy_per_mille.map(|share| format!("{} %", (share + 5) / 10));
    let share = share.unwrap_or_else(|| "-".to_owned());
    if member.stuck { format!("{share}, stuck") } else { share }
}

fn state(member: &MemberReport) -> String {
    let state = format!("{:?}", member.state).to_lowercase();
    let state = match (member.reachable, member.damped_ms) {
        (false, _) => format!("{state}, unreachable"),
        (true, Some(left)) => format!("{state}, damped for {} s", left.div_ceil(1_000)),
        (true, None) => state,
    };
    match &member.trouble {
        Some(trouble) => format!("{state}, {trouble}"),
        None => state,
    }
}

pub(crate) fn routers(report: &RoutersReport) -> String {
    if report.routers.is_empty() {
        return "the node has no routers\n".to_owned();
    }
    let mut rows = vec![["PATH", "STRATEGY", "ROUTEES", "TABLE"].map(str::to_owned)];
    rows.extend(report.routers.iter().map(|router| {
        [
            router.path.clone(),
            router.strategy.clone(),
            router.routees.to_string(),
            router.table_digest.clone(),
        ]
    }));
    table(&rows)
}

pub(crate) fn counts(report: &CountsReport) -> String {
    let mut rows = vec![];
    for (names, count) in report.each() {
        rows.push(line(names.row, count.total()));
        if let Reported::By(_, counts) = count {
            rows.extend(reasons(counts));
        }
        if names.name == "unknown" {
            // What is left of those sent, when all their ends are told.
            rows.push(line("  in flight", report.in_flight));
        }
    }
    table(&rows)
}

/// Only those that happened.
fn reasons(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = [String; 2]> {
    let happened = counts.iter().filter(|(_, count)| **count > 0);
    happened.map(|(reason, count)| line(&format!("    {}", reason.replace('_', " ")), *count))
}

pub(crate) fn strangers(report: &StrangersReport) -> String {
    table(&[
        line("connections accepted", report.accepted),
        line("connections refused", report.refused),
        line("connections turned away", report.turned_away),
        line("looks of members at the port", report.looked),
        line("datagrams taken", report.datagrams_taken),
        line("datagrams not of this cluster", report.datagrams_not_ours),
        line("datagrams malformed", report.datagrams_malformed),
        line("datagrams skipped, of newer nodes", report.datagrams_skipped),
        line("datagrams for parts, of no members", report.datagrams_no_members),
        line("own datagrams that were not sent", report.datagrams_unsent),
        line("control frames skipped, of newer nodes", report.control_frames_skipped),
        line("times this node was taken for dead", report.renewals),
        line("times this node gave a member up", report.verdicts),
        line("member records refused, name in use", report.names_refused),
        line("member records without room", report.not_listed),
    ])
}

fn line(what: &str, count: u64) -> [String; 2] {
    [what.to_owned(), count.to_string()]
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Columns as wide as they must be. Numbers stand at the right.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let numeric: [bool; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| &row[column]);
        column > 0 && cells.skip(1).all(|cell| cell.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if column > 0 {
                line.push_str("  ");
            }
            if numeric[column] {
                line.push_str(&format!("{cell:>width$}"));
            } else {
                line.push_str(&format!("{cell:<width$}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A field of an answer, in words.
pub(crate) fn text(answer: &Value, field: &str) -> String {
    match &answer[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Who answered.
pub(crate) fn place(answer: &Value) -> String {
    format!("node {}, worker {}", text(answer, "node"), text(answer, "worker"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{COUNTER_PATH, ECHO_PATH};

    #[test]
    fn columns_line_up() {
        let rows = [["NAME", "N"], ["a", "10"], ["longer", "9"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "NAME     N\na       10\nlonger   9\n");
    }

    #[test]
    fn every_count_is_printed_with_the_reasons_that_happened() {
        let empty = CountsReport::from(keyway::Counts::default());
        let rows = |report: &CountsReport| -> Vec<String> {
            counts(report).lines().map(|row| row.split_whitespace().collect()).collect()
        };
        let names = || keyway::Counts::NAMES.map(|names| names.row.replace(' ', ""));
        let all = rows(&empty);
        assert_eq!(all.len(), names().len() + 1, "{all:?}");
        assert!(names().iter().all(|name| all.contains(&format!("{name}0"))), "{all:?}");
        assert!(all.contains(&"inflight0".to_owned()), "{all:?}");

        let mut report = serde_json::to_value(&empty).unwrap();
        for (number, (_, count)) in (1000..).zip(report.as_object_mut().unwrap()) {
            match count.as_object_mut().and_then(|reasons| reasons.values_mut().last()) {
                Some(reason) => *reason = number.into(),
                None => *count = number.into(),
            }
        }
        let shown = rows(&serde_json::from_value(report.clone()).unwrap());
        for (number, (name, count)) in (1000..).zip(report.as_object().unwrap()) {
            let ends = shown.iter().filter(|row| row.ends_with(&number.to_string())).count();
            // The sum of all reasons, and the one that happened.
            assert_eq!(ends, if count.is_object() { 2 } else { 1 }, "{name}: {shown:?}");
        }
    }

    #[test]
    fn many_members_make_no_long_line() {
        let names: Vec<String> = (0..13).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(first_names(&names[..2]), "n0, n1");
        assert!(first_names(&names[..10]).ends_with("n8, n9"));
        assert!(first_names(&names).ends_with("n8, n9 and 3 more"));
    }

    fn member(name: &str, port: u16) -> MemberReport {
        let service = || ServiceReport {
            messages: vec!["a.message#1".to_owned()],
            placement: "every worker".to_owned(),
            workers: vec![0],
        };
        MemberReport {
            name: name.to_owned(),
            id: String::new(),
            address: ([127, 0, 0, 1], port).into(),
            incarnation: 1,
            state: keyway::MemberState::Up,
            reachable: true,
            damped_ms: None,
            trouble: None,
            workers: 1,
            busy_per_mille: Some(2),
            stuck: false,
            weight: 100,
            roles: Default::default(),
            metadata: BTreeMap::new(),
            app_version: String::new(),
            services: [COUNTER_PATH, ECHO_PATH].map(|path| (path.to_owned(), service())).into(),
        }
    }

    fn report(members: Vec<MemberReport>) -> MembersReport {
        MembersReport { me: "a".to_owned(), view_digest: String::new(), members }
    }

    #[test]
    fn members_that_take_other_messages_at_a_path_are_told_apart() {
        let mut members = vec![member("a", 7400), member("b", 7401), member("c", 7402)];
        let counter = |member: &mut MemberReport, messages: &[&str]| {
            let service = member.services.get_mut(COUNTER_PATH).unwrap();
            service.messages = messages.iter().map(|&message| message.to_owned()).collect();
        };
        counter(&mut members[0], &["add#1", "get#5"]);
        counter(&mut members[1], &["add#2", "get#5"]);
        counter(&mut members[2], &["add#2", "get#5"]);
        members[2].services.get_mut(COUNTER_PATH).unwrap().placement = "worker 0".to_owned();
        members[2].reachable = false;
        let printed = super::members(&report(members));
        let (_, services) = printed.split_once("\n\n").unwrap();
        let expected = "\
PATH                     SERVED ON     MEMBERS
/user/counter (differs)  every worker  a, b
/user/counter (differs)  worker 0      c (unreachable)
  add#1                  taken by      a
  add#2                  taken by      b, c (unreachable)
/user/echo               every worker  a, b, c (unreachable)
";
        assert_eq!(services, expected);
    }

    #[test]
    fn the_readme_shows_members_as_they_are_printed() {
        let members = vec![member("a", 7400), member("b", 7401)];
        let printed = super::members(&report(members));
        assert!(include_str!("../../../README.md").contains(&printed), "{printed}");
    }

    #[test]
    fn only_reasons_that_happened_are_shown() {
        let mut counts = keyway::Counts { sent: 3, ..Default::default() };
        counts.refused[keyway::Refusal::QueueFull as usize] = 3;
        let shown = super::counts(&counts.into());
        assert!(shown.contains("queue full"), "{shown}");
        assert!(!shown.contains("too large"), "{shown}");
    }
}
