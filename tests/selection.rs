//! All handlers that fit a pattern, told and asked from threads and from handlers.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use keyway::{
    AskError, Context, Handler, Later, Message, Node, OnReply, Pattern, Placement, Refusal,
    Replier, Routee, Selection,
};
use rkyv::{Archive, Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "selection.who", reply = u64)]
struct Who;

/// Says its number, or never answers.
#[derive(Routee)]
#[routee(handles(Who))]
struct Place {
    number: u64,
    owed: Option<Replier<u64>>,
}

impl Handler<Who> for Place {
    type Reply = Later<u64>;
    fn handle(&mut self, _: &ArchivedWho, cx: &mut Context<'_>) -> Later<u64> {
        let (later, replier) = cx.reply_later();
        if self.number == SILENT {
            self.owed = Some(replier);
        } else {
            replier.reply(&self.number).unwrap();
        }
        later
    }
}

const SILENT: u64 = 99;

/// Tells or asks all that fit.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "selection.go", reply = Option<u64>)]
struct Go {
    pattern: String,
    tell: bool,
}

/// A token, and what came of its ask.
type Ended = (u64, Result<u64, AskError>);

#[derive(Clone, Default)]
struct Shared {
    replies: Arc<Mutex<Vec<Ended>>>,
    selection: Arc<OnceLock<Selection>>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

#[derive(Routee)]
#[routee(handles(Go))]
struct Asker(Shared);

impl Handler<Go> for Asker {
    type Reply = Option<u64>;
    fn handle(&mut self, message: &ArchivedGo, cx: &mut Context<'_>) -> Option<u64> {
        let blocking = self.0.selection.get().map(|it| it.ask(&Who).wait());
        assert!(blocking.is_none_or(|it| it.is_err_and(|it| it == Refusal::WouldBlock)));
        let pattern = Pattern::new(&message.pattern).unwrap();
        let outcome = if message.tell {
            cx.tell_selected(&pattern, &Who)
        } else {
            cx.ask_selected::<Self, _>(&pattern, &Who, Duration::from_millis(500), 7)
        };
        outcome.map(|count| count as u64).map_err(|it| self.0.refused.lock().unwrap().push(it)).ok()
    }
}

impl OnReply<Who> for Asker {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&rkyv::primitive::ArchivedU64, AskError>,
        _: &mut Context<'_>,
    ) {
        self.0.replies.lock().unwrap().push((token, reply.map(|it| it.to_native())));
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(name: &str, seed: Option<&Node>) -> Node {
    let builder = Node::builder().name(name).bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let builder = seed.into_iter().fold(builder, |it, seed| it.seed(seed.address()));
    builder.start().unwrap()
}

fn serve(node: &Node, path: &str, number: u64) {
    node.serve_on(path, Placement::OnePerNode, move |_| Place { number, owed: None }).unwrap();
}

#[test]
fn all_that_fit_are_asked_at_the_same_time_and_each_answer_is_told() {
    let near = start("near", None);
    let far = start("far", Some(&near));
    for (node, path, number) in
        [(&near, "/rooms/a", 1), (&near, "/rooms/b", 2), (&far, "/rooms/a", 3)]
    {
        serve(node, path, number);
    }
    let selection = near.select("/rooms/*").unwrap();
    eventually("all are found", || selection.identify().len() == 3);
    let replies = selection.ask(&Who).within(LIMIT).wait().unwrap();
    let said: BTreeMap<_, _> =
        replies.into_iter().map(|(to, reply)| (reply.unwrap(), to.path.to_string())).collect();
    let expected = [(1, "/rooms/a"), (2, "/rooms/b"), (3, "/rooms/a")];
    assert_eq!(said, expected.map(|(number, path)| (number, path.to_owned())).into());
    assert_eq!(near.select("/rooms/b").unwrap().tell(&Who), Ok(1));

    // Who never answers holds up nobody's answer but its own, and not longer than it may.
    for path in ["/rooms/c", "/rooms/d"] {
        serve(&far, path, SILENT);
    }
    eventually("all are found", || selection.identify().len() == 5);
    let (began, within) = (Instant::now(), Duration::from_millis(300));
    let replies =
        keyway::queue::block_on::block_on(selection.ask(&Who).within(within).into_future())
            .unwrap();
    assert!(began.elapsed() < 2 * within, "{:?}", began.elapsed());
    let late = replies.iter().filter(|(_, reply)| *reply == Err(AskError::Timeout));
    assert_eq!((late.count(), replies.iter().filter(|(_, reply)| reply.is_ok()).count()), (2, 3));

    // A handler does the same.
    let shared = Shared::default();
    shared.selection.set(near.select("/rooms/*").unwrap()).ok().unwrap();
    let given = shared.clone();
    near.serve("/asker", move |_| Asker(given.clone())).unwrap();
    let asker = near.router("/asker").build().unwrap();
    asker.wait_ready(1, LIMIT).unwrap();
    let go = |pattern: &str, tell| {
        asker.ask(&Go { pattern: pattern.into(), tell }).within(LIMIT).wait().unwrap()
    };
    assert_eq!(go("/rooms/**", false), Some(5));
    eventually("each ask has ended", || shared.replies.lock().unwrap().len() == 5);
    let mut replies = std::mem::take(&mut *shared.replies.lock().unwrap());
    replies.sort_by_key(|(_, reply)| reply.as_ref().ok().copied());
    let late = (7, Err(AskError::Timeout));
    assert_eq!(replies, [late, late, (7, Ok(1)), (7, Ok(2)), (7, Ok(3))]);
    assert_eq!(go("/rooms/b", true), Some(1));

    // Nothing fits.
    assert_eq!(near.select("/none/*").unwrap().ask(&Who).wait(), Err(Refusal::NoRoutee));
    assert_eq!((go("/none/*", false), go("/none/*", true)), (None, None));
    assert_eq!(*shared.refused.lock().unwrap(), [Refusal::NoRoutee, Refusal::NoRoutee]);
    assert!(shared.replies.lock().unwrap().is_empty());
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "selection.slow", reply = Vec<u8>)]
struct Slow;

/// Answers after a while with more than a small buffer takes.
#[derive(Routee)]
#[routee(handles(Slow))]
struct Large;

impl Handler<Slow> for Large {
    type Reply = Vec<u8>;
    fn handle(&mut self, _: &ArchivedSlow, _: &mut Context<'_>) -> Vec<u8> {
        // While the worker handles, nothing holds up the thread that takes the replies before it.
        std::thread::sleep(Duration::from_millis(50));
        vec![7; 40_000]
    }
}

/// Never answers.
#[derive(Routee)]
#[routee(handles(Slow))]
struct Never(Option<Replier<Vec<u8>>>);

impl Handler<Slow> for Never {
    type Reply = Later<Vec<u8>>;
    fn handle(&mut self, _: &ArchivedSlow, cx: &mut Context<'_>) -> Later<Vec<u8>> {
        let (later, replier) = cx.reply_later();
        self.0 = Some(replier);
        later
    }
}

/// Replies are fetched as they come: one that does not come lets no others fill the node's memory.
#[test]
fn replies_do_not_pile_up_behind_one_that_is_late() {
    let node = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    // Room for 8 of them.
    let node = node.set("workers.replies_bytes", "524288").start().unwrap();
    node.serve("/large/00", |_| Never(None)).unwrap();
    for number in 1..=20 {
        node.serve(&format!("/large/{number:02}"), |_| Large).unwrap();
    }
    let selection = node.select("/large/*").unwrap();
    assert_eq!(selection.identify().len(), 21);
    let replies = selection.ask(&Slow).within(Duration::from_secs(3)).wait().unwrap();
    for (to, reply) in replies {
        let expected = match to.path.as_str() {
            "/large/00" => Err(AskError::Timeout),
            _ => Ok(40_000),
        };
        assert_eq!(reply.map(|reply| reply.len()), expected, "{}", to.path);
    }
}
