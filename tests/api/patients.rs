//! `/api/patients`: each user's own.

use serde_json::json;

use crate::harness::TestServer;

#[tokio::test]
async fn another_users_patient_is_not_found() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");
    ada.get(&target).await.expect(200);
    eve.get(&target).await.expect_error(404, "patient_not_found");
    eve.patch(&target, &json!({"name": "E"})).await.expect_error(404, "patient_not_found");
    eve.delete(&target).await.expect_error(404, "patient_not_found");
    assert_eq!(eve.get("/api/patients").await.json(), json!([]));
}
