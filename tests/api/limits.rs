//! Limits on a whole address: failed logins to any account, and registrations.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Answer, Client, TestDb, TestServer, random, until};

const PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.0/8");
const REGISTER: &str = "/api/auth/register";

async fn server(variables: &[(&str, &str)]) -> TestServer {
    TestServer::start_with(Arc::new(TestDb::new().await), variables).await
}

fn from(server: &TestServer, address: &str) -> Client {
    server.anyone().with("x-forwarded-for", address)
}

async fn log_in(client: &Client, email: &str, password: &str) -> Answer {
    client.post("/api/auth/login", &json!({"email": email, "password": password})).await
}

/// A failed login to an unused account.
async fn fail(client: &Client) -> Answer {
    log_in(client, &format!("{}@example.com", random()), "wrong").await
}

async fn register(client: &Client) -> Answer {
    let email = format!("{}@example.com", random());
    let body = json!({"name": "Ada", "email": email, "password": "correct horse"});
    client.post(REGISTER, &body).await
}

/// The range of `Retry-After`, in seconds.
#[track_caller]
fn expect_wait(answer: Answer, seconds: std::ops::RangeInclusive<u32>) {
    let answer = answer.expect_error(429, "too_many_attempts");
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds.contains(&wait), "{wait}");
}

#[tokio::test]
async fn failures_to_many_accounts_stop_their_address_for_all_accounts() {
    let server = server(&[PROXY, ("LOGIN_FAILURES_ALL_ACCOUNTS", "5")]).await;
    let known = format!("{}@example.com", random());
    let user = server.anyone().registered(&known).await;
    let client = from(&server, "192.0.2.1");
    for _ in 0..5 {
        fail(&client).await.expect_error(401, "invalid_credentials");
    }
    expect_wait(fail(&client).await, 800..=900);
    expect_wait(log_in(&client, &known, "correct horse").await, 800..=900);
    let change = json!({"current_password": "correct horse", "new_password": "another horse"});
    let user = user.with("x-forwarded-for", "192.0.2.1");
    expect_wait(user.put("/api/auth/password", &change).await, 800..=900);
    // Other addresses may log in to the account, and reads from this one are not limited.
    log_in(&from(&server, "192.0.2.2"), &known, "correct horse").await.expect(200);
    user.get("/api/auth/me").await.expect(200);

    let age = "UPDATE login_failures SET failed_at = failed_at - interval '15 minutes'";
    server.database().connect().await.batch_execute(age).await.unwrap();
    log_in(&client, &known, "correct horse").await.expect(200);
}

#[tokio::test]
async fn a_network_of_ipv6_is_one_address() {
    let limits = [("LOGIN_FAILURES_ALL_ACCOUNTS", "3"), ("REGISTRATIONS_PER_HOUR", "3")];
    let server = server(&[PROXY, limits[0], limits[1]]).await;
    for host in 1..=3 {
        let client = from(&server, &format!("2001:db8::{host}"));
        fail(&client).await.expect(401);
        register(&client).await.expect(201);
    }
    let client = from(&server, "2001:db8::ffff:1");
    fail(&client).await.expect(429);
    register(&client).await.expect(429);
    let client = from(&server, "2001:db8:0:1::1");
    fail(&client).await.expect(401);
    register(&client).await.expect(201);
}

#[tokio::test]
async fn the_machine_itself_is_not_counted_as_a_whole() {
    let limits = [("LOGIN_FAILURES_ALL_ACCOUNTS", "2"), ("REGISTRATIONS_PER_HOUR", "2")];
    let server = server(&[PROXY, limits[0], limits[1]]).await;
    for _ in 0..4 {
        fail(&server.anyone()).await.expect(401);
        register(&server.anyone()).await.expect(201);
    }
}

