//! Partial failures: clients that disconnect or fall silent, a database that is slow, busy,
//! changed, gone or silent, a service that is told to stop.

mod altered;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use healthcare_backend::db::connection::Parameter;
use healthcare_backend::db::{ConnectOptions, Pool, Sql};
use healthcare_backend::error::Error;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::Host;

use crate::harness::socket::{read_head, read_to_end, request, send};
use crate::harness::{Answer, Client, Lock, TestDb, TestServer, until};

/// A server with one worker and this pool size, on which tests hold locks.
async fn small_server(pool_size: usize) -> TestServer {
    let database = Arc::new(TestDb::new().await);
    let pool_size = pool_size.to_string();
    let config = database.config_for_locks();
    let settings = [("WORKERS", "1"), ("POOL_SIZE", &*pool_size)];
    let server = TestServer::start_at(config, database, &settings).await;
    // The connections that it opens by itself are there.
    server.anyone().get("/health/ready").await.expect(200);
    server
}

async fn patient(client: &Client, name: &str) -> i64 {
    client.post("/api/patients", &json!({"name": name})).await.expect(201).id()
}

/// Closes sockets, and returns when the only worker must have noticed.
async fn leave(server: &TestServer, sockets: Vec<TcpStream>) {
    drop(sockets);
    for _ in 0..3 {
        server.anyone().get("/health/live").await.expect(200);
    }
}

/// Whether a response is allowed while the database is in trouble.
#[track_caller]
fn is_unavailable(answer: &Answer) -> bool {
    let json = answer.json();
    let code = json["code"].as_str().unwrap_or_default();
    let unavailable = answer.status == 503;
    assert!(unavailable || answer.status.is_success(), "{answer:?}");
    let known = ["database_unavailable", "overloaded", "outcome_unknown"].contains(&code);
    assert!(!unavailable || known, "{answer:?}");
    unavailable
}

#[tokio::test]
async fn a_write_that_was_started_runs_to_its_end_when_its_client_leaves() {
    let server = small_server(4).await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let target = format!("/api/patients/{id}");

    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let patch = request("PATCH", &target, ada.token(), r#"{"name":"Hopper"}"#);
    let socket = send(server.address(), &patch).await;
    lock.awaited_by(1).await;
    leave(&server, vec![socket]).await;
    lock.release().await;

    until("the change arrives", async || {
        let name = ada.get(&target).await.expect(200).json()["name"].clone();
        (name == "Hopper").then_some(())
    })
    .await;
}

#[tokio::test]
async fn reads_whose_clients_left_give_their_connections_back() {
    let server = small_server(1).await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let lock = Lock::table(server.database().connect().await).await;
    let mut sockets = Vec::new();
    for target in ["/api/patients?search=Grace".to_owned(), format!("/api/patients/{id}")] {
        for _ in 0..20 {
            let get = request("GET", &target, ada.token(), "");
            sockets.push(send(server.address(), &get).await);
        }
    }
    lock.awaited_by(1).await;
    leave(&server, sockets).await;
    lock.release().await;

    // None of the forty still blocks these, neither in the pool nor on the shared connection.
    for target in ["/api/patients?search=Grace", "/api/patients"] {
        for _ in 0..20 {
            assert_eq!(ada.get(target).await.expect(200).json()[0]["name"], "Grace");
        }
    }
    let client = server.database().connect().await;
    // Three more ask which sessions have ended, remove what is over, and ask whether it is ready.
    let sql = "SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'healthcare-backend'
                   AND query NOT LIKE '%sessions%' AND query NOT LIKE '%login_failures%'
                   AND query NOT LIKE '%registrations%' AND query NOT LIKE '%pg_is_in_recovery%'";
    assert_eq!(
        client.query(sql, &[]).await.unwrap().len(),
        2,
        "one of the pool and the shared connection"
    );
}

#[tokio::test]
async fn connections_that_the_database_ends_are_replaced() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let target = format!("/api/patients/{id}");
    let superuser = server.database().connect_as_superuser().await;
    for _ in 0..3 {
        // Concurrently, so that every worker opens several connections.
        let gets: Vec<_> = (0..32)
            .map(|_| {
                let (ada, target) = (ada.clone(), target.clone());
                tokio::spawn(async move { ada.get(&target).await })
            })
            .collect();
        for get in gets {
            get.await.unwrap().expect(200);
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        assert!(!superuser.query(sql, &[]).await.unwrap().is_empty());
        let mut unavailable = 0;
        for round in 0..30 {
            let answer = if round % 2 == 0 {
                ada.get(&target).await
            } else {
                ada.patch(&target, &json!({"age": round})).await
            };
            unavailable += usize::from(is_unavailable(&answer));
        }
        assert!(unavailable <= 8, "{unavailable} of 30 for 8 connections");
        ada.get(&target).await.expect(200);
    }
}

#[tokio::test]
async fn a_change_that_waits_for_too_long_is_given_up_and_changes_nothing() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let target = format!("/api/patients/{id}");
    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let started = Instant::now();
    let change = json!({"name": "Hopper"});
    ada.patch(&target, &change).await.expect_error(503, "database_unavailable");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    lock.release().await;
    let patient = ada.get(&target).await.expect(200).json();
    assert_eq!((&patient["name"], &patient["version"]), (&json!("Grace"), &json!(1)));
    ada.patch(&target, &change).await.expect(200);
}

