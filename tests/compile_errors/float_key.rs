//! A key of which two equal values may have different bytes.

use keyway::Message;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "trade", key = price)]
struct Trade {
    price: f64,
}

fn main() {}
