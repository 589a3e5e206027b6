//! How long answers are kept, and what it costs not to need them.

use std::sync::Arc;

use serde_json::json;

use super::{assert_replayed, is_replayed, keyed};
use crate::harness::{TestDb, TestServer, until};
use crate::resources::{DOCTOR, KINDS, PATIENT};

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_then_the_key_is_free() {
    let database = Arc::new(TestDb::new().await);
    let server = TestServer::start_on(Arc::clone(&database)).await;
    let ada = server.user().await;
    let (old, young) = (keyed(&ada, "old"), keyed(&ada, "young"));
    let first = old.post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let kept = young.post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let connection = database.connect().await;
    for (key, age) in [("old", "24 hours 1 second"), ("young", "23 hours 50 minutes")] {
        let sql = "UPDATE idempotency_keys SET created_at = now() - $1::text::interval
                   WHERE key = $2";
        assert_eq!(connection.execute(sql, &[&age, &key]).await.unwrap(), 1);
    }
    // More than one step of the sweep.
    let many = "INSERT INTO idempotency_keys (created_by, key, request_hash, created_at)
                SELECT created_by, 'n' || n, '', now() - interval '2 days'
                FROM idempotency_keys, generate_series(1, 2500) AS n WHERE key = 'old'";
    connection.batch_execute(many).await.unwrap();
    drop(server);

    let server = TestServer::start_on(Arc::clone(&database)).await;
    until("what is old goes", async || {
        let left = connection.query("SELECT key FROM idempotency_keys", &[]).await.unwrap();
        (left.len() == 1).then_some(())
    })
    .await;
    let ada = server.anyone().with_token(ada.token());
    let again = keyed(&ada, "young").post(PATIENT.path, &PATIENT.minimal()).await;
    assert_replayed(&kept, &again);
    let anew = keyed(&ada, "old").post(PATIENT.path, &json!({"name": "New"})).await.expect(201);
    assert!(!is_replayed(&anew) && anew.id() != first.id());
}

#[tokio::test]
async fn the_keys_of_a_user_go_with_the_user() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let patient = keyed(&ada, "one").post(PATIENT.path, &PATIENT.minimal()).await.expect(201).id();
    keyed(&ada, "two").delete(&PATIENT.target(patient)).await.expect(204);
    keyed(&eve, "one").post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let id = ada.user_id().await;
    let connection = server.database().connect().await;
    connection.execute("DELETE FROM sessions WHERE user_id = $1", &[&id]).await.unwrap();
    connection.execute("DELETE FROM users WHERE id = $1", &[&id]).await.unwrap();
    let left = connection.query("SELECT created_by FROM idempotency_keys", &[]).await.unwrap();
    let left: Vec<i64> = left.iter().map(|row| row.get(0)).collect();
    assert_eq!(left, [eve.user_id().await]);
}

#[tokio::test]
async fn a_request_without_a_key_does_not_touch_the_kept_answers() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&ada, &(kind.full)()).await;
        ada.put(&target, &(kind.other)()).await.expect(200);
        ada.patch(&target, &json!({"phone": "1"})).await.expect(200);
        ada.delete(&target).await.expect(204);
    }
    let patient = ada.post(PATIENT.path, &PATIENT.minimal()).await.expect(201).id();
    let doctor = ada.post(DOCTOR.path, &DOCTOR.minimal()).await.expect(201).id();
    let mapping = json!({"patient_id": patient, "doctor_id": doctor});
    let mapping = ada.post("/api/mappings", &mapping).await.expect(201).id();
    ada.delete(&format!("/api/mappings/{mapping}")).await.expect(204);
    let connection = server.database().connect().await;
    // The counters arrive when a connection has been idle for a while.
    until("PostgreSQL has counted the writes", async || {
        let sql = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables
                   WHERE relname IN ('patients', 'doctors', 'mappings')";
        let counted: i64 = connection.query_one(sql, &[]).await.unwrap().get(0);
        (counted == 2 * 4 + 2 + 2).then_some(())
    })
    .await;
    let sql = "SELECT idx_scan + (SELECT n_tup_ins FROM pg_stat_user_tables
                                  WHERE relname = 'idempotency_keys')
               FROM pg_stat_user_indexes WHERE indexrelname = 'idempotency_keys_pkey'";
    assert_eq!(connection.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
}