#[tokio::test]
async fn an_address_of_the_machine_that_a_proxy_forwards_is_counted() {
    let limits = [("LOGIN_FAILURES_ALL_ACCOUNTS", "2"), ("REGISTRATIONS_PER_HOUR", "2")];
    let server = server(&[PROXY, limits[0], limits[1]]).await;
    for client in [from(&server, "127.0.0.1"), from(&server, "::1")] {
        for _ in 0..2 {
            fail(&client).await.expect(401);
            register(&client).await.expect(201);
        }
        fail(&client).await.expect_error(429, "too_many_attempts");
        register(&client).await.expect_error(429, "too_many_attempts");
    }
}

#[tokio::test]
async fn a_limit_of_zero_on_an_address_is_none() {
    let limits = [("LOGIN_FAILURES_ALL_ACCOUNTS", "0"), ("REGISTRATIONS_PER_HOUR", "0")];
    let server = server(&[PROXY, limits[0], limits[1]]).await;
    let client = from(&server, "192.0.2.1");
    for _ in 0..4 {
        fail(&client).await.expect(401);
        register(&client).await.expect(201);
    }
}

#[tokio::test]
async fn a_hundred_registrations_within_an_hour_stop_their_address() {
    let server = server(&[PROXY]).await;
    let client = from(&server, "192.0.2.1");
    for answer in join_all((0..96).map(|_| register(&client))).await {
        answer.expect(201);
    }
    let taken = json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse"});
    client.post(REGISTER, &taken).await.expect(201);
    // Probing for registered e-mails is counted too; invalid requests are not.
    for _ in 0..3 {
        client.post(REGISTER, &taken).await.expect_error(409, "email_taken");
        client.post(REGISTER, &json!({"name": "Ada"})).await.expect(422);
    }
    expect_wait(register(&client).await, 3500..=3600);
    register(&from(&server, "192.0.2.2")).await.expect(201);
    log_in(&client, "ada@example.com", "correct horse").await.expect(200);

    let age = "UPDATE registrations SET registered_at = registered_at - interval '1 hour'";
    server.database().connect().await.batch_execute(age).await.unwrap();
    register(&client).await.expect(201);
}

/// Of 30 requests at the same moment, half to each of two instances on one database, the number
/// that was not refused with 429.
async fn let_in<F: Future<Output = Answer>>(
    limit: (&str, &str),
    status: u16,
    request: impl Fn(Client, usize) -> F,
) -> usize {
    let database = Arc::new(TestDb::new().await);
    let server = async || TestServer::start_with(Arc::clone(&database), &[PROXY, limit]).await;
    let servers = [server().await, server().await];
    let requests = (0..30).map(|index| request(servers[index % 2].anyone(), index));
    let answers = join_all(requests).await;
    let expected = [status, 429];
    assert!(answers.iter().all(|answer| expected.contains(&answer.status.as_u16())), "{answers:?}");
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test]
async fn no_limit_is_passed_by_requests_at_the_same_moment_to_several_instances() {
    const HERE: &str = "192.0.2.1";
    let guess = async |client: Client, email: &str, address: &str| {
        log_in(&client.with("x-forwarded-for", address), email, "wrong").await
    };
    let limit = ("LOGIN_FAILURES_ALL_ACCOUNTS", "5");
    let many = |client, index| async move { guess(client, &format!("{index}@b"), HERE).await };
    assert_eq!(let_in(limit, 401, many).await, 5);
    let limit = ("LOGIN_FAILURES_PER_ADDRESS", "5");
    let one = |client, _| guess(client, "ada@example.com", HERE);
    assert_eq!(let_in(limit, 401, one).await, 5);
    let limit = ("LOGIN_FAILURES_TOTAL", "5");
    let from_everywhere =
        |client, index| async move { guess(client, "ada@b", &format!("192.0.2.{index}")).await };
    assert_eq!(let_in(limit, 401, from_everywhere).await, 5);
    let limit = ("REGISTRATIONS_PER_HOUR", "5");
    let registration =
        |client: Client, _| async move { register(&client.with("x-forwarded-for", HERE)).await };
    assert_eq!(let_in(limit, 201, registration).await, 5);
}

