//! An HTTP service on its own tokio runtime that asks a keyed routee, and ends in order.
//!
//! `cargo run --example embed`, then in another terminal:
//!
//! ```text
//! curl -X POST 'http://127.0.0.1:8080/carts/7/items?cents=250'
//! curl 'http://127.0.0.1:8080/carts/7'
//! ```
//!
//! Ctrl-C: HTTP stops first, so that no request comes any more; requests under way are answered;
//! then the node leaves its cluster. `--check` does all that by itself, on free ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router as Routes};
use keyway::{AskError, Context, Handler, Layout, Message, Node, Routee, Router};
use rkyv::{Archive, Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.add_item", key = cart, reply = Total)]
struct AddItem {
    cart: u64,
    cents: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "shop.get_total", key = cart, reply = Total)]
struct GetTotal {
    cart: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout, Clone, Copy, Default, serde::Serialize)]
struct Total {
    items: u32,
    cents: u64,
}

#[derive(Default, Routee)]
#[routee(handles(AddItem, GetTotal))]
struct Carts(BTreeMap<u64, Total>);

impl Handler<AddItem> for Carts {
    type Reply = Total;
    fn handle(&mut self, message: &ArchivedAddItem, _: &mut Context<'_>) -> Total {
        let total = self.0.entry(message.cart.to_native()).or_default();
        total.items += 1;
        total.cents = total.cents.saturating_add(message.cents.to_native());
        *total
    }
}

impl Handler<GetTotal> for Carts {
    type Reply = Total;
    fn handle(&mut self, message: &ArchivedGetTotal, _: &mut Context<'_>) -> Total {
        self.0.get(&message.cart.to_native()).copied().unwrap_or_default()
    }
}

#[derive(serde::Deserialize)]
struct Item {
    cents: u64,
}

type Answer = Result<Json<Total>, (StatusCode, String)>;

const WITHIN: Duration = Duration::from_millis(500);

async fn add_item(
    State(carts): State<Router>,
    Path(cart): Path<u64>,
    Query(item): Query<Item>,
) -> Answer {
    let message = AddItem { cart, cents: item.cents };
    carts.ask(&message).within(WITHIN).await.map(Json).map_err(status)
}

async fn get_total(State(carts): State<Router>, Path(cart): Path<u64>) -> Answer {
    // Reading twice does no harm: if the cart moves meanwhile, it is asked where it went.
    carts.ask(&GetTotal { cart }).within(WITHIN).idempotent().await.map(Json).map_err(status)
}

fn status(error: AskError) -> (StatusCode, String) {
    let status = match error {
        AskError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string())
}

async fn run(bind: &str, http: &str, check: bool) -> Fallible<()> {
    let node = Node::builder().bind(bind).start()?;
    node.serve("/user/carts", |_worker| Carts::default())?;
    let carts = node.router("/user/carts").consistent_hash().build()?;
    carts.ready(1).await?;

    let routes = Routes::new()
        .route("/carts/{cart}/items", post(add_item))
        .route("/carts/{cart}", get(get_total))
        .with_state(carts);
    let listener = TcpListener::bind(http).await?;
    let address = listener.local_addr()?;
    println!("HTTP on http://{address}, the node on {}. Ctrl-C ends both.", node.address());

    // Listened for from here on, before the first request can come.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let interrupted = async move {
        interrupt.recv().await;
        println!("Interrupted: HTTP takes no more requests.");
    };
    let checking = check.then(|| tokio::spawn(check_itself(address)));
    axum::serve(listener, routes).with_graceful_shutdown(interrupted).await?;
    if let Some(checking) = checking {
        checking.await??;
    }

    let drained = node.leave().await?;
    println!("The node has left; everything under way was finished: {drained}.");
    if drained { Ok(()) } else { Err("the node could not finish what was under way".into()) }
}

fn main() -> Fallible<()> {
    let check = std::env::args().any(|argument| argument == "--check");
    let (bind, http) =
        if check { ("127.0.0.1:0", "127.0.0.1:0") } else { ("127.0.0.1:7400", "127.0.0.1:8080") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(bind, http, check))
}

/// Plays the user: a few requests, then Ctrl-C.
async fn check_itself(address: SocketAddr) -> Fallible<()> {
    let outcome = shop(address).await;
    // Interrupted in any case, so that a failed check ends the service as well.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT)?;
    outcome
}

async fn shop(address: SocketAddr) -> Fallible<()> {
    for (method, path, expected) in [
        ("POST", "/carts/7/items?cents=250", r#"{"items":1,"cents":250}"#),
        ("POST", "/carts/7/items?cents=199", r#"{"items":2,"cents":449}"#),
        ("GET", "/carts/7", r#"{"items":2,"cents":449}"#),
        ("GET", "/carts/8", r#"{"items":0,"cents":0}"#),
    ] {
        let answer = request(address, method, path).await?;
        println!("{method:>4} {path:<25} {answer}");
        if answer != expected {
            return Err(format!("{method} {path} gave {answer}, not {expected}").into());
        }
    }
    Ok(())
}

/// One HTTP request; gives the answer's body.
async fn request(address: SocketAddr, method: &str, path: &str) -> Fallible<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no end of its head")?;
    Ok(body.to_owned())
}
