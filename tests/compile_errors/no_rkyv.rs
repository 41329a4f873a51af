//! A message without rkyv's derives.

use keyway::Message;

#[derive(Message)]
#[message(name = "test.tell")]
struct Note {
    text: String,
}

fn main() {}
