//! What runs on the workers of tests: handlers that note what they see.

use std::sync::{Arc, Mutex};

use rkyv::{Archive, Deserialize, Serialize};

use super::*;

pub(in crate::worker) const REPLY: u64 = 0;
pub(in crate::worker) const LATER: u64 = 1;
pub(in crate::worker) const DROP: u64 = 2;
pub(in crate::worker) const PANIC: u64 = 3;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "tests.ping", key = key, reply = u64)]
pub(in crate::worker) struct Ping {
    pub(in crate::worker) key: u64,
    pub(in crate::worker) what: u64,
    pub(in crate::worker) filler: Vec<u8>,
}

pub(in crate::worker) fn ping(key: u64) -> Ping {
    Ping { key, what: REPLY, filler: Vec::new() }
}

pub(in crate::worker) fn doing(key: u64, what: u64) -> Ping {
    Ping { key, what, filler: Vec::new() }
}

/// What the handlers of one worker saw.
#[derive(Default)]
pub(in crate::worker) struct Seen {
    pub(in crate::worker) keys: Vec<u64>,
    pub(in crate::worker) repliers: Vec<Replier<u64>>,
    pub(in crate::worker) starts: u64,
    pub(in crate::worker) outcomes: Vec<(u64, Result<u64, AskError>)>,
    pub(in crate::worker) wakes: Vec<u64>,
}

pub(in crate::worker) type Shared = Arc<Mutex<Seen>>;

pub(in crate::worker) struct Echo(Shared);

impl Echo {
    pub(in crate::worker) fn new(seen: &Shared) -> Self {
        Self(Arc::clone(seen))
    }
}

impl Routee for Echo {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Ping>();
    }
    fn started(&mut self, _: &mut Context<'_>) {
        self.0.lock().unwrap().starts += 1;
    }
    fn wake(&mut self, token: u64, _: &mut Context<'_>) {
        self.0.lock().unwrap().wakes.push(token);
        assert_ne!(token, PANIC, "told to");
    }
}

/// Now or later, as the message says.
pub(in crate::worker) enum Answer {
    Now(u64),
    Later(Later<u64>),
}

impl IntoReply<u64> for Answer {
    fn send(self, cx: &mut Context<'_>) {
        match self {
            Self::Now(reply) => reply.send(cx),
            Self::Later(later) => later.send(cx),
        }
    }
}

impl Handler<Ping> for Echo {
    type Reply = Answer;
    fn handle(&mut self, ping: &ArchivedPing, cx: &mut Context<'_>) -> Answer {
        let key = ping.key.to_native();
        self.0.lock().unwrap().keys.push(key);
        match ping.what.to_native() {
            LATER => {
                let (later, replier) = cx.reply_later();
                self.0.lock().unwrap().repliers.push(replier);
                Answer::Later(later)
            }
            DROP => Answer::Later(cx.reply_later().0),
            PANIC => panic!("told to"),
            _ => Answer::Now(key + 1),
        }
    }
}

pub(in crate::worker) struct Caller(pub(super) Shared);

impl Routee for Caller {
    fn register(_: &mut HandlerTable<Self>) {}
}

impl OnReply<Ping> for Caller {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&rkyv::rend::u64_le, AskError>,
        cx: &mut Context<'_>,
    ) {
        self.0.lock().unwrap().outcomes.push((token, reply.map(|reply| reply.to_native())));
        if token == TELLS_ON_FAILURE && reply.is_err() {
            // Whatever comes of it must be counted.
            let _ = cx.tell(ROUND_ROBIN, &ping(99));
            let _ = cx.broadcast(ROUND_ROBIN, &ping(98));
        }
        if token == ASKS_ON_FAILURE && reply.is_err() {
            let again = AskOptions::within(WITHIN).idempotent();
            cx.ask_to::<Self, _>(&reference(1), &ping(1), again, ASKED_AGAIN).expect("has a place");
        }
    }
}

pub(in crate::worker) const TELLS_ON_FAILURE: u64 = 77;
/// Asks again, by [`ASKED_AGAIN`].
pub(in crate::worker) const ASKS_ON_FAILURE: u64 = 78;
pub(in crate::worker) const ASKED_AGAIN: u64 = 79;
