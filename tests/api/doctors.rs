//! `/api/doctors`: visible to all users, changed by the creator or an admin. What patients and
//! doctors share is in `resources`.

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestServer};

fn doctor() -> Value {
    json!({
        "name": "House", "specialization": "Nephrology", "email": "house@example.com",
        "license_number": "NJ-1",
    })
}

/// A new doctor of this user: its path, and the response.
async fn create(client: &Client) -> (String, Answer) {
    let created = client.post("/api/doctors", &doctor()).await.expect(201);
    (format!("/api/doctors/{}", created.id()), created)
}

/// Assigns a doctor to a new patient of this user, and returns the mapping.
async fn assign(client: &Client, doctor_id: i64) -> Value {
    let patient = client.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let body = json!({"patient_id": patient, "doctor_id": doctor_id});
    client.post("/api/mappings", &body).await.expect(201).json()
}

async fn set_role(server: &TestServer, client: &Client, role: &str) {
    let id = client.user_id().await;
    let database = server.database().connect().await;
    let sql = "UPDATE users SET role = $2 WHERE id = $1";
    assert_eq!(database.execute(sql, &[&id, &role]).await.unwrap(), 1);
}

#[tokio::test]
async fn every_user_sees_every_doctor() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (first, created) = create(&ada).await;
    let (_, second) = create(&eve).await;
    for client in [&ada, &eve] {
        let found = client.get(&first).await.expect(200);
        assert_eq!(found.body, created.body);
        let list = client.get("/api/doctors").await.expect(200).json();
        assert_eq!(list, json!([created.json(), second.json()]));
        client.with("if-none-match", "\"1\"").get(&first).await.expect(304);
    }
}

#[tokio::test]
async fn another_users_doctor_cannot_be_changed() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (target, created) = create(&ada).await;
    assign(&eve, created.id()).await;
    // Permission is checked before the version, and before what only a deletion would find.
    for eve in [eve.clone(), eve.with("if-match", "\"1\""), eve.with("if-match", "\"9\"")] {
        for method in [Method::PUT, Method::PATCH] {
            for body in [json!({"name": "Eve"}), doctor(), json!({})] {
                let body = Some(body.to_string().into());
                let refused = eve.send(method.clone(), &target, body).await;
                refused.expect_error(403, "forbidden");
            }
        }
        eve.delete(&target).await.expect_error(403, "forbidden");
        // Errors of the request itself come first.
        eve.patch(&target, &json!({"age": 1})).await.expect_error(422, "validation_failed");
    }
    assert_eq!(ada.get(&target).await.expect(200).body, created.body);
}

#[tokio::test]
async fn an_admin_may_change_every_doctor() {
    let server = TestServer::start().await;
    let (ada, admin) = (server.user().await, server.admin().await);
    let (target, created) = create(&ada).await;
    let changed = admin.patch(&target, &json!({"name": "Wilson"})).await.expect(200).json();
    assert_eq!(changed["name"], "Wilson");
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["created_by"], created.json()["created_by"]);
    let changed = admin.put(&target, &json!({"bio": "Listens"})).await.expect(200).json();
    assert_eq!(changed["version"], 3);
    let stale = admin.with("if-match", "\"1\"");
    stale.delete(&target).await.expect_error(412, "precondition_failed");
    admin.delete(&target).await.expect(204);
    ada.get(&target).await.expect_error(404, "doctor_not_found");
}

#[tokio::test]
async fn the_right_of_an_admin_comes_and_goes_at_once() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (target, _) = create(&ada).await;
    for round in 0..3 {
        let change = json!({"bio": format!("Round {round}")});
        eve.patch(&target, &change).await.expect_error(403, "forbidden");
        set_role(&server, &eve, "admin").await;
        eve.patch(&target, &change).await.expect(200);
        assert_eq!(eve.get("/api/auth/me").await.json()["role"], "admin");
        set_role(&server, &eve, "user").await;
        eve.patch(&target, &change).await.expect_error(403, "forbidden");
        eve.delete(&target).await.expect_error(403, "forbidden");
    }
    set_role(&server, &eve, "admin").await;
    eve.delete(&target).await.expect(204);
}

#[tokio::test]
async fn a_doctor_who_is_assigned_cannot_be_deleted() {
    let server = TestServer::start().await;
    let (ada, eve, admin) = (server.user().await, server.user().await, server.admin().await);
    let (target, created) = create(&ada).await;
    let id = created.id();
    let mappings = [assign(&ada, id).await, assign(&eve, id).await];
    // Also if the only remaining patient is another user's.
    for (client, mapping) in [&ada, &eve].into_iter().zip(mappings) {
        for deleting in [&ada, &admin, &ada.with("if-match", "\"1\"")] {
            deleting.delete(&target).await.expect_error(409, "doctor_assigned");
        }
        let stale = ada.with("if-match", "\"9\"");
        stale.delete(&target).await.expect_error(412, "precondition_failed");
        assert_eq!(ada.get(&target).await.expect(200).body, created.body);
        let listed = client.get("/api/mappings").await.json();
        assert_eq!(listed, json!([mapping]));
        client.delete(&format!("/api/mappings/{}", mapping["id"])).await.expect(204);
    }
    ada.delete(&target).await.expect(204);
}

#[tokio::test]
async fn an_assigned_doctor_may_be_changed() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (target, created) = create(&ada).await;
    let mapping = assign(&eve, created.id()).await;
    let changed = ada.patch(&target, &json!({"name": "Gregory"})).await.expect(200).json();
    let listed = eve.get("/api/mappings").await.json();
    assert_eq!(listed[0]["doctor"]["name"], "Gregory");
    let of_patient = eve.get(&format!("/api/mappings/{}", mapping["patient_id"])).await.json();
    assert_eq!(of_patient[0]["doctor"], changed);
}

#[tokio::test]
async fn two_clinics_may_each_list_a_person() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (first, _) = create(&ada).await;
    for client in [&ada, &eve] {
        assert_ne!(create(client).await.0, first);
    }
}
