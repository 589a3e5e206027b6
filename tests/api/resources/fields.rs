//! Each field is returned as it was sent, and affects no other.

use hyper::Method;
use serde_json::{Value, json};

use super::{KINDS, SERVER_FIELDS, assert_changed, object};
use crate::harness::TestServer;

#[tokio::test]
async fn what_is_absent_is_null_and_no_key_is_missing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, created) = kind.create(&user, &kind.minimal()).await;
        let mut expected = kind.full_fields();
        for (name, value) in &mut expected {
            if name == "metadata" {
                *value = json!({});
            } else if !kind.required.contains(&name.as_str()) {
                *value = Value::Null;
            }
        }
        expected.insert("version".into(), json!(1));
        expected.insert("created_by".into(), json!(user.user_id().await));
        for set_by_server in ["id", "created_at", "updated_at"] {
            expected.insert(set_by_server.into(), created[set_by_server].clone());
        }
        assert_eq!(created, Value::Object(expected));
        assert_eq!(created, kind.read(&user, &target).await);

        assert!(created["id"].as_i64().unwrap() > 0);
        assert_eq!(created["created_at"], created["updated_at"]);
        let moment = created["created_at"].as_str().unwrap();
        assert_eq!(moment.len(), "2026-01-31T09:30:00.123456Z".len());
        assert!(moment.ends_with('Z') && moment.parse::<jiff::Timestamp>().is_ok(), "{moment}");
    }
}

#[tokio::test]
async fn every_field_comes_back_as_it_was_sent() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for full in [(kind.full)(), (kind.other)()] {
            let (target, created) = kind.create(&user, &full).await;
            let mut fields = object(created.clone());
            fields.retain(|name, _| !SERVER_FIELDS.contains(&name.as_str()));
            assert_eq!(Value::Object(fields), full);
            assert_eq!(created, kind.read(&user, &target).await);
        }
    }
}

#[tokio::test]
async fn each_field_alone_can_be_set_and_changes_no_other() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for start in [kind.minimal(), (kind.full)()] {
            for method in [Method::PATCH, Method::PUT] {
                let (target, mut before) = kind.create(&user, &start).await;
                for (name, value) in object((kind.other)()) {
                    let change = json!({ name: value });
                    let body = change.to_string().into();
                    let answer = user.send(method.clone(), &target, Some(body)).await.expect(200);
                    assert_changed(&before, &change, &answer);
                    before = answer.json();
                    assert_eq!(before, kind.read(&user, &target).await);
                }
            }
        }
    }
}

#[tokio::test]
async fn all_fields_can_be_set_at_once() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, before) = kind.create(&user, &(kind.full)()).await;
        let answer = user.put(&target, &(kind.other)()).await.expect(200);
        assert_changed(&before, &(kind.other)(), &answer);
    }
}

#[tokio::test]
async fn null_clears_an_optional_field_and_no_other() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for method in [Method::PATCH, Method::PUT] {
            let (target, mut before) = kind.create(&user, &(kind.full)()).await;
            for (name, _) in kind.full_fields() {
                if kind.required.contains(&name.as_str()) {
                    continue;
                }
                let cleared = if name == "metadata" { json!({}) } else { Value::Null };
                let body = json!({ &name: null }).to_string().into();
                let answer = user.send(method.clone(), &target, Some(body)).await.expect(200);
                assert_changed(&before, &json!({ name: cleared }), &answer);
                before = answer.json();
            }
        }
    }
}

#[tokio::test]
async fn null_means_absent_when_something_is_created() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let mut body = kind.full_fields();
        for (name, value) in &mut body {
            if !kind.required.contains(&name.as_str()) {
                *value = Value::Null;
            }
        }
        let (_, created) = kind.create(&user, &Value::Object(body)).await;
        let (_, minimal) = kind.create(&user, &kind.minimal()).await;
        for name in kind.full_fields().keys() {
            assert_eq!(created[name], minimal[name], "{name}");
        }
    }
}

#[tokio::test]
async fn a_required_field_can_be_neither_missing_nor_null() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let refused = user.post(kind.path, &json!({})).await;
        assert_eq!(refused.expect_error(422, "validation_failed").bad_fields(), kind.required);
        let (target, before) = kind.create(&user, &(kind.full)()).await;
        for name in kind.required {
            let mut body = kind.full_fields();
            body[*name] = Value::Null;
            for refused in [
                user.post(kind.path, &Value::Object(body.clone())).await,
                user.put(&target, &Value::Object(body)).await,
                user.patch(&target, &json!({ *name: null, "email": null })).await,
            ] {
                assert_eq!(refused.expect_error(422, "validation_failed").bad_fields(), [*name]);
            }
        }
        assert_eq!(kind.read(&user, &target).await, before);
    }
}

#[tokio::test]
async fn what_the_server_sets_is_accepted_and_ignored() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let ignored = json!({
            "id": 1_000_000, "created_by": "nobody", "version": 70, "created_at": null,
            "updated_at": [1],
        });
        let mut body = object(ignored.clone());
        body.extend(object(kind.minimal()));
        let (target, created) = kind.create(&user, &Value::Object(body)).await;
        assert_eq!(created["version"], 1);
        assert_ne!(created["id"], 1_000_000);
        assert_eq!(created["created_by"], user.user_id().await);
        assert_eq!(user.put(&target, &ignored).await.expect(200).json(), created);
        assert_eq!(user.patch(&target, &ignored).await.expect(200).json(), created);
    }
}

#[tokio::test]
async fn a_resource_that_was_read_can_be_sent_back_and_changes_nothing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for body in [kind.minimal(), (kind.full)()] {
            let (target, created) = kind.create(&user, &body).await;
            let read = user.get(&target).await.expect(200);
            for method in [Method::PUT, Method::PATCH] {
                let answer = user.send(method, &target, Some(read.body.clone())).await.expect(200);
                assert_eq!(answer.body, read.body);
                assert_eq!(answer.header("etag"), Some("\"1\""));
            }
            assert_eq!(kind.read(&user, &target).await, created);
        }
    }
}

#[tokio::test]
async fn an_empty_update_changes_nothing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, created) = kind.create(&user, &(kind.full)()).await;
        assert_eq!(user.put(&target, &json!({})).await.expect(200).json(), created);
        assert_eq!(user.patch(&target, &json!({})).await.expect(200).json(), created);
    }
}

#[tokio::test]
async fn texts_are_kept_as_they_were_sent() {
    let controls: String = ('\u{1}'..='\u{1f}').chain(['\u{7f}', '\u{85}', '\u{2028}']).collect();
    let texts = [
        "  spaces\t around \n",
        "\"quotes\" and \\backslashes\\ \\u0041 \\n",
        "e\u{301} is not \u{e9}",
        "\u{1f600} \u{10ffff} \u{feff} \u{202e}",
        "'; DROP TABLE patients; --",
        "{\"looks\":\"like JSON\"}",
        "null",
        &controls,
    ];
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &kind.minimal()).await;
        for text in texts {
            let mut body = object(kind.minimal());
            body.insert("name".into(), json!(text));
            body.insert("address".into(), json!(text));
            let (created_at, created) = kind.create(&user, &Value::Object(body.clone())).await;
            let updated = user.patch(&target, &Value::Object(body)).await.expect(200).json();
            for resource in [created, updated, kind.read(&user, &created_at).await] {
                assert_eq!(resource["name"], text);
                assert_eq!(resource["address"], text);
            }
        }
    }
}
