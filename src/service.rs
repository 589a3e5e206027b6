//! The life of a request: id, route, access, handler, error response, log entry.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::field::display;

use crate::app::App;
use crate::auth::AuthUser;
use crate::config::LogFormat;
use crate::db::staging::BULK_TIMEOUT;
use crate::deadline;
use crate::error::{Error, Result};
use crate::handlers;
use crate::http::budget::{Holder, Lease, SMALL};
use crate::http::query::Query;
use crate::http::response::{Body, empty};
use crate::http::trace::TraceParent;
use crate::http::{Request, Response, head, problem, upload};
use crate::metrics::microseconds;
use crate::routes::{Access, Route};
use crate::worker::Worker;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;
/// From the head of a request that may write, whose body may take 10 s, to the head of its response.
/// A handler ends before, at the deadline of its route.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The cause of its error.
const TOO_SLOW: &str = "no answer in time";
/// Logged in place of a status if there was no response: the connection broke, or the service had
/// to stop before.
const UNANSWERED: u16 = 499;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: IpAddr,
    pub listener: Listener,
}

/// Which of the listeners accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Public,
    /// The one of `METRICS_ADDR`.
    Operators,
}

impl Listener {
    /// Where there is a listener for operators, what is for them is there, and nowhere else.
    fn serves(self, route: Route, worker: &Worker) -> bool {
        let config = &worker.app.config;
        match self {
            Self::Operators => route.is_operational(),
            Self::Public if route.is_operational() => config.metrics_addr.is_none(),
            Self::Public => config.docs || !route.is_documentation(),
        }
    }
}

/// Serves a request. hyper drops this future when the connection breaks, which cancels a read; a
/// request that may write runs to its end in a task of its own. A client that half-closes its
/// connection may still read, so its request is not cancelled.
pub async fn serve(
    worker: Arc<Worker>,
    peer: Peer,
    request: Request,
) -> Result<Response, Infallible> {
    let cross_origin = worker.app.config.cors_origins.inspect(&request);
    let id = worker.app.request_ids.next(client_request_id(request.headers()));
    let entry = AccessLogEntry::begin(&worker, peer, id, &request);
    let route = Route::parse(request.uri().path());
    let mut response = if request.method().is_safe() {
        run_and_log(&worker, peer, entry, route, request).await
    } else {
        let (id, trace) = (entry.id.clone(), entry.trace.clone());
        let failed =
            |error| with_common_headers(problem::response(&error, &id, trace.as_ref()), id.clone());
        let limit = answer_timeout(route);
        // Spawned at once, so that hyper sees what the task leaves of the body before it writes the
        // head: only so does a client learn that its connection will be closed.
        let task_worker = Arc::clone(&worker);
        let task = worker
            .tasks
            .spawn(async move { run_and_log(&task_worker, peer, entry, route, request).await });
        match timeout(limit, task).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => failed(Error::internal("a task ended")),
            // The task continues, and logs its own entry.
            Err(_) => failed(Error::OutcomeUnknown { cause: TOO_SLOW.to_owned() }),
        }
    };
    if let Some(cross_origin) = cross_origin {
        cross_origin.apply(&mut response);
    }
    if worker.app.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// From the head of a request that may write to that of its response.
fn answer_timeout(route: Option<Route>) -> Duration {
    match route {
        // Its body has timeouts of its own, and then all of it is inserted.
        Some(Route::PatientsImport) => upload::TOTAL_TIMEOUT + BULK_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    }
}

/// Runs a request to its response and its log entry.
async fn run_and_log(
    worker: &Worker,
    peer: Peer,
    mut entry: AccessLogEntry,
    route: Option<Route>,
    request: Request,
) -> Response {
    let safe = request.method().is_safe();
    let route = route.filter(|route| peer.listener.serves(*route, worker));
    let limit = route.map_or(ANSWER_TIMEOUT, |route| route.time_limit(request.method()));
    let end = entry.started + limit;
    // Boxed, because hyper moves the whole future, and reserves space for it as long as the
    // connection.
    let answer = Box::pin(deadline::run(limit, dispatch(worker, peer, &mut entry, route, request)));
    let answer = AssertUnwindSafe(answer).catch_unwind();
    // A write is not cancelled; its waits end with its deadline.
    let answered = if safe { timeout_at(end, answer).await } else { Ok(answer.await) };
    let response = match answered {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) => entry.bounded_problem(worker, &error),
        Ok(Err(_)) => entry.problem(&Error::internal("the handler panicked")),
        Err(_) => entry.problem(&Error::DatabaseUnavailable { cause: TOO_SLOW.to_owned() }),
    };
    entry.end(response)
}

/// Adds the headers of every response.
fn with_common_headers(mut response: Response, id: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // What is the same for everybody may be cached.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// From the head of a request to its handler. The order of the checks decides which of several
/// errors is reported: head, path, method, token, query.
async fn dispatch(
    worker: &Worker,
    peer: Peer,
    entry: &mut AccessLogEntry,
    route: Option<Route>,
    request: Request,
) -> Result<Response> {
    head::check(&request)?;
    let route = route.ok_or(Error::NotFound)?;
    entry.route = route.label();
    if !route.allows(request.method()) {
        return Err(Error::MethodNotAllowed { allow: route.allow() });
    }
    if request.method() == Method::OPTIONS {
        let mut response = empty(StatusCode::NO_CONTENT);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
        return Ok(response);
    }
    if route.needs_database() && !worker.app.schema_is_ready.initialized() {
        return Err(Error::NotReady {
            detail: "The database is not reached yet, or its schema is not up to date.",
            cause: "not reached since the start".to_owned(),
        });
    }
    let user = match route.access() {
        Access::Anyone => None,
        Access::User => {
            let App { keys, ended_sessions, .. } = &*worker.app;
            let headers = request.headers();
            let user = AuthUser::authenticate(
                keys,
                &worker.tokens,
                ended_sessions,
                &worker.shared.accounts,
                headers,
            )
            .await?;
            entry.user = Some(user.id());
            Some(user)
        }
    };
    if route.parameters(request.method()).is_empty() {
        Query::none(request.uri().query())?;
    }
    match user {
        None => handlers::public(worker, route, peer.address, request).await,
        Some(user) => handlers::private(worker, route, user, peer.address, request).await,
    }
}

/// The client's request id, if it is safe to log.
fn client_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(REQUEST_ID).filter(|id| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    })
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

