//! `/api/patients`: visible to their user only. What patients and doctors share is in `resources`.

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestServer};

#[tokio::test]
async fn another_users_patient_is_not_found() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let created = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
    let target = format!("/api/patients/{}", created.id());
    ada.get(&target).await.expect(200);
    for eve in [eve.clone(), eve.with("if-match", "*"), eve.with("if-match", "\"9\"")] {
        eve.get(&target).await.expect_error(404, "patient_not_found");
        eve.put(&target, &json!({"name": "E"})).await.expect_error(404, "patient_not_found");
        eve.patch(&target, &json!({"name": "E"})).await.expect_error(404, "patient_not_found");
        eve.delete(&target).await.expect_error(404, "patient_not_found");
    }
    eve.with("if-none-match", "*").get(&target).await.expect_error(404, "patient_not_found");
    eve.send(Method::HEAD, &target, None).await.expect(404);
    assert_eq!(eve.get("/api/patients").await.json(), json!([]));
    assert_eq!(ada.get(&target).await.expect(200).body, created.body);
}

#[tokio::test]
async fn another_users_patient_and_none_are_the_same_answer() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let eve = eve.with("x-request-id", "same");
    let others = eve.get(&format!("/api/patients/{id}")).await;
    let missing = eve.get(&format!("/api/patients/{}", id + 1)).await;
    assert_eq!(others.body, missing.body);
}

#[tokio::test]
async fn an_admin_sees_no_patients_of_others() {
    let server = TestServer::start().await;
    let (ada, admin) = (server.user().await, server.admin().await);
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");
    admin.get(&target).await.expect_error(404, "patient_not_found");
    admin.patch(&target, &json!({"name": "E"})).await.expect_error(404, "patient_not_found");
    admin.delete(&target).await.expect_error(404, "patient_not_found");
    assert_eq!(admin.get("/api/patients").await.json(), json!([]));
}

#[tokio::test]
async fn each_user_lists_their_own() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let mut expected = [Vec::new(), Vec::new()];
    for n in 0..6 {
        let owner = n % 2;
        let client = if owner == 0 { &ada } else { &eve };
        let body = json!({"name": format!("Patient {n}")});
        expected[owner].push(client.post("/api/patients", &body).await.expect(201).json());
    }
    assert_eq!(ada.get("/api/patients").await.json(), json!(expected[0]));
    assert_eq!(eve.get("/api/patients").await.json(), json!(expected[1]));
}

#[tokio::test]
async fn nobody_can_make_a_patient_for_another() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let body = json!({"name": "Grace", "created_by": ada.user_id().await});
    let created = eve.post("/api/patients", &body).await.expect(201).json();
    assert_eq!(created["created_by"], eve.user_id().await);
    assert_eq!(ada.get("/api/patients").await.json(), json!([]));
}

#[tokio::test]
async fn a_patients_mappings_go_with_it() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let doctor = json!({"name": "House", "specialization": "Nephrology"});
    let doctor = ada.post("/api/doctors", &doctor).await.expect(201).id();
    let mut mappings = Vec::new();
    for name in ["Grace", "Joan"] {
        let patient = ada.post("/api/patients", &json!({"name": name})).await.expect(201).id();
        let body = json!({"patient_id": patient, "doctor_id": doctor});
        mappings.push(ada.post("/api/mappings", &body).await.expect(201).json());
    }
    let gone = mappings.remove(0);
    let target = format!("/api/patients/{}", gone["patient_id"]);
    ada.delete(&target).await.expect(204);
    assert_eq!(ada.get("/api/mappings").await.json(), json!(mappings));
    let of_patient = format!("/api/mappings/{}", gone["patient_id"]);
    ada.get(&of_patient).await.expect_error(404, "patient_not_found");
    ada.delete(&format!("/api/mappings/{}", gone["id"])).await.expect_error(404, "not_found");
    let doctor = format!("/api/doctors/{doctor}");
    ada.delete(&doctor).await.expect_error(409, "doctor_assigned");
    ada.delete(&format!("/api/patients/{}", mappings[0]["patient_id"])).await.expect(204);
    ada.delete(&doctor).await.expect(204);
}

#[tokio::test]
async fn reads_at_the_same_moment_each_get_their_own_answer() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let ids = create_patients(&ada, 10).await;
    let reads = |client: Client| {
        ids.iter().cycle().take(300).map(move |id| {
            let client = client.clone();
            async move { (*id, client.get(&format!("/api/patients/{id}")).await) }
        })
    };
    let (own, others) = tokio::join!(join_all(reads(ada)), join_all(reads(eve)));
    for (id, answer) in own {
        assert_eq!(answer.expect(200).id(), id);
    }
    for (_, answer) in others {
        answer.expect_error(404, "patient_not_found");
    }
}

