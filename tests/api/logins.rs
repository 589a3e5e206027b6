//! Failed logins: counted by account and address, for known and unknown accounts.

use std::sync::Arc;

use serde_json::json;

use crate::harness::{Answer, Client, Lock, TestDb, TestServer, random, until};

const PROXY: [(&str, &str); 1] = [("TRUSTED_PROXIES", "127.0.0.0/8")];

async fn log_in(client: &Client, email: &str, password: &str) -> Answer {
    client.post("/api/auth/login", &json!({"email": email, "password": password})).await
}

fn from(server: &TestServer, address: &str) -> Client {
    server.anyone().with("x-forwarded-for", address)
}

async fn server(variables: &[(&str, &str)]) -> TestServer {
    TestServer::start_with(Arc::new(TestDb::new().await), variables).await
}

#[tokio::test]
async fn ten_failures_stop_the_account_for_the_address_known_or_not() {
    let server = server(&PROXY).await;
    let known = format!("{}@example.com", random());
    server.anyone().registered(&known).await;
    for email in [known.as_str(), "nobody@example.com"] {
        let client = from(&server, "192.0.2.1");
        for _ in 0..10 {
            log_in(&client, email, "wrong").await.expect_error(401, "invalid_credentials");
        }
        let answer = log_in(&client, &email.to_uppercase(), "correct horse").await;
        let answer = answer.expect_error(429, "too_many_attempts");
        let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((800..=900).contains(&seconds), "{seconds}");
    }
    // Neither the same account from another address nor another account from here is limited.
    log_in(&from(&server, "192.0.2.2"), &known, "correct horse").await.expect(200);
    log_in(&from(&server, "192.0.2.1"), "other@example.com", "wrong").await.expect(401);
}

#[tokio::test]
async fn failures_are_forgotten_after_a_quarter_of_an_hour() {
    let server = server(&PROXY).await;
    let email = format!("{}@example.com", random());
    server.anyone().registered(&email).await;
    let client = from(&server, "192.0.2.1");
    for _ in 0..10 {
        log_in(&client, &email, "wrong").await.expect(401);
    }
    log_in(&client, &email, "correct horse").await.expect(429);
    let age = "UPDATE login_failures SET failed_at = failed_at - interval '13 minutes'";
    server.database().connect().await.batch_execute(age).await.unwrap();
    let answer = log_in(&client, &email, "correct horse").await.expect(429);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() <= 120);
    let age = "UPDATE login_failures SET failed_at = failed_at - interval '2 minutes'";
    server.database().connect().await.batch_execute(age).await.unwrap();
    log_in(&client, &email, "correct horse").await.expect(200);
}

#[tokio::test]
async fn a_flood_from_everywhere_does_not_lock_the_owner_out() {
    let mut variables = PROXY.to_vec();
    variables.push(("LOGIN_FAILURES_TOTAL", "5"));
    let server = server(&variables).await;
    let email = format!("{}@example.com", random());
    server.anyone().registered(&email).await;
    log_in(&from(&server, "192.0.2.1"), &email, "correct horse").await.expect(200);
    for host in 10..15 {
        log_in(&from(&server, &format!("192.0.2.{host}")), &email, "wrong").await.expect(401);
    }
    log_in(&from(&server, "192.0.2.99"), &email, "correct horse").await.expect(429);
    log_in(&from(&server, "192.0.2.1"), &email, "correct horse").await.expect(200);
}

