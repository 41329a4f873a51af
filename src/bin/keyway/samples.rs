//! The built-in routees, with which a cluster can be tried without writing code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyway::admin::{AdminAskError, AdminBuilder, Query};
use keyway::{Context, Handler, Layout, Message, Node, NodeError, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const ECHO_PATH: &str = "/user/echo";
pub(crate) const COUNTER_PATH: &str = "/user/counter";

/// Keys that one worker counts; it is a sample, not a store.
const MAX_KEYS: usize = 65_536;
/// The longest key that is counted.
const MAX_KEY_BYTES: usize = 256;
/// How long an ask from the admin port waits.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// Give this text back.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "keyway.echo", reply = Echoed)]
pub(crate) struct Echo {
    text: String,
}

/// The text, and who gave it back.
#[derive(Archive, Serialize, Deserialize, Layout)]
pub(crate) struct Echoed {
    text: String,
    node: String,
    worker: u16,
}

/// Count this key.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "keyway.count", key = key, reply = Counted)]
pub(crate) struct Count {
    key: String,
}

/// How often the key was counted, this time included, and where.
#[derive(Archive, Serialize, Deserialize, Layout)]
pub(crate) struct Counted {
    /// `None` when the routee counts as many keys as it may, or the key is too long.
    count: Option<u64>,
    node: String,
    worker: u16,
}

#[derive(Routee)]
#[routee(handles(Echo))]
struct Echoes {
    node: Arc<str>,
}

impl Handler<Echo> for Echoes {
    type Reply = Echoed;

    fn handle(&mut self, message: &ArchivedEcho, cx: &mut Context<'_>) -> Echoed {
        Echoed {
            text: message.text.as_str().to_owned(),
            node: self.node.to_string(),
            worker: cx.worker().0,
        }
    }
}

#[derive(Routee)]
#[routee(handles(Count))]
struct Counters {
    node: Arc<str>,
    counts: BTreeMap<String, u64>,
}

impl Handler<Count> for Counters {
    type Reply = Counted;

    fn handle(&mut self, message: &ArchivedCount, cx: &mut Context<'_>) -> Counted {
        Counted {
            count: self.count(message.key.as_str()),
            node: self.node.to_string(),
            worker: cx.worker().0,
        }
    }
}

impl Counters {
    fn count(&mut self, key: &str) -> Option<u64> {
        if let Some(count) = self.counts.get_mut(key) {
            *count += 1;
            return Some(*count);
        }
        if self.counts.len() >= MAX_KEYS || key.len() > MAX_KEY_BYTES {
            return None;
        }
        self.counts.insert(key.to_owned(), 1);
        Some(1)
    }
}

/// The ways to the built-in routees, from this node.
#[derive(Clone)]
pub(crate) struct Samples {
    echo: Arc<Router>,
    counter: Arc<Router>,
}

impl Samples {
    /// Serves both paths on this node and builds its routers to them.
    pub(crate) fn serve(node: &Node) -> Result<Self, NodeError> {
        let name: Arc<str> = node.name().into();
        let own = Arc::clone(&name);
        node.serve(ECHO_PATH, move |_| Echoes { node: Arc::clone(&own) })?;
        node.serve(COUNTER_PATH, move |_| Counters {
            node: Arc::clone(&name),
            counts: BTreeMap::new(),
        })?;
        Ok(Self {
            echo: Arc::new(node.router(ECHO_PATH).round_robin().build()?),
            counter: Arc::new(node.router(COUNTER_PATH).consistent_hash().build()?),
        })
    }

    /// Waits until something can be asked.
    pub(crate) async fn ready(&self) -> Result<(), keyway::NotReady> {
        self.echo.ready(1).await?;
        self.counter.ready(1).await
    }

    /// Lets operators ask both from a shell.
    pub(crate) fn offer(&self, admin: AdminBuilder) -> AdminBuilder {
        let (echo, counter) = (Arc::clone(&self.echo), Arc::clone(&self.counter));
        admin
            .ask("echo", move |query| {
                let router = Arc::clone(&echo);
                async move {
                    let text = parameter(query, "echo", "text")?;
                    let reply = router.ask(&Echo { text }).within(ASK_WITHIN).await?;
                    Ok(json!({ "text": reply.text, "node": reply.node, "worker": reply.worker }))
                }
            })
            .ask("counter", move |query| {
                let router = Arc::clone(&counter);
                async move { count(&router, parameter(query, "counter", "key")?).await }
            })
    }
}

async fn count(router: &Router, key: String) -> Result<Value, AdminAskError> {
    let message = Count { key };
    let reply = router.ask(&message).within(ASK_WITHIN).await?;
    let Some(count) = reply.count else {
        return Err(AdminAskError::BadQuery(format!(
            "{} does not count this key: a worker counts up to {MAX_KEYS} keys of at most \
             {MAX_KEY_BYTES} bytes each",
            reply.node,
        )));
    };
    Ok(json!({ "key": message.key, "count": count, "node": reply.node, "worker": reply.worker }))
}

fn parameter(mut query: Query, ask: &str, name: &str) -> Result<String, AdminAskError> {
    match query.remove(name) {
        Some(value) if query.is_empty() => Ok(value),
        _ => Err(AdminAskError::BadQuery(format!(
            "ask it as POST /ask/{ask}?{name}=..., with no other parameters"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_keeps_no_more_keys_than_it_may() {
        let mut counters = Counters { node: "a".into(), counts: BTreeMap::new() };
        assert_eq!(counters.count("apples"), Some(1));
        assert_eq!(counters.count(&"x".repeat(MAX_KEY_BYTES + 1)), None);
        for key in 1..MAX_KEYS {
            assert_eq!(counters.count(&key.to_string()), Some(1));
        }
        assert_eq!(counters.count("pears"), None);
        assert_eq!(counters.count("apples"), Some(2));
    }
}
