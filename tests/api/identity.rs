//! The identities in tokens: random ids of users and sessions, rows of an older version, and
//! expiry.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use healthcare_backend::db::migrations::MIGRATIONS;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tokio_postgres::Client as Database;

use crate::harness::{JWT_SECRET, TestDb, TestServer, random};

/// The largest integer that JavaScript represents exactly.
const EXACT: i64 = 1 << 53;

/// Registration in the version before random ids.
const OLD_REGISTER: &str = "
    WITH created AS (
        INSERT INTO users (name, email, password_hash)
        VALUES ($1, $2, $3)
        ON CONFLICT (lower(email)) DO NOTHING
        RETURNING id, name, email, role, created_at
    ), session AS (
        INSERT INTO sessions (user_id, expires_at, idle_until)
        SELECT
            id,
            now() + make_interval(secs => $5::integer),
            now() + make_interval(secs => least($4::integer, $5::integer))
        FROM created
        RETURNING id
    )
    SELECT created.id, session.id AS session_id FROM created, session";

/// Its lookup of a session.
const OLD_IS_LIVE: &str =
    "SELECT id FROM sessions WHERE id = $1 AND user_id = $2 AND ended_at IS NULL";

async fn register(server: &TestServer) -> Value {
    let email = format!("{}@example.com", random());
    let body = json!({"name": "Ada", "email": email, "password": "correct horse"});
    server.anyone().post("/api/auth/register", &body).await.expect(201).json()
}

async fn refresh(server: &TestServer, token: &str) -> crate::harness::Answer {
    server.anyone().post("/api/auth/refresh", &json!({"refresh_token": token})).await
}

fn claims(token: &str) -> Value {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode(token, &DecodingKey::from_secret(JWT_SECRET), &validation).unwrap().claims
}

/// A session of an older program, and its id.
async fn old_session(database: &Database, user: i64) -> i64 {
    let sql = "INSERT INTO sessions (user_id, expires_at, idle_until)
               VALUES ($1, now() + interval '30 days', now() + interval '7 days')
               RETURNING id";
    database.query_one(sql, &[&user]).await.unwrap().get(0)
}

#[tokio::test]
async fn ids_of_new_users_are_random_and_exact_in_javascript() {
    let server = TestServer::start().await;
    let registered = register(&server).await["user"]["id"].as_i64().unwrap();
    let database = server.database().connect().await;
    let sql = "INSERT INTO users (name, email, password_hash)
               SELECT 'User', 'user' || n || '@example.com', 'x' FROM generate_series(1, 1000) AS n
               RETURNING id";
    let rows = database.query(sql, &[]).await.unwrap();
    let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).chain([registered]).collect();
    assert!(ids.iter().all(|id| (1..EXACT).contains(id)), "{ids:?}");
    // Each of the 52 bits is set in some ids and clear in others.
    let (set, always) =
        ids.iter().fold((0, -1), |(set, always), id| (set | (id - 1), always & (id - 1)));
    assert_eq!((set, always), (EXACT / 2 - 1, 0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1001);
}

#[tokio::test]
async fn users_who_had_small_ids_keep_them() {
    let server = TestServer::start().await;
    let database = server.database().connect().await;
    register(&server).await;
    let sql = "INSERT INTO users (id, name, email, password_hash)
               SELECT 1, name, 'first@example.com', password_hash FROM users";
    database.execute(sql, &[]).await.unwrap();
    let first = server.anyone().logged_in("first@example.com").await;
    assert_eq!(first.user_id().await, 1);
    let patient = first.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
    assert_eq!(patient.json()["created_by"], 1);
    first.get(&format!("/api/patients/{}", patient.id())).await.expect(200);
}

