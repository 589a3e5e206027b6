//! The root of the API: name, version and links.

use bytes::Bytes;
use hyper::StatusCode;

use crate::http::Response;
use crate::http::response::json_bytes;

const INDEX: Bytes = Bytes::from_static(
    concat!(
        r#"{"name":""#,
        env!("CARGO_PKG_NAME"),
        r#"","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#"","links":{"health":"/health/ready","register":"/api/auth/register","#,
        r#""login":"/api/auth/login","refresh":"/api/auth/refresh","logout":"/api/auth/logout","#,
        r#""me":"/api/auth/me","password":"/api/auth/password","patients":"/api/patients","#,
        r#""export":"/api/patients/export","import":"/api/patients/import","#,
        r#""doctors":"/api/doctors","mappings":"/api/mappings"}}"#
    )
    .as_bytes(),
);

pub fn index() -> Response {
    json_bytes(StatusCode::OK, INDEX)
}
