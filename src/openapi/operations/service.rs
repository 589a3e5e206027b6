//! What the service says about itself.

use super::{Answer, Content, Operation};
use crate::error::Error;
use crate::routes::Route;

const OK: &[Answer] = &[Answer::new(200, "It is.", Content::One("Health"))];
const INDEX: &[Answer] = &[
    Answer::new(200, "Name, version, links.", Content::One("Index")),
    Answer::new(303, "The documentation, for who prefers HTML.", Content::None).with(&["docs"]),
];
const METRICS: &[Answer] = &[Answer::new(200, "In Prometheus' text format.", Content::Metrics)];
const DOCUMENT: &[Answer] = &[
    Answer::new(200, "This document.", Content::Document).with(&["etag", "revalidated"]),
    Answer::new(304, "The one that you have.", Content::None).with(&["etag", "revalidated"]),
];

const PAGE: &[Answer] = &[
    Answer::new(200, "The page.", Content::Page).with(&["etag", "revalidated", "policy"]),
    Answer::new(304, "The one that you have.", Content::None).with(&[
        "etag",
        "revalidated",
        "policy",
    ]),
];

pub fn operation(route: Route) -> Operation {
    match route {
        Route::OpenApi => Operation::new("getOpenApi", "This description of the API", DOCUMENT)
            .headers(&["IfNoneMatch"]),
        Route::Docs => {
            Operation::new("getDocs", "This description as a page", PAGE).headers(&["IfNoneMatch"])
        }
        Route::Live => Operation::new("getLive", "Whether the process answers", OK),
        Route::Ready => Operation::new("getReady", "Whether the service is ready", OK)
            .about("The database answers and can be written to, and the service is not stopping.")
            .errors([Error::ReadOnly, Error::Stopping]),
        Route::Metrics => Operation::new("getMetrics", "What is counted, for Prometheus", METRICS)
            .about(
                "With `METRICS_ADDR` it is on that address alone, as is `/health`, and here it is \
                 404.",
            ),
        _ => Operation::new("getIndex", "What this is and where to find things", INDEX),
    }
}
