//! Requests of collections that were written for other implementations: other paths and other
//! names.

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestServer, random};

const CONFIRMATIONS: [&str; 3] = ["password_confirm", "confirm_password", "password2"];

/// Registers a new e-mail with these additional fields.
async fn register(server: &TestServer, more: Value) -> Answer {
    let email = format!("{}@example.com", random());
    let mut body = json!({"name": "Ada", "email": email, "password": "correct horse"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.anyone().post("/api/auth/register", &body).await
}

#[tokio::test]
async fn the_password_may_be_sent_twice_and_must_be_the_same() {
    let server = TestServer::start().await;
    for name in CONFIRMATIONS {
        let session = register(&server, json!({name: "correct horse"})).await.expect(201).json();
        assert!(!session.to_string().contains(name), "{name} is shown");
        for other in [json!("correct horsf"), json!(""), json!(null), json!(1), json!(["x"])] {
            let refused = register(&server, json!({name: other})).await;
            let refused = refused.expect_error(422, "validation_failed");
            assert_eq!(refused.bad_fields(), [name], "{other}");
            assert_eq!(refused.json()["errors"][0]["message"], "must equal password");
        }
        // The field that it must equal is invalid itself.
        let refused = register(&server, json!({name: "x", "password": "short"})).await;
        assert_eq!(refused.expect(422).bad_fields(), ["password"]);
    }
    // Neither its position in the body nor its escaping matters.
    let body = r#"{"password2":"correct\u0020horse","name":"N","email":"ada@example.com",
        "password":"correct horse"}"#;
    let anyone = server.anyone();
    anyone.send(Method::POST, "/api/auth/register", Some(body.into())).await.expect(201);
}

#[tokio::test]
async fn the_password_is_confirmed_once_and_on_registering_only() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for name in CONFIRMATIONS {
        for other in CONFIRMATIONS.into_iter().filter(|other| *other != name) {
            let twice = json!({name: "correct horse", other: "correct horse"});
            let refused = register(&server, twice).await.expect_error(422, "validation_failed");
            assert_eq!(refused.bad_fields().len(), 1, "{name} and {other}");
        }
        let login = json!({"email": "a@b", "password": "x", name: "x"});
        let refused = user.post("/api/auth/login", &login).await;
        assert_eq!(refused.expect(422).bad_fields(), [name]);
        let refused = user.post("/api/patients", &json!({"name": "N", name: "x"})).await;
        assert_eq!(refused.expect(422).bad_fields(), [name]);
    }
}

#[tokio::test]
async fn a_session_is_refreshed_under_either_path_and_name() {
    let server = TestServer::start().await;
    let mut token = register(&server, json!({})).await.expect(201).json()["refresh_token"].clone();
    for path in ["/api/auth/refresh", "/api/auth/token/refresh"] {
        for name in ["refresh_token", "refresh"] {
            let session =
                server.anyone().post(path, &json!({name: token})).await.expect(200).json();
            assert_ne!(session["refresh_token"], token, "{path} {name}");
            token = session["refresh_token"].clone();
        }
        let both = json!({"refresh_token": token, "refresh": token});
        let refused = server.anyone().post(path, &both).await.expect(422);
        assert_eq!(refused.bad_fields().len(), 1);
    }
}

async fn assigned(user: &Client, doctors: usize) -> i64 {
    let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
    for _ in 0..doctors {
        let doctor = json!({"name": "D", "specialization": "S"});
        let doctor = user.post("/api/doctors", &doctor).await.expect(201).id();
        let pair = json!({"patient_id": patient, "doctor_id": doctor});
        user.post("/api/mappings", &pair).await.expect(201);
    }
    patient
}

#[tokio::test]
async fn the_doctors_of_a_patient_are_found_under_either_path() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let patient = assigned(&user, 3).await;
    for query in ["", "?limit=2"] {
        let [one, other] =
            [format!("/api/mappings/{patient}"), format!("/api/mappings/patient/{patient}")]
                .map(|path| path + query);
        let (one, other) = (user.get(&one).await.expect(200), user.get(&other).await.expect(200));
        assert_eq!(one.body, other.body);
        assert_eq!(one.header("link"), other.header("link"), "{query}");
    }
    let path = format!("/api/mappings/patient/{patient}");
    user.get(&format!("{path}?patient_id=1")).await.expect_error(400, "bad_query");
    server.user().await.get(&path).await.expect_error(404, "patient_not_found");
    let refused = user.delete(&path).await.expect_error(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
}
