//! No user can slow another, and nothing that users do makes an instance look unhealthy.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Client, Lock, TestDb, TestServer};

/// A server with one worker and this many connections.
async fn small_server(pool_size: usize) -> TestServer {
    let database = Arc::new(TestDb::new().await);
    let pool_size = pool_size.to_string();
    TestServer::start_with(database, &[("WORKERS", "1"), ("POOL_SIZE", &pool_size)]).await
}

async fn patient(client: &Client, name: &str) -> i64 {
    client.post("/api/patients", &json!({"name": name})).await.expect(201).id()
}

#[tokio::test]
async fn an_instance_is_ready_however_many_changes_wait_for_a_row() {
    let server = small_server(4).await;
    let ada = server.user().await;
    let id = patient(&ada, "Grace").await;
    let lock = Lock::patients(server.database().connect().await, &[id]).await;
    let target = format!("/api/patients/{id}");
    let change = json!({"age": 1});
    let changes: Vec<_> = (0..40).map(|_| ada.patch(&target, &change)).collect();
    let changes = join_all(changes);
    let health = async {
        lock.awaited_by(1).await;
        for _ in 0..3 {
            server.anyone().get("/health/ready").await.expect(200);
            // Longer than an answer is remembered.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        lock.release().await;
    };
    tokio::join!(changes, health);
}
