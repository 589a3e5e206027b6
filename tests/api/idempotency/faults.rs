//! Answers that are lost on their way, and connections that are.

use std::sync::Arc;

use healthcare_backend::db::embedded;
use hyper::Method;
use serde_json::json;

use super::races::blocked;
use super::{is_replayed, keyed, pair};
use crate::harness::program::Workplace;
use crate::harness::{Answer, Client, Lock, Proxy, TestDb, TestServer, cluster, until};
use crate::resources::{KINDS, PATIENT};

/// A server with one worker behind a proxy, on which a test may hold a lock for some seconds.
async fn server_behind(proxy: &Proxy) -> TestServer {
    let database = Arc::new(TestDb::new().await);
    let mut config = proxy.config_for(&database.config());
    config.options("-clock_timeout=5s -cstatement_timeout=5s");
    TestServer::start_at(config, database, &[("WORKERS", "1")]).await
}

/// Sends a request whose connection to the database breaks when the statement has had its effect
/// and has not been committed yet. Then sends it again until it is answered.
async fn interrupted(
    server: &TestServer,
    proxy: &Proxy,
    client: &Client,
    method: Method,
    target: &str,
    body: Option<String>,
) -> Answer {
    // The key's reference to the user is checked after the effect.
    let lock = Lock::user(server.database().connect().await, client.user_id().await).await;
    let client = keyed(client, &crate::harness::random());
    let send = async || client.send(method.clone(), target, body.clone().map(Into::into)).await;
    let (first, ()) = tokio::join!(send(), async {
        blocked(server).await;
        // Cuts the connections and allows new ones.
        proxy.lead_to(Some(&cluster().socket()));
    });
    first.expect_error(503, "outcome_unknown");
    // The connections that were cut are opened anew meanwhile.
    let second = until("there is a connection again", async || {
        let second = send().await;
        (second.status != 503).then_some(second)
    })
    .await;
    second.expect_error(409, "idempotency_in_progress");
    lock.release().await;
    until("the first one has ended", async || {
        let again = send().await;
        (again.status != 409).then_some(again)
    })
    .await
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_repeated_with_its_key_and_made_once() {
    let proxy = Proxy::to(cluster().socket());
    let server = server_behind(&proxy).await;
    let ada = server.user().await;
    let again = async |method, target: &str, body: Option<String>| {
        let again = interrupted(&server, &proxy, &ada, method, target, body).await;
        assert!(is_replayed(&again), "{again:?}");
        again
    };
    for kind in KINDS {
        let full = Some((kind.full)().to_string());
        let created = again(Method::POST, kind.path, full).await.expect(201);
        let list = ada.get(kind.path).await.expect(200).json();
        assert_eq!(list, json!([created.json()]));
        let target = kind.target(created.id());
        let changed = again(Method::PATCH, &target, Some(r#"{"phone":"1"}"#.to_owned())).await;
        assert_eq!(changed.header("etag"), Some("\"2\""));
        assert_eq!(ada.get(&target).await.expect(200).body, changed.expect(200).body);
        again(Method::DELETE, &target, None).await.expect(204);
        ada.get(&target).await.expect_error(404, kind.not_found);
    }
    let mapping = pair(&ada).await.to_string();
    let created = again(Method::POST, "/api/mappings", Some(mapping)).await.expect(201);
    let list = ada.get("/api/mappings").await.expect(200).json();
    assert_eq!(list, json!([created.json()]));
    again(Method::DELETE, &format!("/api/mappings/{}", created.id()), None).await.expect(204);
}

#[tokio::test]
async fn only_of_a_write_that_was_sent_the_outcome_is_unknown() {
    let proxy = Proxy::to(cluster().socket());
    let server = server_behind(&proxy).await;
    let ada = server.user().await;
    let (target, patient) = PATIENT.create(&ada, &PATIENT.minimal()).await;
    let database = server.database();
    let broken = async |method, body: Option<&'static str>| {
        let request = ada.send(method, &target, body.map(Into::into));
        let (answer, ()) = tokio::join!(request, async {
            blocked(&server).await;
            proxy.lead_to(Some(&cluster().socket()));
        });
        end_blocked(&server).await;
        // The connections that were cut are opened anew meanwhile.
        server.anyone().becomes_ready().await;
        answer
    };
    let lock = Lock::table(database.connect().await).await;
    broken(Method::GET, None).await.expect_error(503, "database_unavailable");
    lock.release().await;
    // Without a key.
    let lock = Lock::patients(database.connect().await, &[patient["id"].as_i64().unwrap()]).await;
    for (method, body) in [(Method::PATCH, Some(r#"{"phone":"1"}"#)), (Method::DELETE, None)] {
        broken(method, body).await.expect_error(503, "outcome_unknown");
    }
    lock.release().await;
    let found = until("there is a connection again", async || {
        let found = ada.get(&target).await;
        (found.status == 200).then_some(found)
    });
    assert_eq!(found.await.json(), patient);

    // Without a connection nothing is sent.
    proxy.lead_to(None);
    let key = keyed(&ada, "one");
    until("the broken connections are noticed", async || {
        let answer = key.post(PATIENT.path, &PATIENT.minimal()).await.expect(503);
        (answer.json()["code"] == "database_unavailable").then_some(())
    })
    .await;
    proxy.lead_to(Some(&cluster().socket()));
    let made = until("the database is back", async || {
        let answer = key.post(PATIENT.path, &PATIENT.minimal()).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert!(!is_replayed(&made.expect(201)));
}

/// Ends the statements that wait for a lock and whose connections are cut.
async fn end_blocked(server: &TestServer) {
    let superuser = server.database().connect_as_superuser().await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    until("nothing waits for the lock", async || {
        superuser.query(sql, &[]).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_error_of_the_server_says_that_nothing_was_made_unless_a_proxy_speaks_for_it() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (target, patient) = PATIENT.create(&ada, &PATIENT.minimal()).await;
    let database = server.database().connect().await;
    for (sqlstate, code) in [
        ("40P01", "database_unavailable"),
        ("53100", "database_unavailable"),
        ("57014", "database_unavailable"),
        ("08006", "outcome_unknown"),
        ("08P01", "outcome_unknown"),
    ] {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$;
             CREATE OR REPLACE TRIGGER fail BEFORE UPDATE ON patients EXECUTE FUNCTION fail()"
        );
        database.batch_execute(&sql).await.unwrap();
        for client in [ada.clone(), keyed(&ada, "one")] {
            client.patch(&target, &json!({"phone": "1"})).await.expect_error(503, code);
        }
    }
    database.batch_execute("DROP TRIGGER fail ON patients").await.unwrap();
    assert_eq!(ada.get(&target).await.expect(200).json(), patient);
    keyed(&ada, "one").patch(&target, &json!({"phone": "1"})).await.expect(200);
}

#[tokio::test]
async fn a_write_in_which_the_service_dies_is_made_once_when_it_is_repeated_after_the_restart() {
    let workplace = Workplace::new();
    let mut program = workplace.serve(&[]);
    let ada = program.client().registered("ada@example.com").await;
    let (kind, body) = (&PATIENT, PATIENT.minimal());
    for released in [false, true] {
        let client = keyed(&program.client().with_token(ada.token()), &format!("{released}"));
        let socket = workplace.data().join("run");
        let database = embedded::socket_options(&socket, "healthcare", "healthcare");
        let lock = Lock::user(database.connect().await.unwrap(), client.user_id().await).await;
        let (first, sent) = (client.clone(), body.clone());
        let running = tokio::spawn(async move { first.post(kind.path, &sent).await });
        lock.awaited_by(1).await;
        // The client leaves too.
        running.abort();
        program.kill();
        if released {
            lock.release().await;
        }
        program = workplace.serve(&[]);
        let again = keyed(&program.client().with_token(ada.token()), &format!("{released}"));
        again.post(kind.path, &body).await.expect(201);
        assert!(is_replayed(&again.post(kind.path, &body).await.expect(201)));
    }
    let list = program.client().with_token(ada.token()).get(kind.path).await.expect(200).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    program.stop();
}
