//! The `keyway` binary as operators use it: real processes, real signals, real ports.

mod place;
#[path = "binary/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use keyway::{Context, Handler, Message, Node, Placement, Routee, WorkerIndex};
use place::place;
use rkyv::{Archive, Deserialize, Serialize};
use rustix::process::Signal;
use serde_json::{Value, json};

use process::{LIMIT, Process, ReadyNode, eventually, keyway, node_arguments, run};

/// The members that a node sees as up and reachable, sorted by name.
fn up(node: &ReadyNode) -> Vec<String> {
    let members = node.json(&["members"]);
    let members = members["members"].as_array().unwrap().iter();
    let up = members.filter(|member| member["state"] == "up" && member["reachable"] == true);
    up.map(|member| member["name"].as_str().unwrap().to_owned()).collect()
}

fn all_see(nodes: &[&ReadyNode], names: &[&str]) {
    for node in nodes {
        eventually(&format!("{} sees {names:?} up", node.name), || up(node) == names);
    }
}

#[test]
fn three_nodes_form_a_cluster_and_one_leaves() {
    let a = ReadyNode::start("a", &[]);
    let b = ReadyNode::start("b", &["--seed", &a.address]);
    let mut c = ReadyNode::start("c", &["--seed", &b.address, "--seed", &a.address]);
    all_see(&[&a, &b, &c], &["a", "b", "c"]);
    for node in [&a, &b, &c] {
        // One worker each.
        eventually("three routees", || {
            let routers = node.json(&["routers"]);
            routers["routers"].as_array().unwrap().iter().all(|router| router["routees"] == 3)
        });
    }

    let table = a.keyway(&["members"]);
    for expected in ["NAME", "a (asked)", "b ", "c ", &b.address] {
        assert!(table.contains(expected), "{table}");
    }

    // Whoever is asked, the key's owner counts.
    for key in ["apples", "pears & plums", "ü/?"] {
        let mut owners = Vec::new();
        for (expected, node) in [&a, &b, &c, &a, &b, &c].into_iter().enumerate() {
            let answer = node.json(&["ask", "counter", key]);
            assert_eq!(answer["count"], expected as u64 + 1, "{answer}");
            owners.push(answer["node"].clone());
        }
        assert!(owners.iter().all(|owner| *owner == owners[0]), "{key}: {owners:?}");
    }

    // An echo goes round all of them.
    let mut answered: Vec<Value> = (0..3)
        .map(|_| {
            let answer = a.json(&["ask", "echo", "hello"]);
            assert_eq!(answer["text"], "hello");
            answer["node"].clone()
        })
        .collect();
    answered.sort_by_key(ToString::to_string);
    assert_eq!(answered, ["a", "b", "c"]);

    let counts = a.json(&["counts"]);
    assert_eq!(counts["sent"], 9, "{counts}");
    eventually("the acknowledgements are back", || a.json(&["counts"])["delivered"] == 9);
    assert!(a.keyway(&["counts"]).contains("delivered"));

    c.process.signal(Signal::TERM);
    assert_eq!(c.process.exit_code(), 0, "{}", c.process.stderr());
    assert!(c.process.stdout().contains("left: node `c`"), "{}", c.process.stdout());
    for node in [&a, &b] {
        eventually("c is gone from the members", || {
            node.json(&["members"])["members"].as_array().unwrap().len() == 2
        });
    }
    for node in [&a, &b] {
        assert!(node.json(&["ask", "counter", "apples"])["count"].as_u64().unwrap() > 0);
    }

    // The same by order of an operator.
    let mut b = b;
    assert!(b.keyway(&["leave"]).contains("`b` is leaving"));
    assert_eq!(b.process.exit_code(), 0, "{}", b.process.stderr());
    all_see(&[&a], &["a"]);
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut a = ReadyNode::start("a", &[]);
    a.process.signal(Signal::INT);
    eventually("it leaves", || a.process.stderr().contains("leaving"));
    a.process.signal(Signal::INT);
    assert_eq!(a.process.exit_code(), 130, "{}", a.process.stderr());
}

