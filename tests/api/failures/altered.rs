//! Rights and tables that are taken away while they are used, as by a restore of a backup.

use serde_json::json;

use super::{is_unavailable, patient};
use crate::harness::{Client, TestServer, until};

/// Whether reads and changes are served, or both are refused with nothing changed.
async fn are_refused(ada: &Client, id: i64) -> bool {
    let target = format!("/api/patients/{id}");
    let answers = [ada.get(&target).await, ada.patch(&target, &json!({"age": 9})).await];
    answers.map(|answer| {
        let refused = is_unavailable(&answer);
        let nothing_changed =
            refused && answer.json()["detail"].as_str().unwrap().ends_with("Nothing was changed.");
        assert_eq!(refused, nothing_changed, "{answer:?}");
        refused
    }) == [true; 2]
}

#[tokio::test]
async fn what_is_taken_from_the_database_while_it_is_used_makes_it_unavailable_until_it_is_back() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let owner = server.database().connect().await;
    let ready = async || server.anyone().get("/health/ready").await;
    for (take, give_back, is_noticed) in [
        (
            "REVOKE SELECT, UPDATE ON patients FROM healthcare",
            "GRANT SELECT, UPDATE ON patients TO healthcare",
            true,
        ),
        ("ALTER TABLE patients RENAME TO away", "ALTER TABLE away RENAME TO patients", true),
        (
            "ALTER TABLE patients RENAME notes TO away",
            "ALTER TABLE patients RENAME away TO notes",
            false,
        ),
    ] {
        owner.batch_execute(take).await.unwrap();
        assert!(are_refused(&ada, id).await, "{take}");
        if is_noticed {
            until("it is not ready", async || (ready().await.status == 503).then_some(())).await;
            ready().await.expect_error(503, "database_unavailable");
        }
        owner.batch_execute(give_back).await.unwrap();
        until("it is ready", async || (ready().await.status == 200).then_some(())).await;
        assert!(!are_refused(&ada, id).await, "{give_back}");
    }

    // As before the indexes of a backup are restored.
    owner.batch_execute("DROP INDEX users_email_key").await.unwrap();
    let account = json!({"name": "A", "email": "a@example.com", "password": "correct horse"});
    let answer = server.anyone().post("/api/auth/register", &account).await;
    answer.expect_error(503, "database_unavailable");
}

#[tokio::test]
async fn an_instance_is_ready_only_with_all_its_tables() {
    let server = TestServer::start().await;
    let superuser = server.database().connect_as_superuser().await;
    let sql = "SELECT relname::text FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                   AND relname NOT IN ('refinery_schema_history', 'schema_requirements')";
    let ready = async || server.anyone().get("/health/ready").await;
    for row in superuser.query(sql, &[]).await.unwrap() {
        let table: &str = row.get(0);
        for (change, status) in [
            (format!("REVOKE INSERT ON {table} FROM healthcare"), 503),
            (format!("GRANT INSERT ON {table} TO healthcare"), 200),
        ] {
            superuser.batch_execute(&change).await.unwrap();
            until(&change, async || (ready().await.status == status).then_some(())).await;
        }
    }
}
