//! The description of the API.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderValue};

use crate::http::response::{empty, json_bytes};
use crate::http::{Request, Response, etag};
use crate::openapi;

/// The document: 304 if the client has it.
pub fn document(request: &Request) -> Response {
    let document = openapi::document();
    let mut response = if etag::none_match_tag(request.headers(), &document.etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        json_bytes(StatusCode::OK, document.json.clone())
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, document.etag.clone());
    // It may be kept, but an upgrade of the service replaces it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