#[test]
fn settings_that_cannot_be_are_refused_by_name_with_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("typo.toml");
    std::fs::write(&file, "cluster = 'shop'\n[links]\noutbox_byte = 3\n").unwrap();
    let file = file.to_str().unwrap();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 12] = [
        (&["--config", file], &[], &[file, "links.outbox_byte", "links.outbox_bytes"]),
        (&["--config", "/no/such/file"], &[], &["/no/such/file", "check"]),
        (&["--workers", "0"], &[], &["workers.count", "0", "1 to 256"]),
        (&["--set", "membership.suspect_ms=soon"], &[], &["suspect_ms", "soon", "100 to 60000"]),
        (&["--set", "worker.count=3"], &[], &["worker.count", "workers.count"]),
        (&["--set", "workers.count"], &[], &["KEY=VALUE"]),
        (&["--set", "links.max_frame_bytes=8388608"], &[], &["outbox_bytes", "8388608"]),
        (&[], &[("KEYWAY_BIMD", "127.0.0.1:0")], &["KEYWAY_BIMD", "KEYWAY_BIND"]),
        (&[], &[("KEYWAY_WORKERS__COUNT", "300")], &["KEYWAY_WORKERS__COUNT", "1 to 256"]),
        (&[], &[("KEYWAY_LOG", "loud")], &["KEYWAY_LOG", "loud", "debug"]),
        (&["--bind", "192.0.2.1:7400"], &[], &["bind", "192.0.2.1:7400", "secret"]),
        (&["--admin", "192.0.2.1:7500"], &[], &["admin", "admin_allow_remote"]),
    ];
    for (arguments, environment, expected) in cases {
        let mut process = Process::start(&[&["node"], arguments].concat(), environment);
        assert_eq!(process.exit_code(), 2, "{arguments:?} {environment:?}");
        let text = process.stderr();
        for part in expected {
            assert!(text.contains(part), "{arguments:?} {environment:?} lacks {part}: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn the_printed_configuration_is_the_effective_one_and_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.toml");
    std::fs::write(&file, "cluster = 'shop'\nweight = 200\n[workers]\ncount = 3\n").unwrap();
    let file = file.to_str().unwrap();
    // The environment is over the file, flags over both.
    let environment = [("KEYWAY_WEIGHT", "300"), ("KEYWAY_WORKERS__COUNT", "4")];
    let arguments = [
        "node",
        "--config",
        file,
        "--workers",
        "5",
        "--role",
        "x",
        "--role",
        "y",
        "--print-config",
    ];
    let mut process = Process::start(&arguments, &environment);
    assert_eq!(process.exit_code(), 0, "{}", process.stderr());
    let text = process.stdout();
    assert!(text.contains("# Memory"), "{text}");
    let config = keyway::NodeConfig::from_toml_str(&text).unwrap();
    assert_eq!((config.cluster.as_str(), config.weight, config.workers.count), ("shop", 300, 5));
    assert_eq!(config.roles.len(), 2);
}

#[test]
fn nodes_of_another_cluster_or_secret_are_kept_out_and_named_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("the secret of {name}, long enough\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ours, theirs) = (secret("ours"), secret("theirs"));
    let a = ReadyNode::start("a", &["--secret-file", &ours]);
    let b = ReadyNode::start("b", &["--secret-file", &ours, "--seed", &a.address]);
    all_see(&[&a, &b], &["a", "b"]);

    let wrong_secret = ["--secret-file", &theirs, "--seed", &a.address];
    let wrong_secret = Process::node("x", &wrong_secret);
    let wrong_cluster = ["--secret-file", &ours, "--cluster", "other", "--seed", &b.address];
    let wrong_cluster = Process::node("y", &wrong_cluster);
    let why_secret = "has another secret: configure the same on both";
    let why_cluster = "belongs to another cluster: correct `cluster` or the address";
    for (node, stranger, why) in
        [(&a, &wrong_secret, why_secret), (&b, &wrong_cluster, why_cluster)]
    {
        let why = format!("the seed {} {why}", node.address);
        eventually("the stranger is told what is wrong", || stranger.stderr().contains(&why));
        assert!(!stranger.stdout().contains("ready:"), "{}", stranger.stdout());
        let log = node.process.stderr();
        assert!(log.contains("not of this cluster"), "{log}");
        assert!(node.json(&["strangers"])["datagrams_not_ours"].as_u64().unwrap() > 0);
        assert_eq!(up(node), ["a", "b"]);
        assert!(!log.contains("unreachable"), "{log}");
    }
    assert_eq!(a.json(&["ask", "counter", "k"])["count"], 1);
    assert_eq!(b.json(&["ask", "counter", "k"])["count"], 2);
}

#[test]
fn a_second_node_of_a_name_ends_and_says_which() {
    let a = ReadyNode::start("a", &[]);
    let b = ReadyNode::start("b", &["--seed", &a.address]);
    let mut rival = Process::node("a", &["--seed", &b.address]);
    assert_eq!(rival.exit_code(), 3, "{}", rival.stderr());
    let text = rival.stderr();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("`a`") && last.contains(&a.address), "{text}");
    all_see(&[&a, &b], &["a", "b"]);
}

