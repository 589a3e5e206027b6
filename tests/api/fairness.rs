//! No user can slow another, and no load by users makes an instance look unhealthy.

mod slow;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::{Client as Database, Config};

use crate::harness::{Answer, Client, Lock, TestDb, TestServer, until};

/// A server with one worker and 16 connections: 8 for writes, 4 for lists, 2 for searches.
async fn server() -> TestServer {
    let database = Arc::new(TestDb::new().await);
    server_at(database.config(), database).await
}

/// A server on which the test holds locks for longer than production code should.
async fn server_for_locks() -> TestServer {
    let database = Arc::new(TestDb::new().await);
    server_at(database.config_for_locks(), database).await
}

async fn server_at(config: Config, database: Arc<TestDb>) -> TestServer {
    TestServer::start_at(config, database, &[("WORKERS", "1"), ("POOL_SIZE", "16")]).await
}

/// Waits until this many statements are blocked by locks, and returns how many are.
async fn waiting(observer: &Database, count: usize) -> usize {
    let sql = "SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("statements wait for locks", async || {
        let waiting = observer.query(sql, &[]).await.unwrap().len();
        (waiting >= count).then_some(waiting)
    })
    .await
}

async fn patient(client: &Client, name: &str) -> i64 {
    client.post("/api/patients", &json!({"name": name})).await.expect(201).id()
}

/// Concurrent identical requests of a client.
fn many<F>(count: usize, client: &Client, request: impl Fn(Client) -> F) -> Vec<JoinHandle<Answer>>
where
    F: Future<Output = Answer> + Send + 'static,
{
    (0..count).map(|_| tokio::spawn(request(client.clone()))).collect()
}

/// 40 concurrent changes of the same patient.
fn changes(client: &Client, id: i64) -> Vec<JoinHandle<Answer>> {
    many(40, client, move |client| async move {
        client.patch(&format!("/api/patients/{id}"), &json!({"age": 1})).await
    })
}

async fn ended(requests: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    join_all(requests).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn an_instance_is_ready_however_many_changes_wait_for_a_row() {
    let server = server_for_locks().await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let observer = server.database().connect().await;
    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let changes = changes(&ada, id);
    waiting(&observer, 4).await;
    for _ in 0..3 {
        server.anyone().get("/health/ready").await.expect(200);
        // Longer than a readiness answer is valid.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    lock.release().await;
    ended(changes).await;
}

#[tokio::test]
async fn changes_of_one_locked_row_hold_up_nobody_else() {
    let server = server_for_locks().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (hers, others) = (patient(&ada, "Grace").await, patient(&eve, "Joan").await);
    let doctor = json!({"name": "House", "specialization": "Surgery"});
    let doctor = eve.post("/api/doctors", &doctor).await.expect(201).id();
    let observer = server.database().connect().await;
    let lock = Lock::patients(server.database().connect().await, &[hers]).await;
    let changes = changes(&ada, hers);
    waiting(&observer, 4).await;
    for age in 1..=5 {
        let target = format!("/api/patients/{others}");
        eve.patch(&target, &json!({"age": age})).await.expect(200);
        if age == 1 {
            assert_eq!(waiting(&observer, 4).await, 4, "half of the connections for writes");
        }
        eve.get(&target).await.expect(200);
        eve.get("/api/patients?search=joan").await.expect(200);
        let mapping = json!({"patient_id": patient(&eve, "Mary").await, "doctor_id": doctor});
        eve.post("/api/mappings", &mapping).await.expect(201);
    }
    // New patients are not even queued behind the user's other requests.
    patient(&ada, "Edith").await;
    server.user().await;
    lock.release().await;
    ended(changes).await;
}

#[tokio::test]
async fn what_waits_for_a_row_is_over_soon_and_has_changed_nothing() {
    let server = server().await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    // Each times out either on the lock or waiting for a permit.
    for change in ended(changes(&ada, id)).await {
        let answer = change.expect(503);
        let code = answer.json()["code"].clone();
        assert!(code == "database_unavailable" || code == "overloaded", "{answer:?}");
    }
    lock.release().await;
    let patient = ada.get(&format!("/api/patients/{id}")).await.expect(200).json();
    assert_eq!((&patient["age"], &patient["version"]), (&json!(null), &json!(1)));
}

#[tokio::test]
async fn new_patients_of_a_user_who_is_locked_are_refused_and_nobody_elses() {
    let server = server().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let lock = Lock::user(server.database().connect().await, ada.user_id().await).await;
    let create = |client: Client| async move {
        client.post("/api/patients", &json!({"name": "Grace"})).await
    };
    let (refused, made) = (many(20, &ada, create), many(20, &eve, create));
    for answer in ended(made).await {
        answer.expect(201);
    }
    for answer in ended(refused).await {
        answer.expect(503);
    }
    lock.release().await;
    assert_eq!(ada.get("/api/patients").await.expect(200).json(), json!([]));
    patient(&ada, "Grace").await;
}

#[tokio::test]
async fn refreshes_of_one_session_hold_up_nobody_else() {
    let server = server_for_locks().await;
    let ada = json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse"});
    let session = server.anyone().post("/api/auth/register", &ada).await.expect(201).json();
    let token = json!({"refresh_token": session["refresh_token"]});
    let (holder, observer) = (server.database().connect().await, server.database().connect().await);
    holder.batch_execute("BEGIN; SELECT FROM sessions FOR UPDATE").await.unwrap();
    let refreshes = many(20, &server.anyone(), |client| {
        let token = token.clone();
        async move { client.post("/api/auth/refresh", &token).await }
    });
    waiting(&observer, 1).await;
    let eve = server.user().await;
    assert_eq!(waiting(&observer, 1).await, 1, "half of the connections for accounts");
    eve.post("/api/auth/logout", &json!({})).await.expect(204);
    holder.batch_execute("COMMIT").await.unwrap();
    ended(refreshes).await;
}

/// Shadows PostgreSQL's own function, and makes a search for "slow" wait for a lock of the test.
const SLOW_SEARCH: &str = "
    CREATE FUNCTION public.strpos(text, text) RETURNS integer LANGUAGE plpgsql AS $$
    BEGIN
        IF $2 = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
        RETURN pg_catalog.strpos($1, $2);
    END $$;
    SELECT pg_advisory_lock(1)";

#[tokio::test]
async fn slow_searches_of_one_user_hold_up_nobody_else() {
    let database = Arc::new(TestDb::new().await);
    let holder = database.connect().await;
    holder.batch_execute(SLOW_SEARCH).await.unwrap();
    let mut config = database.config();
    config.options("-clock_timeout=5s -csearch_path=public,pg_catalog");
    let server = server_at(config, database).await;
    let (ada, eve) = (server.user().await, server.user().await);
    patient(&ada, "Grace").await;
    patient(&eve, "Grace").await;
    let searches = many(8, &ada, |ada| async move { ada.get("/api/patients?search=slow").await });
    waiting(&holder, 1).await;
    for round in 1..=5 {
        let found = eve.get("/api/patients?search=race").await.expect(200).json();
        assert_eq!(found[0]["name"], "Grace");
        if round == 1 {
            assert_eq!(waiting(&holder, 1).await, 1, "half of the connections for searches");
        }
        patient(&eve, "Joan").await;
        eve.get("/api/patients").await.expect(200);
    }
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    ended(searches).await;
}
