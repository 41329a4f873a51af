//! Every way of setting something, and the full message of every refusal.

mod addresses;
mod lengths;

use serde::Deserialize;

use super::*;

fn from_toml(text: &str) -> Result<NodeConfig, String> {
    NodeConfig::from_toml_str(text).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    from_toml(text).expect_err("this must be refused")
}

fn invalid(text: &str) -> String {
    from_toml(text).unwrap().validate().expect_err("this must be invalid").to_string()
}

fn env_refused(variable: &str, value: &str) -> String {
    NodeConfig::default().apply_env([(variable, value)]).unwrap_err().to_string()
}

const EVERYTHING: &str = r#"
cluster = "shop.eu-1"
name = "carts_1"
bind = "0.0.0.0:0"
advertise = "10.0.0.1:0"
seeds = ["10.0.0.2:7400", "seed.example:7400", "seed-2.example:7400"]
secret_file = "/run/secret"
roles = ["edge", "carts"]
metadata = { zone = "a", "rack.unit" = "7, top" }
weight = 200
app_version = "1.2.3 (beta)"
admin = "0.0.0.0:9000"
admin_allow_remote = true
[workers]
count = 2
pin = true
first_core = 3
cores = [1, 0]
spin_us = 0
slow_turn_ms = 1
inject_capacity = 64
inject_bytes = 65537
ring_capacity = 128
ring_bytes = 65536
max_asks = 1
retry_bytes = 65536
replies_bytes = 65536
max_work = 2
[links]
max_frame_bytes = 1024
outbox_bytes = 65536
outboxes_bytes = 262144
max_accepted = 17
inbox_bytes = 65537
inboxes_bytes = 65538
handshake_timeout_ms = 100
dead_flow_ms = 101
redial_min_ms = 7
redial_max_ms = 7
ack_interval_ms = 1
max_pending_handshakes = 9
[membership]
min_members = 3
min_members_per_role = { edge = 2 }
probe_period_ms = 50
probe_timeout_ms = 24
suspect_ms = 100
gossip_ms = 20
sync_ms = 50
recontact_ms = 100
damp_max_ms = 1
seed_retry_min_ms = 10
seed_retry_max_ms = 10
tombstone_ms = 10000
leave_timeout_ms = 200
partition_policy = "remove-after"
remove_after_ms = 1000
[watch]
max_watches = 1
[load]
every_ms = 100
"#;

#[test]
fn the_default_is_valid_and_an_empty_file_is_the_default() {
    NodeConfig::default().validate().unwrap();
    assert_eq!(from_toml("").unwrap(), NodeConfig::default());
}

#[test]
fn every_setting_can_be_set_and_printed_and_read_back() {
    let config = from_toml(EVERYTHING).unwrap();
    config.validate().unwrap();
    let (mut all, mut default) = (config.clone(), NodeConfig::default());
    for (own, usual) in all.settings().into_iter().zip(default.settings()) {
        if !matches!(own.path, "secret") {
            // The machine may happen to have two cores.
            assert!(
                own.field.current() != usual.field.current() || own.path == "workers.count",
                "{} is not covered",
                own.path
            );
        }
    }
    assert_eq!(from_toml(&config.to_toml()).unwrap(), config);
    assert_eq!(from_toml(&default.to_toml()).unwrap(), default);
}

#[test]
fn a_printed_configuration_describes_each_setting_and_keeps_the_secret() {
    let config = from_toml("secret = 'sixteen bytes ok'\n[workers]\ncount = 3").unwrap();
    let printed = config.to_toml();
    assert!(printed.contains(
        "\n[workers]\n\
         # Worker threads. Each owns its links, handlers and timers.\n\
         # Takes an integer from 1 to 256. Default: as many as the machine has cores.\n\
         # Memory, among 3 such nodes: at most 13 MiB: links 1, free buffers 12.\n\
         count = 3\n\
         \n\
         # Whether each worker is pinned to a core.\n"
    ));
    assert!(printed.contains(
        "\n# Takes 16 to 1024 bytes. Default: not set.\n# secret is set, and not shown\n"
    ));
    assert!(!printed.contains("sixteen") && !format!("{config:?}").contains("sixteen"));
}