/// The access log entry of a request, which is also counted for the metrics. It names the route,
/// never the path or the query.
struct AccessLogEntry {
    worker: Arc<Worker>,
    peer: IpAddr,
    id: HeaderValue,
    trace: Option<TraceParent>,
    method: &'static str,
    route: &'static str,
    user: Option<i64>,
    started: Instant,
    counted: bool,
}

impl AccessLogEntry {
    fn begin(worker: &Arc<Worker>, peer: Peer, id: HeaderValue, request: &Request) -> Self {
        worker.metrics.requests.in_flight.increment();
        Self {
            worker: Arc::clone(worker),
            peer: peer.address,
            id,
            trace: TraceParent::of(request.headers()),
            method: method_label(request.method()),
            route: "-",
            user: None,
            started: Instant::now(),
            counted: false,
        }
    }

    /// The response to an error. An error that is not the client's is logged with its cause.
    fn problem(&self, error: &Error) -> Response {
        if let Some(cause) = error.cause() {
            let code = error.status_and_code().1;
            let (id, trace_id) = (text(&self.id), self.trace.as_ref().map(TraceParent::trace_id));
            tracing::error!(id, route = self.route, code, cause, trace_id, "request failed");
        }
        if matches!(error, Error::Overloaded { .. }) {
            self.worker.metrics.requests.refused.increment();
        }
        problem::response(error, &self.id, self.trace.as_ref())
    }

    /// The same within the client's allowance: a response that names what it sent may be long.
    fn bounded_problem(&self, worker: &Worker, error: &Error) -> Response {
        let mut response = self.problem(error);
        if let Body::Whole(bytes) = response.body_mut()
            && bytes.len() > SMALL
        {
            let holder = self.user.map_or(Holder::Anyone, Holder::User);
            let mut lease = Lease::default();
            match worker.app.budget.allowance(holder).cover(&mut lease, bytes.len()) {
                Ok(()) => *bytes = lease.keep(std::mem::take(bytes)),
                Err(error) => return self.problem(&error),
            }
        }
        response
    }

    /// The head of the response is complete: the request is counted, and its line is written. In
    /// JSON that of a response in parts waits for the last of them, whose bytes it tells.
    fn end(mut self, mut response: Response) -> Response {
        let status = response.status().as_u16();
        let us = self.count(status);
        let bytes = match response.body_mut() {
            Body::Parts(parts) if self.is_json() => {
                let parts = std::mem::replace(parts, Box::pin(stream::empty()));
                let id = self.id.clone();
                let mut line = LineAtEnd { entry: self, status, us, bytes: 0 };
                let counted = parts.inspect(move |part| line.count(part));
                *response.body_mut() = Body::Parts(Box::pin(counted));
                return with_common_headers(response, id);
            }
            Body::Parts(_) => None,
            // hyper sends no body to HEAD.
            Body::Whole(_) if self.method == "HEAD" => Some(0),
            Body::Whole(bytes) => Some(bytes.len()),
        };
        self.log(status, us, bytes);
        // Not cloned, which would allocate.
        let id = std::mem::replace(&mut self.id, HeaderValue::from_static(""));
        with_common_headers(response, id)
    }

    /// Counts the request, once, and returns how long it took until now, in microseconds.
    fn count(&mut self, status: u16) -> u64 {
        self.counted = true;
        let us = microseconds(self.started.elapsed());
        let requests = &self.worker.metrics.requests;
        requests.in_flight.decrement();
        requests.record(self.route, self.method, status, us);
        us
    }

    fn is_json(&self) -> bool {
        self.worker.app.config.log_format == LogFormat::Json
    }

    fn log(&self, status: u16, us: u64, bytes: Option<usize>) {
        let Self { id, method, route, user, trace, .. } = self;
        let id = text(id);
        let trace_id = trace.as_ref().map(TraceParent::trace_id);
        let parent_id = trace.as_ref().map(TraceParent::parent_id);
        let json = self.is_json();
        let (peer, bytes) = (json.then(|| display(self.peer)), bytes.filter(|_| json));
        tracing::info!(
            id, method, route, status, us, user, trace_id, parent_id, peer, bytes, "request"
        );
    }
}

impl Drop for AccessLogEntry {
    fn drop(&mut self) {
        if !self.counted {
            let us = self.count(UNANSWERED);
            self.log(UNANSWERED, us, None);
        }
    }
}

/// A line that is written when it is dropped.
struct LineAtEnd {
    entry: AccessLogEntry,
    status: u16,
    us: u64,
    bytes: usize,
}

impl LineAtEnd {
    fn count(&mut self, part: &Result<Bytes>) {
        self.bytes += part.as_ref().map_or(0, Bytes::len);
    }
}

impl Drop for LineAtEnd {
    fn drop(&mut self) {
        self.entry.log(self.status, self.us, Some(self.bytes));
    }
}

/// A non-standard method is text of the client's choosing, and must not be logged.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
