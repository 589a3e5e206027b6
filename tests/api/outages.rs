//! A database that falls silent, ends its connections or has its tables and rows locked: what has
//! nothing to do with it goes on, what has is answered soon, and all of it goes on afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use healthcare_backend::db::{ConnectOptions, migrations};
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::harness::processes::processes_in;
use crate::harness::{Answer, Client, Cluster, Lock, REQUIREMENTS, TestDb, TestServer, until};

/// The targets of a user who has the patient of this id, and a doctor.
fn reads(patient: i64, doctor: i64) -> Vec<String> {
    vec![
        format!("/api/patients/{patient}"),
        "/api/patients".to_owned(),
        "/api/patients?search=race".to_owned(),
        "/api/mappings".to_owned(),
        format!("/api/doctors/{doctor}"),
        "/api/doctors".to_owned(),
        "/api/doctors?search=house".to_owned(),
        "/api/auth/me".to_owned(),
    ]
}

async fn patient(client: &Client) -> i64 {
    client.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id()
}

async fn doctor(client: &Client) -> i64 {
    let doctor = json!({"name": "House", "specialization": "Nephrology"});
    client.post("/api/doctors", &doctor).await.expect(201).id()
}

/// Stops all of PostgreSQL's processes, or lets them go on.
fn signal(data: &Path, signal: Signal) {
    for process in processes_in(data) {
        // It may have ended by itself.
        let _ = kill_process(process, signal);
    }
}

#[tokio::test]
async fn while_the_database_is_silent_requests_fail_at_once_and_afterwards_all_goes_on() {
    let cluster = Cluster::start(&[], &[]);
    let config = cluster.config("postgres", "postgres");
    migrations::prepare(&ConnectOptions::plain(config.clone()), REQUIREMENTS).await.unwrap();
    let server = TestServer::start_at(config, Arc::new(TestDb::new().await), &[]).await;
    server.anyone().get("/health/ready").await.expect(200);
    let ada = server.user().await;
    let (patient, doctor) = (patient(&ada).await, doctor(&ada).await);
    let targets = reads(patient, doctor);
    let folder = cluster.socket().parent().unwrap().join("data");
    let change = json!({"age": 1});

    for _ in 0..2 {
        signal(&folder, Signal::STOP);
        // What is asked before it can be known ends by its deadline.
        let started = Instant::now();
        let reading = join_all(targets.iter().map(|target| ada.get(target)));
        let writing = join_all((0..8).map(|_| ada.patch(&targets[0], &change)));
        let (read, written) = tokio::join!(reading, writing);
        let took = started.elapsed();
        // What waits for its turn behind what is not answered may give up before the silence is
        // noticed.
        let known = ["overloaded", "database_unavailable", "outcome_unknown"];
        for (answers, known) in [(read, &known[..2]), (written, &known)] {
            for answer in answers {
                let code = answer.expect(503).json()["code"].clone();
                assert!(known.iter().any(|known| code == *known), "{code}");
            }
        }
        assert!(took < Duration::from_secs(6), "{took:?}");

        server.anyone().get("/health/ready").await.expect_error(503, "database_unavailable");
        server.anyone().get("/health/live").await.expect(200);
        let started = Instant::now();
        for _ in 0..5 {
            for target in &targets {
                let answer = ada.get(target).await.expect_error(503, "database_unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
            ada.patch(&targets[0], &change).await.expect_error(503, "database_unavailable");
        }
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());

        signal(&folder, Signal::CONT);
        server.anyone().becomes_ready().await;
        for target in &targets {
            ada.get(target).await.expect(200);
        }
        ada.patch(&targets[0], &json!({"age": 2})).await.expect(200);
    }
}

#[tokio::test]
async fn a_database_that_is_only_late_is_not_taken_for_silent() {
    let cluster = Cluster::start(&[], &[]);
    let config = cluster.config("postgres", "postgres");
    migrations::prepare(&ConnectOptions::plain(config.clone()), REQUIREMENTS).await.unwrap();
    let server = TestServer::start_at(config, Arc::new(TestDb::new().await), &[]).await;
    server.anyone().get("/health/ready").await.expect(200);
    let ada = server.user().await;
    let target = format!("/api/patients/{}", patient(&ada).await);
    let folder = cluster.socket().parent().unwrap().join("data");
    for _ in 0..5 {
        signal(&folder, Signal::STOP);
        let (read, ()) = tokio::join!(ada.get(&target), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            signal(&folder, Signal::CONT);
        });
        read.expect(200);
        server.anyone().get("/health/ready").await.expect(200);
    }
}

