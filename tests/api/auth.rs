//! `/api/auth`: registering, logging in, and the claims of a token.

use std::collections::HashSet;

use futures_util::future::join_all;
use hyper::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value, json};

use crate::harness::{JWT_SECRET, TestServer, random};

const REGISTER: &str = "/api/auth/register";
const LOGIN: &str = "/api/auth/login";
const ME: &str = "/api/auth/me";
const PASSWORD: &str = "correct horse";

fn account(email: &str, password: &str) -> Value {
    json!({"name": "Ada", "email": email, "password": password})
}

fn credentials(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password})
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The claims of a token, after its signature is verified.
fn claims(token: &str) -> Map<String, Value> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let key = DecodingKey::from_secret(JWT_SECRET);
    jsonwebtoken::decode(token, &key, &validation).unwrap().claims
}

#[tokio::test]
async fn a_session_has_what_the_contract_lists_and_nothing_else() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    let body = account("Ada@Example.com", PASSWORD);
    let registered = anyone.post(REGISTER, &body).await.expect(201);
    let body = credentials("Ada@Example.com", PASSWORD);
    let logged_in = anyone.post(LOGIN, &body).await.expect(200);
    for session in [registered.json(), logged_in.json()] {
        let expected = ["token", "token_type", "expires_in", "refresh_token", "user"];
        assert_eq!(keys(&session), expected);
        assert!(session["refresh_token"].as_str().is_some_and(|token| token.len() >= 32));
    }
}

#[tokio::test]
async fn registering_and_logging_in_give_a_session_of_the_same_user() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    let body = account("Ada@Example.com", PASSWORD);
    let registered = anyone.post(REGISTER, &body).await.expect(201);
    let body = credentials("Ada@Example.com", PASSWORD);
    let logged_in = anyone.post(LOGIN, &body).await.expect(200);
    let mut tokens = HashSet::new();
    for answer in [&registered, &logged_in] {
        assert_eq!(answer.header("etag"), None);
        let session = answer.json();
        assert_eq!(session["token_type"], "Bearer");
        assert_eq!(session["expires_in"], 3600);
        let user = &session["user"];
        assert_eq!(keys(user), ["id", "name", "email", "role", "created_at"]);
        assert_eq!(user["name"], "Ada");
        assert_eq!(user["email"], "Ada@Example.com");
        assert_eq!(user["role"], "user");
        assert!(user["id"].as_i64().unwrap() > 0);
        let created_at = user["created_at"].as_str().unwrap();
        assert!(created_at.ends_with('Z') && created_at.parse::<jiff::Timestamp>().is_ok());

        let token = session["token"].as_str().unwrap();
        assert!(tokens.insert(token.to_owned()), "each session has a token of its own");
        let me = anyone.with_token(token).get(ME).await.expect(200);
        assert_eq!(me.header("etag"), None);
        assert_eq!(me.json(), *user);
    }
    assert_eq!(registered.json()["user"], logged_in.json()["user"]);
}

#[tokio::test]
async fn a_token_says_who_by_whom_for_whom_and_until_when() {
    let server = TestServer::start().await;
    let body = account("ada@example.com", PASSWORD);
    let before = jiff::Timestamp::now().as_second();
    let session = server.anyone().post(REGISTER, &body).await.expect(201).json();
    let after = jiff::Timestamp::now().as_second();
    let token = session["token"].as_str().unwrap();

    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.alg, Algorithm::HS256);
    assert_eq!(header.typ.as_deref(), Some("JWT"));

    let claims = Value::Object(claims(token));
    assert_eq!(keys(&claims), ["iss", "aud", "sub", "sid", "iat", "exp"]);
    assert_eq!(claims["iss"], "healthcare-backend");
    assert_eq!(claims["aud"], "healthcare-api");
    assert_eq!(claims["sub"], session["user"]["id"].to_string());
    assert!(claims["sid"].as_str().is_some_and(|session| !session.is_empty()));
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((before..=after).contains(&iat), "{before} {iat} {after}");
    assert_eq!(exp - iat, session["expires_in"].as_i64().unwrap());
}

