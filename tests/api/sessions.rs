//! Sessions: refresh, logout and password change, also across instances.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, JWT_SECRET, TestDb, TestServer, random, until};

/// Registers, and returns the session and a client with its token.
async fn session(server: &TestServer) -> (Value, Client) {
    let email = format!("{}@example.com", random());
    let body = json!({"name": "Ada", "email": email, "password": "correct horse"});
    let session = server.anyone().post("/api/auth/register", &body).await.expect(201).json();
    let client = server.anyone().with_token(session["token"].as_str().unwrap());
    (session, client)
}

async fn refresh(server: &TestServer, token: &Value) -> Answer {
    server.anyone().post("/api/auth/refresh", &json!({"refresh_token": token})).await
}

/// Shifts the last exchange of every refresh token back by `seconds`.
async fn age_rotations(server: &TestServer, seconds: i32) {
    let sql = "UPDATE sessions
        SET rotations = ARRAY(SELECT t - make_interval(secs => $1) FROM unnest(rotations) AS t)";
    server.database().connect().await.execute(sql, &[&f64::from(seconds)]).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_a_session() {
    let server = TestServer::start().await;
    let (first, _) = session(&server).await;
    let second = refresh(&server, &first["refresh_token"]).await.expect(200).json();
    assert_eq!(second["user"], first["user"]);
    assert_eq!(second["expires_in"], 3600);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let client = server.anyone().with_token(second["token"].as_str().unwrap());
    client.get("/api/auth/me").await.expect(200);
    refresh(&server, &second["refresh_token"]).await.expect(200);
}

#[tokio::test]
async fn a_spent_refresh_token_yields_the_same_successor_for_ten_seconds() {
    let server = TestServer::start().await;
    let (first, client) = session(&server).await;
    let second = refresh(&server, &first["refresh_token"]).await.expect(200).json();
    let third = refresh(&server, &second["refresh_token"]).await.expect(200).json();
    for (spent, successor) in [(&first, &second), (&second, &third), (&first, &second)] {
        let again = refresh(&server, &spent["refresh_token"]).await.expect(200).json();
        assert_eq!(again["refresh_token"], successor["refresh_token"]);
    }
    age_rotations(&server, 9).await;
    refresh(&server, &first["refresh_token"]).await.expect(200);
    client.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_later_ends_its_session() {
    let server = TestServer::start().await;
    let (first, client) = session(&server).await;
    let second = refresh(&server, &first["refresh_token"]).await.expect(200).json();
    age_rotations(&server, 11).await;
    refresh(&server, &first["refresh_token"]).await.expect_error(401, "invalid_credentials");
    client.get("/api/auth/me").await.expect_error(401, "invalid_token");
    refresh(&server, &second["refresh_token"]).await.expect_error(401, "invalid_credentials");
}

#[tokio::test]
async fn clients_that_refresh_at_once_get_one_successor() {
    let server = TestServer::start().await;
    let (first, _) = session(&server).await;
    let refreshing = (0..64).map(|_| refresh(&server, &first["refresh_token"]));
    let answers = futures_util::future::join_all(refreshing).await;
    let mut successors: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.expect(200).json()["refresh_token"].to_string())
        .collect();
    successors.dedup();
    assert_eq!(successors.len(), 1);
}

#[tokio::test]
async fn what_is_no_refresh_token_of_ours_is_refused() {
    let server = TestServer::start().await;
    let (first, client) = session(&server).await;
    for wrong in
        ["", "x", client.token(), "AAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    {
        refresh(&server, &json!(wrong)).await.expect_error(401, "invalid_credentials");
    }
    refresh(&server, &json!(1)).await.expect_error(422, "validation_failed");
    // An access token is not a refresh token, nor vice versa.
    let swapped = server.anyone().with_token(first["refresh_token"].as_str().unwrap());
    swapped.get("/api/auth/me").await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_or_old() {
    let server = TestServer::start().await;
    let database = server.database().connect().await;
    let (first, _) = session(&server).await;
    let second = refresh(&server, &first["refresh_token"]).await.expect(200).json();
    let left = "SELECT extract(epoch FROM idle_until - now())::float8 / 86400,
                       extract(epoch FROM expires_at - now())::float8 / 86400 FROM sessions";
    let row = database.query_one(left, &[]).await.unwrap();
    assert!((row.get::<_, f64>(0) - 7.0).abs() < 0.1 && (row.get::<_, f64>(1) - 30.0).abs() < 0.1);

    // A refresh does not extend a session beyond its end.
    database
        .batch_execute("UPDATE sessions SET expires_at = now() + interval '1 hour'")
        .await
        .unwrap();
    let third = refresh(&server, &second["refresh_token"]).await.expect(200).json();
    let row =
        database.query_one("SELECT idle_until = expires_at FROM sessions", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));

    database.batch_execute("UPDATE sessions SET idle_until = now()").await.unwrap();
    refresh(&server, &third["refresh_token"]).await.expect_error(401, "invalid_credentials");
}

#[tokio::test]
async fn logging_out_ends_the_session_at_once_and_no_other() {
    let server = TestServer::start().await;
    let (first, client) = session(&server).await;
    let email = &first["user"]["email"];
    let login = json!({"email": email, "password": "correct horse"});
    let other = server.anyone().post("/api/auth/login", &login).await.expect(200).json();
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    client.get("/api/auth/me").await.expect_error(401, "invalid_token");
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(401);
    refresh(&server, &first["refresh_token"]).await.expect_error(401, "invalid_credentials");
    let other_client = server.anyone().with_token(other["token"].as_str().unwrap());
    other_client.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn changing_the_password_ends_every_other_session() {
    let server = TestServer::start().await;
    let (first, client) = session(&server).await;
    let (_, stranger) = session(&server).await;
    let login = |password: &str| json!({"email": first["user"]["email"], "password": password});
    let other =
        server.anyone().post("/api/auth/login", &login("correct horse")).await.expect(200).json();

    let wrong = json!({"current_password": "wrong", "new_password": "another horse"});
    let answer = client.put("/api/auth/password", &wrong).await.expect(422);
    assert_eq!(answer.bad_fields(), ["current_password"]);
    let short = json!({"current_password": "correct horse", "new_password": "short"});
    let answer = client.put("/api/auth/password", &short).await.expect(422);
    assert_eq!(answer.bad_fields(), ["new_password"]);

    let right = json!({"current_password": "correct horse", "new_password": "another horse"});
    client.put("/api/auth/password", &right).await.expect(204);
    client.get("/api/auth/me").await.expect(200);
    refresh(&server, &first["refresh_token"]).await.expect(200);
    stranger.get("/api/auth/me").await.expect(200);
    let other_client = server.anyone().with_token(other["token"].as_str().unwrap());
    other_client.get("/api/auth/me").await.expect_error(401, "invalid_token");
    refresh(&server, &other["refresh_token"]).await.expect_error(401, "invalid_credentials");
    server.anyone().post("/api/auth/login", &login("correct horse")).await.expect(401);
    server.anyone().post("/api/auth/login", &login("another horse")).await.expect(200);
}

/// Waits until a client's token is refused.
async fn shut_out(client: &Client) {
    until("the session is over", async || {
        (client.get("/api/auth/me").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_on_one_instance_ends_on_the_others() {
    let database = Arc::new(TestDb::new().await);
    let one = TestServer::start_on(Arc::clone(&database)).await;
    let two = TestServer::start_on(Arc::clone(&database)).await;
    let (_, client) = session(&one).await;
    let elsewhere = two.anyone().with_token(client.token());
    elsewhere.get("/api/auth/me").await.expect(200);
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    shut_out(&elsewhere).await;
    // An instance that starts later knows it from its first request on.
    let three = TestServer::start_on(database).await;
    three.anyone().with_token(client.token()).get("/api/auth/me").await.expect(401);
}

#[tokio::test]
async fn without_news_from_the_database_sessions_are_checked_there() {
    let database = Arc::new(TestDb::new().await);
    let one = TestServer::start_on(Arc::clone(&database)).await;
    let two = TestServer::start_on(Arc::clone(&database)).await;
    let (_, ended) = session(&one).await;
    let (_, live) = session(&one).await;
    // From here on the poll for ended sessions fails, and the check of one session does not.
    let admin = database.connect_as_superuser().await;
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_postmaster_start_time() FROM PUBLIC";
    admin.batch_execute(revoke).await.unwrap();
    ended.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    shut_out(&two.anyone().with_token(ended.token())).await;
    two.anyone().with_token(live.token()).get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn sessions_that_are_over_are_removed() {
    let database = Arc::new(TestDb::new().await);
    let server = TestServer::start_on(Arc::clone(&database)).await;
    let (_, client) = session(&server).await;
    let (_, left_alone) = session(&server).await;
    session(&server).await;
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    let connection = database.connect().await;
    let left_alone = left_alone.user_id().await;
    let ended = "UPDATE sessions SET ended_at = now() - interval '2 days'
        WHERE ended_at IS NOT NULL";
    connection.batch_execute(ended).await.unwrap();
    let idle = "UPDATE sessions SET idle_until = now() - interval '2 days' WHERE user_id = $1";
    connection.execute(idle, &[&left_alone]).await.unwrap();
    drop(server);
    let _again = TestServer::start_on(Arc::clone(&database)).await;
    until("the session is removed", async || {
        let left = connection.query("SELECT FROM sessions", &[]).await.unwrap();
        (left.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_is_good_as_long_as_it_is_named() {
    const NEW: (&str, &str) = ("JWT_SECRET", "the secret that came after it, 32 bytes or more");
    let old = std::str::from_utf8(JWT_SECRET).unwrap();
    let database = Arc::new(TestDb::new().await);
    let before = TestServer::start_on(Arc::clone(&database)).await;
    let (first, client) = session(&before).await;
    drop(before);
    let previous = [NEW, ("JWT_SECRET_PREVIOUS", old)];
    let rotated = TestServer::start_with(Arc::clone(&database), &previous).await;
    let replaced = TestServer::start_with(Arc::clone(&database), &[NEW]).await;
    let me = async |server: &TestServer, token: &str| {
        server.anyone().with_token(token).get("/api/auth/me").await
    };

    me(&rotated, client.token()).await.expect(200);
    me(&replaced, client.token()).await.expect_error(401, "invalid_token");
    let unknown = refresh(&replaced, &first["refresh_token"]).await;
    unknown.expect_error(401, "invalid_credentials");

    // Tokens from now on are signed with the new secret only.
    let second = refresh(&rotated, &first["refresh_token"]).await.expect(200).json();
    let token = second["token"].as_str().unwrap();
    me(&rotated, token).await.expect(200);
    me(&replaced, token).await.expect(200);
    let third = refresh(&replaced, &second["refresh_token"]).await.expect(200).json();
    let spent = refresh(&rotated, &second["refresh_token"]).await.expect(200).json();
    assert_eq!(spent["refresh_token"], third["refresh_token"]);
    let before = TestServer::start_on(database).await;
    me(&before, token).await.expect_error(401, "invalid_token");
    refresh(&before, &third["refresh_token"]).await.expect_error(401, "invalid_credentials");
    // A session that ends, ends for tokens of both secrets.
    let old_client = rotated.anyone().with_token(client.token());
    old_client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    me(&rotated, token).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn a_session_stays_ended_when_tokens_are_made_to_live_shorter() {
    let database = Arc::new(TestDb::new().await);
    let server = TestServer::start_on(Arc::clone(&database)).await;
    let (_, client) = session(&server).await;
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
    drop(server);
    let age = "UPDATE sessions SET ended_at = ended_at - interval '50 minutes'";
    database.connect().await.batch_execute(age).await.unwrap();
    let server = TestServer::start_with(database, &[("TOKEN_TTL_SECONDS", "1")]).await;
    let client = server.anyone().with_token(client.token());
    client.get("/api/auth/me").await.expect_error(401, "invalid_token");
}
