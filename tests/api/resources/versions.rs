//! Versions, entity tags and conditional requests.

use hyper::Method;
use serde_json::{Value, json};

use super::KINDS;
use crate::harness::TestServer;

#[tokio::test]
async fn the_tag_is_the_version_in_every_answer() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let created = user.post(kind.path, &kind.minimal()).await.expect(201);
        let target = kind.target(created.id());
        assert_eq!(created.header("location"), Some(&*target));
        let changed = [
            created,
            user.patch(&target, &json!({"address": "a"})).await.expect(200),
            user.put(&target, &json!({"address": "b"})).await.expect(200),
            user.patch(&target, &json!({"address": null})).await.expect(200),
        ];
        for (version, answer) in (1..).zip(&changed) {
            assert_eq!(answer.json()["version"], version);
            assert_eq!(answer.header("etag"), Some(&*format!("\"{version}\"")));
        }
        let found = user.get(&target).await.expect(200);
        assert_eq!(found.header("etag"), Some("\"4\""));
        assert_eq!(found.header("location"), None);
        assert_eq!(user.get(kind.path).await.header("etag"), None);
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_leaves_the_version_and_the_time() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        let before = user.put(&target, &(kind.other)()).await.expect(200);
        for (name, value) in super::object((kind.other)()) {
            let again = user.patch(&target, &json!({ name: value })).await.expect(200);
            assert_eq!(again.body, before.body);
            assert_eq!(again.header("etag"), Some("\"2\""));
        }
        assert_eq!(user.put(&target, &(kind.other)()).await.expect(200).body, before.body);
    }
}

#[tokio::test]
async fn if_none_match_asks_for_another_version() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, created) = kind.create(&user, &kind.minimal()).await;
        for (tags, status) in [
            (&["\"1\""][..], 304),
            (&["W/\"1\""], 304),
            (&["*"], 304),
            (&["\"2\", W/\"1\""], 304),
            (&["\"2\",\"x\"", "\"1\""], 304),
            (&["\"2\""], 200),
            (&["\"x\""], 200),
            (&["\"01\""], 200),
            (&["\"11\""], 200),
        ] {
            let client =
                tags.iter().fold(user.clone(), |client, tag| client.with("if-none-match", tag));
            for method in [Method::GET, Method::HEAD] {
                let answer = client.send(method.clone(), &target, None).await.expect(status);
                assert_eq!(answer.header("etag"), Some("\"1\""), "{tags:?}");
                if status == 200 && method == Method::GET {
                    assert_eq!(answer.json(), created);
                }
            }
            client.get(&kind.target(i64::MAX)).await.expect_error(404, kind.not_found);
        }
    }
}

/// Values of `If-Match`, and whether they name version 2.
const IF_MATCH: [(&[&str], bool); 12] = [
    (&["\"2\""], true),
    (&["*"], true),
    (&["\"1\", \"2\""], true),
    (&["\"x\",\"2\",\"3\""], true),
    (&["\"1\"", "\"2\""], true),
    (&["W/\"1\", \"2\""], true),
    (&["W/\"2\""], false),
    (&["\"1\""], false),
    (&["\"3\", W/\"2\""], false),
    (&["\"x\""], false),
    (&["\"02\""], false),
    (&["\"22\""], false),
];

#[tokio::test]
async fn a_change_happens_only_to_the_version_that_if_match_names() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for (tags, matches) in IF_MATCH {
            let client = tags.iter().fold(user.clone(), |client, tag| client.with("if-match", tag));
            for method in [Method::PUT, Method::PATCH, Method::DELETE] {
                let (target, _) = kind.create(&user, &(kind.full)()).await;
                let before = user.patch(&target, &json!({"address": "x"})).await.expect(200).json();
                let body = (method != Method::DELETE).then(|| (kind.other)().to_string().into());
                let answer = client.send(method.clone(), &target, body).await;
                if !matches {
                    answer.expect_error(412, "precondition_failed");
                    assert_eq!(kind.read(&user, &target).await, before, "{method} {tags:?}");
                } else if method == Method::DELETE {
                    answer.expect(204);
                    user.get(&target).await.expect_error(404, kind.not_found);
                } else {
                    assert_eq!(answer.expect(200).json()["version"], 3, "{method} {tags:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stale_if_match_fails_even_where_nothing_would_change() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        let stale = user.with("if-match", "\"7\"");
        stale.put(&target, &(kind.full)()).await.expect_error(412, "precondition_failed");
        stale.patch(&target, &json!({})).await.expect_error(412, "precondition_failed");
    }
}

#[tokio::test]
async fn if_match_is_looked_at_last() {
    let server = TestServer::start().await;
    let user = server.user().await.with("if-match", "\"7\"");
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        let missing = kind.target(i64::MAX);
        for target in [&target, &missing] {
            let refused = user.patch(target, &json!({"name": 1})).await;
            refused.expect_error(422, "validation_failed");
        }
        user.patch(&missing, &json!({})).await.expect_error(404, kind.not_found);
        user.put(&missing, &json!({})).await.expect_error(404, kind.not_found);
        user.delete(&missing).await.expect_error(404, kind.not_found);
    }
}

#[tokio::test]
async fn what_was_deleted_is_gone() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        let deleted = user.delete(&target).await.expect(204);
        assert_eq!(deleted.header("etag"), None);
        user.get(&target).await.expect_error(404, kind.not_found);
        user.put(&target, &(kind.full)()).await.expect_error(404, kind.not_found);
        user.patch(&target, &json!({})).await.expect_error(404, kind.not_found);
        user.delete(&target).await.expect_error(404, kind.not_found);
        assert_eq!(user.get(kind.path).await.json(), json!([]));
    }
}

#[tokio::test]
async fn one_slash_at_the_end_makes_no_difference() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let slashed = format!("{}/", kind.path);
        let created = user.post(&slashed, &(kind.full)()).await.expect(201);
        let target = kind.target(created.id());
        assert_eq!(created.header("location"), Some(&*target));
        assert_eq!(user.get(&slashed).await.expect(200).body, user.get(kind.path).await.body);
        let slashed = format!("{target}/");
        assert_eq!(user.get(&slashed).await.expect(200).json(), created.json());
        user.put(&slashed, &(kind.other)()).await.expect(200);
        user.patch(&slashed, &(kind.full)()).await.expect(200);
        user.delete(&slashed).await.expect(204);
        user.get(&format!("{target}//")).await.expect_error(404, "not_found");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        let missing = kind.target(i64::MAX);
        for target in [&target, kind.path, &missing, &format!("{}?limit=0", kind.path)] {
            let user = user.with("x-request-id", "same");
            let get = user.get(target).await;
            let head = user.send(Method::HEAD, target, None).await;
            assert_eq!(head.status, get.status);
            assert!(head.body.is_empty());
            let (mut get, mut head) = (get.headers, head.headers);
            get.remove("date");
            head.remove("date");
            assert_eq!(head, get, "{target}");
        }
    }
}

#[tokio::test]
async fn an_id_that_does_not_exist_is_not_found_by_any_method() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for id in [1, 4_000_000_000, i64::MAX] {
            let target = kind.target(id);
            let bodies: [(Method, Option<Value>); 4] = [
                (Method::GET, None),
                (Method::DELETE, None),
                (Method::PUT, Some((kind.full)())),
                (Method::PATCH, Some(json!({}))),
            ];
            for (method, body) in bodies {
                let body = body.map(|body| body.to_string().into());
                user.send(method, &target, body).await.expect_error(404, kind.not_found);
            }
        }
    }
}
