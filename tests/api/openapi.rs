//! The API's description: that it is served, says all there is and nothing else, and shows what the
//! service answers. Whether every answer is as described is checked by each test's client.

mod examples;
mod postman;

use std::collections::BTreeSet;

use healthcare_backend::openapi;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::access::table::TABLE;
use crate::harness::description::{self, DESCRIPTION, resolved};
use crate::harness::program::Workplace;
use crate::harness::{TestDb, TestServer};

/// Every method and path of the access table, which has every route. The files of the
/// documentation's page are none of the API.
pub fn operations_of_the_table() -> BTreeSet<(String, String)> {
    let rows = TABLE.iter().filter(|row| !row.label.starts_with("/docs/"));
    let of_row = rows.flat_map(|row| {
        let paths = [&[row.label], row.also].concat();
        let method = |path: &str| {
            let path = path.to_owned();
            row.allow.split(", ").map(move |method| (method.to_owned(), path.clone()))
        };
        paths.into_iter().flat_map(method).collect::<Vec<_>>()
    });
    of_row.collect()
}

/// The codes in `src/error.rs`.
pub fn codes_of_the_program() -> BTreeSet<String> {
    let source = include_str!("../../src/error.rs");
    let (_, source) = source.split_once("fn status_and_code").unwrap();
    let (source, _) = source.split_once("fn detail").unwrap();
    source
        .split("StatusCode::")
        .skip(1)
        .filter_map(|pair| pair.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = DESCRIPTION["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

#[tokio::test]
async fn the_service_and_the_program_tell_the_same() {
    let server = TestServer::start().await;
    let answer = server.anyone().get("/openapi.json").await.expect(200);
    assert_eq!(answer.json(), openapi::value());
    let tag = answer.header("etag").unwrap();
    let anyone = server.anyone().with("if-none-match", tag);
    assert_eq!(anyone.get("/openapi.json").await.expect(304).header("etag"), Some(tag));
    let printed = Workplace::new().run(&["openapi"], &[("PORT", "is not looked at")]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(serde_json::from_str::<Value>(&printed.stdout).unwrap(), answer.json());
}

#[tokio::test]
async fn it_can_be_taken_away() {
    let database = TestDb::new().await.into();
    let server = TestServer::start_with(database, &[("DOCS", "off")]).await;
    let anyone = server.anyone();
    anyone.get("/openapi.json").await.expect_error(404, "not_found");
    anyone.send(Method::OPTIONS, "/openapi.json", None).await.expect_error(404, "not_found");
    let index = anyone.get("/").await.expect(200).json();
    assert_eq!(index["links"].get("openapi"), None);
    assert_eq!(index["links"]["patients"], "/api/patients");
}

#[tokio::test]
async fn an_answer_that_is_not_as_described_is_found() {
    let server = TestServer::start().await;
    let answer = server.anyone().get("/health/live").await.expect(200);
    let check = |target: &str, status: u16, headers: &HeaderMap, body: &[u8]| {
        description::check(&Method::GET, target, status, headers, body)
    };
    let (target, headers, body) = ("/health/live", &answer.headers, &answer.body[..]);
    assert_eq!(check(target, 200, headers, body), Ok(()));
    let [mut missing, mut unknown, mut html] = [headers, headers, headers].map(HeaderMap::clone);
    missing.remove("x-request-id");
    unknown.insert("x-powered-by", HeaderValue::from_static("x"));
    html.insert("content-type", HeaderValue::from_static("text/html"));
    let mut lines = headers.clone();
    lines.insert("content-type", HeaderValue::from_static("application/x-ndjson"));
    lines.insert("vary", HeaderValue::from_static("accept"));
    let export = "/api/patients/export";
    assert_eq!(check(export, 200, &lines, b"{\"name\":\"A\"}\n"), Ok(()));
    for (wrong, what) in [
        (check(export, 200, &lines, b"{\"name\":\"A\"}\n{\"nmae\":\"B\"}\n"), "a line"),
        (check(target, 201, headers, body), "a status"),
        (check("/api/patients", 200, headers, body), "a type"),
        (check("/api/nurses", 200, headers, body), "a path"),
        (check(target, 200, &missing, body), "a header that is missing"),
        (check(target, 200, &unknown, body), "a header too many"),
        (check(target, 200, &html, body), "a media type"),
        (check(target, 200, headers, br#"{"status":"ok","more":1}"#), "a member too many"),
        (check(target, 200, headers, b"{}"), "a member that is missing"),
        (check(target, 200, headers, br#"{"status":"well"}"#), "a value"),
        (check(target, 200, headers, b"ok"), "no JSON"),
        (check(target, 200, headers, b""), "no body"),
    ] {
        assert!(wrong.is_err(), "{what}");
    }
}

#[test]
fn every_method_of_every_path_is_described_and_no_other() {
    let described: BTreeSet<(String, String)> =
        operations().map(|(method, path, _)| (method, path.to_owned())).collect();
    assert_eq!(described, operations_of_the_table());
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_who_may_call_it() {
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations() {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{method} {path}");
        let row = TABLE.iter().find(|row| row.label == path || row.also.contains(&path)).unwrap();
        let token = row.access == healthcare_backend::routes::Access::User && method != "OPTIONS";
        assert_eq!(operation["security"].as_array().unwrap().len(), usize::from(token), "{path}");
        assert_eq!(operation["responses"].get("401").is_some_and(|_| token), token, "{path}");
    }
}

#[test]
fn every_code_is_described_and_no_other() {
    let codes = codes_of_the_program();
    assert!(codes.len() > 20, "{codes:?}");
    let listed = DESCRIPTION["components"]["schemas"]["ErrorCode"]["enum"].as_array().unwrap();
    let listed: BTreeSet<String> =
        listed.iter().map(|code| code.as_str().unwrap().into()).collect();
    assert_eq!(listed, codes);
    let shared = DESCRIPTION["components"]["responses"].as_object().unwrap();
    let answered = shared.values().filter_map(|response| response.get("content")).flat_map(|c| {
        let schema = &c["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"];
        schema["enum"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned())
    });
    assert_eq!(answered.collect::<BTreeSet<_>>(), codes);
    // Each of them is an answer of some operation, but for those that have none.
    let used: BTreeSet<&str> = operations()
        .flat_map(|(_, _, operation)| operation["responses"].as_object().unwrap().values())
        .filter_map(|response| response["$ref"].as_str()?.rsplit('/').next())
        .collect();
    let unused = shared.keys().filter(|name| !used.contains(name.as_str()));
    assert_eq!(unused.collect::<Vec<_>>(), ["MethodNotAllowed"]);
}

/// The media types of an answer or a request.
fn contents(described: &'static Value) -> impl Iterator<Item = &'static Value> {
    let content = resolved(described).get("content").and_then(Value::as_object);
    content.into_iter().flat_map(|types| types.values())
}

#[test]
fn every_body_has_an_example_that_fits() {
    for (method, path, operation) in operations() {
        let answers = operation["responses"].as_object().unwrap().values();
        for content in answers.chain(operation.get("requestBody")).flat_map(contents) {
            let one = content.get("example");
            let many = content.get("examples").and_then(Value::as_object);
            let many = many.into_iter().flat_map(|examples| examples.values());
            let all: Vec<&Value> = many.map(|example| &example["value"]).chain(one).collect();
            assert!(
                !all.is_empty() || ["/openapi.json", "/docs"].contains(&path),
                "{method} {path}"
            );
            for example in all {
                let body = example.to_string();
                let checked = description::check_body(&content["schema"], body.as_bytes());
                assert_eq!(checked, Ok(()), "{method} {path}: {example}");
            }
        }
    }
}
