//! How busy nodes are: spread through the cluster, and asked of one.

use std::time::{Duration, Instant};

use keyway::{Load, LoadError, Node, NodeConfig};

fn node(name: &str, seeds: &[&Node]) -> Node {
    let mut config = NodeConfig { name: Some(name.to_owned()), ..Default::default() };
    config.bind = "127.0.0.1:0".parse().unwrap();
    config.workers.count = 1;
    config.seeds = seeds.iter().map(|seed| seed.address().to_string()).collect();
    config.load.every_ms = 100;
    keyway::NodeBuilder::from(config).start().unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ask(node: &Node, of: &Node) -> Result<Load, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.load_now(of.id()))
}

#[test]
fn nodes_know_how_busy_the_others_are_and_ask_them() {
    let first = node("first", &[]);
    let second = node("second", &[&first]);
    let third = node("third", &[&first]);
    let nodes = [&first, &second, &third];
    eventually("all know all loads", || {
        nodes.iter().all(|knows| nodes.iter().all(|of| knows.load(of.id()).is_some()))
    });
    for knows in nodes {
        for of in nodes {
            let now = ask(knows, of).unwrap();
            assert!(now.busy_per_mille <= 1_000 && !now.stuck, "{now:?}");
        }
    }
    let gone = third.id();
    drop(third);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(first.load_now(gone));
    assert!(outcome.is_err(), "{outcome:?}");
    first.down(gone.node).unwrap();
    eventually("what it said goes with it", || second.load(gone).is_none());
    assert_eq!(runtime.block_on(first.load_now(gone)), Err(LoadError::NotAMember));
}