#[test]
fn an_operator_removes_what_will_not_come_back() {
    let a = ReadyNode::start("a", &[]);
    let mut b = ReadyNode::start("b", &["--seed", &a.address]);
    let mut c = ReadyNode::start("c", &["--seed", &a.address]);
    all_see(&[&a, &b, &c], &["a", "b", "c"]);
    b.process.signal(Signal::KILL);
    eventually("b is unreachable", || a.keyway(&["members"]).contains("up, unreachable"));
    assert!(a.keyway(&["down", "b"]).contains("removed `b`"));
    for node in [&a, &c] {
        eventually("b is gone from the members", || {
            node.json(&["members"])["members"].as_array().unwrap().len() == 2
        });
    }
    // One that still runs is told, and ends.
    a.keyway(&["down", "c"]);
    assert_eq!(c.process.exit_code(), 3, "{}", c.process.stderr());
    assert!(c.process.stderr().contains("`c` cannot go on: this node was removed"));

    let (code, _, text) = run(&["down", "nobody", "--admin", &a.admin]);
    assert_eq!(code, 1);
    assert!(text.contains("nobody") && text.contains("there is: a"), "{text}");
    assert_eq!(run(&["down", "a", "--admin", &a.admin]).0, 1);
    assert_eq!(b.process.exit_code(), -9);
}

#[test]
fn garbage_on_its_ports_leaves_a_node_working() {
    let a = ReadyNode::start("a", &["--set", "links.handshake_timeout_ms=200"]);
    let garbage: Vec<u8> =
        (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 15, 16, 64, 500, 1_400, 9_000] {
        socket.send_to(&garbage[..length], &a.address).unwrap();
    }
    for address in [&a.address, &a.admin] {
        for length in [0, 1, 100, garbage.len()] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_write_timeout(Some(LIMIT)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // The node may hang up in the middle of it.
            let _ = stream.write_all(&garbage[..length]);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // One that says nothing at all.
        drop(TcpStream::connect(address).unwrap());
    }
    let strangers = a.json(&["strangers"]);
    assert!(strangers["datagrams_not_ours"].as_u64().unwrap() >= 7, "{strangers}");
    eventually("the connections are refused", || {
        a.json(&["strangers"])["refused"].as_u64().unwrap() >= 5
    });
    let log = a.process.stderr();
    assert!(
        log.lines().any(|line| {
            line.contains("a connection from 127.0.0.1:") && line.contains(" was not let in: ")
        }),
        "{log}"
    );
    assert!(!a.process.stderr().contains("panicked"), "{}", a.process.stderr());
    assert_eq!(a.json(&["ask", "counter", "k"])["count"], 1);

    let b = ReadyNode::start("b", &["--seed", &a.address]);
    all_see(&[&a, &b], &["a", "b"]);
}

#[test]
fn a_node_outlives_the_reader_of_its_log() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let a = Process::start_logging_to(writer.into(), &node_arguments("a", &[]), &[]);
    let a = ReadyNode::wait("a", a);
    // Both are worth a line in a's log.
    let b = ReadyNode::start("b", &["--seed", &a.address]);
    TcpStream::connect(&a.address).unwrap().write_all(&[7; 100]).unwrap();
    eventually("the stranger is refused", || a.json(&["strangers"])["refused"] == 1);
    all_see(&[&a, &b], &["a", "b"]);
    let mut a = a;
    a.process.signal(Signal::TERM);
    assert_eq!(a.process.exit_code(), 0);
}

