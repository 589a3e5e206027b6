//! Lists without a limit: all rows, streamed if there are many, and never truncated unnoticed.

use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use super::{LISTS, List, MANY, column, fill_with_long_texts, ids, open};
use crate::harness::TestServer;

#[tokio::test]
async fn without_a_limit_all_rows_come() {
    let server = TestServer::start().await;
    for list in LISTS {
        for rows in [0, 1, 99, 100, 101, 5000] {
            let user = server.user().await;
            let database = server.database().connect().await;
            // In the order in which the service's statements take their locks.
            database.batch_execute("TRUNCATE mappings, doctors").await.unwrap();
            let path = list.fill(&server, &user, rows).await;
            let all = user.get(&path).await.expect(200);
            assert_eq!(ids(&all).len(), usize::try_from(rows).unwrap(), "{list:?}");
            assert_eq!(all.header("link"), None);
            // A response of one part has a length.
            let length = (rows <= 100).then(|| all.body.len().to_string());
            assert_eq!(all.header("content-length"), length.as_deref(), "{list:?} of {rows}");
            let chunked = (rows > 100).then_some("chunked");
            assert_eq!(all.header("transfer-encoding"), chunked, "{list:?} of {rows}");

            let head = user.send(Method::HEAD, &path, None).await.expect(200);
            assert!(head.body.is_empty());
            assert_eq!(head.header("content-length"), length.as_deref());
        }
    }
}

#[tokio::test]
async fn an_element_of_a_list_is_the_resource_itself() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for list in [List::Patients, List::Doctors] {
        let path = list.fill(&server, &user, 130).await;
        let all = user.get(&path).await.expect(200).json();
        for at in [0, 99, 100, 129] {
            let target = format!("{path}/{}", all[at]["id"]);
            assert_eq!(user.get(&target).await.expect(200).json(), all[at]);
        }
    }
}

#[tokio::test]
async fn rows_of_very_different_sizes_come_whole() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let owner = user.user_id().await;
    let database = server.database().connect().await;
    // Small ones first, so that the service expects small ones; then the largest.
    let sql = "INSERT INTO patients (created_by, name, notes)
        SELECT $1, n::text, CASE WHEN n > 1500 THEN repeat('\u{1f600}\"', 2500) END
        FROM generate_series(1, 2500) AS n";
    database.execute(sql, &[&owner]).await.unwrap();
    let all = user.get("/api/patients").await.expect(200);
    let names: Vec<Value> = (1..=2500).map(|n| json!(n.to_string())).collect();
    assert_eq!(column(&all, "name"), names);
    let long = "\u{1f600}\"".repeat(2500);
    for (at, notes) in column(&all, "notes").iter().enumerate() {
        assert_eq!(notes.as_str(), (at >= 1500).then_some(&*long));
    }
    let page = user.get("/api/patients?limit=1000&after=1").await.expect(200);
    assert_eq!(page.header("transfer-encoding"), Some("chunked"));
    assert_eq!(ids(&page).len(), 1000);
    assert!(page.next_page().is_some());
}

#[tokio::test]
async fn a_list_that_breaks_off_does_not_look_whole() {
    let server = TestServer::start().await;
    let user = server.user().await;
    fill_with_long_texts(&server, user.user_id().await, MANY).await;
    let mut body = open(&server, &user, "/api/patients").await.into_body();
    body.frame().await.unwrap().unwrap();
    let database = server.database().connect().await;
    database.batch_execute("ALTER TABLE patients RENAME TO missing").await.unwrap();
    // The last chunk is missing: the client sees a failed connection.
    assert!(body.collect().await.is_err());

    database.batch_execute("ALTER TABLE missing RENAME TO patients").await.unwrap();
    let all = user.get("/api/patients").await.expect(200);
    assert_eq!(ids(&all).len(), usize::try_from(MANY).unwrap());
}

#[tokio::test]
async fn a_list_whose_database_goes_away_does_not_look_whole() {
    let server = TestServer::start().await;
    let user = server.user().await;
    fill_with_long_texts(&server, user.user_id().await, MANY).await;
    let mut body = open(&server, &user, "/api/patients").await.into_body();
    body.frame().await.unwrap().unwrap();
    let superuser = server.database().connect_as_superuser().await;
    let sql = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database());
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'healthcare';
    END $$";
    superuser.batch_execute(sql).await.unwrap();
    assert!(body.collect().await.is_err());
    let refused = user.get("/api/patients").await;
    refused.expect_error(503, "database_unavailable");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_does_no_harm() {
    let server = TestServer::start().await;
    let user = server.user().await;
    fill_with_long_texts(&server, user.user_id().await, MANY).await;
    // More than there are database connections.
    for _ in 0..20 {
        let mut body = open(&server, &user, "/api/patients").await.into_body();
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(ids(&user.get("/api/patients?limit=1000").await.expect(200)).len(), 1000);
}
