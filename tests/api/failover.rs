//! Failover: to a standby, back to a primary, behind a proxy, and into silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use healthcare_backend::db::{ConnectOptions, migrations};
use serde_json::json;
use tokio_postgres::{Config, NoTls};

use crate::harness::{Client, Cluster, Lock, Proxy, REQUIREMENTS, TestDb, TestServer, until};

/// One worker, so that there is one pool and one shared connection.
const SMALL: [(&str, &str); 2] = [("WORKERS", "1"), ("POOL_SIZE", "4")];

/// A cluster whose database `postgres` has the schema.
async fn primary() -> Cluster {
    let cluster = Cluster::start(&[], &[]);
    let address = ConnectOptions::plain(cluster.config("postgres", "postgres"));
    migrations::prepare(&address, REQUIREMENTS).await.unwrap();
    cluster
}

async fn connect(cluster: &Cluster) -> tokio_postgres::Client {
    let config = cluster.config("postgres", "postgres");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server that connects through the proxy to a database of its own.
async fn server_behind(proxy: &Proxy, variables: &[(&str, &str)]) -> TestServer {
    server_at(proxy.config("postgres", "postgres"), variables).await
}

async fn server_at(config: Config, variables: &[(&str, &str)]) -> TestServer {
    let unused = Arc::new(TestDb::new().await);
    let variables = [SMALL.as_slice(), variables].concat();
    TestServer::start_at(config, unused, &variables).await
}

/// Waits until a standby has replayed all of its primary's log.
async fn caught_up(primary: &Cluster, standby: &Cluster) {
    has_all(standby, "pg_last_wal_replay_lsn()", primary).await;
}

async fn has_all(standby: &Cluster, position: &str, primary: &Cluster) {
    let (primary, standby) = (connect(primary).await, connect(standby).await);
    let written = "SELECT pg_current_wal_flush_lsn()::text";
    let written: String = primary.query_one(written, &[]).await.unwrap().get(0);
    let sql = format!("SELECT coalesce({position} >= $1::text::pg_lsn, false)");
    until("the standby has it all", async || {
        standby.query_one(&sql, &[&written]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
}

async fn promote(standby: &Cluster) {
    let promoted = connect(standby).await.query_one("SELECT pg_promote()", &[]).await.unwrap();
    assert!(promoted.get::<_, bool>(0));
}

async fn log_out(server: &TestServer, client: &Client) {
    let client = server.anyone().with_token(client.token());
    client.send(hyper::Method::POST, "/api/auth/logout", None).await.expect(204);
}

/// The server's process that is asked which sessions have ended.
async fn watcher(cluster: &Cluster) -> i32 {
    let client = connect(cluster).await;
    let sql = "SELECT pid FROM pg_stat_activity
               WHERE application_name = 'healthcare-backend' AND query LIKE '%FROM sessions%'
                   AND query LIKE '%ended_at > $1%'";
    until("the server is asked what has ended", async || {
        client.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0))
    })
    .await
}

/// Waits until ended sessions were polled at least twice from now on.
async fn asked_again(cluster: &Cluster) {
    let client = connect(cluster).await;
    let sql = "SELECT min(state_change) FROM pg_stat_activity
               WHERE application_name = 'healthcare-backend' AND query LIKE '%FROM sessions%'
                   AND query LIKE '%ended_at > $1%'";
    for _ in 0..2 {
        let mut before = None;
        until("the server asks what has ended", async || {
            let row = client.query_one(sql, &[]).await.unwrap();
            let now = row.get::<_, Option<jiff::Timestamp>>(0)?;
            let first = *before.get_or_insert(now);
            (now > first).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_standby_is_read_and_not_ready_until_it_is_promoted() {
    let primary = primary().await;
    let standby = primary.standby();
    let proxy = Proxy::to(primary.socket());
    let server = server_behind(&proxy, &[]).await;
    let ada = server.user().await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");
    caught_up(&primary, &standby).await;

    proxy.lead_to(Some(&standby.socket()));
    until("the instance is told apart from one that can write", async || {
        let answer = server.anyone().get("/health/ready").await;
        (answer.status == 503 && answer.json()["code"] == "read_only").then_some(())
    })
    .await;
    server.anyone().get("/health/live").await.expect(200);
    // Each connection that the failover cut costs at most one response.
    until("patients are read", async || (ada.get(&target).await.status == 200).then_some(())).await;
    until("changes are refused", async || {
        let answer = ada.patch(&target, &json!({"age": 1})).await;
        (answer.json()["code"] == "read_only").then_some(())
    })
    .await;
    ada.post("/api/patients", &json!({"name": "Edith"})).await.expect_error(503, "read_only");
    let login = json!({"email": "ada@example.com", "password": "correct horse"});
    server.anyone().post("/api/auth/login", &login).await.expect_error(503, "read_only");

    promote(&standby).await;
    server.anyone().becomes_ready().await;
    until("changes are made", async || {
        (ada.patch(&target, &json!({"age": 1})).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_was_at_an_old_primary_learns_all_that_has_ended_at_the_new_one() {
    let old = primary().await;
    let new = old.standby();
    let (to_old, to_new) = (Proxy::to(old.socket()), Proxy::to(new.socket()));
    let left_behind = server_behind(&to_old, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(left_behind.user().await);
    }
    caught_up(&old, &new).await;
    promote(&new).await;

    // Some sessions end on the new primary while the instance still polls the old one; long ago by
    // the new server's clock, which may differ.
    let moved = server_behind(&to_new, &[]).await;
    for client in &clients[..4] {
        log_out(&moved, client).await;
    }
    let earlier = "UPDATE sessions SET ended_at = ended_at - interval '71 s'
                   WHERE ended_at IS NOT NULL";
    connect(&new).await.batch_execute(earlier).await.unwrap();
    asked_again(&old).await;
    for client in &clients {
        client.get("/api/auth/me").await.expect(200);
    }

    // Nothing else connects there from now on.
    drop(moved);
    to_old.lead_to(Some(&new.socket()));
    asked_again(&new).await;
    for client in &clients[..4] {
        client.get("/api/auth/me").await.expect_error(401, "invalid_token");
    }
    for client in &clients[4..] {
        client.get("/api/auth/me").await.expect(200);
    }
}

#[tokio::test]
async fn a_promotion_under_an_open_connection_makes_an_instance_ask_for_all_sessions_again() {
    let primary = primary().await;
    let standby = primary.standby();
    let proxy = Proxy::to(primary.socket());
    let server = server_behind(&proxy, &[]).await;
    let ada = server.user().await;
    caught_up(&primary, &standby).await;
    let to_standby = Proxy::to(standby.socket());
    let reader = server_behind(&to_standby, &[]).await;
    let there = reader.anyone().with_token(ada.token());
    there.get("/api/auth/me").await.expect(200);
    asked_again(&standby).await;
    let watcher = watcher(&standby).await;

    // The standby replays the end of the session long after it happened, and last.
    connect(&standby).await.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    let sql = "UPDATE sessions SET ended_at = now() - interval '71 s'";
    connect(&primary).await.batch_execute(sql).await.unwrap();
    has_all(&standby, "pg_last_wal_receive_lsn()", &primary).await;
    there.get("/api/auth/me").await.expect(200);
    promote(&standby).await;
    asked_again(&standby).await;
    there.get("/api/auth/me").await.expect_error(401, "invalid_token");
    assert_eq!(watcher, self::watcher(&standby).await, "by the same connection");
}

#[tokio::test]
async fn a_server_that_became_read_only_is_not_flooded_with_connections() {
    let database = Arc::new(TestDb::new().await);
    let proxy = Proxy::to(crate::harness::cluster().socket());
    let config = database.config();
    let name = config.get_dbname().unwrap().to_owned();
    let config = proxy.config(config.get_user().unwrap(), &name);
    let server = TestServer::start_at(config, Arc::clone(&database), &SMALL).await;
    let ada = server.user().await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");

    let superuser = database.connect_as_superuser().await;
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    superuser.batch_execute(&sql).await.unwrap();
    proxy.lead_to(Some(&crate::harness::cluster().socket()));
    // The cut connections are replaced.
    until("changes are refused", async || {
        let answer = ada.patch(&target, &json!({"age": 1})).await;
        (answer.json()["code"] == "read_only").then_some(())
    })
    .await;
    until("the instance is not ready", async || {
        let answer = server.anyone().get("/health/ready").await;
        (answer.json()["code"] == "read_only").then_some(())
    })
    .await;

    let (before, started) = (proxy.accepted(), Instant::now());
    let write = async || {
        for _ in 0..40 {
            let change = json!({"age": 1});
            ada.patch(&target, &change).await.expect_error(503, "read_only");
            ada.get(&target).await.expect(200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    join_all((0..4).map(|_| write())).await;
    // Only the heartbeat looks for another server, once a second. What was cut is opened anew.
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    let made = proxy.accepted() - before;
    assert!(made <= seconds + 10, "{made} connections in {seconds} s");
    assert!(made >= 1, "the server is looked for again");

    let sql = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    superuser.batch_execute(&sql).await.unwrap();
    until("changes are made again", async || {
        (ada.patch(&target, &json!({"age": 2})).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_silent_failover_one_request_waits_for_the_old_server_and_no_other() {
    let database = Arc::new(TestDb::new().await);
    let proxy = Proxy::to(crate::harness::cluster().socket());
    let mut config = proxy.config_for(&database.config());
    // Long enough for three connections to be opened.
    config.options("-clock_timeout=5s -cstatement_timeout=5s");
    let server = TestServer::start_at(config, Arc::clone(&database), &[("WORKERS", "1")]).await;
    let mut users = Vec::new();
    for _ in 0..4 {
        let user = server.user().await;
        let id = user.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
        users.push((user, id, format!("/api/patients/{id}")));
    }
    let change = json!({"age": 1});
    // Concurrent changes, so that the pool opens several connections.
    let ids: Vec<i64> = users.iter().map(|(_, id, _)| *id).collect();
    let lock = Lock::patients(database.connect().await, &ids).await;
    let changes = join_all(users.iter().map(|(user, _, target)| user.patch(target, &change)));
    let (answers, ()) = tokio::join!(changes, async {
        // As many as changes may have of the four for writes.
        lock.awaited_by(3).await;
        lock.release().await;
    });
    for answer in answers {
        answer.expect(200);
    }
    let (ada, _, target) = &users[0];

    proxy.silence();
    ada.patch(target, &change).await.expect_error(503, "outcome_unknown");
    for _ in 0..8 {
        ada.patch(target, &change).await.expect(200);
        ada.get(target).await.expect(200);
    }
}

#[tokio::test]
async fn a_read_that_timed_out_on_the_shared_connection_is_cancelled() {
    let cluster = primary().await;
    let proxy = Proxy::to(cluster.socket());
    let mut config = proxy.config("postgres", "postgres");
    // The test needs a slow statement, not one that waits for a lock.
    config.options("-clock_timeout=60s");
    let server = server_at(config, &[]).await;
    let ada = server.user().await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    // Opens the shared connection.
    ada.get("/api/patients").await.expect(200);
    let lock = Lock::table(connect(&cluster).await).await;
    // Pipelined: PostgreSQL cancels the first, and runs the second when nobody waits for it and
    // those behind it any more.
    let targets = ["/api/patients".to_owned(), format!("/api/patients/{id}")];
    let more = ["/api/patients?limit=7", "/api/patients?limit=8"].map(str::to_owned);
    let reading = targets.iter().chain(&more).map(|target| ada.get(target));
    for answer in join_all(reading).await {
        answer.expect_error(503, "database_unavailable");
    }
    let log = until("the reads are cancelled", async || {
        let log = cluster.log();
        (log.matches("due to user request").count() >= 3).then_some(log)
    })
    .await;
    assert_eq!(log.matches("due to statement timeout").count(), 1, "{log}");
    lock.release().await;
    ada.get("/api/patients").await.expect(200);
}
