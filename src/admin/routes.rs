//! The requests that the admin face takes, and what each answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodFilter, on};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::listener::Connection;
use super::report::{
    CountsReport, ErrorReport, HealthReport, MembersReport, RoutersReport, StrangersReport,
};
use super::{AdminAskError, AskFn, metrics};
use crate::api::{Node, NodeError};
use crate::base::NodeId;
use crate::base::fate::AskError;

/// The longest path with its query.
const MAX_URI_BYTES: usize = 4_096;

/// The longest body; none of the requests needs one.
const MAX_BODY_BYTES: usize = 4_096;

/// Asks and removals that may be under way at a time. All other requests are answered at once.
pub(super) const MAX_ORDERS: usize = 32;

/// From the list of requests: what there is, for those who ask for something else, and the router.
macro_rules! requests {
    ($($method:ident $path:literal => $answer:expr;)+) => {
        const KNOWN: &[&str] = &[$(concat!(stringify!($method), " ", $path)),+];

        fn requests() -> Router<Arc<App>> {
            Router::new()$(.route($path, on(MethodFilter::$method, $answer)))+
        }
    };
}

// Each has its row in the table of `admin/mod.rs`, and its command in `bin/keyway/operate.rs`.
requests! {
    GET "/members" => async |app: Shared| Json(MembersReport::of(&app.node));
    GET "/routers" => async |app: Shared| Json(RoutersReport::of(&app.node));
    GET "/counts" => async |app: Shared| Json(CountsReport::from(app.node.counts()));
    GET "/strangers" => async |app: Shared| Json(StrangersReport::of(&app.node));
    GET "/health" => health;
    GET "/metrics" => show_metrics;
    POST "/down/{node}" => down;
    POST "/leave" => leave;
    POST "/ask/{name}" => ask;
}

/// What the requests are about.
pub(super) struct App {
    pub node: Arc<Node>,
    pub asks: BTreeMap<String, AskFn>,
    /// Whether the port is on loopback, where no request may come through a browser.
    pub local_only: bool,
    /// Room for requests that take a while.
    pub orders: Semaphore,
}

impl App {
    fn order(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.orders.try_acquire().map_err(|_| {
            let error = format!("{MAX_ORDERS} asks and removals are under way; try again");
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, error)
        })
    }
}

type Shared = State<Arc<App>>;

pub(super) fn routes(app: App) -> Router {
    let app = Arc::new(app);
    requests()
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

/// An answer that says what is wrong.
struct Failure(StatusCode, ErrorReport);

impl Failure {
    fn new(status: StatusCode, error: impl ToString) -> Self {
        Self(status, ErrorReport { error: error.to_string(), known: Vec::new() })
    }

    fn known(mut self, known: impl IntoIterator<Item = impl ToString>) -> Self {
        self.1.known = known.into_iter().map(|known| known.to_string()).collect();
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// Turns away what is too long, and what a web page may have sent from the operator's browser:
/// such a request names its origin, or a host whose name was made to lead here.
async fn guard(app: Shared, request: Request, next: Next) -> Result<Response, Failure> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri_bytes > MAX_URI_BYTES {
        let error = format!("the path and query are longer than {MAX_URI_BYTES} bytes");
        return Err(Failure::new(StatusCode::URI_TOO_LONG, error));
    }
    if request.headers().contains_key(header::ORIGIN) {
        let error = "requests from web pages are refused; use `keyway` or curl";
        return Err(Failure::new(StatusCode::FORBIDDEN, error));
    }
    if app.local_only && !names_this_machine(request.headers()) {
        let error = "the Host header must be an address or localhost: this port is for its own \
                     machine only";
        return Err(Failure::new(StatusCode::FORBIDDEN, error));
    }
    let request = without_body(request).await?;
    let connection = request.extensions().get::<ConnectInfo<Connection>>().cloned();
    let place = connection.map(|ConnectInfo(Connection(place))| place);
    if let Some(place) = &place {
        place.served();
    }
    let response = next.run(request).await;
    if let Some(place) = &place {
        place.waits(Instant::now());
    }
    Ok(response)
}

/// None of the requests needs a body. What comes of one is read before the request counts as said, so
/// that whoever sends it slowly gives way like who says nothing; one that is too long is refused, also
/// where its length was not announced.
async fn without_body(request: Request) -> Result<Request, Failure> {
    let (parts, body) = request.into_parts();
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|value| value.to_str().ok()?.parse().ok());
    let fits = announced.is_none_or(|bytes| bytes <= MAX_BODY_BYTES as u64);
    if fits && to_bytes(body, MAX_BODY_BYTES).await.is_ok() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let bytes = announced.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
    let error = format!(
        "a body{bytes} is longer than {MAX_BODY_BYTES} bytes (MAX_BODY_BYTES): no request of this \
         port takes one; say what is wanted in the path and query"
    );
    Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error))
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    // The port counts for nothing: `[::1]:7500`, `127.0.0.1:7500`, `localhost`.
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

