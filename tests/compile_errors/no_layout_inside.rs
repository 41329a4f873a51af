//! A field's type of which nobody says what its bytes mean.

use keyway::Message;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize)]
struct Line {
    text: String,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.tell")]
struct Note {
    line: Line,
}

fn main() {}