#[tokio::test]
async fn a_patient_that_cannot_be_made_yet_holds_up_nobody_elses() {
    let server = small_server(8).await;
    let (ada, eve) = (server.user().await, server.user().await);
    let lock = Lock::user(server.database().connect().await, ada.user_id().await).await;
    let (make_ada, make_eve) = (ada.clone(), eve.clone());
    let waits = tokio::spawn(async move { patient(&make_ada, "Grace").await });
    lock.awaited_by(1).await;
    // Alone, and with other requests queued.
    patient(&eve, "Grace").await;
    join_all((0..20).map(|_| patient(&make_eve, "Grace"))).await;
    assert!(!waits.is_finished());
    lock.release().await;
    waits.await.unwrap();
}

#[tokio::test]
async fn changes_that_find_no_connection_are_refused_at_last_and_everything_else_goes_on() {
    // The smallest possible pool.
    let server = small_server(1).await;
    let (ada, eve) = (server.user().await, server.user().await);
    let id = patient(&ada, "Grace").await;
    let target = format!("/api/patients/{id}");
    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let (change, changed) = (ada.clone(), target.clone());
    let change = tokio::spawn(async move { change.patch(&changed, &json!({"age": 1})).await });
    lock.awaited_by(1).await;
    eve.post("/api/patients", &json!({"name": "Joan"})).await.expect_error(503, "overloaded");
    for target in [&target, "/api/doctors", "/api/doctors?search=x", "/api/patients?search=Grace"] {
        ada.get(target).await.expect(200);
    }
    server.user().await.get("/api/auth/me").await.expect(200);
    server.anyone().get("/health/ready").await.expect(200);
    lock.release().await;
    // On a busy machine the statement may have timed out already.
    is_unavailable(&change.await.unwrap());
    ada.get("/api/doctors").await.expect(200);
}