#[test]
fn a_node_that_waits_for_others_is_not_healthy() {
    let a = Process::node("a", &["--set", "membership.min_members=2"]);
    eventually("a listens", || a.stderr().contains("listening"));
    let word_after = |word: &str| {
        let log = a.stderr();
        let line = log.lines().find(|line| line.contains("listening")).unwrap().to_owned();
        let (_, rest) = line.split_once(word).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let (address, admin) = (word_after("address="), word_after("admin="));
    let (code, _, text) = run(&["health", "--admin", &admin]);
    assert_eq!(code, 1);
    assert!(text.contains("`a` is joining"), "{text}");
    let (code, out, _) = run(&["health", "--admin", &admin, "--json"]);
    assert_eq!(code, 1);
    assert!(out.contains("\"healthy\":false"), "{out}");
    // Nobody to count: the ask is refused, not lost.
    let (code, _, text) = run(&["ask", "counter", "k", "--admin", &admin]);
    assert_eq!(code, 1);
    assert!(text.contains("still joining its cluster"), "{text}");
    eventually("a says what it waits for", || {
        a.stderr().contains("waiting for more members: 1 of membership.min_members = 2 are here")
    });
    assert!(!a.stdout().contains("ready:"));

    let b = ReadyNode::start("b", &["--seed", &address, "--set", "membership.min_members=2"]);
    let a = ReadyNode::wait("a", a);
    all_see(&[&a, &b], &["a", "b"]);
    a.keyway(&["health"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--bind", "--admin"), ("--admin", "--bind")] {
        let mut process = Process::start(&["node", flag, &address, other, "127.0.0.1:0"], &[]);
        assert_eq!(process.exit_code(), 1, "{}", process.stderr());
        let text = process.stderr();
        assert!(text.contains(&address) && text.contains("another process"), "{text}");
        assert!(!process.stdout().contains("ready:"));
    }
}

#[test]
fn commands_say_when_no_node_answers() {
    let free = place().to_string();
    for command in [&["members"][..], &["counts"], &["leave"], &["ask", "echo", "hi"]] {
        let (code, _, text) = run(&[command, &["--admin", &free]].concat());
        assert_eq!(code, 1);
        let expected = format!("no keyway node answers at {free}");
        assert!(text.contains(&expected) && text.contains("--admin"), "{text}");
    }
    assert_eq!(run(&["members", "--admin", "nonsense"]).0, 2);
    assert_eq!(run(&["membres"]).0, 2);

    // Something else answers there.
    let impostor = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = impostor.local_addr().unwrap().to_string();
    let talk = std::thread::spawn(move || {
        let (mut stream, _) = impostor.accept().unwrap();
        stream.write_all(b"SSH-2.0-something\r\n").unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = stream.read(&mut [0; 1_024]);
    });
    let (code, _, text) = run(&["members", "--admin", &address]);
    assert_eq!(code, 1);
    assert!(text.contains("no keyway node's admin port"), "{text}");
    talk.join().unwrap();
}

#[test]
fn help_ends_with_an_example() {
    for command in ["node", "members", "routers", "counts", "strangers", "health", "down", "leave"]
    {
        let help = keyway(&[command, "--help"]);
        let examples = help.split("Example").nth(1).unwrap_or_default();
        assert!(examples.contains(&format!("keyway {command}")), "{help}");
    }
    for command in [&["--help"][..], &["ask", "--help"], &["ask", "echo", "--help"]] {
        assert!(keyway(command).contains("Example"), "{command:?}");
    }
}

/// One HTTP request, given as its head; the status and the body.
fn http(node: &ReadyNode, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&node.admin).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "{head}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// From its own machine, where everybody has the same address.
#[test]
fn health_answers_whatever_else_is_open_at_the_admin_port() {
    let a = ReadyNode::start("a", &[]);
    let host = format!("host: {}", a.admin);
    let health = || http(&a, &format!("GET /health HTTP/1.1\r\n{host}"));
    let open = |text: &str| {
        let mut stream = TcpStream::connect(&a.admin).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let began = Instant::now();
    let silent: Vec<_> = (0..200).map(|_| open("")).collect();
    let half: Vec<_> = (0..150).map(|_| open("GET /health HTTP/1.1\r\nhost: ")).collect();
    // Answers that nobody reads; more than the sockets' buffers take.
    let many = format!("GET /metrics HTTP/1.1\r\n{host}\r\n\r\n").repeat(2_000);
    let unread: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = open("");
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = stream.write_all(many.as_bytes());
            stream
        })
        .collect();
    assert!(began.elapsed() < LIMIT, "connecting alone was slow");
    for _ in 0..10 {
        let asked = Instant::now();
        assert_eq!(health().0, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    }
    drop((silent, half, unread));
    assert!(!a.process.stderr().contains("panicked"), "{}", a.process.stderr());
}

#[test]
fn the_admin_port_answers_and_refuses_in_words() {
    let a = ReadyNode::start("a", &[]);
    let host = format!("host: {}", a.admin);
    let get = |path: &str| http(&a, &format!("GET {path} HTTP/1.1\r\n{host}"));
    let post = |path: &str| http(&a, &format!("POST {path} HTTP/1.1\r\n{host}"));
    let error = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    };

    let (status, body) = get("/health");
    assert_eq!(status, 200, "{body}");
    assert!(a.keyway(&["health"]).contains("`a` is up, 1 member can be sent to"));
    let (status, body) = get("/metrics");
    assert_eq!(status, 200);
    for line in ["keyway_up 1", "keyway_messages_sent_total 0"] {
        assert!(body.lines().any(|found| found == line), "{line} is not in {body}");
    }
    for family in ["keyway_worker_busy_seconds", "keyway_worker_queue_items", "keyway_destinations"]
    {
        assert!(body.contains(&format!("# HELP {family} ")), "{family} is not in {body}");
    }
    assert!(body.contains("keyway_build_info{version=") && body.ends_with("# EOF\n"), "{body}");
    assert!(body.contains("keyway_messages_refused_total{reason=\"queue_full\"} 0"));
    assert!(body.contains("keyway_part_events_total{part=\"watch\",event=\"begun\"} 0"));
    // Every sample belongs to a family that was declared before it.
    let mut family = String::new();
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(declared) => family = declared.split(' ').next().unwrap().to_owned(),
            None if line.starts_with('#') => {}
            None => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                let suffix = name.strip_prefix(&family).expect(line);
                assert!(["", "_total", "_info"].contains(&suffix), "{line}");
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            }
        }
    }

    let (status, body) = get("/membres");
    assert_eq!(status, 404);
    assert!(error(&body).contains("/membres") && body.contains("GET /members"), "{body}");
    assert_eq!(get("/leave").0, 405);
    assert_eq!(post("/ask/nobody").0, 404);
    assert_eq!(post("/ask/counter").0, 400);
    assert_eq!(post("/ask/counter?key=a&extra=b").0, 400);
    assert_eq!(post(&format!("/ask/counter?key={}", "k".repeat(300))).0, 400);
    assert_eq!(get(&format!("/members?{}", "x".repeat(5_000))).0, 414);
    assert_eq!(post("/down/%ff").0, 400);

    // What a web page in the operator's browser can send.
    let (status, body) =
        http(&a, &format!("POST /leave HTTP/1.1\r\n{host}\r\norigin: http://example.com"));
    assert_eq!(status, 403, "{body}");
    assert_eq!(http(&a, "GET /members HTTP/1.1\r\nhost: example.com").0, 403);
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        assert_eq!(up(&a), ["a"]);
    }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "placed.item")]
