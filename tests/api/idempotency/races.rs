//! Requests with one key at the same moment.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use healthcare_backend::db::Sql;
use hyper::Method;
use serde_json::{Value, json};

use super::{assert_replayed, is_replayed, keyed, pair};
use crate::harness::{Answer, Client, Lock, Pause, TestDb, TestServer, until};
use crate::resources::{DOCTOR, KINDS, PATIENT};

/// A server on which a test may hold a lock for some seconds.
async fn patient_server() -> TestServer {
    let database = Arc::new(TestDb::new().await);
    TestServer::start_at(database.config_for_locks(), database, &[]).await
}

/// Sends one request 32 times at once: one has the effect, each other one gets its answer or is
/// told to wait.
async fn thirty_two_times(client: &Client, method: Method, target: &str, body: Option<&Value>) {
    let body = body.map(|body| body.to_string().into());
    let client = keyed(client, &crate::harness::random());
    let requests = (0..32).map(|_| client.send(method.clone(), target, body.clone()));
    let answers = join_all(requests).await;
    let (refused, answered): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|answer| answer.status == 409);
    for answer in refused {
        let refused = answer.expect_error(409, "idempotency_in_progress");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    let (replayed, first): (Vec<_>, Vec<_>) = answered.into_iter().partition(is_replayed);
    let [first] = &first[..] else { panic!("{first:?}") };
    assert!(first.status.is_success(), "{first:?}");
    for again in replayed.iter().chain([&client.send(method, target, body).await]) {
        assert_replayed(first, again);
    }
}

#[tokio::test]
async fn of_many_requests_with_one_key_one_has_an_effect() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for kind in KINDS {
        thirty_two_times(&ada, Method::POST, kind.path, Some(&(kind.full)())).await;
        let list = ada.get(kind.path).await.expect(200).json();
        assert_eq!(list.as_array().unwrap().len(), 1);
        let target = kind.target(list[0]["id"].as_i64().unwrap());
        thirty_two_times(&ada, Method::PUT, &target, Some(&(kind.other)())).await;
        thirty_two_times(&ada, Method::PATCH, &target, Some(&json!({"phone": "1"}))).await;
        assert_eq!(ada.get(&target).await.expect(200).header("etag"), Some("\"3\""));
        thirty_two_times(&ada, Method::DELETE, &target, None).await;
        ada.get(&target).await.expect_error(404, kind.not_found);
    }
    let mapping = pair(&ada).await;
    thirty_two_times(&ada, Method::POST, "/api/mappings", Some(&mapping)).await;
    let list = ada.get("/api/mappings").await.expect(200).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let target = format!("/api/mappings/{}", list[0]["id"]);
    thirty_two_times(&ada, Method::DELETE, &target, None).await;
}

