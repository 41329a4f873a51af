//! Every number of the configuration, just outside and just inside of its range: what
//! `--print-config` takes, a node starts with, and what it refuses, a node refuses in the same
//! words.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "only the processes themselves are used")]
mod process;

use keyway::{BuildError, Node};

/// A number as `--print-config` describes it.
#[derive(Clone, Debug)]
struct Number {
    path: String,
    least: i128,
    most: i128,
    /// "at least" or "less than half of", and which setting.
    relation: Option<(String, String)>,
}

/// All numbers, read from what an operator reads.
fn numbers(printed: &str) -> Vec<Number> {
    let (mut section, mut comment, mut found) = (String::new(), String::new(), Vec::new());
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some(text) = line.strip_prefix("# ") {
            comment = format!("{comment} {text}");
        } else {
            if let (Some((name, _)), Some((_, range))) =
                (line.split_once(" = "), comment.split_once("Takes an integer from "))
            {
                let bound =
                    |text: &str| text.split([' ', '.', ',']).next().unwrap().parse().unwrap();
                let (least, rest) = range.split_once(" to ").unwrap();
                let relation = range.split_once(", and ").map(|(_, rest)| {
                    let mut parts = rest.split('`');
                    let words = parts.next().unwrap().trim().to_owned();
                    (words, parts.next().unwrap().to_owned())
                });
                let path = format!("{section}{name}");
                found.push(Number { path, least: bound(least), most: bound(rest), relation });
            }
            comment.clear();
        }
    }
    found
}

/// Settings under which a value at an end of one's range is possible: the numbers that it is held
/// against leave room for it.
fn room(number: &Number, all: &[Number]) -> Vec<(String, i128)> {
    let of = |path: &str| all.iter().find(|other| other.path == path).unwrap();
    let mut settings = Vec::new();
    if number.path == "workers.count" {
        // A ring for each ordered pair of them.
        settings.push(("workers.ring_capacity".to_owned(), of("workers.ring_capacity").least));
    }
    let mut relation = number.relation.as_ref();
    while let Some((words, other)) = relation {
        let other = of(other);
        let value = if words == "at least" { other.least } else { other.most };
        settings.push((other.path.clone(), value));
        relation = other.relation.as_ref();
    }
    // And so on for those that are held against these.
    let mut held = vec![number.path.clone()];
    while let Some(against) = held.pop() {
        for other in all {
            match &other.relation {
                Some((words, path)) if *path == against => {
                    let value = if words == "at least" { other.most } else { other.least };
                    settings.push((other.path.clone(), value));
                    held.push(other.path.clone());
                }
                _ => {}
            }
        }
    }
    settings
}

/// What the command says: nothing, or why not.
fn printed(settings: &[(String, i128)]) -> Result<String, String> {
    let settings: Vec<String> =
        settings.iter().map(|(path, value)| format!("{path}={value}")).collect();
    let mut arguments = vec!["node", "--print-config"];
    for setting in &settings {
        arguments.extend(["--set", setting]);
    }
    match process::run(&arguments) {
        (0, stdout, _) => Ok(stdout),
        (2, _, stderr) => Err(stderr.trim().trim_start_matches("keyway: ").to_owned()),
        other => panic!("{settings:?}: {other:?}"),
    }
}

/// What a node says.
fn started(settings: &[(String, i128)]) -> Result<(), String> {
    let mut builder = Node::builder().bind("127.0.0.1:0").workers(1);
    for (path, value) in settings {
        builder = builder.set(path, &value.to_string());
    }
    match builder.start() {
        Ok(node) => {
            node.stop().unwrap();
            Ok(())
        }
        Err(error @ BuildError::Config(_)) => Err(error.to_string()),
        Err(error) => panic!("{settings:?} passes every check, and then: {error}"),
    }
}

#[test]
fn what_is_printed_starts_and_what_is_refused_is_refused_alike() {
    let all = numbers(&printed(&[]).unwrap());
    assert!(all.len() >= 25, "{all:?}");
    for number in &all {
        for (value, fits) in [
            (number.least - 1, false),
            (number.least, true),
            (number.most, true),
            (number.most + 1, false),
        ] {
            let mut settings = room(number, &all);
            settings.push((number.path.clone(), value));
            let (printed, started) = (printed(&settings).map(drop), started(&settings));
            assert_eq!(printed, started, "of two opinions on {settings:?}");
            assert_eq!(printed.is_ok(), fits, "{settings:?}: {printed:?}");
            if let Err(text) = printed {
                assert!(text.starts_with(&format!("`{}` = {value} is refused", number.path)));
            }
        }
    }
}

#[test]
fn an_admin_port_that_nobody_would_open_is_an_error() {
    let builder = || Node::builder().bind("127.0.0.1:0").workers(1).set("admin", "127.0.0.1:0");
    let error = builder().start().unwrap_err().to_string();
    for part in ["`admin` = \"127.0.0.1:0\"", "`admin::start(builder)`", "take_admin"] {
        assert!(error.contains(part), "{error}");
    }
    let (node, admin) = keyway::admin::start(builder()).unwrap();
    std::net::TcpStream::connect(admin.unwrap().address()).unwrap();
    drop(node);
    let mut other = builder();
    assert!(other.take_admin().unwrap().is_some());
    other.start().unwrap();
    let open = builder().set("admin", "0.0.0.0:0");
    let error = keyway::admin::start(open).unwrap_err().to_string();
    assert!(error.starts_with("`admin` = \"0.0.0.0:0\" is refused"), "{error}");
}

#[test]
fn a_name_that_is_none_is_refused_by_its_key() {
    for (name, shown) in [("", "\"\""), ("a b", "\"a b\""), ("a/b", "\"a/b\"")] {
        let error = Node::builder().bind("127.0.0.1:0").name(name).start().unwrap_err();
        let begins = format!("`name` = {shown} is refused: it takes 1 to 128 characters of a-z");
        assert!(error.to_string().starts_with(&begins), "{error}");
    }
}
