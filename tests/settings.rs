//! Every setting of the configuration, just outside and just inside of its range, alone and with
//! those that it is held against: what `--print-config` takes, a node starts with, and what it
//! refuses, a node refuses in the same words.

#[path = "binary/process.rs"]
#[allow(dead_code, reason = "only the processes themselves are used")]
mod process;

use std::fmt::Display;

use keyway::admin::StartError;
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
fn printed<V: Display>(settings: &[(String, V)]) -> Result<String, String> {
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
fn started<V: Display>(settings: &[(String, V)]) -> Result<(), String> {
    let mut builder = Node::builder().bind("127.0.0.1:0").workers(1);
    for (path, value) in settings {
        builder = builder.set(path, &value.to_string());
    }
    let shown =
        || settings.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>();
    match keyway::admin::start(builder) {
        Ok((node, admin)) => {
            drop((node, admin));
            Ok(())
        }
        Err(StartError::Node(error @ BuildError::Config(_))) => Err(error.to_string()),
        Err(error) => panic!("{:?} passes every check, and then: {error}", shown()),
    }
}

#[test]
fn what_is_printed_starts_and_what_is_refused_is_refused_alike() {
    let all = numbers(&printed::<i128>(&[]).unwrap());
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

/// Holds both to the same opinion, and gives it.
fn agreed<V: Display>(settings: &[(String, V)]) -> Result<(), String> {
    let (printed, started) = (printed(settings).map(drop), started(settings));
    // It is started at a port of its own.
    let printed = printed.map_err(|text| text.replace("(127.0.0.1:7400)", "(127.0.0.1:0)"));
    let shown =
        || settings.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>();
    assert_eq!(printed, started, "of two opinions on {:?}", shown());
    printed
}

/// The paths of the settings that are no numbers, as an operator reads them.
fn others(printed: &str) -> Vec<String> {
    let (mut section, mut found, mut number) = (String::new(), Vec::new(), false);
    for line in printed.lines() {
        let unset = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"));
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if line.starts_with("# Takes ") {
            number = line.starts_with("# Takes an integer from ");
        } else if let Some(name) = unset.or(line.split_once(" = ").map(|(name, _)| name))
            && !number
        {
            found.push(format!("{section}{name}"));
        }
    }
    found
}

/// A setting that is no number, values that fit, and values that do not.
type Texts = (&'static str, Vec<String>, Vec<String>);

fn texts() -> Vec<Texts> {
    let own = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let long = |bytes: usize| "x".repeat(bytes);
    let list = |count: usize, one: &dyn Fn(usize) -> String| {
        (0..count).map(one).collect::<Vec<_>>().join(",")
    };
    let role = |bytes: usize| move |number: usize| format!("{number:0>bytes$}");
    let pair = |key: usize, value: usize| {
        move |number: usize| format!("{number:0>key$}={}", "x".repeat(value))
    };
    let port = |number: usize| format!("127.0.0.1:{}", number + 1);
    let flags = || (own(&["true", "false"]), own(&["yes", "1", ""]));
    let with = |(fit, unfit): (Vec<String>, Vec<String>), path| (path, fit, unfit);
    vec![
        ("cluster", vec![long(1), long(64)], vec![long(0), long(65), "a b".into()]),
        ("name", vec![long(1), long(128)], vec![long(129), "a/b".into()]),
        ("bind", own(&["127.0.0.1:0"]), own(&["0.0.0.0:0", "10.0.0.1:0", "127.0.0.1", ""])),
        (
            "advertise",
            own(&["127.0.0.1:0", "127.0.0.1:1", "[::1]:1", ""]),
            own(&["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost:1"]),
        ),
        (
            "seeds",
            vec![String::new(), "localhost:65535".into(), list(64, &port)],
            vec![list(65, &port), "a".into(), "a:0".into(), "[::1]:1".into()],
        ),
        ("secret", vec![long(16), long(1_024), long(0)], vec![long(15), long(1_025)]),
        ("secret_file", vec![file!().to_owned() + ".none", long(0)], vec![]),
        (
            "roles",
            vec![long(0), list(64, &role(64)), long(64)],
            vec![list(65, &role(2)), long(65), "a b".into()],
        ),
        (
            "metadata",
            vec![long(0), list(64, &pair(2, 62)), list(4, &pair(1, 1_023)), "a=".into()],
            vec![list(64, &pair(2, 63)), list(65, &pair(2, 1)), "a".into(), "a b=c".into()],
        ),
        ("app_version", vec![long(0), long(64)], vec![long(65), "ä".into()]),
        ("admin", own(&["127.0.0.1:0", ""]), own(&["0.0.0.0:0", "127.0.0.1"])),
        with(flags(), "admin_allow_remote"),
        with(flags(), "workers.pin"),
        // Of a core that the machine has not the log tells.
        ("workers.cores", own(&["0", "1023", ""]), own(&["1024", "0,1", "a"])),
        (
            "membership.min_members_per_role",
            own(&["", "a=1", "a=4096"]),
            own(&["a=0", "a=4097", "a", "a b=1"]),
        ),
        ("membership.partition_policy", own(&["manual", "remove-after"]), own(&["hope", ""])),
    ]
}

#[test]
fn what_is_no_number_starts_or_is_refused_alike() {
    let texts = texts();
    let listed: Vec<&str> = texts.iter().map(|(path, ..)| *path).collect();
    assert_eq!(others(&printed::<i128>(&[]).unwrap()), listed, "each is tried");
    for (path, fit, unfit) in texts {
        let values = fit.into_iter().map(|value| (value, true));
        for (value, should_fit) in values.chain(unfit.into_iter().map(|value| (value, false))) {
            let settings = [("workers.count".to_owned(), "1".to_owned()), (path.to_owned(), value)];
            if path == "secret_file" && !settings[1].1.is_empty() {
                // No check reads it: it is there when the node starts, or named then.
                printed(&settings).unwrap();
                let error = started(&settings).unwrap_err();
                assert!(error.contains(&settings[1].1), "{error}");
                continue;
            }
            let outcome = agreed(&settings);
            assert_eq!(outcome.is_ok(), should_fit, "{settings:?}: {outcome:?}");
            if let Err(text) = outcome {
                assert!(text.starts_with(&format!("`{path}` = ")), "{text}");
                assert!(text.contains(" is refused: it takes "), "{text}");
            }
        }
    }
}

#[test]
fn what_settings_must_have_in_common_is_checked_before_a_node_starts() {
    let secret = "secret=sixteen bytes ok";
    let roles = (0..64).map(|number| format!("{number:0>64}")).collect::<Vec<_>>().join(",");
    let (roles, more) = (format!("roles={roles}"), "metadata=a=");
    for (settings, refused) in [
        (vec!["bind=0.0.0.0:0", "advertise=127.0.0.1:0"], Some("bind")),
        (vec!["bind=0.0.0.0:0", "advertise=127.0.0.1:0", secret], None),
        (vec!["bind=0.0.0.0:0", secret], Some("bind")),
        (vec!["advertise=10.0.0.1:1", secret], None),
        (vec!["advertise=169.254.0.1:1", secret], None),
        (vec!["advertise=[fe80::1]:1", secret], Some("advertise")),
        (vec![secret, "secret_file=x"], Some("secret_file")),
        (vec!["admin=0.0.0.0:0", "admin_allow_remote=false"], Some("admin")),
        (vec!["admin=0.0.0.0:0", "admin_allow_remote=true"], None),
        (vec!["workers.count=2", "workers.cores=0"], Some("workers.cores")),
        (vec!["workers.count=2", "workers.cores=1,1"], Some("workers.cores")),
        (vec!["workers.count=2", "workers.cores=1,0", "workers.pin=true"], None),
        (vec!["workers.first_core=1023", "workers.count=1", "workers.pin=true"], None),
        (vec!["workers.first_core=1022", "workers.count=2", "workers.pin=true"], None),
        (vec!["workers.first_core=1023", "workers.count=2"], None),
        (
            vec!["workers.first_core=1023", "workers.count=2", "workers.pin=true"],
            Some("workers.first_core"),
        ),
        (vec!["workers.count=256", "workers.ring_capacity=64", "workers.pin=true"], None),
        (vec![&roles], None),
        (vec![&roles, more], Some("metadata")),
        (vec!["seeds=127.0.0.1:1,[::1]:1"], Some("seeds")),
        (vec!["seeds=127.0.0.1:1,10.0.0.1:1"], Some("seeds")),
        (vec!["seeds=10.0.0.1:1", "bind=0.0.0.0:0", "advertise=10.0.0.2:1", secret], None),
        (vec!["min_members_per_role=a=1"], Some("min_members_per_role")),
    ] {
        let pairs = settings.iter().map(|setting| setting.split_once('=').unwrap());
        let pairs: Vec<_> = pairs.map(|(path, value)| (path.to_owned(), value)).collect();
        match (agreed(&pairs), refused) {
            (Ok(()), None) => {}
            (Err(text), Some(path)) => assert!(text.contains(&format!("`{path}`")), "{text}"),
            (outcome, _) => panic!("{settings:?}: {outcome:?}"),
        }
    }
}

/// Where one number is held against another one: on both sides of what divides them, whatever the
/// other is.
#[test]
fn what_numbers_must_have_in_common_is_checked_before_a_node_starts() {
    let all = numbers(&printed::<i128>(&[]).unwrap());
    let related = all.iter().filter_map(|number| Some((number, number.relation.as_ref()?)));
    let mut checked = 0;
    for (number, (words, other)) in related {
        let other = all.iter().find(|found| found.path == *other).unwrap();
        for against in [other.least, (other.least + other.most) / 2, other.most] {
            let (fits, fails) = match words.as_str() {
                "at least" => (against, against - 1),
                "less than half of" => (against / 2 - 1, against / 2),
                words => panic!("a relation that this test does not know: {words}"),
            };
            for (value, should_fit) in [(fits, true), (fails, false)] {
                if !(number.least..=number.most).contains(&value) {
                    continue;
                }
                let mut settings = room(other, &all);
                settings.retain(|(path, _)| *path != number.path);
                settings.extend(held_by(number, value, &all));
                settings.push((other.path.clone(), against));
                settings.push((number.path.clone(), value));
                let outcome = agreed(&settings);
                assert_eq!(outcome.is_ok(), should_fit, "{settings:?}: {outcome:?}");
                if let Err(text) = outcome {
                    assert!(text.starts_with(&format!("`{}` = {value} is refused", number.path)));
                    assert!(text.contains(&format!("`{}` ({against})", other.path)), "{text}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 20, "{checked}");
}

/// Settings that leave room for a value of a number that others are held against.
fn held_by(number: &Number, value: i128, all: &[Number]) -> Vec<(String, i128)> {
    let held = all.iter().filter_map(|other| {
        let (words, path) = other.relation.as_ref()?;
        (*path == number.path).then(|| match words.as_str() {
            "at least" => (other.path.clone(), value.max(other.least)),
            _ => (other.path.clone(), other.least),
        })
    });
    held.collect()
}

#[test]
fn a_node_starts_with_every_number_at_its_least() {
    let all = numbers(&printed::<i128>(&[]).unwrap());
    let least = all.iter().map(|number| {
        let at_least = number.relation.as_ref().filter(|(words, _)| words == "at least");
        let other = at_least.and_then(|(_, other)| all.iter().find(|found| found.path == *other));
        (number.path.clone(), number.least.max(other.map_or(0, |other| other.least)))
    });
    agreed(&least.collect::<Vec<_>>()).unwrap();
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
