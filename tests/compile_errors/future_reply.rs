//! A future is no reply.

use std::future::Ready;

use keyway::{Context, Handler, Message, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.ask", reply = u32)]
struct Question;

#[derive(Routee)]
#[routee(handles(Question))]
struct Answers;

impl Handler<Question> for Answers {
    type Reply = Ready<u32>;
    fn handle(&mut self, _: &ArchivedQuestion, _: &mut Context<'_>) -> Ready<u32> {
        std::future::ready(7)
    }
}

fn main() {}
