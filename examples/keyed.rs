//! Three processes share the keys of a consistent hash; one leaves, and only its keys move.
//!
//! `cargo run --example keyed`
//!
//! The program starts three copies of itself, each a node that serves `/user/carts`, and joins them
//! as a fourth node that only sends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyway::{Context, Handler, Layout, Message, Node, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const NAMES: [&str; 3] = ["anna", "bert", "cleo"];
const CARTS: u64 = 3_000;
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.add_item", key = cart, reply = Added)]
struct AddItem {
    cart: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct Added {
    owner: String,
    items: u32,
}

#[derive(Routee)]
#[routee(handles(AddItem))]
struct Carts {
    owner: String,
    items: BTreeMap<u64, u32>,
}

impl Handler<AddItem> for Carts {
    type Reply = Added;
    fn handle(&mut self, message: &ArchivedAddItem, _: &mut Context<'_>) -> Added {
        let items = self.items.entry(message.cart.to_native()).or_default();
        *items += 1;
        Added { owner: self.owner.clone(), items: *items }
    }
}

/// What each of the three processes does: serve until its standard input ends, then leave.
fn serve(name: &str, seed: &str) -> Fallible<()> {
    let node = Node::builder().name(name).bind("127.0.0.1:0").seed(seed).workers(1).start()?;
    let owner = name.to_owned();
    node.serve("/user/carts", move |_| Carts { owner: owner.clone(), items: BTreeMap::new() })?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    node.leave_and_wait()?;
    Ok(())
}

/// One of the processes. It ends with its owner, whatever happens to that one: its standard input
/// ends then.
struct Server(Child);

impl Server {
    fn start(name: &str, seed: &str) -> Fallible<Self> {
        let mut server = Self(
            Command::new(std::env::current_exe()?)
                .args(["serve", name, seed])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let mut line = String::new();
        let stdout = server.0.stdout.take().ok_or("the child has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() == "ready" {
            Ok(server)
        } else {
            Err(format!("{name} did not start").into())
        }
    }

    fn leave(mut self) -> Fallible<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("leaving failed: {status}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn owners(carts: &Router) -> Fallible<BTreeMap<u64, String>> {
    (0..CARTS)
        .map(|cart| Ok((cart, carts.ask(&AddItem { cart }).within(LIMIT).wait()?.owner)))
        .collect()
}

fn print_shares(owners: &BTreeMap<u64, String>) {
    for name in NAMES {
        let keys: Vec<u64> = owners.iter().filter(|(_, o)| *o == name).map(|(k, _)| *k).collect();
        let bar = "#".repeat(keys.len() / 60);
        let first: Vec<String> = keys.iter().take(8).map(u64::to_string).collect();
        let more = if keys.len() > first.len() { ", .." } else { "" };
        let line =
            format!("  {name} {:>5} carts  {bar:<27} {}{more}", keys.len(), first.join(", "));
        println!("{}", line.trim_end());
    }
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name, seed] = arguments.as_slice()
        && role == "serve"
    {
        return serve(name, seed);
    }

    let node = Node::builder().name("sender").bind("127.0.0.1:0").workers(1).start()?;
    let seed = node.address().to_string();
    print!("Starting three processes ..");
    std::io::stdout().flush()?;
    let mut servers = BTreeMap::new();
    for name in NAMES {
        servers.insert(name, Server::start(name, &seed)?);
    }
    let carts = node.router("/user/carts").consistent_hash().build()?;
    carts.wait_ready(3, LIMIT)?;
    println!(" each serves {}.\n", carts.routees()[0].path);

    println!("One item into each of {CARTS} carts; the cart's number is the key:");
    let before = owners(&carts)?;
    print_shares(&before);

    println!("\nbert leaves.");
    let bert = servers.remove("bert").ok_or("bert was started")?;
    bert.leave()?;
    let deadline = Instant::now() + LIMIT;
    while carts.routee_count() > 2 {
        if Instant::now() > deadline {
            return Err("the table still holds the node that left".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("\nAnother item into each cart:");
    let after = owners(&carts)?;
    print_shares(&after);

    let of_bert = before.values().filter(|owner| *owner == "bert").count();
    let moved: Vec<_> = before.iter().filter(|(cart, owner)| after[cart] != **owner).collect();
    let needless = moved.iter().filter(|(_, owner)| *owner != "bert").count();
    println!(
        "\n{} carts moved; bert had {of_bert}. {needless} moved that need not have.",
        moved.len()
    );
    assert_eq!((moved.len(), needless), (of_bert, 0), "only the leaver's keys may move");

    for server in servers.into_values() {
        server.leave()?;
    }
    node.leave_and_wait()?;
    println!("All processes have left.");
    Ok(())
}
