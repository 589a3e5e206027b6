//! `metadata` is stored byte for byte, and replaced as a whole.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::KINDS;
use crate::harness::TestServer;

const MAX_BYTES: usize = 8192;

fn text_in(body: &[u8]) -> String {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap();
    members["metadata"].get().to_owned()
}

/// An object of this many bytes.
fn of_bytes(bytes: usize) -> String {
    format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - "{\"a\":\"\"}".len()))
}

/// An object with this nesting depth, including itself.
fn of_depth(depth: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[tokio::test]
async fn metadata_is_kept_byte_for_byte() {
    let texts = [
        "{}".to_owned(),
        "{ }".into(),
        "{ \"a\" :1 ,\r\n\t\"b\":[ 1,2 ,{ } ]\n}".into(),
        r#"{"a":1,"a":2,"a":null}"#.into(),
        r#"{"big":1e400,"small":-1E-400,"zero":-0.0,"one":1.00}"#.into(),
        format!("{{\"digits\":{}}}", "9".repeat(400)),
        r#"{"\u0041\u00e9":"\ud83d\ude00 \/ \b\u001f\\u0000"}"#.into(),
        "{\"\u{e9}\":\"e\u{301} \u{1f600} \u{2028} \u{7f}\"}".into(),
        r#"{"":{"":[]},"z":1,"a":2}"#.into(),
        r#"{"id":1,"created_by":2,"name":"x"}"#.into(),
        of_depth(4000),
        of_bytes(MAX_BYTES),
    ];
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        for text in &texts {
            let minimal = kind.minimal().to_string();
            let body = format!("{}, \"metadata\" :  {text} }}", minimal.strip_suffix('}').unwrap());
            let created = user.send(Method::POST, kind.path, Some(body.into())).await.expect(201);
            assert_eq!(text_in(&created.body), *text);
            let read = user.get(&kind.target(serde_id(&created.body))).await.expect(200);
            assert_eq!(read.body, created.body);

            for method in [Method::PATCH, Method::PUT] {
                user.patch(&target, &json!({"metadata": null})).await.expect(200);
                let body = format!("{{\"metadata\":\t{text}\n}}");
                let updated = user.send(method, &target, Some(body.into())).await.expect(200);
                assert_eq!(text_in(&updated.body), *text);
                let read = user.get(&target).await.expect(200);
                assert_eq!(read.body, updated.body);
            }
        }
        let list = user.get(kind.path).await.expect(200);
        let list: Vec<BTreeMap<String, Box<RawValue>>> =
            serde_json::from_slice(&list.body).unwrap();
        let listed: Vec<&str> = list.iter().skip(1).map(|item| item["metadata"].get()).collect();
        assert_eq!(listed, texts);
    }
}

/// The id, where the rest may contain numbers that fit no type.
fn serde_id(body: &[u8]) -> i64 {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap();
    members["id"].get().parse().unwrap()
}

#[tokio::test]
async fn metadata_is_replaced_as_a_whole() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        for method in [Method::PATCH, Method::PUT] {
            for metadata in [json!({"a": {"b": 1}, "c": 2}), json!({"a": {"d": 3}}), json!({})] {
                let body = json!({ "metadata": metadata }).to_string().into();
                let answer = user.send(method.clone(), &target, Some(body)).await.expect(200);
                assert_eq!(answer.json()["metadata"], metadata);
            }
        }
    }
}

#[tokio::test]
async fn other_bytes_of_the_same_metadata_are_a_change_and_the_same_bytes_are_none() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &kind.minimal()).await;
        for (text, version) in [("{}", 1), ("{ }", 2), ("{ }", 2), ("{}", 3), ("null", 3)] {
            let body = format!("{{\"metadata\":{text}}}");
            let answer = user.send(Method::PATCH, &target, Some(body.into())).await.expect(200);
            assert_eq!(answer.json()["version"], version, "{text}");
        }
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_kept_is_refused() {
    let refused = [
        "[]".to_owned(),
        "\"{}\"".into(),
        "1".into(),
        "true".into(),
        of_bytes(MAX_BYTES + 1),
        r#"{"a":"\u0000"}"#.into(),
        r#"{"a\u0000":1}"#.into(),
        r#"{"a":["\ud800"]}"#.into(),
    ];
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, before) = kind.create(&user, &(kind.full)()).await;
        for text in &refused {
            let minimal = kind.minimal().to_string();
            let body = format!("{},\"metadata\":{text}}}", minimal.strip_suffix('}').unwrap());
            for (method, target) in [(Method::POST, kind.path), (Method::PUT, &*target)] {
                let answer = user.send(method, target, Some(body.clone().into())).await;
                let answer = answer.expect_error(422, "validation_failed");
                assert_eq!(answer.bad_fields(), ["metadata"], "{text}");
            }
        }
        let after: Value = kind.read(&user, &target).await;
        assert_eq!(after, before);
    }
}
