//! What becomes of an ask: a reply, a refusal, a deadline, a handler that gives up, a reply from
//! another thread, and a node that goes away while asks are under way.
//!
//! `cargo run --example ask`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyway::{
    AskError, Context, DeathReason, Handler, Later, Message, Node, Refusal, Routee, Router,
};
use rkyv::{Archive, Deserialize, Serialize};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(10);

/// Multiplies on the worker itself: what is quick belongs there.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "calc.multiply", key = a, reply = u64)]
struct Multiply {
    a: u64,
    b: u64,
}

/// Takes its time, on a thread of its own: a handler must not hold its worker up.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "calc.ponder", key = question, reply = String)]
struct Ponder {
    question: u64,
    takes_ms: u64,
}

/// Is never answered.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "calc.forget", reply = u64)]
struct Forget;

#[derive(Routee)]
#[routee(handles(Multiply, Ponder, Forget))]
struct Calculator;

impl Handler<Multiply> for Calculator {
    type Reply = u64;
    fn handle(&mut self, message: &ArchivedMultiply, _: &mut Context<'_>) -> u64 {
        message.a.to_native().wrapping_mul(message.b.to_native())
    }
}

impl Handler<Ponder> for Calculator {
    type Reply = Later<String>;
    fn handle(&mut self, message: &ArchivedPonder, cx: &mut Context<'_>) -> Later<String> {
        let (later, replier) = cx.reply_later();
        let pause = Duration::from_millis(message.takes_ms.to_native());
        thread::spawn(move || {
            thread::sleep(pause);
            if let Err(refusal) = replier.reply(&format!("42, after {pause:?}")) {
                eprintln!("the answer could not be sent: {refusal}");
            }
        });
        later
    }
}

impl Handler<Forget> for Calculator {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedForget, cx: &mut Context<'_>) -> Later<u64> {
        // The replier is dropped at once. The asker need not wait for its deadline.
        let (later, _) = cx.reply_later();
        later
    }
}

fn start(name: &str, seed: Option<&Node>) -> Fallible<Node> {
    let mut builder = Node::builder().name(name).bind("127.0.0.1:0").workers(1);
    if let Some(seed) = seed {
        builder = builder.seed(seed.address());
    }
    let node = builder.start()?;
    node.serve("/user/calculator", |_| Calculator)?;
    Ok(node)
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let outcome = run();
    (outcome, Duration::from_millis(begun.elapsed().as_millis() as u64))
}

fn one_node(node: &Node, calculator: &Router) -> Fallible<()> {
    let product = calculator.ask(&Multiply { a: 6, b: 7 }).wait()?;
    println!("a reply              6 * 7 = {product}");
    assert_eq!(product, 42);

    let answer = calculator.ask(&Ponder { question: 1, takes_ms: 80 }).within(LIMIT).wait()?;
    println!("a later reply        {answer}, from a thread");

    let slow = Ponder { question: 1, takes_ms: 400 };
    let ask = calculator.ask(&slow).within(Duration::from_millis(50));
    let (outcome, took) = timed(|| ask.wait());
    println!("a deadline           {} ({took:?})", outcome.as_ref().expect_err("400 ms > 50 ms"));
    assert_eq!(outcome, Err(AskError::Timeout));

    let in_turn = node.router("/user/calculator").round_robin().build()?;
    let (outcome, took) = timed(|| in_turn.ask(&Forget).within(LIMIT).wait());
    println!("a handler gives up   {} ({took:?})", outcome.expect_err("it is never answered"));
    assert_eq!(outcome, Err(AskError::Dead(DeathReason::NoReply)));

    let outcome = calculator.ask(&Forget).wait();
    println!("a refusal            {}", outcome.expect_err("the message has no key"));
    assert_eq!(outcome, Err(AskError::Refused(Refusal::MissingKey)));

    let nowhere = node.router("/user/nowhere").build()?;
    let outcome = nowhere.ask(&Multiply { a: 6, b: 7 }).wait();
    println!("another refusal      {}", outcome.expect_err("nobody serves the path"));
    assert_eq!(outcome, Err(AskError::Refused(Refusal::NoRoutee)));
    Ok(())
}

/// Asks without a pause while the other node stops without a word. Each ask says that handling it
/// twice does no harm, so it is sent again to wherever its key lives by then.
fn while_a_node_goes(other: Node, calculator: &Router) -> Fallible<()> {
    let gone = Arc::new(AtomicBool::new(false));
    let stopper = thread::spawn({
        let gone = Arc::clone(&gone);
        move || {
            thread::sleep(Duration::from_millis(100));
            other.stop().unwrap();
            gone.store(true, Ordering::Release);
        }
    });
    let (mut asks, mut slowest) = (0_u64, Duration::ZERO);
    let mut rest = 2_000;
    while rest > 0 {
        if gone.load(Ordering::Acquire) {
            rest -= 1;
        }
        let (product, took) = timed(|| {
            let message = Multiply { a: asks, b: 3 };
            calculator.ask(&message).idempotent().within(LIMIT).wait()
        });
        assert_eq!(product?, asks * 3);
        asks += 1;
        slowest = slowest.max(took);
    }
    stopper.join().map_err(|_| "the stopping thread panicked")?;
    println!("a node goes away     {asks} of {asks} asks answered, the slowest after {slowest:?}");
    Ok(())
}

fn main() -> Fallible<()> {
    let node = start("one", None)?;
    let calculator = node.router("/user/calculator").consistent_hash().build()?;
    calculator.wait_ready(1, LIMIT)?;
    one_node(&node, &calculator)?;

    let other = start("two", Some(&node))?;
    calculator.wait_ready(2, LIMIT)?;
    while_a_node_goes(other, &calculator)?;

    let counts = node.stop()?;
    println!(
        "\n{} asks: {} replies, {} errors, {} late replies thrown away.",
        counts.asks, counts.replies, counts.failed_asks, counts.late_replies
    );
    assert_eq!(counts.in_flight(), 0, "every message has its end");
    Ok(())
}