#[test]
fn the_environment_sets_every_kind_of_setting() {
    let mut config = NodeConfig::default();
    config
        .apply_env([
            ("PATH", "/bin"),
            ("KEYWAY_BIND", "127.0.0.1:0"),
            ("KEYWAY_NAME", "one"),
            ("KEYWAY_SEEDS", "a:1, b:2"),
            ("KEYWAY_ROLES", "edge"),
            ("KEYWAY_METADATA", "zone=a,rack=7"),
            ("KEYWAY_ADMIN", "127.0.0.1:9000"),
            ("KEYWAY_WORKERS__COUNT", "2"),
            ("KEYWAY_WORKERS__PIN", "true"),
            ("KEYWAY_WORKERS__CORES", "4,5"),
            ("KEYWAY_LINKS__OUTBOX_BYTES", "8_388_608"),
            ("KEYWAY_MEMBERSHIP__MIN_MEMBERS_PER_ROLE", "edge=2"),
            ("KEYWAY_SECRET", "sixteen bytes ok"),
        ])
        .unwrap();
    config.validate().unwrap();
    assert_eq!(config.bind.port(), 0);
    assert_eq!(config.name.as_deref(), Some("one"));
    assert_eq!(config.seeds, ["a:1", "b:2"]);
    assert!(config.roles.contains("edge"));
    assert_eq!(config.metadata["rack"], "7");
    assert_eq!(config.admin.unwrap().port(), 9000);
    assert_eq!((config.workers.count, config.workers.pin), (2, true));
    assert_eq!(config.workers.cores, Some(vec![4, 5]));
    assert_eq!(config.links.outbox_bytes, 8 << 20);
    assert_eq!(config.membership.min_members_per_role["edge"], 2);
    assert_eq!(config.load_secret().unwrap().unwrap().as_bytes(), b"sixteen bytes ok");

    for variable in ["KEYWAY_NAME", "KEYWAY_ADMIN", "KEYWAY_WORKERS__CORES", "KEYWAY_SECRET"] {
        config.apply_env([(variable, "")]).unwrap();
    }
    assert_eq!((config.name, config.admin, config.workers.cores), (None, None, None));
    assert_eq!(config.secret, None);
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    for (text, unknown, nearest) in [
        ("clutser = 'x'", "clutser", "cluster"),
        ("[workers]\ncuont = 1", "workers.cuont", "workers.count"),
        ("[worker]\ncount = 1", "worker", "workers"),
        ("max_asks = 1", "max_asks", "workers.max_asks"),
        (
            "[membership]\nprobe_interval_ms = 1",
            "membership.probe_interval_ms",
            "membership.probe_period_ms",
        ),
        ("[links]\nsuspect_ms = 1", "links.suspect_ms", "membership.suspect_ms"),
    ] {
        let message = format!("there is no setting `{unknown}`; did you mean `{nearest}`?");
        assert_eq!(refused(text), message);
    }
    assert_eq!(
        refused("colour = 'red'"),
        "there is no setting `colour`; `NodeConfig::default().to_toml()` lists them all"
    );
    assert_eq!(
        NodeConfig::default().set("workers.cout", "1").unwrap_err().to_string(),
        "there is no setting `workers.cout`; did you mean `workers.count`?"
    );
    assert_eq!(
        env_refused("KEYWAY_WORKERS_COUNT", "1"),
        "there is no setting `KEYWAY_WORKERS_COUNT`; did you mean `KEYWAY_WORKERS__COUNT`?"
    );
    assert_eq!(
        env_refused("KEYWAY_bind", "127.0.0.1:1"),
        "there is no setting `KEYWAY_bind`; did you mean `KEYWAY_BIND`?"
    );
    assert_eq!(
        env_refused("KEYWAY_", ""),
        "there is no setting `KEYWAY_`; `NodeConfig::default().to_toml()` lists them all"
    );
    assert!(refused(&format!("{} = 1", "x".repeat(10_000))).ends_with("lists them all"));
}

/// Where a service of Kubernetes is called `keyway`, each container finds these.
#[test]
fn what_kubernetes_sets_is_no_setting() {
    let mut config = NodeConfig::default();
    let set = ["PORT", "PORT_7400_TCP", "PORT_7400_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT_DATA"];
    config.apply_env(set.map(|name| (format!("KEYWAY_{name}"), "tcp://10.0.0.1:7400"))).unwrap();
    assert_eq!(config.to_toml(), NodeConfig::default().to_toml());
    let taken =
        |path: &str| path == "port" || path.starts_with("port_") || path.starts_with("service_");
    assert!(!config.settings().iter().any(|setting| taken(setting.path)));
}

