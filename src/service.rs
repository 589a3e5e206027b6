//! The life of a request: id, route, access, handler, error response, log entry.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use crate::app::App;
use crate::auth::AuthUser;
use crate::error::{Error, Result};
use crate::handlers;
use crate::http::budget::{Holder, Lease, SMALL};
use crate::http::query::Query;
use crate::http::response::{Body, empty};
use crate::http::{Request, Response, head, problem};
use crate::routes::{Access, Route};
use crate::worker::Worker;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;
/// From the head of a request to the head of its response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Logged in place of a status if there was no response: the connection broke, or the service had
/// to stop before.
const UNANSWERED: u16 = 499;

/// Serves a request. hyper drops this future when the connection breaks, which cancels a read; a
/// request that may write runs to its end in a task of its own. A client that half-closes its
/// connection may still read, so its request is not cancelled.
pub async fn serve(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request,
) -> Result<Response, Infallible> {
    let cross_origin = worker.app.config.cors_origins.inspect(&request);
    let id = worker.app.request_ids.next(client_request_id(request.headers()));
    let entry = AccessLogEntry::begin(id, request.method());
    let mut response = if request.method().is_safe() {
        run_and_log(&worker, peer, entry, request).await
    } else {
        let id = entry.id.clone();
        let task_worker = Arc::clone(&worker);
        let task = worker
            .tasks
            .spawn(async move { run_and_log(&task_worker, peer, entry, request).await });
        match timeout(ANSWER_TIMEOUT, task).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => {
                with_common_headers(problem::response(&Error::internal("a task ended"), &id), id)
            }
            // The task continues, and logs its own entry.
            Err(_) => with_common_headers(problem::response(&too_slow(), &id), id),
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

/// Runs a request to its response and its log entry.
async fn run_and_log(
    worker: &Worker,
    peer: IpAddr,
    mut entry: AccessLogEntry,
    request: Request,
) -> Response {
    let safe = request.method().is_safe();
    let deadline = entry.started + ANSWER_TIMEOUT;
    // Boxed, because hyper moves the whole future, and reserves space for it as long as the
    // connection.
    let answer = Box::pin(dispatch(worker, peer, &mut entry, request));
    let answer = AssertUnwindSafe(answer).catch_unwind();
    // A write is not cancelled; its caller stops waiting.
    let answered = if safe { timeout_at(deadline, answer).await } else { Ok(answer.await) };
    let response = match answered {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) => entry.bounded_problem(worker, &error),
        Ok(Err(_)) => entry.problem(&Error::internal("the handler panicked")),
        Err(_) => entry.problem(&too_slow()),
    };
    let id = entry.end(response.status());
    with_common_headers(response, id)
}

fn too_slow() -> Error {
    Error::DatabaseUnavailable { cause: "no answer in time".to_owned() }
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
    peer: IpAddr,
    entry: &mut AccessLogEntry,
    request: Request,
) -> Result<Response> {
    head::check(&request)?;
    let route = Route::parse(request.uri().path())
        .filter(|route| worker.app.config.docs || !route.is_documentation())
        .ok_or(Error::NotFound)?;
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
        return Err(Error::DatabaseUnavailable { cause: "not reached since the start".to_owned() });
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
                &worker.shared,
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
        None => handlers::public(worker, route, peer, request).await,
        Some(user) => handlers::private(worker, route, user, peer, request).await,
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

/// The access log entry of a request. It names the route, never the path or the query.
struct AccessLogEntry {
    id: HeaderValue,
    method: &'static str,
    route: &'static str,
    user: Option<i64>,
    started: Instant,
    ended: bool,
}

impl AccessLogEntry {
    fn begin(id: HeaderValue, method: &Method) -> Self {
        let started = Instant::now();
        Self { id, method: method_label(method), route: "-", user: None, started, ended: false }
    }

    /// The response to an error. An error that is not the client's is logged with its cause.
    fn problem(&self, error: &Error) -> Response {
        if let Some(cause) = error.cause() {
            let code = error.status_and_code().1;
            tracing::error!(id = text(&self.id), route = self.route, code, cause, "request failed");
        }
        problem::response(error, &self.id)
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

    /// Logs the entry and returns the id.
    fn end(mut self, status: StatusCode) -> HeaderValue {
        self.ended = true;
        self.log(status.as_u16());
        std::mem::replace(&mut self.id, HeaderValue::from_static(""))
    }

    fn log(&self, status: u16) {
        let us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Self { id, method, route, user, .. } = self;
        let id = text(id);
        tracing::info!(id, method, route, status, us, user, "request");
    }
}

impl Drop for AccessLogEntry {
    fn drop(&mut self) {
        if !self.ended {
            self.log(UNANSWERED);
        }
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
