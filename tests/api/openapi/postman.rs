//! The Postman collection has every operation and every code.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{codes_of_the_program, operations_of_the_table};

const COLLECTION: &str = include_str!("../../postman/healthcare.postman_collection.json");

/// Codes that no request brings about by itself: they need other settings, a database that is away,
/// more load than a collection makes, or a client that is slow on purpose.
const NOT_BY_REQUESTS: [&str; 6] = [
    "registration_closed",
    "request_timeout",
    "overloaded",
    "database_unavailable",
    "read_only",
    "internal",
];

/// The requests in a folder and in the folders in it.
fn requests(folder: &Value) -> Vec<&Value> {
    let items = folder["item"].as_array().unwrap().iter();
    items
        .flat_map(|item| if item["item"].is_array() { requests(item) } else { vec![item] })
        .collect()
}

/// A path with `{id}` in the place of variables and numbers.
fn template(url: &str) -> String {
    let path = url.strip_prefix("{{base_url}}").unwrap().split('?').next().unwrap();
    let path = if path == "/" { path } else { path.trim_end_matches('/') };
    let segments = path.split('/').map(|segment| {
        let id = segment.starts_with("{{") || segment.parse::<i64>().is_ok();
        if id { "{id}" } else { segment }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn the_postman_collection_has_every_operation_and_every_code() {
    let collection: Value = serde_json::from_str(COLLECTION).unwrap();
    let mut operations = operations_of_the_table();
    // They answer alike everywhere; the collection shows some of them.
    operations.retain(|(method, _)| method != "HEAD" && method != "OPTIONS");
    let mut codes: BTreeSet<String> = codes_of_the_program();
    for request in requests(&collection) {
        let url = request["request"]["url"]["raw"].as_str().unwrap();
        let method = request["request"]["method"].as_str().unwrap();
        operations.remove(&(method.to_owned(), template(url)));
        for answer in request["response"].as_array().unwrap() {
            let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default())
                .unwrap_or_default();
            if let Some(code) = body["code"].as_str() {
                codes.remove(code);
            }
        }
    }
    assert!(operations.is_empty(), "no request for {operations:?}");
    assert_eq!(codes, NOT_BY_REQUESTS.map(str::to_owned).into(), "missing, or not");
}