/// An application may run where the variable is set for `keyway node`.
#[test]
fn the_level_of_the_log_is_no_setting() {
    let mut config = NodeConfig::default();
    config.apply_env([(LOG_VARIABLE, "debug")]).unwrap();
    assert_eq!(config.to_toml(), NodeConfig::default().to_toml());
    assert!(env_refused("KEYWAY_LOGS", "debug").contains("no setting `KEYWAY_LOGS`"));
}

#[test]
fn an_impossible_value_is_refused_with_what_would_do() {
    let name = "1 to 64 characters of a-z, A-Z, 0-9, `.`, `_` and `-`";
    let address = "an IP address with a port, such as \"127.0.0.1:7400\" or \"[::1]:7400\"";
    let seeds = "a list of up to 64 of \"host:port\", a port being from 1 to 65535";
    let roles = format!("a list of up to 64 labels, each {name}");
    let metadata =
        format!("a map of up to 64 texts of up to 1024 bytes, each under a key of {name}");
    let counts = "a map from role to an integer from 1 to 4096";
    let workers = "an integer from 1 to 256";
    let weight = "an integer from 1 to 1000";
    for (key, value, shown, allowed) in [
        ("cluster", "''", "\"\"", name),
        ("cluster", "'a b'", "\"a b\"", name),
        ("cluster", "7", "7", name),
        (
            "name",
            "'a/b'",
            "\"a/b\"",
            "1 to 128 characters of a-z, A-Z, 0-9, `.`, `_`, `-`, `:`, `[` and `]`",
        ),
        ("bind", "'localhost:1'", "\"localhost:1\"", address),
        ("admin", "'127.0.0.1'", "\"127.0.0.1\"", address),
        ("seeds", "['a']", "[\"a\"]", seeds),
        ("seeds", "['a:0']", "[\"a:0\"]", seeds),
        ("seeds", "'a:1'", "\"a:1\"", seeds),
        ("secret", "'too short'", "(9 bytes, not shown)", "16 to 1024 bytes"),
        ("secret", "7", "(not a text, not shown)", "16 to 1024 bytes"),
        ("secret_file", "7", "7", "a path"),
        ("roles", "['a b']", "[\"a b\"]", &roles),
        ("metadata", "{ a = 1 }", "{ a = 1 }", &metadata),
        ("metadata", "{ 'a b' = 'c' }", "{ \"a b\" = \"c\" }", &metadata),
        ("weight", "1001", "1001", weight),
        ("weight", "-1", "-1", weight),
        ("weight", "1.5", "1.5", weight),
        ("app_version", "'ä'", "\"ä\"", "up to 64 printable ASCII characters"),
        ("admin_allow_remote", "1", "1", "true or false"),
        ("workers", "3", "3", "no value itself: write a section `[workers]`"),
        ("workers.count", "257", "257", workers),
        ("workers.count", "'two'", "\"two\"", workers),
        ("workers.cores", "[1024]", "[1024]", "a list of core numbers from 0 to 1023"),
        ("links.max_frame_bytes", "1023", "1023", "an integer from 1024 to 67108864 bytes"),
        ("membership.probe_period_ms", "49", "49", "an integer from 50 to 10000 ms"),
        ("membership.min_members_per_role", "{ a = 0 }", "{ a = 0 }", counts),
        ("membership.partition_policy", "'hope'", "\"hope\"", "\"manual\" or \"remove-after\""),
    ] {
        let message = format!("`{key}` = {shown} is refused: it takes {allowed}");
        assert_eq!(refused(&format!("{key} = {value}")), message);
    }
    assert_eq!(
        env_refused("KEYWAY_WORKERS__COUNT", "many"),
        "`KEYWAY_WORKERS__COUNT` = \"many\" is refused: it takes an integer from 1 to 256"
    );
    assert_eq!(
        env_refused("KEYWAY_METADATA", "zone"),
        format!("`KEYWAY_METADATA` = \"zone\" is refused: it takes {metadata}")
    );
    assert_eq!(
        NodeConfig::default().set("workers.pin", "yes").unwrap_err().to_string(),
        "`workers.pin` = \"yes\" is refused: it takes true or false"
    );
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_no_text_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let value = OsStr::from_bytes(b"\xff");
    let error = NodeConfig::default().apply_env([("KEYWAY_NAME", value)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`KEYWAY_NAME` = (not UTF-8) is refused: it takes 1 to 128 characters of a-z, A-Z, 0-9, \
         `.`, `_`, `-`, `:`, `[` and `]`"
    );
}

#[test]
fn a_refused_value_changes_nothing_and_long_ones_are_cut() {
    let mut config = NodeConfig::default();
    assert!(config.set("weight", "0").is_err());
    let error = config.set("cluster", &"x".repeat(10_000)).unwrap_err().to_string();
    assert!(error.len() < 400, "{error}");
    assert_eq!(config, NodeConfig::default());
}

#[test]
fn what_settings_must_have_in_common_is_checked() {
    for (text, message) in [
        (
            "secret = 'sixteen bytes ok'\nsecret_file = 'x'",
            "`secret_file` = \"x\" is refused: it takes no value beside `secret`: set one of \
             them"
                .to_owned(),
        ),
        (
            "admin = '0.0.0.0:1'",
            "`admin` = \"0.0.0.0:1\" is refused: it takes a loopback address unless \
             `admin_allow_remote` is true: whoever reaches it can operate the node"
                .to_owned(),
        ),
        (
            "[workers]\ncount = 2\ncores = [1]",
            "`workers.cores` = [1] is refused: it takes one core per worker, so 2 of them"
                .to_owned(),
        ),
        (
            "[workers]\ncount = 2\ncores = [1, 1]",
            "`workers.cores` = [1, 1] is refused: it takes each core once".to_owned(),
        ),
        (
            "[links]\nmax_frame_bytes = 100000\noutbox_bytes = 99999",
            "`links.outbox_bytes` = 99999 is refused: it takes at least `links.max_frame_bytes` \
             (100000)"
                .to_owned(),
        ),
        (
            "[links]\nredial_min_ms = 2\nredial_max_ms = 1",
            "`links.redial_max_ms` = 1 is refused: it takes at least `links.redial_min_ms` \
             (2)"
            .to_owned(),
        ),
        (
            "[membership]\nprobe_period_ms = 100\nprobe_timeout_ms = 50",
            "`membership.probe_timeout_ms` = 50 is refused: it takes less than \
             half of `membership.probe_period_ms` (100)"
                .to_owned(),
        ),
    ] {
        assert_eq!(invalid(text), message);
    }
}

#[test]
fn what_travels_in_one_datagram_has_a_common_bound() {
    let long = format!("a = '{0}'\nb = '{0}'\nc = '{0}'\nd = '{0}'", "x".repeat(1_024));
    let message = invalid(&format!("[metadata]\n{long}"));
    assert!(
        message.ends_with(
            "is refused: it takes what makes at most 4096 bytes with `roles`, not 4100: it travels \
             in one datagram"
        ),
        "{message}"
    );
}

#[test]
fn fields_that_were_set_directly_are_checked_as_well() {
    let mut config = NodeConfig { weight: 0, ..NodeConfig::default() };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "`weight` = 0 is refused: it takes an integer from 1 to 1000"
    );
    config.weight = 1;
    config.workers.spin_us = u64::MAX;
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "`workers.spin_us` = 9223372036854775807 is refused: it takes an integer from 0 to 1000000 \
         us"
    );
}