async fn unknown(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(100).collect();
    Failure::new(StatusCode::NOT_FOUND, format!("there is no {method} {path} here")).known(KNOWN)
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let error = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, error).known(KNOWN)
}

async fn health(app: Shared) -> (StatusCode, Json<HealthReport>) {
    let report = HealthReport::of(&app.node);
    let status = if report.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn show_metrics(app: Shared) -> Result<Response, Failure> {
    let text = metrics::of(&app.node)
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn down(app: Shared, name: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let Path(name) = name?;
    let view = app.node.view();
    // By name; a name that went by its hash in some log is found as well.
    let named = NodeId::from_name(&name);
    let member = view.member(named).or_else(|| {
        view.members.iter().map(|member| &**member).find(|member| member.id.to_string() == name)
    });
    let Some(member) = member else {
        let shown: String = name.chars().take(200).collect();
        let error = format!("there is no member `{shown}` to remove; it may have left or be gone");
        let members = view.members.iter().map(|member| &member.name);
        return Err(Failure::new(StatusCode::NOT_FOUND, error).known(members));
    };
    if member.id == app.node.id().node {
        let error = format!("`{}` is this node itself: let it leave instead", member.name);
        return Err(Failure::new(StatusCode::CONFLICT, error));
    }
    let (id, name) = (member.id, member.name.to_string());
    let _room = app.order()?;
    let node = Arc::clone(&app.node);
    // The order waits for the control thread, which must not hold up other requests.
    let outcome = tokio::task::spawn_blocking(move || node.down(id)).await;
    match outcome {
        Ok(Ok(())) => Ok(Json(json!({ "removed": name })).into_response()),
        Ok(Err(NodeError::Stopped)) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NodeError::Stopped))
        }
        Ok(Err(error)) => Err(Failure::new(StatusCode::CONFLICT, error)),
        Err(error) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

async fn leave(app: Shared) -> Result<Response, Failure> {
    app.node.begin_leave().map_err(|error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error))?;
    let answer = Json(json!({ "leaving": app.node.name() }));
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

async fn ask(
    app: Shared,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, Failure> {
    let (Path(name), Query(query)) = (name?, query?);
    let Some(ask) = app.asks.get(&name) else {
        let shown: String = name.chars().take(100).collect();
        let error = format!("this node knows no ask `{shown}`");
        return Err(Failure::new(StatusCode::NOT_FOUND, error).known(app.asks.keys()));
    };
    let _room = app.order()?;
    match ask(query).await {
        Ok(answer) => Ok(Json(answer).into_response()),
        Err(error) => {
            let status = match &error {
                AdminAskError::BadQuery(_) => StatusCode::BAD_REQUEST,
                AdminAskError::Ask(AskError::Timeout) => StatusCode::GATEWAY_TIMEOUT,
                AdminAskError::Ask(AskError::Refused(_)) => StatusCode::SERVICE_UNAVAILABLE,
                AdminAskError::Ask(_) => StatusCode::BAD_GATEWAY,
            };
            Err(Failure::new(status, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_documents_every_request() {
        let rows = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let documented: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(documented, KNOWN);
    }

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for (host, expected) in [
            ("127.0.0.1:7500", true),
            ("[::1]:7500", true),
            ("[::1]", true),
            ("localhost:7500", true),
            ("LocalHost", true),
            ("keyway.example.com:7500", false),
            ("127.0.0.1.example.com", false),
            ("", false),
            ("[", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(names_this_machine(&headers), expected, "{host}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }
}
