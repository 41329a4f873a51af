//! A type that contains itself.

use keyway::Message;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.tree")]
struct Tree {
    name: u32,
    children: Vec<Tree>,
}

fn main() {}
