//! Types that contain themselves by way of others, by another name, or in a field named by hand.

use keyway::{Layout, Message};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Layout)]
struct Even {
    next: Option<Box<Odd>>,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct Odd {
    next: Option<Box<Even>>,
}

type Trees = Vec<Tree>;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.tree")]
struct Tree {
    children: Trees,
}

fn main() {}
