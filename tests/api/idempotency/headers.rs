//! The header itself: what a key may look like, and where it counts.

use hyper::Method;
use serde_json::json;

use super::{assert_replayed, is_replayed, keyed};
use crate::harness::TestServer;
use crate::resources::{DOCTOR, KINDS, PATIENT};

#[tokio::test]
async fn a_key_with_quotes_is_the_key_without() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let first = keyed(&ada, "\"abc\"").post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let again = keyed(&ada, "abc").post(PATIENT.path, &PATIENT.minimal()).await;
    assert_replayed(&first, &again);
    let longest = "~".repeat(255);
    let first = keyed(&ada, &longest).post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let again = keyed(&ada, &longest).post(PATIENT.path, &PATIENT.minimal()).await;
    assert_replayed(&first, &again);
}

#[tokio::test]
async fn a_malformed_key_is_refused_before_anything_is_done() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (patient, _) = PATIENT.create(&ada, &PATIENT.minimal()).await;
    let (doctor, _) = DOCTOR.create(&ada, &DOCTOR.minimal()).await;
    let mappings = "/api/mappings";
    let long = "k".repeat(256);
    let twice = keyed(&keyed(&ada, "one"), "one");
    let malformed = ["", "a b", "\"abc", "\"\"", "\"a\", \"b\"", &long].map(|key| keyed(&ada, key));
    for client in malformed.iter().chain([&twice]) {
        for (method, target) in [
            (Method::POST, PATIENT.path),
            (Method::PUT, &*patient),
            (Method::PATCH, &*patient),
            (Method::DELETE, &*patient),
            (Method::POST, DOCTOR.path),
            (Method::PUT, &*doctor),
            (Method::PATCH, &*doctor),
            (Method::DELETE, &*doctor),
            (Method::POST, mappings),
            (Method::DELETE, "/api/mappings/1"),
        ] {
            // Before its type and its fields.
            let answer = client.send(method, target, Some("{".into())).await;
            answer.expect_error(400, "bad_request");
        }
    }
    for kind in KINDS {
        assert_eq!(ada.get(kind.path).await.expect(200).json()[0]["version"], 1);
    }
}

#[tokio::test]
async fn other_requests_ignore_the_header() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for key in ["one", "not a key"] {
        let client = keyed(&ada, key);
        for target in ["/", "/health", "/api/auth/me", "/api/patients", "/api/mappings"] {
            assert!(!is_replayed(&client.get(target).await.expect(200)));
        }
        let email = format!("{}@example.com", key.len());
        let account = json!({"name": "N", "email": email, "password": "correct horse"});
        let register = keyed(&server.anyone(), key);
        register.post("/api/auth/register", &account).await.expect(201);
        register.post("/api/auth/register", &account).await.expect_error(409, "email_taken");
        let login = json!({"email": email, "password": "correct horse"});
        let first = register.post("/api/auth/login", &login).await.expect(200);
        let second = register.post("/api/auth/login", &login).await.expect(200);
        assert_ne!(first.json()["refresh_token"], second.json()["refresh_token"]);
    }
}
