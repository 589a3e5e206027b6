//! The parameters of requests: ids in paths, query parameters, headers.

use hyper::Method;
use serde_json::{Value, json};

use super::rules;
use crate::http::query::{MAX_LIMIT, Parameter};
use crate::routes::Route;

/// A key as it is, or as a quoted string in which a backslash stands before each quote and backslash.
const IDEMPOTENCY_KEY: &str = r#"^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$"#;

/// The headers that clients may send, by the names under which operations refer to them. Whatever
/// the value of the others is, it is no error, so that only the key has a pattern.
pub fn headers() -> Value {
    let header = |name: &str, description: &str, example: &str| {
        json!({
            "name": name,
            "in": "header",
            "description": description,
            // No `example` of the parameter: pages and tools would send that unasked.
            "schema": {"type": "string", "examples": [example]},
        })
    };
    let mut key = header(
        "Idempotency-Key",
        "1 to 255 visible ASCII characters of your own, with or without quotes. For 24 hours the \
         same request with the same key has its effect once, and gets the first answer again, \
         with `Idempotency-Replayed`.",
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
    );
    key["schema"]["pattern"] = IDEMPOTENCY_KEY.into();
    json!({
        "RequestId": header(
            "X-Request-Id",
            "An id for the log and the answer: 1 to 128 visible ASCII characters. Any other is \
             replaced by a new one.",
            "check-in-4711",
        ),
        "IfMatch": header(
            "If-Match",
            "Entity tags, or `*`. The change is only made if one of them is the current version.",
            "\"1\"",
        ),
        "IfNoneMatch": header(
            "If-None-Match",
            "Entity tags, or `*`. If one of them is the current version, the answer is 304.",
            "\"1\"",
        ),
        "IdempotencyKey": key,
        "TraceParent": header(
            "traceparent",
            "The caller's trace (W3C Trace Context). Its id is in the log and in errors; a \
             header that is not valid is ignored.",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    })
}

pub fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// The parameters of an operation: what the path and the method say.
pub fn of(route: Route, method: &Method) -> Vec<Value> {
    let id = id_of(route, method).map(|whose| {
        json!({
            "name": "id",
            "in": "path",
            "required": true,
            "description": format!("The id of the {whose}."),
            "schema": rules::any_id(1),
            "example": 1,
        })
    });
    let query = route.parameters(method).iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": meaning(route, parameter),
            "schema": rules::parameter(parameter.accepts),
        })
    });
    id.into_iter().chain(query).collect()
}

/// What the id in the path is of.
pub fn id_of(route: Route, method: &Method) -> Option<&'static str> {
    match route {
        Route::Patient(_) | Route::PatientMappings(_) => Some("patient"),
        Route::Doctor(_) => Some("doctor"),
        Route::Mapping(_) => Some(match *method {
            Method::DELETE => "mapping",
            Method::OPTIONS => "patient, or of the mapping",
            _ => "patient",
        }),
        Route::Index
        | Route::OpenApi
        | Route::Docs
        | Route::DocsFile(_)
        | Route::Live
        | Route::Ready
        | Route::Metrics
        | Route::Register
        | Route::Login
        | Route::Refresh
        | Route::Logout
        | Route::Me
        | Route::Password
        | Route::Patients
        | Route::PatientsExport
        | Route::PatientsImport
        | Route::Doctors
        | Route::Mappings => None,
    }
}

fn meaning(route: Route, parameter: &Parameter) -> String {
    let filter = match (route, parameter.name) {
        (_, "limit") => return format!("The most rows: one page, of up to {MAX_LIMIT}."),
        (_, "after") => "Only rows after this id: the last one that was seen.",
        (Route::Patients, "search") => "A part of the name, e-mail or phone, in any case.",
        (_, "search") => "A part of the name, e-mail or hospital, in any case.",
        (_, "gender") => "The whole text as it was sent, in any case.",
        (_, "specialization") => "The whole text, in any case.",
        (_, "patient_id") => "Only those of this patient.",
        (_, "doctor_id") => "Only those of this doctor.",
        _ => "",
    };
    filter.to_owned()
}
