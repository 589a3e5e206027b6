//! The description of the API in OpenAPI 3.1, for people, clients and tools.
//!
//! It is made of what the program itself uses, so that it cannot drift: the paths, methods, access
//! and parameters of [`Route`](crate::routes::Route), the fields of each model with their rules,
//! the columns of its rows, and the statuses, codes and bodies of [`Error`](crate::error::Error).
//! What is only said here are names, summaries and which errors a handler finds by itself; the
//! tests compare that with every answer they get.

mod errors;
mod examples;
mod operations;
mod parameters;
mod paths;
mod responses;
mod rules;
mod schemas;

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::http::etag;
use responses::Responses;

/// The document as it is served.
pub struct Document {
    pub json: Bytes,
    /// A strong tag made of its bytes.
    pub etag: HeaderValue,
}

/// The document, made at the first call.
pub fn document() -> &'static Document {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
        let json = Bytes::from(value().to_string());
        Document { etag: etag::of_bytes(&json), json }
    });
    &DOCUMENT
}

/// The document, whose members stand in the order in which people read them.
pub fn value() -> Value {
    let mut responses = Responses::default();
    // First, because the answers are collected on the way.
    let paths = paths::all(&mut responses);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Healthcare backend",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Patients, doctors, and who treats whom.",
            "description": include_str!("openapi/description.md"),
            "license": {
                "name": env!("CARGO_PKG_LICENSE"),
                "identifier": env!("CARGO_PKG_LICENSE"),
            },
        },
        "servers": [{"url": "/", "description": "The service that serves this document."}],
        "tags": operations::tags(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description":
                        "The `token` of a session, from registering, logging in or refreshing.",
                },
            },
            "schemas": schemas::all(),
            "parameters": parameters::headers(),
            "headers": responses::headers(),
            "responses": responses.finish(),
        },
    })
}
