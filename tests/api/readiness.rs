//! Ready means that every worker has its database connections, which are opened without a request.
//! What becomes of an instance when its database fails belongs in `failover` and `failures`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use healthcare_backend::db::{
    ConnectOptions, Pool, Pulse, SharedConnection, Sql, Warmth, keep_warm,
};
use healthcare_backend::error::Error;
use serde_json::json;
use tokio::sync::watch;

use crate::harness::socket::{request, send};
use crate::harness::{Proxy, TestDb, TestServer, cluster, until};

/// What is opened anew within seconds: six connections of each of two workers, that of readiness,
/// and that which asks for ended sessions.
const KEPT: usize = 2 * 6 + 1 + 1;
/// At the start, rows that are over are removed on another.
const AT_START: usize = KEPT + 1;

/// The query of readiness itself.
const HEARTBEAT: &str = "transaction_read_only";

/// The server's processes for the service.
async fn backends(observer: &tokio_postgres::Client) -> BTreeSet<i32> {
    let sql = "SELECT pid FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'healthcare-backend'";
    observer.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Waits until the service has so many connections.
async fn at_least(count: usize, observer: &tokio_postgres::Client) -> BTreeSet<i32> {
    until("the connections are open", async || {
        let backends = backends(observer).await;
        (backends.len() >= count).then_some(backends)
    })
    .await
}

/// Ends all connections of the service but that of readiness.
async fn end_connections(database: &TestDb) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'healthcare-backend'
                   AND strpos(query, $1) = 0";
    let ended = database.connect_as_superuser().await.query(sql, &[&HEARTBEAT]).await.unwrap();
    assert!(ended.len() >= KEPT - 1, "{}", ended.len());
}

#[tokio::test]
async fn the_first_requests_to_a_ready_instance_open_no_connection() {
    let server = TestServer::start().await;
    server.anyone().get("/health/ready").await.expect(200);
    let observer = server.database().connect().await;
    let before = at_least(AT_START, &observer).await;
    let ada = server.user().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        ada.get("/api/patients").await.expect(200);
        let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
        ada.get(&format!("/api/patients/{id}")).await.expect(200);
        ada.get("/api/patients?search=Grace").await.expect(200);
        // While this one is open, the other worker has fewer.
        held.push(send(server.address(), &request("GET", "/health/live", "", "")).await);
    }
    assert_eq!(before, backends(&observer).await);
}

#[tokio::test]
async fn lost_connections_are_opened_anew_without_a_request_and_the_instance_stays_ready() {
    let server = TestServer::start().await;
    let observer = server.database().connect().await;
    for _ in 0..2 {
        let before = at_least(KEPT, &observer).await;
        server.anyone().get("/health/ready").await.expect(200);
        end_connections(server.database()).await;
        until("they are replaced", async || {
            server.anyone().get("/health/ready").await.expect(200);
            let now = backends(&observer).await;
            // Only readiness keeps its connection, unless a heartbeat was late.
            (now.len() >= KEPT && now.intersection(&before).count() <= 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn connections_to_what_lets_them_in_and_then_says_nothing_do_not_pile_up() {
    let proxy = Proxy::to(cluster().socket());
    let database = Arc::new(TestDb::new().await);
    let config = proxy.config_for(&database.config());
    let server = TestServer::start_at(config, Arc::clone(&database), &[]).await;
    let observer = database.connect().await;
    at_least(KEPT, &observer).await;
    proxy.mute(true);
    let anyone = server.anyone();
    until("it is noticed", async || {
        (anyone.get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    let before = backends(&observer).await.len();
    // The heartbeat tries twice a second, and leaves each attempt after two.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let after = backends(&observer).await.len();
    assert!(after < before + 12, "{before} and then {after}");
    proxy.mute(false);
    anyone.becomes_ready().await;
}

#[tokio::test]
async fn an_instance_is_not_ready_while_its_workers_have_no_connections_with_statements() {
    let database = Arc::new(TestDb::new().await);
    let owner = database.connect().await;
    // The database answers, but the statements cannot be prepared.
    let (hide, show) =
        ("ALTER TABLE doctors RENAME bio TO hidden", "ALTER TABLE doctors RENAME hidden TO bio");
    owner.batch_execute(hide).await.unwrap();
    let server = TestServer::start_on(Arc::clone(&database)).await;
    let anyone = server.anyone();
    let answer = anyone.get("/health/ready").await.expect_error(503, "database_unavailable");
    assert_eq!(answer.json()["detail"], "The connections to the database are not made yet.");
    anyone.get("/health/live").await.expect(200);

    owner.batch_execute(show).await.unwrap();
    let ready = async || (anyone.get("/health/ready").await.status == 200).then_some(());
    until("the instance is ready", ready).await;
    at_least(KEPT, &owner).await;

    // Lost for a moment, it stays ready; lost for long, it is not.
    owner.batch_execute(hide).await.unwrap();
    end_connections(&database).await;
    anyone.get("/health/ready").await.expect(200);
    let detail = until("the instance is not ready", async || {
        let answer = anyone.get("/health/ready").await;
        (answer.status == 503).then(|| answer.json()["detail"].clone())
    })
    .await;
    assert_eq!(detail, "The connections to the database are lost and cannot be made anew.");
    owner.batch_execute(show).await.unwrap();
    until("the instance is ready again", ready).await;
}

#[tokio::test]
async fn while_connecting_fails_one_attempt_serves_all_who_wait_for_a_connection_of_a_pool() {
    let database = TestDb::new().await;
    let proxy = Proxy::to(cluster().socket());
    let config = proxy.config_for(&database.config());
    let pool = Pool::new(&ConnectOptions::plain(config), 8).unwrap();
    proxy.lead_to(None);
    let ask = || pool.query(Sql::DoctorsGet, &[&1_i64]);
    ask().await.unwrap_err();
    let before = proxy.accepted();
    for failed in join_all((0..8).map(|_| ask())).await {
        assert!(matches!(failed, Err(Error::DatabaseUnavailable { .. })), "{failed:?}");
    }
    assert_eq!(proxy.accepted() - before, 1);
    proxy.lead_to(Some(&cluster().socket()));
    for found in join_all((0..8).map(|_| ask())).await {
        assert!(found.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_database_that_refuses_connections_is_not_flooded_with_attempts() {
    let database = TestDb::new().await;
    let proxy = Proxy::to(cluster().socket());
    let config = proxy.config_for(&database.config());
    let pool = Pool::new(&ConnectOptions::plain(config), 4).unwrap();
    let shared = SharedConnection::new(pool.manager().clone());
    let warmth = watch::Sender::new(Warmth::Unknown);
    proxy.lead_to(None);
    let watching = async {
        let started = Instant::now();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let rounds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
        let (made, latest) = (proxy.accepted(), *warmth.borrow());
        assert!(made >= 2, "the database is looked for again");
        assert!(made <= 2 * rounds, "{made} attempts in {rounds} s");
        assert!(matches!(latest, Warmth::Cold), "{latest:?}");

        proxy.lead_to(Some(&cluster().socket()));
        until("the connections are open", async || {
            matches!(*warmth.borrow(), Warmth::At(_)).then_some(())
        })
        .await;
    };
    let (shareds, pools, pulse) = ([&shared], [&pool], Pulse::default());
    tokio::select! {
        never = keep_warm(&shareds, &pools, &pulse, &warmth) => match never {},
        () = watching => {}
    }
    assert!(shared.is_open() && pool.has_open());
}