#[tokio::test]
async fn clients_that_leave_take_no_answer_with_them() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let ids = create_patients(&ada, 5).await;
    for stay in 0..5 {
        let read = |id: i64| {
            let client = ada.clone();
            tokio::spawn(async move { client.get(&format!("/api/patients/{id}")).await })
        };
        let reads: Vec<_> = ids.iter().cycle().take(100).map(|id| (*id, read(*id))).collect();
        // Some disconnect before they have sent the request, some while it runs, some while the
        // response is in transit.
        tokio::time::sleep(std::time::Duration::from_millis(stay)).await;
        for (at, (id, read)) in reads.into_iter().enumerate() {
            if at % 5 == 0 {
                assert_eq!(read.await.unwrap().expect(200).id(), id);
            } else {
                read.abort();
            }
        }
    }
}

#[tokio::test]
async fn patients_made_at_the_same_moment_go_to_who_made_them_each_with_its_own_values() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let creates = |client: Client| {
        (0..100).map(move |number| {
            let client = client.clone();
            // Every field is present in one half and missing in the other.
            let body = if number % 2 == 0 {
                distinct(number)
            } else {
                json!({"name": format!("Patient {number}")})
            };
            async move {
                let made = client.post("/api/patients", &body).await;
                (body, made)
            }
        })
    };
    let (of_ada, of_eve) =
        tokio::join!(join_all(creates(ada.clone())), join_all(creates(eve.clone())));
    for (owner, other, made) in [(&ada, &eve, of_ada), (&eve, &ada, of_eve)] {
        let user = owner.user_id().await;
        for (sent, made) in made {
            let made = made.expect(201);
            let path = format!("/api/patients/{}", made.id());
            assert_eq!(made.header("location"), Some(path.as_str()));
            let patient = made.json();
            assert_eq!(patient["created_by"], user);
            for (name, value) in sent.as_object().unwrap() {
                assert_eq!(patient[name], *value, "{name}");
            }
            assert_eq!(patient["age"].is_null(), sent["age"].is_null());
            assert_eq!(owner.get(&path).await.expect(200).json(), patient);
            other.get(&path).await.expect_error(404, "patient_not_found");
        }
    }
    let sql = "SELECT count(*) FILTER (WHERE age IS NOT NULL)
               FROM patients GROUP BY xmin::text HAVING count(*) > 1";
    let merged = server.database().connect().await.query(sql, &[]).await.unwrap();
    assert!(merged.iter().any(|row| row.get::<_, i64>(0) > 0), "each was made alone");
}

/// Every field, with a unique value where the field allows it.
fn distinct(number: usize) -> Value {
    let text = |field: &str| format!("{field} {number}: NULL, {{\"\\\"}}\n\u{1F600}");
    let (gender, blood_group) =
        (["m", "f", "other"][number % 3], ["A+", "B-", "AB+", "O-"][number % 4]);
    json!({
        "name": text("name"), "age": number, "gender": gender,
        "date_of_birth": format!("1990-{:02}-{:02}", 1 + number / 20, 1 + number % 20),
        "phone": format!("1 {number}"), "email": format!("patient{number}@example.com"),
        "address": text("address"), "blood_group": blood_group,
        "allergies": text("allergies"), "medical_history": text("medical_history"),
        "notes": text("notes"), "emergency_contact_name": text("emergency_contact_name"),
        "emergency_contact_phone": format!("2 {number}"),
        "metadata": {"number": number, "list": [null, "\u{e9}"]},
    })
}

#[tokio::test]
async fn a_patient_that_cannot_be_made_spoils_none_that_is_made_with_it() {
    let server = TestServer::start().await;
    let (ada, gone) = (server.user().await, server.user().await);
    let id = gone.user_id().await;
    let database = server.database().connect().await;
    for sql in ["DELETE FROM sessions WHERE user_id = $1", "DELETE FROM users WHERE id = $1"] {
        database.execute(sql, &[&id]).await.unwrap();
    }
    let create =
        async |client: &Client| client.post("/api/patients", &json!({"name": "Grace"})).await;
    let both = (0..50).map(async |_| tokio::join!(create(&ada), create(&gone)));
    for (made, refused) in join_all(both).await {
        made.expect(201);
        refused.expect_error(401, "invalid_token");
    }
    let list = ada.get("/api/patients?limit=100").await.expect(200).json();
    assert_eq!(list.as_array().map(Vec::len), Some(50));
}

async fn create_patients(client: &Client, count: usize) -> Vec<i64> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let answer: Answer = client.post("/api/patients", &json!({"name": "Grace"})).await;
        ids.push(answer.expect(201).id());
    }
    ids
}
