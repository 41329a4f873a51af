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

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.none", key = ())]
struct NoParts {
    a: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.computed", key = a.len())]
struct Computed {
    a: String,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.quoted", key = "a")]
struct Quoted {
    a: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.fraction", key = 0.5e1)]
struct Fraction(u64);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.bare", key)]
struct Bare {
    a: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.variants")]
enum OneVariantTwice {
    #[message(key = a, key = b)]
    Twice { a: u64, b: u64 },
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.variants")]
enum OneVariantBoth {
    #[message(key = a, no_key)]
    Both { a: u64 },
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.variants")]
enum OneVariantInTwo {
    #[message(key = a)]
    #[message(no_key)]
    InTwo { a: u64 },
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.variants")]
enum OneVariantEmpty {
    #[message()]
    Empty { a: u64 },
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.variants")]
enum OneVariantNamed {
    #[message(name = "other")]
    Named { a: u64 },
}

fn main() {}
