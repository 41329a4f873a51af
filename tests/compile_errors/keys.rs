//! Keys that are none.

use keyway::Message;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.missing", key = cart)]
struct Missing {
    card: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.change", key = cart)]
enum Change {
    Add { cart: u64 },
    Recount,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.many", key = (a, a, a, a, a))]
struct Many {
    a: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.twice", key = a, key = a)]
struct Twice {
    a: u64,
}

fn main() {}
