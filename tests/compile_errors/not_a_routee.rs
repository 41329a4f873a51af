//! A type that has a handler, and that nobody made a routee.

use keyway::{Context, Handler, Message, Node};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.tell")]
struct Note;

struct Notes;

impl Handler<Note> for Notes {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedNote, _: &mut Context<'_>) {}
}

fn serve(node: &Node) {
    let _ = node.serve("/user/notes", |_| Notes);
}

fn main() {}