#[tokio::test]
async fn only_a_wrong_password_is_counted_as_a_failure() {
    let server = server(&[PROXY, ("LOGIN_FAILURES_ALL_ACCOUNTS", "2")]).await;
    server.anyone().registered("ada@example.com").await;
    let client = from(&server, "192.0.2.1");
    let owner = server.database().connect().await;
    owner.batch_execute("REVOKE INSERT ON sessions FROM healthcare").await.unwrap();
    for _ in 0..3 {
        let answer = log_in(&client, "ada@example.com", "correct horse").await;
        answer.expect_error(503, "database_unavailable");
    }
    owner.batch_execute("GRANT INSERT ON sessions TO healthcare").await.unwrap();
    for _ in 0..3 {
        let user = log_in(&client, "ada@example.com", "correct horse").await.expect(200).json();
        let user = client.with_token(user["token"].as_str().unwrap());
        let same = json!({"current_password": "correct horse", "new_password": "correct horse"});
        user.put("/api/auth/password", &same).await.expect(204);
    }
    for _ in 0..2 {
        fail(&client).await.expect(401);
    }
    fail(&client).await.expect(429);
}

#[tokio::test]
async fn a_registration_that_the_service_could_not_make_does_not_count() {
    let server = server(&[PROXY, ("REGISTRATIONS_PER_HOUR", "2")]).await;
    let client = from(&server, "192.0.2.1");
    let database = server.database().connect().await;
    database.batch_execute("ALTER TABLE users RENAME TO missing").await.unwrap();
    for _ in 0..3 {
        register(&client).await.expect_error(503, "database_unavailable");
    }
    database.batch_execute("ALTER TABLE missing RENAME TO users").await.unwrap();
    until("it can be made again", async || (register(&client).await.status == 201).then_some(()))
        .await;
    // One for an address that is taken counts.
    let taken = json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse"});
    server.anyone().post(REGISTER, &taken).await.expect(201);
    client.post(REGISTER, &taken).await.expect_error(409, "email_taken");
    expect_wait(register(&client).await, 3500..=3600);
}

#[tokio::test]
async fn registrations_that_no_longer_count_are_removed() {
    let database = Arc::new(TestDb::new().await);
    let connection = database.connect().await;
    let rows = "INSERT INTO registrations (address, registered_at)
                SELECT 'a', now() - n * interval '1 minute' FROM generate_series(10, 2500, 30) AS n";
    connection.batch_execute(rows).await.unwrap();
    let _server = TestServer::start_on(database).await;
    until("what is old goes", async || {
        let row = connection.query_one("SELECT count(*) FROM registrations", &[]).await.unwrap();
        (row.get::<_, i64>(0) == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_registering_is_closed_that_is_the_answer_whatever_is_sent() {
    let database = Arc::new(TestDb::new().await);
    let open = TestServer::start_with(Arc::clone(&database), &[("REGISTRATION", "open")]).await;
    open.anyone().registered("ada@example.com").await;
    let server = TestServer::start_with(database, &[("REGISTRATION", "closed")]).await;
    let anyone = server.anyone();
    for body in [
        json!({"name": "Eve", "email": "eve@example.com", "password": "correct horse"}),
        json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse"}),
        json!({}),
    ] {
        anyone.post(REGISTER, &body).await.expect_error(403, "registration_closed");
    }
    let broken = anyone.send(hyper::Method::POST, REGISTER, Some("{".into())).await;
    broken.expect_error(403, "registration_closed");
    anyone.post("/api/auth/register?a=b", &json!({})).await.expect_error(400, "bad_query");
    anyone.get(REGISTER).await.expect_error(405, "method_not_allowed");
    anyone.logged_in("ada@example.com").await.get("/api/auth/me").await.expect(200);
}