#[tokio::test]
async fn a_schema_that_changes_under_running_statements_costs_each_connection_one_answer_at_most() {
    for change in [
        "ALTER TABLE patients ADD COLUMN extra text",
        // The result columns change, so that every prepared statement is outdated.
        "ALTER TABLE patients ALTER COLUMN notes TYPE varchar(5000)",
    ] {
        let server = TestServer::start().await;
        let ada = server.user().await;
        let id = patient(&ada, "Grace").await;
        let target = format!("/api/patients/{id}");
        let traffic: Vec<_> = (0..8)
            .map(|index| {
                let (ada, target) = (ada.clone(), target.clone());
                tokio::spawn(async move {
                    let mut unavailable = 0;
                    for round in 0..25 {
                        let answer = if index % 2 == 0 {
                            ada.get(&target).await
                        } else {
                            ada.patch(&target, &json!({"age": round})).await
                        };
                        unavailable += usize::from(is_unavailable(&answer));
                    }
                    unavailable
                })
            })
            .collect();
        server.database().connect().await.batch_execute(change).await.unwrap();
        let mut unavailable = 0;
        for task in traffic {
            unavailable += task.await.unwrap();
        }
        assert!(unavailable <= 8, "{unavailable} for 8 connections after {change}");
        for _ in 0..8 {
            ada.get(&target).await.expect(200);
            ada.get("/api/patients").await.expect(200);
            ada.patch(&target, &json!({"notes": "still"})).await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408_and_the_end_of_the_connection() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let whole = request("POST", "/api/patients", ada.token(), r#"{"name":"Grace"}"#);
    let started = Instant::now();
    let mut socket = send(server.address(), &whole[..whole.len() - 1]).await;
    let answer = read_to_end(&mut socket).await.to_ascii_lowercase();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(answer.starts_with("http/1.1 408 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
    assert_eq!(ada.get("/api/patients").await.json(), json!([]));
}

#[tokio::test]
async fn a_database_that_never_speaks_makes_the_service_live_but_not_ready() {
    let database = Arc::new(TestDb::new().await);
    let mute = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address: SocketAddr = mute.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut sockets = Vec::new();
        while let Ok((socket, _)) = mute.accept().await {
            sockets.push(socket);
        }
    });
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("u").dbname("d");
    let mut server = TestServer::start_at(config, database, &[]).await;
    let anyone = server.anyone();
    for _ in 0..2 {
        let started = Instant::now();
        anyone.get("/health/ready").await.expect_error(503, "database_unavailable");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        anyone.get("/health/live").await.expect(200);
    }
    server.stop();
    accepting.abort();
}

#[tokio::test]
async fn stopping_answers_what_runs_and_closes_what_is_idle() {
    let mut server = small_server(4).await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let target = format!("/api/patients/{id}");
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut socket = send(server.address(), &request("HEAD", "/health/live", "", "")).await;
        assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 200 "));
        idle.push(socket);
    }
    // One that never sent anything.
    idle.push(TcpStream::connect(server.address()).await.unwrap());

    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let client = ada.clone();
    let running =
        tokio::spawn(async move { client.patch(&target, &json!({"name": "Hopper"})).await });
    lock.awaited_by(1).await;
    server.begin_stop();
    for socket in &mut idle {
        assert_eq!(read_to_end(socket).await, "");
    }
    assert!(TcpStream::connect(server.address()).await.is_err(), "nobody new comes in");
    lock.release().await;
    let answer = running.await.unwrap().expect(200);
    assert_eq!(
        (&answer.json()["name"], answer.header("connection")),
        (&json!("Hopper"), Some("close"))
    );
    server.stop();
}

#[tokio::test]
async fn a_statement_that_we_have_used_wrongly_is_our_mistake_and_not_the_databases() {
    let database = TestDb::new().await;
    let doctors =
        "INSERT INTO users (name, email, password_hash) VALUES ('Ada', 'ada@example.com', 'x');
        INSERT INTO doctors (created_by, name, specialization)
        SELECT id, 'House', 'Nephrology' FROM users, generate_series(1, 2)";
    database.connect().await.batch_execute(doctors).await.unwrap();
    let pool = Pool::new(&ConnectOptions::plain(database.config()), 1).unwrap();
    let none: Option<String> = None;
    for (mistake, failed) in [
        ("a parameter too few", pool.query(Sql::UsersGet, &[]).await.map(drop)),
        ("a parameter of another type", pool.query(Sql::UsersGet, &[&"1"]).await.map(drop)),
        (
            "a row too many",
            pool.query_opt(Sql::DoctorsList, &[&0_i64, &9_i64, &none, &none]).await.map(drop),
        ),
    ] {
        match failed {
            Err(Error::Internal { cause }) => {
                assert!(cause.starts_with("users/get: ") || cause.starts_with("doctors/list: "));
            }
            other => panic!("{mistake}: {other:?}"),
        }
        // The only connection is still good.
        assert_eq!(pool.query(Sql::DoctorsGet, &[&1_i64]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn only_a_change_whose_connection_breaks_under_it_may_have_been_made() {
    let database = TestDb::new().await;
    let direct = database.config();
    let [Host::Unix(folder)] = direct.get_hosts() else { panic!("not on a socket") };
    let socket = folder.join(".s.PGSQL.5432");
    let versions: Option<Vec<i64>> = None;
    let read: (Sql, Vec<Parameter<'_>>) = (Sql::PatientsGet, vec![&1_i64, &1_i64]);
    let change: (Sql, Vec<Parameter<'_>>) = (Sql::PatientsDelete, vec![&1_i64, &1_i64, &versions]);
    for (sql, parameters) in [read, change] {
        let between = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(between.local_addr().unwrap().port());
        config.user(direct.get_user().unwrap()).dbname(direct.get_dbname().unwrap());
        let mut server = UnixStream::connect(&socket).await.unwrap();
        let forwarding = tokio::spawn(async move {
            let (mut client, _) = between.accept().await.unwrap();
            copy_bidirectional(&mut client, &mut server).await
        });
        let pool = Pool::new(&ConnectOptions::plain(config), 1).unwrap();
        // Connecting would wait for the lock.
        pool.query(sql, &parameters).await.unwrap();
        let lock = Lock::table(database.connect().await).await;
        let (failed, ()) = tokio::join!(pool.query(sql, &parameters), async {
            lock.awaited_by(1).await;
            forwarding.abort();
        });
        lock.release().await;
        match failed {
            Err(Error::OutcomeUnknown { .. }) => assert!(sql.is_change(), "{}", sql.file()),
            Err(Error::DatabaseUnavailable { cause }) => assert!(!sql.is_change(), "{cause}"),
            other => panic!("{other:?}"),
        }
        // Nobody listens any more, so nothing is sent.
        let failed = pool.query(sql, &parameters).await;
        assert!(matches!(failed, Err(Error::DatabaseUnavailable { .. })), "{failed:?}");
    }
}