#[tokio::test]
async fn a_limit_of_zero_is_none() {
    let server =
        server(&[("LOGIN_FAILURES_PER_ADDRESS", "0"), ("LOGIN_FAILURES_TOTAL", "0")]).await;
    for _ in 0..12 {
        log_in(&server.anyone(), "nobody@example.com", "wrong").await.expect(401);
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_says_where_a_request_comes_from() {
    let server = server(&[]).await;
    for host in 0..10 {
        let client = from(&server, &format!("192.0.2.{host}"));
        log_in(&client, "nobody@example.com", "wrong").await.expect(401);
    }
    log_in(&from(&server, "192.0.2.77"), "nobody@example.com", "wrong").await.expect(429);
}

#[tokio::test]
async fn a_login_replaces_a_hash_that_costs_less_than_new_ones() {
    let database = Arc::new(TestDb::new().await);
    let cheap = TestServer::start_with(Arc::clone(&database), &[("BCRYPT_COST", "4")]).await;
    let email = format!("{}@example.com", random());
    cheap.anyone().registered(&email).await;
    let dear = TestServer::start_with(Arc::clone(&database), &[("BCRYPT_COST", "5")]).await;
    let connection = database.connect().await;
    let cost = async || -> String {
        let sql = "SELECT substr(password_hash, 5, 2) FROM users";
        connection.query_one(sql, &[]).await.unwrap().get(0)
    };
    log_in(&dear.anyone(), &email, "wrong").await.expect(401);
    assert_eq!(cost().await, "04");
    log_in(&dear.anyone(), &email, "correct horse").await.expect(200);
    assert_eq!(cost().await, "05");
    log_in(&cheap.anyone(), &email, "correct horse").await.expect(200);
    assert_eq!(cost().await, "05");
}

/// A user with a hash of lower cost than new hashes of the server, and the user's id.
async fn user_with_a_cheap_hash(database: &Arc<TestDb>, email: &str) -> (Client, i64) {
    let cheap = TestServer::start_with(Arc::clone(database), &[("BCRYPT_COST", "4")]).await;
    let user = cheap.anyone().registered(email).await;
    let id = user.user_id().await;
    (user, id)
}

/// A server with a higher hash cost.
async fn dear_server(database: &Arc<TestDb>) -> TestServer {
    let variables = [PROXY[0], ("BCRYPT_COST", "5")];
    TestServer::start_with(Arc::clone(database), &variables).await
}

/// Waits until this many statements are blocked, directly or behind another one.
async fn waiting(connection: &tokio_postgres::Client, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("statements wait", async || {
        let row = connection.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn right_logins_that_replace_a_cheap_hash_at_once_are_all_let_in() {
    let database = Arc::new(TestDb::new().await);
    let (_, id) = user_with_a_cheap_hash(&database, "ada@example.com").await;
    let [one, two] = [dear_server(&database).await, dear_server(&database).await];
    // All have compared the password with the low-cost hash before the first can replace it.
    let lock = Lock::user(database.connect().await, id).await;
    let logins =
        [from(&one, "192.0.2.1"), from(&one, "192.0.2.2"), from(&two, "192.0.2.1")].map(|client| {
            tokio::spawn(async move { log_in(&client, "ada@example.com", "correct horse").await })
        });
    waiting(&database.connect().await, 3).await;
    lock.release().await;
    for login in logins {
        login.await.unwrap().expect(200);
    }
    let failures = "SELECT count(*) FROM login_failures";
    let row = database.connect().await.query_one(failures, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_change_of_password_is_not_refused_because_a_login_replaces_the_hash() {
    let database = Arc::new(TestDb::new().await);
    let (user, id) = user_with_a_cheap_hash(&database, "ada@example.com").await;
    let server = dear_server(&database).await;
    let connection = database.connect().await;
    let lock = Lock::user(database.connect().await, id).await;
    let client = from(&server, "192.0.2.1");
    let login =
        tokio::spawn(async move { log_in(&client, "ada@example.com", "correct horse").await });
    waiting(&connection, 1).await;
    let client = from(&server, "192.0.2.2").with_token(user.token());
    let change = json!({"current_password": "correct horse", "new_password": "another horse"});
    let change = tokio::spawn(async move { client.put("/api/auth/password", &change).await });
    waiting(&connection, 2).await;
    lock.release().await;

    change.await.unwrap().expect(204);
    // It was the password before the change.
    let status = login.await.unwrap().status.as_u16();
    assert!([200, 401].contains(&status), "{status}");
    log_in(&server.anyone(), "ada@example.com", "correct horse").await.expect(401);
    log_in(&server.anyone(), "ada@example.com", "another horse").await.expect(200);
}

#[tokio::test]
async fn a_password_that_is_changed_while_it_is_compared_is_wrong() {
    let server = server(&[]).await;
    let ada = server.user().await;
    let ada_id = ada.user_id().await;
    let email = ada.get("/api/auth/me").await.json()["email"].as_str().unwrap().to_owned();
    let (changing, observer) =
        (server.database().connect().await, server.database().connect().await);
    changing.batch_execute("BEGIN").await.unwrap();
    let hash = "UPDATE users SET password_hash = left(password_hash, 59) || 'x' WHERE id = $1";
    changing.execute(hash, &[&ada_id]).await.unwrap();
    let client = server.anyone();
    let login = tokio::spawn(async move { log_in(&client, &email, "correct horse").await });
    waiting(&observer, 1).await;
    changing.batch_execute("COMMIT").await.unwrap();
    login.await.unwrap().expect_error(401, "invalid_credentials");
}

/// Lets a change of a table's rows fail as if there were no room on the disk.
async fn fail_changes(database: &TestDb, table: &str) {
    let sql = format!(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             RAISE 'full' USING ERRCODE = 'disk_full';
         END $$;
         CREATE TRIGGER fail BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"
    );
    database.connect().await.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_change_of_password_ends_the_session_of_a_login_beside_it_or_changes_nothing() {
    let server = server(&[]).await;
    let ada = server.user().await;
    let id = ada.user_id().await;
    let email = ada.get("/api/auth/me").await.json()["email"].as_str().unwrap().to_owned();
    let (logging_in, observer) =
        (server.database().connect().await, server.database().connect().await);
    let change = json!({"current_password": "correct horse", "new_password": "another horse"});

    fail_changes(server.database(), "sessions").await;
    logging_in.batch_execute("BEGIN").await.unwrap();
    let sql = "INSERT INTO sessions (sid, user_id, expires_at, idle_until)
               SELECT gen_random_uuid(), id, now() + interval '1 day', now() + interval '1 day'
               FROM (SELECT id FROM users WHERE id = $1 FOR SHARE) AS u";
    logging_in.execute(sql, &[&id]).await.unwrap();
    let (answer, ()) = tokio::join!(ada.put("/api/auth/password", &change), async {
        waiting(&observer, 1).await;
        logging_in.batch_execute("COMMIT").await.unwrap();
    });
    answer.expect_error(503, "database_unavailable");
    log_in(&server.anyone(), &email, "correct horse").await.expect(200);

    observer.batch_execute("DROP TRIGGER fail ON sessions").await.unwrap();
    ada.put("/api/auth/password", &change).await.expect(204);
    let sql = "SELECT count(*) FROM sessions WHERE user_id = $1 AND ended_at IS NULL";
    assert_eq!(observer.query_one(sql, &[&id]).await.unwrap().get::<_, i64>(0), 1);
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn after_an_error_of_its_commit_the_outcome_of_a_change_of_password_is_open() {
    let server = server(&[]).await;
    let ada = server.user().await;
    let sql = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                   RAISE 'canceled' USING ERRCODE = 'query_canceled';
               END $$;
               CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION fail()";
    server.database().connect().await.batch_execute(sql).await.unwrap();
    let change = json!({"current_password": "correct horse", "new_password": "another horse"});
    ada.put("/api/auth/password", &change).await.expect_error(503, "outcome_unknown");
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_login_whose_session_has_begun_is_answered_with_it() {
    let server = server(&[]).await;
    let email = format!("{}@example.com", random());
    server.anyone().registered(&email).await;
    log_in(&server.anyone(), &email, "correct horse").await.expect(200);
    fail_changes(server.database(), "login_addresses").await;
    log_in(&server.anyone(), &email, "correct horse").await.expect(200);
}

#[tokio::test]
async fn who_waits_for_a_turn_takes_no_place_from_the_others() {
    let database = Arc::new(TestDb::new().await);
    let (_, id) = user_with_a_cheap_hash(&database, "ada@example.com").await;
    // The login lock below is held for the time of a hash.
    let config = database.config_for_locks();
    // A cost so high that the queue is shorter than the number of logins here, and so low that one
    // hash takes less than the statement that waits for the lock may.
    let settings = [("BCRYPT_COST", "12"), ("POOL_SIZE", "32")];
    let server = TestServer::start_at(config, Arc::clone(&database), &settings).await;
    let lock = Lock::user(database.connect().await, id).await;
    let logins: Vec<_> = (0..40)
        .map(|_| {
            let client = server.anyone();
            tokio::spawn(async move { log_in(&client, "ada@example.com", "correct horse").await })
        })
        .collect();
    lock.awaited_by(1).await;
    log_in(&server.anyone(), "eve@example.com", "wrong").await.expect(401);

    // The others need not be awaited.
    let stop = "INSERT INTO login_failures (email_hash, address)
                SELECT sha256('ada@example.com'), '127.0.0.1' FROM generate_series(1, 10)";
    database.connect().await.batch_execute(stop).await.unwrap();
    lock.release().await;
    let mut answers = Vec::new();
    for login in logins {
        answers.push(login.await.unwrap().status.as_u16());
    }
    answers.sort_unstable();
    assert_eq!((answers[0], answers[39]), (200, 429), "{answers:?}");
}

#[tokio::test]
async fn a_stored_hash_of_an_absurd_cost_is_refused() {
    let server = server(&[]).await;
    let email = format!("{}@example.com", random());
    server.anyone().registered(&email).await;
    let absurd = "UPDATE users SET password_hash = overlay(password_hash PLACING '31' FROM 5)";
    server.database().connect().await.batch_execute(absurd).await.unwrap();
    log_in(&server.anyone(), &email, "correct horse").await.expect(401);
}

#[tokio::test]
async fn guesses_at_the_same_moment_are_counted_like_any() {
    let server = server(&[]).await;
    let email = format!("{}@example.com", random());
    server.anyone().registered(&email).await;
    let client = server.anyone();
    let guesses = (0..40).map(|_| log_in(&client, &email, "wrong"));
    let answers = futures_util::future::join_all(guesses).await;
    let wrong = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(wrong, 10);
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status.as_u16())));
}

#[tokio::test]
async fn guessing_the_current_password_counts_as_failing_to_log_in() {
    let server = server(&PROXY).await;
    let email = format!("{}@example.com", random());
    let user = server.anyone().registered(&email).await.with("x-forwarded-for", "192.0.2.1");
    let change =
        |current: &str| json!({"current_password": current, "new_password": "new password"});
    for _ in 0..10 {
        let answer = user.put("/api/auth/password", &change("wrong")).await;
        answer.expect_error(422, "validation_failed");
    }
    let answer = user.put("/api/auth/password", &change("correct horse")).await;
    let answer = answer.expect_error(429, "too_many_attempts");
    assert!(answer.header("retry-after").is_some());
    log_in(&from(&server, "192.0.2.1"), &email, "correct horse").await.expect(429);
    log_in(&from(&server, "192.0.2.2"), &email, "correct horse").await.expect(200);
}