#[tokio::test]
async fn reads_do_not_notice_that_the_database_ends_their_connections() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let targets = reads(patient(&ada).await, doctor(&ada).await);
    let superuser = server.database().connect_as_superuser().await;
    let ended = Arc::new(AtomicBool::new(false));
    let reading: Vec<_> = targets
        .into_iter()
        .map(|target| {
            let (ada, ended) = (ada.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    ada.get(&target).await.expect(200);
                }
            })
        })
        .collect();
    for _ in 0..6 {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        superuser.query(sql, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ended.store(true, Ordering::Relaxed);
    for reader in reading {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_on_one_table_reaches_no_request_for_another() {
    let server = TestServer::start().await;
    server.anyone().get("/health/ready").await.expect(200);
    let (ada, eve) = (server.user().await, server.user().await);
    let (patient, doctor) = (patient(&ada).await, doctor(&ada).await);
    let (patient, doctor) = (format!("/api/patients/{patient}"), format!("/api/doctors/{doctor}"));
    for (table, locked, list, free, other_list) in [
        ("patients", &patient, "/api/patients", &doctor, "/api/doctors"),
        ("doctors", &doctor, "/api/doctors", &patient, "/api/patients"),
    ] {
        let holder = server.database().connect().await;
        holder.batch_execute(&format!("BEGIN; LOCK TABLE {table}")).await.unwrap();
        for _ in 0..3 {
            let (waiting, others) = tokio::join!(
                join_all([locked, list, "/api/mappings"].map(|target| ada.get(target))),
                async {
                    let mut answers: Vec<Answer> = Vec::new();
                    for target in [free, other_list, "/api/auth/me"] {
                        answers.push(ada.get(target).await);
                    }
                    answers.push(ada.patch(free, &json!({"address": "Baker Street"})).await);
                    // Sessions are looked up, and made.
                    answers.push(eve.get(other_list).await);
                    answers.push(server.user().await.get("/api/auth/me").await);
                    answers
                }
            );
            for answer in waiting {
                answer.expect_error(503, "database_unavailable");
            }
            for answer in others {
                answer.expect(200);
            }
        }
        holder.batch_execute("COMMIT").await.unwrap();
        until("it is served again", async || {
            let statuses = [ada.get(locked).await.status, ada.get("/api/mappings").await.status];
            statuses.iter().all(|status| *status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_that_many_users_change_while_it_is_locked_holds_up_no_creation() {
    let database = Arc::new(TestDb::new().await);
    let config = database.config_for_locks();
    let server = TestServer::start_at(config, database, &[("WORKERS", "1")]).await;
    let mut users = Vec::new();
    for _ in 0..8 {
        users.push(server.user().await);
    }
    let target = format!("/api/doctors/{}", doctor(&users[0]).await);
    let lock = Lock::doctors(server.database().connect().await).await;
    let change = json!({"bio": "changed"});
    let changing = users.iter().cycle().take(64).map(|user| {
        let (user, target, change) = (user.clone(), target.clone(), change.clone());
        tokio::spawn(async move { user.patch(&target, &change).await })
    });
    let changing: Vec<_> = changing.collect();
    lock.awaited_by(1).await;
    for user in &users {
        patient(user).await;
        doctor(user).await;
        assert!(lock.awaited_by(0).await.len() <= 2, "only a few wait for it");
    }
    lock.release().await;
    for answer in changing {
        let status = answer.await.unwrap().status.as_u16();
        assert!([200, 403, 503].contains(&status), "{status}");
    }
    users[0].patch(&target, &change).await.expect(200);
}