#[tokio::test]
async fn each_session_has_an_id_of_its_own() {
    let server = TestServer::start().await;
    let body = account("ada@example.com", PASSWORD);
    let mut sessions = vec![server.anyone().post(REGISTER, &body).await.expect(201).json()];
    let body = credentials("ada@example.com", PASSWORD);
    for _ in 0..3 {
        sessions.push(server.anyone().post(LOGIN, &body).await.expect(200).json());
    }
    let ids: HashSet<String> = sessions
        .iter()
        .map(|session| claims(session["token"].as_str().unwrap())["sid"].to_string())
        .collect();
    assert_eq!(ids.len(), sessions.len());
}

#[tokio::test]
async fn the_scheme_is_read_without_case() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {}", user.token());
        server.anyone().with("authorization", &value).get(ME).await.expect(200);
    }
    let basic = format!("Basic {}", user.token());
    let refused = server.anyone().with("authorization", &basic).get(ME).await;
    let refused = refused.expect_error(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn an_address_is_taken_in_whatever_case() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    anyone.post(REGISTER, &account("Ada@Example.com", PASSWORD)).await.expect(201);
    for email in ["Ada@Example.com", "ada@example.com", "ADA@EXAMPLE.COM", "aDA@eXAMPLE.COM"] {
        let refused = anyone.post(REGISTER, &account(email, "another one")).await;
        refused.expect_error(409, "email_taken");
        let session = anyone.post(LOGIN, &credentials(email, PASSWORD)).await.expect(200).json();
        assert_eq!(session["user"]["email"], "Ada@Example.com");
    }
    anyone.post(REGISTER, &account("ada@example.org", PASSWORD)).await.expect(201);
}

