//! One process, one node: serve a path, tell, ask, and read the counts.
//!
//! `cargo run --example hello`

use std::time::Duration;

use keyway::{Context, Handler, Layout, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

/// A message. Its name is what nodes know it by; `cart` decides which routee gets it.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.add_item", key = cart)]
struct AddItem {
    cart: u64,
    price_cents: u64,
}

/// A question, with the type of its answer.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.get_total", key = cart, reply = Total)]
struct GetTotal {
    cart: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout, Debug)]
struct Total {
    items: u32,
    cents: u64,
    worker: u16,
}

/// The routee: each worker of a node has one of its own, so that its state needs no lock.
#[derive(Default, Routee)]
#[routee(handles(AddItem, GetTotal))]
struct Carts {
    totals: std::collections::BTreeMap<u64, (u32, u64)>,
}

impl Handler<AddItem> for Carts {
    type Reply = ();
    fn handle(&mut self, message: &ArchivedAddItem, _: &mut Context<'_>) {
        let (items, cents) = self.totals.entry(message.cart.to_native()).or_default();
        *items += 1;
        *cents += message.price_cents.to_native();
    }
}

impl Handler<GetTotal> for Carts {
    type Reply = Total;
    fn handle(&mut self, message: &ArchivedGetTotal, cx: &mut Context<'_>) -> Total {
        let cart = message.cart.to_native();
        let (items, cents) = self.totals.get(&cart).copied().unwrap_or_default();
        Total { items, cents, worker: cx.worker().0 }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().name("hello").bind("127.0.0.1:0").workers(2).start()?;
    println!("The node {:?} listens on {}, with 2 workers.\n", node.name(), node.address());

    node.serve("/user/carts", |_worker| Carts::default())?;
    let carts = node.router("/user/carts").consistent_hash().build()?;
    carts.wait_ready(2, Duration::from_secs(5))?;

    for cart in 1..=6 {
        for item in 0..cart {
            carts.tell(&AddItem { cart, price_cents: 250 + 10 * item })?;
        }
    }
    for cart in 1..=6 {
        // Asks and tells of one handle keep their order: all items are in when the answer is made.
        let total: Total = carts.ask(&GetTotal { cart }).within(Duration::from_secs(1)).wait()?;
        println!(
            "cart {cart} lives on worker {}: {} items for {}.{:02}",
            total.worker,
            total.items,
            total.cents / 100,
            total.cents % 100,
        );
        assert_eq!(u64::from(total.items), cart, "every item told before was counted");
    }

    // A message that no handler takes ends in a count as well.
    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "shop.burn_down", key = cart)]
    struct BurnDown {
        cart: u64,
    }
    let error = carts.ask(&BurnDown { cart: 1 }).wait().expect_err("nobody handles this");
    println!("\nAsked to burn down, the shop says: {error}.");

    let counts = node.stop()?;
    println!(
        "\n{} sent = {} delivered + {} refused + {} dead + {} unknown. Nothing is lost in silence.",
        counts.sent,
        counts.delivered,
        counts.refused_total(),
        counts.dead_total(),
        counts.unknown,
    );
    assert_eq!(counts.in_flight(), 0, "after a stop, every message has its end");
    assert_eq!((counts.sent, counts.delivered, counts.dead_total()), (28, 27, 1));
    Ok(())
}