struct Item;

#[derive(Routee)]
#[routee(handles(Item))]
struct Sink;

impl Handler<Item> for Sink {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedItem, _: &mut Context<'_>) {}
}

#[test]
fn members_are_shown_with_the_workers_that_serve_each_path() {
    let a = ReadyNode::start("a", &[]);
    let embedded = Node::builder().name("embedded").bind("127.0.0.1:0").workers(4);
    let embedded = embedded.spin(Duration::ZERO).seed(&*a.address).start().unwrap();
    let some = |some: &[u16]| Placement::Workers(some.iter().copied().map(WorkerIndex).collect());
    let served = [
        ("/placed/all", Placement::EveryWorker),
        ("/placed/one", Placement::OnePerNode),
        ("/placed/some", some(&[3, 1])),
    ];
    for (path, placement) in served {
        embedded.serve_on(path, placement, |_| Sink).unwrap();
    }
    let services = || {
        let report = a.json(&["members"]);
        let members = report["members"].as_array().unwrap().clone();
        let of = |name| members.iter().find(|member| member["name"] == name).cloned();
        (
            of("a").unwrap()["services"].clone(),
            of("embedded").unwrap_or_default()["services"].clone(),
        )
    };
    eventually("a knows what is served", || {
        services().1.as_object().is_some_and(|services| services.len() == 3)
    });
    let (of_a, of_embedded) = services();
    assert_eq!(of_a["/user/echo"]["placement"], "every worker", "{of_a}");
    assert_eq!(of_a["/user/echo"]["workers"], json!([0]));
    let message = of_embedded["/placed/all"]["messages"][0].as_str().unwrap();
    assert!(message.starts_with("placed.item#"), "{message}");
    let placed = |path: &str| {
        let service = &of_embedded[path];
        (service["placement"].as_str().unwrap(), service["workers"].as_array().unwrap().clone())
    };
    assert_eq!(placed("/placed/all"), ("every worker", [0, 1, 2, 3].map(Value::from).to_vec()));
    assert_eq!(placed("/placed/some"), ("workers 1, 3", [1, 3].map(Value::from).to_vec()));
    let (words, workers) = placed("/placed/one");
    assert_eq!((words, workers.len()), ("one per node", 1));

    // Each path with its words and its members, in one line.
    let table = a.keyway(&["members"]);
    for (path, words, members) in [
        ("/placed/all", "every worker", "embedded"),
        ("/placed/one", "one per node", "embedded"),
        ("/placed/some", "workers 1, 3", "embedded"),
        ("/user/echo", "every worker", "a"),
    ] {
        let line = table.lines().find(|line| line.starts_with(path)).unwrap_or_default();
        let rest = line.trim_start_matches(path).trim();
        assert_eq!(rest.split("  ").next(), Some(words), "{table}");
        assert_eq!(line.rsplit("  ").next(), Some(members), "{table}");
    }
}

#[test]
fn shells_are_told_how_to_complete_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = keyway(&["completions", shell]);
        for part in ["print-config", "strangers", "completions"] {
            assert!(script.contains(part), "{shell} lacks {part}");
        }
    }
    assert_eq!(run(&["completions", "ed"]).0, 2);
}

/// Whatever it is that the system does not give any more: starting fails, and says so.
#[test]
fn a_node_that_gets_too_few_descriptors_does_not_start() {
    let mut started = 0;
    for most in 8..32 {
        let mut node = Process::start_limited(most, &node_arguments("few", &[]));
        let (deadline, mut ended) = (Instant::now() + LIMIT, false);
        while !ended && !node.stdout().starts_with("ready: ") {
            assert!(Instant::now() < deadline, "{most}: {}", node.stderr());
            std::thread::sleep(Duration::from_millis(5));
            ended = node.child.try_wait().unwrap().is_some();
        }
        if !ended {
            started += 1;
            continue;
        }
        assert_ne!(node.exit_code(), 0);
        let said = node.stderr();
        assert!(said.contains("Too many open files"), "{most}: {said}");
        assert!(!said.contains("has stopped"), "{most}: it never ran: {said}");
    }
    assert!((1..24 - 5).contains(&started), "{started} of 24 started");
}