#[tokio::test]
async fn of_racing_registrations_one_wins() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    for _ in 0..4 {
        let email = format!("{}@example.com", random());
        let bodies: Vec<Value> = (0..8)
            .map(|n| {
                account(&if n % 2 == 0 { email.clone() } else { email.to_uppercase() }, PASSWORD)
            })
            .collect();
        let answers = join_all(bodies.iter().map(|body| anyone.post(REGISTER, body))).await;
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(won.len(), 1);
        for answer in lost {
            answer.expect_error(409, "email_taken");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_one_answer() {
    let server = TestServer::start().await;
    let anyone = server.anyone().with("x-request-id", "same");
    anyone.post(REGISTER, &account("ada@example.com", PASSWORD)).await.expect(201);
    let mut answers = Vec::new();
    for (email, password) in [
        ("ada@example.com", "wrong horse"),
        ("eve@example.com", PASSWORD),
        ("ada@example.com", ""),
        ("ada@example.com", "correct horse\0"),
        ("no address", PASSWORD),
        ("ada\0@example.com", PASSWORD),
        ("", ""),
    ] {
        let refused = anyone.post(LOGIN, &credentials(email, password)).await;
        answers.push(refused.expect_error(401, "invalid_credentials"));
    }
    for answer in &mut answers {
        answer.headers.remove("date");
    }
    for answer in &answers[1..] {
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.headers, answers[0].headers);
    }
}

#[tokio::test]
async fn a_new_password_has_8_characters_to_71_bytes() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    for password in [
        "8 chars!".to_owned(),
        "é".repeat(8),
        "😀".repeat(8),
        "x".repeat(71),
        format!("{}ab", "€".repeat(23)),
        " ".repeat(8),
    ] {
        let email = format!("{}@example.com", random());
        anyone.post(REGISTER, &account(&email, &password)).await.expect(201);
        anyone.post(LOGIN, &credentials(&email, &password)).await.expect(200);
        // Every character counts, including the last.
        let mut shorter = password.clone();
        shorter.pop();
        let longer = format!("{password}x");
        for wrong in [shorter, longer] {
            let refused = anyone.post(LOGIN, &credentials(&email, &wrong)).await;
            refused.expect_error(401, "invalid_credentials");
        }
    }
    for password in [
        String::new(),
        "7 chars".into(),
        "é".repeat(7),
        "😀".repeat(7),
        "x".repeat(72),
        "€".repeat(24),
        "nul \0 within".into(),
    ] {
        let email = format!("{}@example.com", random());
        let refused = anyone.post(REGISTER, &account(&email, &password)).await;
        let refused = refused.expect_error(422, "validation_failed");
        assert_eq!(refused.bad_fields(), ["password"], "{password:?}");
        let refused = anyone.post(LOGIN, &credentials(&email, &password)).await;
        refused.expect_error(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn logging_in_takes_any_text_and_only_text() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    for password in [String::new(), "x".repeat(4000), "\0".into(), "😀".repeat(500)] {
        let refused = anyone.post(LOGIN, &credentials("eve@example.com", &password)).await;
        refused.expect_error(401, "invalid_credentials");
    }
    for (body, bad) in [
        (json!({}), &["email", "password"][..]),
        (json!({"email": 1, "password": null}), &["email", "password"]),
        (json!({"email": "a@b", "password": 12_345_678}), &["password"]),
        (json!({"email": "a@b", "password": "x", "username": "a"}), &["username"]),
    ] {
        let refused = anyone.post(LOGIN, &body).await.expect_error(422, "validation_failed");
        assert_eq!(refused.bad_fields(), bad);
    }
}

#[tokio::test]
async fn an_account_needs_a_name_an_address_and_a_password() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    let long = "x".repeat(201);
    for (change, bad) in [
        (json!({"name": null}), "name"),
        (json!({"name": "\u{3000} "}), "name"),
        (json!({"name": long}), "name"),
        (json!({"email": "ada"}), "email"),
        (json!({"email": null}), "email"),
        (json!({"password": 12_345_678}), "password"),
        (json!({"role": "admin"}), "role"),
    ] {
        let mut body = account("ada@example.com", PASSWORD);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = anyone.post(REGISTER, &body).await.expect_error(422, "validation_failed");
        assert_eq!(refused.bad_fields(), [bad]);
    }
    let refused = anyone.post(REGISTER, &json!({})).await.expect_error(422, "validation_failed");
    assert_eq!(refused.bad_fields(), ["name", "email", "password"]);
    // None of these took the e-mail.
    let name = "😀".repeat(200);
    let body = json!({"name": name, "email": "ada@example.com", "password": PASSWORD});
    let session = anyone.post(REGISTER, &body).await.expect(201).json();
    assert_eq!(session["user"]["name"], name);
}

#[tokio::test]
async fn a_token_of_a_user_who_is_not_here_is_not_valid() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    // Both servers share a secret, but only this database has a doctor.
    for _ in 0..3 {
        there.user().await;
    }
    let ghost = here.anyone().with_token(there.user().await.token());
    let ada = here.user().await;
    let doctor = json!({"name": "House", "specialization": "Nephrology"});
    let doctor_id = ada.post("/api/doctors", &doctor).await.expect(201).id();

    for answer in [
        ghost.get(ME).await,
        ghost.post("/api/patients", &json!({"name": "Grace"})).await,
        ghost.post("/api/doctors", &doctor).await,
    ] {
        let refused = answer.expect_error(401, "invalid_token");
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!(challenge, "Bearer error=\"invalid_token\"");
    }
    let target = format!("/api/doctors/{doctor_id}");
    let mapping = json!({"patient_id": 1, "doctor_id": doctor_id});
    for answer in [
        ghost.patch(&target, &json!({"name": "Ghost"})).await,
        ghost.delete(&target).await,
        ghost.patch("/api/patients/1", &json!({"name": "Ghost"})).await,
        ghost.delete("/api/patients/1").await,
        ghost.post("/api/mappings", &mapping).await,
        ghost.delete("/api/mappings/1").await,
    ] {
        assert!([401, 403, 404].contains(&answer.status.as_u16()), "{answer:?}");
    }
    assert_eq!(ada.get(&target).await.expect(200).json()["name"], "House");
}

#[tokio::test]
async fn no_token_and_a_token_that_is_none_are_told_apart() {
    let server = TestServer::start().await;
    let refused = server.anyone().get(ME).await.expect_error(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    let user = server.user().await;
    for token in ["x", "a.b.c", &format!("{}x", user.token()), &user.token().replacen('.', "", 1)] {
        let refused = server.anyone().with_token(token).get(ME).await;
        refused.expect_error(401, "invalid_token");
    }
}

#[tokio::test]
async fn the_paths_of_accounts_work_with_a_slash_at_the_end_and_by_head() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    let body = account("ada@example.com", PASSWORD);
    anyone.post("/api/auth/register/", &body).await.expect(201);
    let body = credentials("ada@example.com", PASSWORD);
    let session = anyone.post("/api/auth/login/", &body).await.expect(200).json();
    let ada = anyone.with_token(session["token"].as_str().unwrap());
    ada.get("/api/auth/me/").await.expect(200);
    ada.send(Method::HEAD, ME, None).await.expect(200);
}
