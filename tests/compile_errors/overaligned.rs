//! A type that lies at multiples of more than a frame does.

use keyway::{Layout, Message};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Layout)]
#[rkyv(attr(repr(C, align(32))))]
struct Block {
    bytes: [u8; 32],
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.tell")]
struct Blocks {
    blocks: Vec<Block>,
}

fn main() {}