#[test]
fn broken_toml_is_refused_by_its_line_without_quoting_it() {
    let message = refused("cluster = 'x'\nsecret = 'sixteen bytes ok\n");
    assert!(message.starts_with("line 2 is no TOML: "), "{message}");
    assert!(!message.contains("sixteen"), "{message}");
}

#[test]
fn files_are_read_and_named_when_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    let shown = path.display();
    let error = NodeConfig::from_file(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot read the configuration {shown}: No such file or directory (os error 2); check \
             path and permissions"
        )
    );
    std::fs::write(&path, "weight = 0").unwrap();
    assert_eq!(
        NodeConfig::from_file(&path).unwrap_err().to_string(),
        format!("in {shown}: `weight` = 0 is refused: it takes an integer from 1 to 1000")
    );
    std::fs::write(&path, "weight = 7").unwrap();
    assert_eq!(NodeConfig::from_file(&path).unwrap().weight, 7);
}

#[test]
fn a_secret_file_is_read_without_the_line_break_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let config = NodeConfig { secret_file: Some(path.clone()), ..NodeConfig::default() };
    assert_eq!(
        config.load_secret().unwrap_err().to_string(),
        format!(
            "cannot read the secret file {}: No such file or directory (os error 2); check path \
             and permissions",
            path.display()
        )
    );
    for end in ["", "\n", "\r\n"] {
        std::fs::write(&path, format!("sixteen bytes ok{end}")).unwrap();
        let secret = config.load_secret().unwrap().unwrap();
        assert_eq!(secret.as_bytes(), b"sixteen bytes ok");
    }
    std::fs::write(&path, "too short\n").unwrap();
    assert_eq!(
        config.load_secret().unwrap_err().to_string(),
        "`secret_file` = (9 bytes, not shown) is refused: it takes 16 to 1024 bytes"
    );
    assert_eq!(NodeConfig::default().load_secret().unwrap(), None);
}

