//! The admin face: a small HTTP server on a thread of its own that tells operators and monitoring
//! how a node sees its cluster, and takes their few orders.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /members` | the members as this node sees them |
//! | `GET /routers` | this node's routers, with the digest of each table |
//! | `GET /counts` | how many messages ended how, by reason |
//! | `GET /strangers` | what came to the node's port, and what of it was not let in |
//! | `GET /health` | 200 while the node is up and no worker has stood still for a second, else 503; names workers whose turn lasts longer than `workers.slow_turn_ms`, and what keeps a node from joining |
//! | `GET /metrics` | all of it for Prometheus, as OpenMetrics text |
//! | `POST /down/{node}` | removes a member that will not come back, by name |
//! | `POST /leave` | begins a graceful leave |
//! | `POST /ask/{name}` | sends one of the asks the application put in, see [`AdminBuilder::ask`] |
//!
//! [`start`] opens it with a node whose settings have `admin`:
//!
//! ```
//! let builder = keyway::Node::builder().bind("127.0.0.1:0").set("admin", "127.0.0.1:0");
//! let (node, admin) = keyway::admin::start(builder)?;
//! println!("curl http://{}/members", admin.as_ref().expect("it is set").address());
//!
//! // The node is shared with the port, so that `leave`, which takes it, is not for it.
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! node.begin_leave()?;
//! let ended = node.ended().await;
//! assert_eq!(ended, keyway::Ended::Left { drained: true });
//! # Ok::<(), keyway::NodeError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything else is JSON: the types of [`report`]. Whoever reaches the port can operate the
//! node, so it belongs on loopback, and `GET /health` always answers: connections that do not say
//! what they want give way to those that do, and asks that take long leave room. Only while the
//! machine's clock is before 1970 or after 9999 each answer is 500, and says so. On loopback it also
//! refuses requests that a web page could have sent from the operator's own browser.

mod listener;
mod metrics;
mod places;
pub mod report;
mod routes;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use self::listener::{BoundedListener, Connection};
use self::routes::{App, MAX_ORDERS};
use crate::api::{BuildError, Node, NodeBuilder};
use crate::base::debug_as_display;
use crate::base::fate::AskError;

/// How long connections may go on when the server stops.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Why the admin port could not be opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The port could not be had.
    #[error(
        "binding the admin port {address} failed: {source}; is another process using it, or is \
         the address not this machine's? Port 0 takes a free one"
    )]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not give a thread.
    #[error("starting the admin thread failed: {0}")]
    Thread(#[source] io::Error),
}

debug_as_display!(AdminError);

/// Why a node with an admin port did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] BuildError),
    /// Its admin port could not be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

debug_as_display!(StartError);

/// Starts a node, and the admin port that its setting `admin` names, if there is one. The port is
/// opened first, so that a taken one does not end a node that has joined already. To put asks in, do
/// the same by [`NodeBuilder::take_admin`], [`AdminPort::open`] and [`Admin::builder`].
///
/// # Errors
/// [`StartError`] names the setting or the step that failed; nothing is left running then.
pub fn start(mut builder: NodeBuilder) -> Result<(Arc<Node>, Option<Admin>), StartError> {
    let address = builder.take_admin().map_err(BuildError::from)?;
    let port = address.map(AdminPort::open).transpose()?;
    let node = Arc::new(builder.start()?);
    let admin = port.map(|port| Admin::builder(Arc::clone(&node)).start(port)).transpose()?;
    Ok((node, admin))
}

/// Why an ask put in with [`AdminBuilder::ask`] has no answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AdminAskError {
    /// The query lacks something or has it wrong; says what is needed.
    #[error("{0}")]
    BadQuery(String),
    /// The ask went out, or tried to.
    #[error(transparent)]
    Ask(#[from] AskError),
}

debug_as_display!(AdminAskError);

/// The parameters after the `?` of a request.
pub type Query = BTreeMap<String, String>;

/// An open port that nothing answers at yet: taken before the node starts, so that a taken port
/// does not end a node that has joined already.
#[derive(Debug)]
pub struct AdminPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminPort {
    /// Opens the port. Port 0 takes a free one.
    ///
    /// Whether an address that others can reach is wanted is for the caller to check, as
    /// [`NodeConfig::validate`](crate::NodeConfig::validate) does.
    ///
    /// # Errors
    /// [`AdminError::Bind`] when the port cannot be had.
    pub fn open(address: SocketAddr) -> Result<Self, AdminError> {
        let bind = |source| AdminError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, AdminAskError>> + Send>>;
type AskFn = Box<dyn Fn(Query) -> Answer + Send + Sync>;

/// Describes an admin server. Made by [`Admin::builder`].
#[must_use = "it serves from `start` on"]
pub struct AdminBuilder {
    node: Arc<Node>,
    asks: BTreeMap<String, AskFn>,
}

impl AdminBuilder {
    /// Lets operators try an ask from a shell with `POST /ask/{name}?...`. The function gets the
    /// query's parameters and gives what is answered as JSON.
    pub fn ask<F>(mut self, name: &str, ask: impl Fn(Query) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, AdminAskError>> + Send + 'static,
    {
        self.asks.insert(name.to_owned(), Box::new(move |query| Box::pin(ask(query))));
        self
    }

    /// Serves on this port, on a thread of its own.
    ///
    /// # Errors
    /// [`AdminError`] names what could not be had.
    pub fn start(self, port: AdminPort) -> Result<Admin, AdminError> {
        let AdminPort { listener, address } = port;
        let runtime = tokio::runtime::Builder::new_current_thread()
            // Whoever asks for much keeps tasks ready all the time, each of which may take
            // milliseconds: new connections are looked at after each, not after 61.
            .event_interval(1)
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .map_err(AdminError::Thread)?;
        let (stop, stopped) = watch::channel(());
        let routes = routes::routes(App {
            node: self.node,
            asks: self.asks,
            local_only: address.ip().is_loopback(),
            orders: Semaphore::new(MAX_ORDERS),
        });
        let serve = async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => BoundedListener::new(listener),
                Err(error) => {
                    tracing::error!(%error, "the admin port could not be used");
                    return;
                }
            };
            let mut asked = stopped.clone();
            let mut forced = stopped;
            // An error means that the server's owner is gone, which is the same wish.
            let graceful = async move {
                let _ = asked.changed().await;
            };
            let service = routes.into_make_service_with_connect_info::<Connection>();
            let server = axum::serve(listener, service).with_graceful_shutdown(graceful);
            tokio::select! {
                _ = server => {}
                () = async {
                    let _ = forced.changed().await;
                    tokio::time::sleep(STOP_GRACE).await;
                } => {}
            }
        };
        let thread = thread::Builder::new()
            .name("keyway-admin".into())
            .spawn(move || {
                runtime.block_on(serve);
                runtime.shutdown_background();
            })
            .map_err(AdminError::Thread)?;
        Ok(Admin { address, stop, thread: Some(thread) })
    }
}

/// A running admin server. Dropping it closes the port.
///
/// It holds the node that it speaks for: end the server before the node is to stop by being
/// dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: watch::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Describes a server that speaks for this node.
    pub fn builder(node: Arc<Node>) -> AdminBuilder {
        AdminBuilder { node, asks: BTreeMap::new() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.send_replace(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread panicked");
        }
    }
}
