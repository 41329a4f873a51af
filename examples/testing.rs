//! Your own routees by themselves and in a simulated cluster with crashes and a cut, in one thread
//! and without waiting for any of it.
//!
//! `cargo run --example testing`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keyway::testing::{Cluster, Probe, Router, Solo};
use keyway::{Context, Handler, Message, Routee, RouterRef};
use rkyv::{Archive, Deserialize, Serialize};

/// Answered with how many items are in the cart now.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.add_item", key = cart, reply = u32)]
struct AddItem {
    cart: u64,
}

/// Said to whoever packs parcels, once a cart has three items.
#[derive(Debug, PartialEq, Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.pack", key = cart)]
struct Pack {
    cart: u64,
}

/// The service under test, as it would run on a real node. There, `parcels` is
/// `router.as_ref().clone()` of a router that `Node::router` built.
#[derive(Routee)]
#[routee(handles(AddItem))]
struct Carts {
    items: BTreeMap<u64, u32>,
    parcels: RouterRef,
}

impl Handler<AddItem> for Carts {
    type Reply = u32;

    fn handle(&mut self, add: &ArchivedAddItem, cx: &mut Context<'_>) -> u32 {
        let cart = add.cart.to_native();
        let items = self.items.entry(cart).or_default();
        *items += 1;
        if *items == 3 {
            // Nobody to pack it: a real shop would keep it and try again.
            let _ = cx.tell(&self.parcels, &Pack { cart });
        }
        *items
    }
}

/// One routee by itself, and a stand-in for the service that it sends to.
fn packs_once_there_are_three() {
    let parcels = Probe::<Pack>::default();
    let served = parcels.clone();
    let mut carts = Solo::with(move |node| {
        node.serve("/user/parcels", served.routee());
        let parcels = node.router(&Router::round_robin("/user/parcels"));
        move |_worker| Carts { items: BTreeMap::new(), parcels: parcels.clone() }
    });
    for items in 1..=4 {
        assert_eq!(carts.ask(&AddItem { cart: 7 }), Ok(items));
    }
    carts.run_for(Duration::from_millis(10));
    assert_eq!(parcels.taken(), [Pack { cart: 7 }]);
    println!("One routee by itself: 4 items, 1 parcel.");
}

/// The same service on three nodes, one of which crashes.
fn goes_on_after_a_crash(seed: u64) -> Duration {
    let mut cluster = Cluster::of(3)
        .seed(seed)
        .each(|node| {
            let parcels = node.router(&Router::round_robin("/user/parcels"));
            node.serve("/user/carts", move |_worker| Carts {
                items: BTreeMap::new(),
                parcels: parcels.clone(),
            });
        })
        .start();
    let carts = Router::consistent_hash("/user/carts");
    for cart in 0..30 {
        assert_eq!(cluster.ask(0, &carts, &AddItem { cart }), Ok(1));
    }

    cluster.crash(1);
    let before = cluster.now();
    let seen = cluster.run_until(Duration::from_secs(5), |it| it.reachable(0) == [0, 2]);
    assert!(seen, "node 0 has not noticed that node 1 is gone");
    let noticed = cluster.now() - before;

    // What it held is lost with it, as these carts are nowhere else; all others are as they were.
    let items: Vec<u32> =
        (0..30).map(|cart| cluster.ask(0, &carts, &AddItem { cart }).unwrap()).collect();
    assert!(items.iter().all(|items| (1..=2).contains(items)));
    assert!(items.contains(&2));
    noticed
}

/// Both sides of a cut go on by themselves, and meet again.
fn heals_after_a_cut() {
    let all = [0, 1, 2, 3];
    let mut cluster = Cluster::of(4).seed(11).start();
    cluster.cut(&[0, 1], &[2, 3]);
    let within = Duration::from_secs(5);
    assert!(cluster.run_until(within, |it| it.reachable(0) == [0, 1] && it.reachable(3) == [2, 3]));
    cluster.run_for(Duration::from_secs(30));
    cluster.heal();
    let before = cluster.now();
    assert!(cluster.run_until(within, |it| (0..4).all(|node| it.reachable(node) == all)));
    println!("A cut of 30 s has healed after {:?}.", cluster.now() - before);
}

fn main() {
    let began = Instant::now();
    packs_once_there_are_three();
    // Other seeds, other orders of events: what holds in one must hold in all.
    let longest = (0..20).map(goes_on_after_a_crash).max().expect("there are some");
    println!("20 clusters in which a node crashed: noticed after {longest:?} at most.");
    heals_after_a_cut();
    println!("All of it took {:?}.", began.elapsed());
}
