//! A handler runs to completion: what takes longer replies later.

use keyway::{Context, Handler, Message, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.ask", reply = u32)]
struct Question;

#[derive(Routee)]
#[routee(handles(Question))]
struct Answers;

impl Handler<Question> for Answers {
    type Reply = u32;
    async fn handle(&mut self, _: &ArchivedQuestion, _: &mut Context<'_>) -> u32 {
        7
    }
}

fn main() {}