#[test]
fn name_and_address_follow_from_where_the_node_listens() {
    let bound = "127.0.0.1:4321".parse().unwrap();
    let mut config = NodeConfig::default();
    assert_eq!(config.node_name(bound), "127.0.0.1:4321");
    config.set("advertise", "10.0.0.1:0").unwrap();
    assert_eq!(config.node_name(bound), "10.0.0.1:4321");
    config.set("advertise", "10.0.0.1:80").unwrap();
    config.set("name", "one").unwrap();
    assert_eq!((config.advertised(bound).port(), config.node_name(bound)), (80, "one".to_owned()));
}

#[test]
fn the_default_bound_of_a_small_node_is_at_most_512_mib() {
    let mut config = NodeConfig::default();
    config.workers.count = 2;
    for peers in [2, 3] {
        let bound = config.memory_bound(peers);
        assert!(bound.total_bytes() <= 512 << 20, "{peers} others: {bound}");
    }
}

#[test]
fn the_memory_bound_adds_up_every_capacity() {
    let mut config = from_toml(EVERYTHING).unwrap();
    // 2 workers and 3 peers, so 6 workers elsewhere; no message is longer than a chunk of 65,536.
    let bound = config.memory_bound(3);
    let expected = MemoryBound {
        // Three times 64 places, and 65,537 bytes with one more message.
        hand_overs_bytes: 2 * (3 * 64 * 1_152 + 3 * (65_537 + 65_536)),
        // From control and between siblings, and to control; what is on the way and handled.
        rings_bytes: (2 * 2 + 2) * 128 * 128 + 2 * (65_536 + 65_536),
        asks_bytes: (2 * 320 + 1_200) + 2 * (65_536 + 65_536) + (65_536 + 65_536),
        // 6 dialed links, 17 accepted ones; 14 have a share of outboxes (2 own and siblings, 6
        // dialed, 6 accepted of members).
        links_bytes: 2 * (6 * 5_120 + 17 * 6_144)
            + 2 * (458_752 + 65_536 + 14 * (16_384 + 65_536))
            + 2 * (65_538 + 2 * 65_536),
        handshakes_bytes: 9 * 4_096,
        watches_bytes: 2 * 1_024,
        work_bytes: 2 * 2 * 512,
        channels_bytes: 3 * 540_672 + 20_971_520 + 2 * 64 * 128,
        // Of 4 members 2 parts with 16 words each.
        gossip_bytes: 4 * 2 * 16 * 512,
        // 4 MiB and 1 MiB, an item more of each and one that is made, and their places.
        events_bytes: (5 << 20) + 3 * 393_216 + 2 * 1_024 * 64,
        // 64 chunks on each worker, 64 shared ones, and small ones.
        free_bytes: 2 * 64 * 65_536 + 64 * 65_536 + 2 * 64 * 1_024,
    };
    assert_eq!(bound, expected);
    assert_eq!(bound.total_bytes(), 47_974_202);
    assert_eq!(config.memory_bound_bytes(3), 47_974_202);
    assert_eq!(
        bound.to_string(),
        "at most 46 MiB: links 4, hand-overs 2, between threads 1, asks and replies 1, watches 1, \
         handshakes 1, work 1, channels 22, gossip 1, events 7, free buffers 13"
    );
    assert_eq!(config.memory_bound_bytes(usize::MAX), u64::MAX, "no overflow");

    config.workers.count = 3;
    let expected = MemoryBound {
        hand_overs_bytes: 1_843_209,
        rings_bytes: 180_224 + 786_432,
        asks_bytes: 2_160 + 393_216 + 131_072,
        links_bytes: 138_240 + 6_733_824 + 313_344 + 589_830,
        handshakes_bytes: 36_864,
        watches_bytes: 3_072,
        work_bytes: 3_072,
        channels_bytes: 22_618_112,
        gossip_bytes: 65_536,
        events_bytes: 6_553_600,
        free_bytes: 12_582_912 + 196_608 + 4_194_304,
    };
    assert_eq!(config.memory_bound(3), expected);
}

