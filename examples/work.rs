//! Work that takes long goes on elsewhere, and its result comes back to the routee that began it:
//! a cache of prices that asks a slow source once for each, however many ask meanwhile.
//!
//! `cargo run --example work`

use std::collections::BTreeMap;
use std::time::Duration;

use keyway::{
    AskError, AsyncWork, Context, DeathReason, Handler, Later, Message, Node, Replier, Routee,
    WorkEnd,
};
use rkyv::{Archive, Deserialize, Serialize};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "prices.get", key = sku, reply = u64)]
struct Get {
    sku: u32,
}

enum Price {
    Known(u64),
    /// It is being looked up, and these wait for it.
    Awaited(Vec<Replier<u64>>),
}

#[derive(Routee)]
#[routee(handles(Get))]
struct Prices {
    known: BTreeMap<u32, Price>,
    work: AsyncWork,
}

/// A database, say.
async fn look_up(sku: u32) -> u64 {
    assert!(sku < 1_000, "there is no such article");
    tokio::time::sleep(Duration::from_millis(50)).await;
    u64::from(sku) * 100
}

impl Handler<Get> for Prices {
    type Reply = Later<u64>;

    fn handle(&mut self, message: &ArchivedGet, cx: &mut Context<'_>) -> Later<u64> {
        let sku = message.sku.to_native();
        let (later, replier) = cx.reply_later();
        match self.known.get_mut(&sku) {
            Some(Price::Known(price)) => answer(replier, *price),
            Some(Price::Awaited(askers)) => askers.push(replier),
            None => {
                let begun = self.work.spawn(cx, look_up(sku), move |me: &mut Self, price, _| {
                    me.looked_up(sku, price.ok());
                });
                // Else the replier is dropped, which tells the asker.
                if begun.is_ok() {
                    self.known.insert(sku, Price::Awaited(vec![replier]));
                }
            }
        }
        later
    }
}

impl Prices {
    /// Runs on the worker again: no lock, no message type, and the state at hand.
    fn looked_up(&mut self, sku: u32, price: Option<u64>) {
        let Some(Price::Awaited(askers)) = self.known.remove(&sku) else { return };
        if let Some(price) = price {
            self.known.insert(sku, Price::Known(price));
            for asker in askers {
                answer(asker, price);
            }
        }
    }
}

fn answer(asker: Replier<u64>, price: u64) {
    if let Err(refusal) = asker.reply(&price) {
        eprintln!("the price could not be sent: {refusal}");
    }
}

fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let node = Node::builder().bind("127.0.0.1:0").workers(1).start()?;
    let work = AsyncWork::new(runtime.handle().clone(), 64);
    node.serve("/user/prices", move |_| Prices { known: BTreeMap::new(), work: work.clone() })?;
    let prices = node.router("/user/prices").consistent_hash().build()?;
    prices.wait_ready(1, LIMIT)?;

    std::thread::scope(|scope| {
        let ask = || prices.ask(&Get { sku: 7 }).within(LIMIT).wait();
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for asker in askers {
            assert_eq!(asker.join().expect("no asker panics"), Ok(700));
        }
    });
    println!("4 asked for a price that was looked up once: {}", node.counts().work_begun);

    let unknown = prices.ask(&Get { sku: 1_000 }).within(LIMIT).wait();
    println!("a look-up that panics      {}", unknown.expect_err("there is none"));
    assert_eq!(unknown, Err(AskError::Dead(DeathReason::NoReply)));

    let counts = node.stop()?;
    let ended = |end: WorkEnd| counts.work_ended[end as usize];
    assert_eq!((counts.work_begun, ended(WorkEnd::Done), ended(WorkEnd::Panicked)), (2, 1, 1));
    Ok(())
}