#[tokio::test]
async fn creations_with_keys_and_without_are_made_together_and_repeated_one_by_one() {
    let server = TestServer::start().await;
    let users = [server.user().await, server.user().await];
    let create = async |number: usize| {
        let (user, name) = (&users[number % 2], format!("Patient {number}"));
        let user = if number < 200 { keyed(user, &format!("key-{number}")) } else { user.clone() };
        user.post(PATIENT.path, &json!({"name": name, "age": number % 100})).await
    };
    let first = join_all((0..250).map(create)).await;
    for (number, answer) in first.iter().enumerate() {
        assert!(!is_replayed(answer), "{answer:?}");
        assert_eq!(answer.clone().expect(201).json()["name"], format!("Patient {number}"));
    }
    let again = join_all((0..200).map(create)).await;
    for (first, again) in first.iter().zip(&again) {
        assert_replayed(first, again);
    }
    let mut found = HashMap::new();
    for user in &users {
        for patient in user.get(PATIENT.path).await.expect(200).json().as_array().unwrap() {
            *found.entry(patient["name"].to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(found.len(), 250);
    assert!(found.values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_row_of_a_batch_that_cannot_be_made_leaves_the_keys_of_the_others_as_they_were() {
    let server = TestServer::start().await;
    let (ada, gone) = (server.user().await, server.user().await);
    let id = gone.user_id().await;
    let connection = server.database().connect().await;
    connection.execute("DELETE FROM sessions WHERE user_id = $1", &[&id]).await.unwrap();
    connection.execute("DELETE FROM users WHERE id = $1", &[&id]).await.unwrap();
    let create = async |number: usize| {
        let user = if number.is_multiple_of(4) { &gone } else { &ada };
        keyed(user, &format!("key-{number}")).post(PATIENT.path, &json!({"name": "N"})).await
    };
    let first = join_all((0..64).map(create)).await;
    let again = join_all((0..64).map(create)).await;
    for (number, (first, again)) in first.iter().zip(&again).enumerate() {
        if number.is_multiple_of(4) {
            for answer in [first, again] {
                answer.clone().expect_error(401, "invalid_token");
            }
        } else {
            first.clone().expect(201);
            assert_replayed(first, again);
        }
    }
    assert_eq!(ada.get(PATIENT.path).await.expect(200).json().as_array().unwrap().len(), 48);
}

/// One statement that inserts these rows of one user: name, key and hash.
async fn insert(
    database: &tokio_postgres::Client,
    user: i64,
    rows: &[(&str, Option<&str>, &[u8])],
) -> Result<Vec<(String, Option<i64>)>, tokio_postgres::Error> {
    let none_text = vec![None::<&str>; rows.len()];
    let none_json = vec![None::<Value>; rows.len()];
    let none_date = vec![None::<jiff::civil::Date>; rows.len()];
    let (users, ages) = (vec![user; rows.len()], vec![None::<i32>; rows.len()]);
    let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let keys: Vec<Option<&str>> = rows.iter().map(|row| row.1).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.2).collect();
    let t = &none_text;
    let mut made = database
        .query(
            Sql::PatientsCreateOnce.text(),
            &[
                &users, &names, &ages, t, &none_date, t, t, t, t, t, t, t, t, t, &none_json, &keys,
                &hashes,
            ],
        )
        .await?;
    made.sort_by_key(|row| row.get::<_, i64>("ordinal"));
    Ok(made.iter().map(|row| (row.get("verdict"), row.get("resource_id"))).collect())
}

/// A new user of a database.
async fn user(database: &tokio_postgres::Client) -> i64 {
    let sql = "INSERT INTO users (name, email, password_hash) VALUES ('A', 'a@example.com', 'x')
               RETURNING id";
    database.query_one(sql, &[]).await.unwrap().get(0)
}

async fn count(database: &tokio_postgres::Client) -> i64 {
    database.query_one("SELECT count(*) FROM patients", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_key_that_is_twice_in_one_batch_has_one_effect() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    let user = user(&database).await;
    let rows = [
        ("A", Some("k"), &b"1"[..]),
        ("B", None, b"2"),
        ("A", Some("k"), b"1"),
        ("C", Some("l"), b"3"),
        ("D", Some("k"), b"4"),
        ("B", None, b"2"),
    ];
    let made = insert(&database, user, &rows).await.unwrap();
    let verdicts: Vec<&str> = made.iter().map(|made| &*made.0).collect();
    assert_eq!(verdicts, ["done", "done", "in_progress", "done", "in_progress", "done"]);
    let again = insert(&database, user, &rows).await.unwrap();
    let verdicts: Vec<&str> = again.iter().map(|made| &*made.0).collect();
    assert_eq!(verdicts, ["replayed", "done", "replayed", "replayed", "reused", "done"]);
    assert_eq!((again[0].1, again[2].1, again[3].1), (made[0].1, made[0].1, made[3].1));
    assert_eq!(count(&database).await, 2 + 4);
}

#[tokio::test]
async fn a_key_whose_first_request_ends_just_after_the_second_has_begun_has_one_effect() {
    let database = TestDb::new().await;
    let (first, second) = (database.connect().await, database.connect().await);
    let rows = [("A", Some("k"), &b"1"[..]), ("B", None, b"2")];
    let user = user(&first).await;
    // The second statement sees what there was before the first one.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM patients";
    second.batch_execute(begin).await.unwrap();
    insert(&first, user, &rows).await.unwrap();
    let error = insert(&second, user, &rows).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("idempotency_keys_pkey"));
    second.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(count(&first).await, 2);
}

#[tokio::test]
async fn a_request_whose_twin_ended_just_after_it_had_begun_is_not_refused_for_what_that_did() {
    let server = patient_server().await;
    let ada = server.user().await;
    let pause = Pause::at(server.database(), "idempotency_keys").await;
    let twice = async |method: Method, target: &str, body: Option<Value>| {
        let key = keyed(&ada, &crate::harness::random()).with("if-match", "\"1\"");
        let body = body.map(|body| body.to_string().into());
        let send = async || key.send(method.clone(), target, body.clone()).await;
        pause.next().await;
        let (second, first) = tokio::join!(send(), async {
            pause.begun().await;
            let first = send().await;
            pause.end().await;
            first
        });
        assert!(first.status.is_success() && !is_replayed(&first), "{first:?}");
        assert_replayed(&first, &second);
    };
    for kind in KINDS {
        let (target, _) = kind.create(&ada, &kind.minimal()).await;
        twice(Method::PATCH, &target, Some(json!({"phone": "1"}))).await;
        let (target, _) = kind.create(&ada, &kind.minimal()).await;
        twice(Method::DELETE, &target, None).await;
    }
    twice(Method::POST, "/api/mappings", Some(pair(&ada).await)).await;
    let id = ada.get("/api/mappings").await.expect(200).json()[0]["id"].clone();
    twice(Method::DELETE, &format!("/api/mappings/{id}"), None).await;
}

#[tokio::test]
async fn a_key_whose_first_request_is_running_is_in_progress_and_waits_for_nothing() {
    let server = patient_server().await;
    let ada = server.user().await;
    for kind in [&PATIENT, &DOCTOR] {
        let (target, _) = kind.create(&ada, &kind.minimal()).await;
        let id = target.rsplit('/').next().unwrap();
        let connection = server.database().connect().await;
        let table = kind.path.trim_start_matches("/api/");
        let sql = format!("BEGIN; SELECT FROM {table} WHERE id = {id} FOR UPDATE");
        connection.batch_execute(&sql).await.unwrap();
        let change = json!({"phone": "1"});
        let key = keyed(&ada, table);
        let (first, running) = (key.clone(), target.clone());
        let running =
            tokio::spawn(async move { first.patch(&running, &json!({"phone": "1"})).await });
        blocked(&server).await;
        let refused = key.patch(&target, &change).await;
        let refused = refused.expect_error(409, "idempotency_in_progress");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(!running.is_finished());
        connection.batch_execute("COMMIT").await.unwrap();
        let first = running.await.unwrap().expect(200);
        assert_replayed(&first, &key.patch(&target, &change).await);
        assert_eq!(ada.get(&target).await.expect(200).header("etag"), Some("\"2\""));
    }
}

/// Waits until a statement of the service waits for a lock, and returns its backend.
pub async fn blocked(server: &TestServer) -> i32 {
    let connection = server.database().connect().await;
    let sql = "SELECT pid FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'healthcare-backend'
                   AND cardinality(pg_blocking_pids(pid)) > 0";
    until("a statement waits for a lock", async || {
        connection.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0))
    })
    .await
}

#[tokio::test]
async fn a_key_whose_first_request_comes_to_no_end_is_free_again() {
    let server = patient_server().await;
    let ada = server.user().await;
    let superuser = server.database().connect_as_superuser().await;
    let lock = Lock::user(server.database().connect().await, ada.user_id().await).await;
    let key = keyed(&ada, "one");
    for kind in KINDS {
        for sql in ["SELECT pg_cancel_backend($1)", "SELECT pg_terminate_backend($1)"] {
            let (first, body) = (key.clone(), kind.minimal());
            let path = kind.path;
            let running = tokio::spawn(async move { first.post(path, &body).await });
            let backend = blocked(&server).await;
            key.post(path, &kind.minimal()).await.expect_error(409, "idempotency_in_progress");
            superuser.query_one(sql, &[&backend]).await.unwrap();
            running.await.unwrap().expect_error(503, "database_unavailable");
        }
    }
    lock.release().await;
    let first = key.post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    assert!(!is_replayed(&first));
    assert_eq!(ada.get(PATIENT.path).await.expect(200).json(), json!([first.json()]));
    assert_eq!(ada.get(DOCTOR.path).await.expect(200).json(), json!([]));
}
