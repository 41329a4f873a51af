//! What happens when a message changes: programs with two ideas of one name meet.

use std::time::Duration;

use keyway::{Context, Handler, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

/// The message as it was.
mod first {
    use super::*;

    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "changing.pay", key = account, reply = u64)]
    pub struct Pay {
        pub account: u64,
        pub cents: u64,
    }
}

/// The message as somebody changed it, with a field put into the middle.
mod second {
    use super::*;

    #[derive(Archive, Serialize, Deserialize, Message)]
    #[message(name = "changing.pay", key = account, reply = u64)]
    pub struct Pay {
        pub account: u64,
        pub currency: u32,
        pub cents: u64,
    }
}

/// Takes both under one name.
#[derive(Routee)]
#[routee(handles(first::Pay, second::Pay))]
struct Confused;

impl Handler<first::Pay> for Confused {
    type Reply = u64;
    fn handle(&mut self, pay: &first::ArchivedPay, _: &mut Context<'_>) -> u64 {
        pay.cents.to_native()
    }
}

impl Handler<second::Pay> for Confused {
    type Reply = u64;
    fn handle(&mut self, pay: &second::ArchivedPay, _: &mut Context<'_>) -> u64 {
        pay.cents.to_native()
    }
}

fn node() -> keyway::NodeBuilder {
    Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO)
}

#[test]
fn two_types_of_one_name_on_one_routee_are_an_error_at_serve() {
    let node = node().start().unwrap();
    let error = node.serve("/changing/pay", |_| Confused).unwrap_err().to_string();
    assert!(error.contains("/changing/pay") && error.contains("changing.pay"), "{error}");
    assert!(error.contains("changing.pay.v2"), "{error}");
}