#[test]
fn each_setting_that_takes_memory_says_how_much() {
    let config = from_toml(EVERYTHING).unwrap();
    let bound = config.memory_bound(3);
    let by_setting = config.memory_by_setting(3);
    let sum: u64 = by_setting.iter().map(|(_, most)| most.total_bytes()).sum();
    let unset = bound.channels_bytes + bound.gossip_bytes + bound.events_bytes;
    assert_eq!(sum + unset, bound.total_bytes());
    // By how much the bound grows with one more, or with what is named.
    let grows = [
        ("workers.inject_capacity", 65, 2 * (3 * 1_152 + 1_024)),
        ("workers.inject_bytes", 65_538, 2 * 3),
        ("workers.ring_capacity", 129, 6 * 128),
        ("workers.ring_bytes", 65_537, 2),
        ("workers.max_asks", 2, 2 * 320 + 1_200),
        ("workers.retry_bytes", 65_537, 2),
        ("workers.replies_bytes", 65_537, 1),
        ("workers.max_work", 3, 2 * 512),
        // 17 chunks' worth, four times: 68 instead of the least of 64.
        ("links.outbox_bytes", 17 * 65_536, 4 * 65_536),
        ("links.outboxes_bytes", 262_148, 2 * 7),
        ("links.max_accepted", 18, 2 * 6_144),
        ("links.inboxes_bytes", 65_539, 2),
        ("links.max_pending_handshakes", 10, 4_096),
        ("watch.max_watches", 2, 2 * 1_024),
    ];
    for (path, value, growth) in grows {
        let mut more = config.clone();
        more.set(path, &value.to_string()).unwrap();
        assert_eq!(more.memory_bound_bytes(3) - bound.total_bytes(), growth, "{path}");
    }
    let told: Vec<_> = by_setting.iter().map(|(path, _)| *path).collect();
    let listed: Vec<_> = ["workers.count"].into_iter().chain(grows.map(|grow| grow.0)).collect();
    assert_eq!(told, listed);
    // One longest message in each account: 6 hand-overs, 4 to siblings, 3 for asks, 30 in outboxes
    // and 4 in inboxes.
    let mut longer = config.clone();
    longer.links.max_frame_bytes = 65_537;
    assert_eq!(longer.memory_bound_bytes(3) - bound.total_bytes(), 6 + 4 + 3 + 30 + 4);
}

#[test]
fn a_configuration_can_stand_inside_another_one() {
    #[derive(Deserialize)]
    struct Application {
        node: NodeConfig,
    }
    let text = "[node]\nweight = 5\n[node.workers]\ncount = 3";
    let application: Application = toml::from_str(text).unwrap();
    assert_eq!((application.node.weight, application.node.workers.count), (5, 3));
    let error =
        toml::from_str::<Application>("[node]\nwieght = 5").map(|app| app.node).unwrap_err();
    assert_eq!(error.message(), "there is no setting `wieght`; did you mean `weight`?");
}

#[test]
fn printed_comments_are_wrapped() {
    let printed = NodeConfig::default().to_toml();
    let longest = printed.lines().map(str::len).max();
    assert!(longest <= Some(100), "{longest:?}");
    assert!(printed.contains("\nseeds = []\n\n# What the cluster's nodes share"));
}

#[test]
fn a_seed_that_this_node_can_never_reach_is_refused_by_name() {
    let config = from_toml("bind = '127.0.0.1:7400'\nseeds = ['[::1]:7401', 'host:7402']").unwrap();
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("`seeds`") && error.contains("[::1]:7401 cannot be reached"), "{error}");
    let config = from_toml("bind = '[::1]:7400'\nseeds = ['[::1]:7401', 'host:7402']").unwrap();
    config.validate().unwrap();
}