#[tokio::test]
async fn an_older_program_goes_on_while_and_after_the_ids_become_random() {
    let database = TestDb::empty().await;
    let database = database.connect().await;
    let position = MIGRATIONS.iter().position(|(name, _)| *name == "V8__random_ids").unwrap();
    for (_, text) in &MIGRATIONS[..position] {
        database.batch_execute(text).await.unwrap();
    }
    // As the program does: prepared in advance, with its connect options.
    database.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let register = database.prepare(OLD_REGISTER).await.unwrap();
    let is_live = database.prepare(OLD_IS_LIVE).await.unwrap();
    let registered = async |name: &str| -> (i64, i64) {
        let email = format!("{name}@example.com");
        let row = database.query_one(&register, &[&name, &email, &"x", &60, &60]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let ada = registered("ada").await;
    assert_eq!(ada, (1, 1));
    database.batch_execute(MIGRATIONS[position].1).await.unwrap();
    let bob = registered("bob").await;
    assert_eq!(bob.1, 2);
    assert!(bob.0 > 2 && bob.0 < EXACT, "{bob:?}");
    for (user, session) in [ada, bob] {
        assert_eq!(database.query(&is_live, &[&session, &user]).await.unwrap().len(), 1);
    }
    let sql = "SELECT count(sid) FROM sessions";
    assert_eq!(database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn tokens_of_a_session_that_an_older_program_began_open_nothing() {
    let server = TestServer::start().await;
    let database = server.database().connect().await;
    let session = register(&server).await;
    let user = session["user"]["id"].as_i64().unwrap();
    let old = old_session(&database, user).await;

    let mut claims = claims(session["token"].as_str().unwrap());
    claims["sid"] = json!(old.to_string());
    let key = EncodingKey::from_secret(JWT_SECRET);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let client = server.anyone().with_token(&token);
    client.get("/api/auth/me").await.expect_error(401, "invalid_token");

    // Session and generation, with an HMAC by a derived key.
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let derived = hmac::sign(&key(JWT_SECRET), b"healthcare-backend refresh token");
    let message = [&old.to_be_bytes()[..], &0_i32.to_be_bytes()].concat();
    let tag = hmac::sign(&key(derived.as_ref()), &message);
    let token = URL_SAFE_NO_PAD.encode([&message[..], tag.as_ref()].concat());
    refresh(&server, &token).await.expect_error(401, "invalid_credentials");
}

#[tokio::test]
async fn a_change_of_password_ends_what_an_older_program_began_too() {
    let server = TestServer::start().await;
    let database = server.database().connect().await;
    let session = register(&server).await;
    let user = session["user"]["id"].as_i64().unwrap();
    let old = old_session(&database, user).await;
    let client = server.anyone().with_token(session["token"].as_str().unwrap());
    let body = json!({"current_password": "correct horse", "new_password": "another horse"});
    client.put("/api/auth/password", &body).await.expect(204);
    let sql = "SELECT ended_at IS NOT NULL FROM sessions WHERE id = $1";
    assert!(database.query_one(sql, &[&old]).await.unwrap().get::<_, bool>(0));
    // The service has polled since then, and tolerates a session without a sid.
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.get("/api/auth/me").await.expect(200);
    refresh(&server, session["refresh_token"].as_str().unwrap()).await.expect(200);
}

#[tokio::test]
async fn a_session_that_is_not_in_the_database_opens_nothing() {
    let server = TestServer::start().await;
    let session = register(&server).await;
    let database = server.database().connect().await;
    database.execute("DELETE FROM sessions", &[]).await.unwrap();
    let client = server.anyone().with_token(session["token"].as_str().unwrap());
    client.get("/api/patients").await.expect_error(401, "invalid_token");
    let token = session["refresh_token"].as_str().unwrap();
    refresh(&server, token).await.expect_error(401, "invalid_credentials");
}

/// As where this machine's clock was set back, or a refresh after the idle time was shortened brought
/// the end of the session forward.
#[tokio::test]
async fn a_session_that_is_over_by_the_clock_of_the_database_opens_nothing() {
    let server = TestServer::start().await;
    let session = register(&server).await;
    let database = server.database().connect().await;
    let over = "UPDATE sessions SET idle_until = now() - interval '1 second'";
    database.batch_execute(over).await.unwrap();
    let client = server.anyone().with_token(session["token"].as_str().unwrap());
    client.get("/api/patients").await.expect_error(401, "invalid_token");
}

/// The claim alone is not enough: the token must be refused after that time.
#[tokio::test]
async fn a_token_ends_no_later_than_its_session() {
    let database = Arc::new(TestDb::new().await);
    for setting in ["SESSION_MAX_SECONDS", "SESSION_IDLE_SECONDS"] {
        let server = TestServer::start_with(Arc::clone(&database), &[(setting, "1")]).await;
        let registered = register(&server).await;
        let login = json!({"email": registered["user"]["email"], "password": "correct horse"});
        let logged_in = server.anyone().post("/api/auth/login", &login).await.expect(200).json();
        for session in [&registered, &logged_in] {
            let claims = claims(session["token"].as_str().unwrap());
            let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert!((0..=1).contains(&lasts), "{setting}: {claims}");
            assert_eq!(session["expires_in"], lasts, "{setting}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        for session in [registered, logged_in] {
            let client = server.anyone().with_token(session["token"].as_str().unwrap());
            client.get("/api/auth/me").await.expect_error(401, "invalid_token");
            let token = session["refresh_token"].as_str().unwrap();
            refresh(&server, token).await.expect_error(401, "invalid_credentials");
        }
    }
}

#[tokio::test]
async fn refreshing_makes_no_token_that_outlives_the_session() {
    let server = TestServer::start().await;
    let database = server.database().connect().await;
    let session = register(&server).await;
    let spent = session["refresh_token"].as_str().unwrap();
    database
        .batch_execute("UPDATE sessions SET expires_at = now() + interval '100 seconds'")
        .await
        .unwrap();
    // First exchanged, then repeated.
    for _ in 0..2 {
        let next = refresh(&server, spent).await.expect(200).json();
        let expires_in = next["expires_in"].as_i64().unwrap();
        assert!((1..=100).contains(&expires_in), "{next}");
        let exp = claims(next["token"].as_str().unwrap())["exp"].as_i64().unwrap();
        let sql = "SELECT extract(epoch FROM expires_at)::float8 FROM sessions";
        let ends: f64 = database.query_one(sql, &[]).await.unwrap().get(0);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
        let exp = exp as f64;
        assert!(exp <= ends, "{exp} {ends}");
    }
}
