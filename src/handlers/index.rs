//! The root of the API: name, version and links.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION, VARY};

use crate::http::response::{empty, json_bytes};
use crate::http::{Request, Response, accept};
use crate::worker::Worker;

/// The links of `$more` come first.
macro_rules! index {
    ($($more:literal)*) => {
        Bytes::from_static(
            concat!(
                r#"{"name":""#,
                env!("CARGO_PKG_NAME"),
                r#"","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#"","links":{"#,
                $($more,)*
                r#""register":"/api/auth/register","login":"/api/auth/login","#,
                r#""refresh":"/api/auth/refresh","logout":"/api/auth/logout","me":"/api/auth/me","#,
                r#""password":"/api/auth/password","patients":"/api/patients","#,
                r#""export":"/api/patients/export","import":"/api/patients/import","#,
                r#""doctors":"/api/doctors","mappings":"/api/mappings"}}"#
            )
            .as_bytes(),
        )
    };
}

/// The index, without the links to what is not served here: the API's description may be taken
/// away, and what is for operators may be on an address of its own. What prefers HTML is a browser,
/// and is sent to the documentation.
pub fn index(worker: &Worker, request: &Request) -> Response {
    let config = &worker.app.config;
    let index = match (config.docs, config.metrics_addr.is_none()) {
        (true, true) => index!(
            r#""docs":"/docs","openapi":"/openapi.json","#
            r#""health":"/health/ready","metrics":"/metrics","#
        ),
        (true, false) => index!(r#""docs":"/docs","openapi":"/openapi.json","#),
        (false, true) => index!(r#""health":"/health/ready","metrics":"/metrics","#),
        (false, false) => index!(),
    };
    if !config.docs {
        return json_bytes(StatusCode::OK, index);
    }
    let browser = accept::preferred(request.headers(), &["application/json", "text/html"]) == 1;
    let mut response = if browser {
        let mut response = empty(StatusCode::SEE_OTHER);
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/docs"));
        response
    } else {
        json_bytes(StatusCode::OK, index)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}
