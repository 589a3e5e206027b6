//! Errors as `application/problem+json` (RFC 9457).

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use super::Response;
use super::response::{Body, empty};
use super::trace::TraceParent;
use crate::error::{Error, FieldError};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    request_id: &'a str,
    /// Absent without a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    errors: &'a [FieldError],
}

/// The body of the response to a failed request.
pub fn json(error: &Error, request_id: &str, trace: Option<&TraceParent>) -> Vec<u8> {
    let (status, code) = error.status_and_code();
    let problem = Problem {
        r#type: "about:blank",
        title: title(status),
        status: status.as_u16(),
        code,
        detail: &error.detail(),
        request_id,
        trace_id: trace.map(TraceParent::trace_id),
        errors: error.errors(),
    };
    // Serializing strings and numbers cannot fail.
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The raw response to a connection beyond the limit, whose requests are not parsed.
pub fn refusal(request_id: &HeaderValue) -> Vec<u8> {
    let request_id = request_id.to_str().unwrap_or_default();
    let body = json(&Error::Overloaded { retry_after: 1 }, request_id, None);
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         retry-after: 1\r\nx-request-id: {request_id}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}

/// The response to a failed request.
pub fn response(error: &Error, request_id: &HeaderValue, trace: Option<&TraceParent>) -> Response {
    let (status, _) = error.status_and_code();
    let mut response = empty(status);
    let request_id = request_id.to_str().unwrap_or_default();
    *response.body_mut() = Body::Whole(json(error, request_id, trace).into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match error {
        Error::Unauthorized | Error::InvalidCredentials | Error::InvalidRefreshToken => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Error::InvalidToken => {
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        Error::MethodNotAllowed { allow } => {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        _ => {}
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if error.closes_connection() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The reason phrase of RFC 9110, which renamed 413 and 422.
pub fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
        StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Content",
        _ => status.canonical_reason().unwrap_or("Error"),
    }
}
