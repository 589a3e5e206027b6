//! Requests with an `Idempotency-Key` have their effect once and get the same answer each time.

mod faults;
mod headers;
mod kept;
mod races;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestServer};
use crate::resources::{DOCTOR, KINDS, PATIENT};

/// Text whose JSON can be written in several ways.
const UNUSUAL: &str = "Zoë \"\\/\u{1}\u{8}\t\n\u{7f}\u{2028}😀";
/// Kept byte for byte.
const METADATA: &str =
    r#"{ "b" : 1e400, "a":[ 1.0 ,-0],"a":"\u00fc\/","c":{"d":{}},"e":null,"":"\\u0000" }"#;

/// This client, sending a key with each request.
pub fn keyed(client: &Client, key: &str) -> Client {
    client.with("idempotency-key", key)
}

pub fn is_replayed(answer: &Answer) -> bool {
    let header = answer.header("idempotency-replayed");
    assert!(header.is_none_or(|value| value == "true"), "{answer:?}");
    header.is_some()
}

/// The answer is the first one again.
#[track_caller]
pub fn assert_replayed(first: &Answer, again: &Answer) {
    assert!(is_replayed(again), "{again:?}");
    assert_eq!(again.status, first.status, "{again:?}");
    assert_eq!(again.body, first.body, "{again:?}");
    for name in ["etag", "location", "content-type", "content-length"] {
        assert_eq!(again.header(name), first.header(name), "{name} of {again:?}");
    }
}

/// A body with these fields, `name` unusual, and the metadata as they are.
fn body(fields: &Value) -> Bytes {
    let mut fields = crate::resources::object(fields.clone());
    fields.insert("name".to_owned(), json!(UNUSUAL));
    fields.remove("metadata");
    let text = Value::Object(fields).to_string();
    format!("{},\"metadata\":{METADATA}}}", text.strip_suffix('}').unwrap()).into()
}

/// A request with a key of its own, and its first answer.
struct Sent {
    key: String,
    method: Method,
    target: String,
    body: Option<Bytes>,
    first: Answer,
}

impl Sent {
    async fn send(client: &Client, method: Method, target: &str, body: Option<Bytes>) -> Self {
        let key = crate::harness::random();
        let first = keyed(client, &key).send(method.clone(), target, body.clone()).await;
        assert!(!is_replayed(&first), "{first:?}");
        Self { key, method, target: target.to_owned(), body, first }
    }

    async fn again(&self, client: &Client) -> Answer {
        keyed(client, &self.key).send(self.method.clone(), &self.target, self.body.clone()).await
    }

    async fn is_replayed(&self, client: &Client) {
        assert_replayed(&self.first, &self.again(client).await);
    }
}

#[tokio::test]
async fn a_request_gets_its_first_answer_again_whatever_has_become_of_the_resource() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for kind in KINDS {
        let mut sent = Vec::new();
        let full = body(&(kind.full)());
        let created = Sent::send(&ada, Method::POST, kind.path, Some(full)).await;
        let target = kind.target(created.first.clone().expect(201).id());
        assert_eq!(created.first.header("location"), Some(&*target));
        assert_eq!(created.first.header("etag"), Some("\"1\""));
        // What the database renders is what the service renders.
        assert_eq!(ada.get(&target).await.expect(200).body, created.first.body);
        sent.push(created);
        for (method, change) in [
            (Method::PUT, body(&(kind.other)())),
            (Method::PATCH, json!({"phone": null, "address": UNUSUAL}).to_string().into()),
        ] {
            let changed = Sent::send(&ada, method, &target, Some(change)).await;
            changed.first.clone().expect(200);
            let found = ada.get(&target).await.expect(200);
            assert_eq!(found.body, changed.first.body);
            assert_eq!(found.header("etag"), changed.first.header("etag"));
            sent.push(changed);
            for sent in &sent {
                sent.is_replayed(&ada).await;
            }
            assert_eq!(ada.get(&target).await.expect(200).body, found.body, "nothing was changed");
        }
        // A change without a key, and one that changes nothing.
        ada.patch(&target, &json!({"name": "Changed"})).await.expect(200);
        let nothing = Sent::send(&ada, Method::PATCH, &target, Some("{}".into())).await;
        assert_eq!(nothing.first.header("etag"), Some("\"4\""));
        sent.push(nothing);
        sent.push(Sent::send(&ada, Method::DELETE, &target, None).await);
        sent.last().unwrap().first.clone().expect(204);
        for sent in &sent {
            sent.is_replayed(&ada).await;
        }
        ada.get(&target).await.expect_error(404, kind.not_found);
        assert_eq!(ada.get(kind.path).await.expect(200).json(), json!([]));
    }
}

#[tokio::test]
async fn the_largest_resource_comes_back_whole() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let long = "\u{1}".repeat(5000);
    let large = json!({"name": "A", "allergies": long, "medical_history": long, "notes": long});
    let large = Some(Bytes::from(large.to_string()));
    let created = Sent::send(&ada, Method::POST, PATIENT.path, large.clone()).await;
    let target = PATIENT.target(created.first.clone().expect(201).id());
    let changed = Sent::send(&ada, Method::PUT, &target, large).await;
    for sent in [&created, &changed] {
        assert_eq!(ada.get(&target).await.expect(200).body, sent.first.body);
        sent.is_replayed(&ada).await;
    }
}

/// A patient and a doctor, and the body of their mapping.
async fn pair(client: &Client) -> Value {
    let patient = client.post(PATIENT.path, &PATIENT.minimal()).await.expect(201).id();
    let doctor = client.post(DOCTOR.path, &DOCTOR.minimal()).await.expect(201).id();
    json!({"patient_id": patient, "doctor_id": doctor, "notes": UNUSUAL})
}

#[tokio::test]
async fn a_mapping_is_made_and_deleted_once() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let body = Bytes::from(pair(&ada).await.to_string());
    let created = Sent::send(&ada, Method::POST, "/api/mappings", Some(body)).await;
    let id = created.first.clone().expect(201).id();
    assert_eq!(created.first.header("etag"), None);
    let list = ada.get("/api/mappings").await.expect(200).body;
    assert_eq!(list, [b"[", &created.first.body[..], b"]"].concat());
    created.is_replayed(&ada).await;
    let deleted = Sent::send(&ada, Method::DELETE, &format!("/api/mappings/{id}"), None).await;
    deleted.first.clone().expect(204);
    deleted.is_replayed(&ada).await;
    created.is_replayed(&ada).await;
    assert_eq!(ada.get("/api/mappings").await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn a_key_that_was_sent_with_another_request_is_refused_and_nothing_is_changed() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let key = keyed(&ada, "one");
    for kind in KINDS {
        let (target, before) = kind.create(&ada, &(kind.full)()).await;
        let (other, _) = kind.create(&ada, &(kind.full)()).await;
        let key = keyed(&ada, kind.path);
        let change = json!({"phone": "1"});
        let after = key.with("if-match", "\"1\"").patch(&target, &change).await.expect(200);
        for answer in [
            key.patch(&target, &change).await,
            key.with("if-match", "\"2\"").patch(&target, &change).await,
            key.with("if-match", "\"1\"").patch(&target, &json!({"phone": "2"})).await,
            key.with("if-match", "\"1\"").put(&target, &change).await,
            key.with("if-match", "\"1\"").patch(&other, &change).await,
            key.with("if-match", "\"1\"").delete(&target).await,
            key.post(kind.path, &(kind.full)()).await,
            key.delete(&other).await,
        ] {
            let refused = answer.expect_error(422, "idempotency_key_reused");
            assert!(!is_replayed(&refused));
        }
        assert_ne!(before, after.json());
        assert_eq!(ada.get(&target).await.expect(200).json(), after.json());
        assert_eq!(ada.get(kind.path).await.json().as_array().unwrap().len(), 2);
    }
    let mapping = pair(&ada).await;
    key.post("/api/mappings", &mapping).await.expect(201);
    let other = json!({"patient_id": mapping["patient_id"], "doctor_id": mapping["doctor_id"]});
    key.post("/api/mappings", &other).await.expect_error(422, "idempotency_key_reused");
    let id = ada.get("/api/mappings").await.json()[0]["id"].as_i64().unwrap();
    let target = format!("/api/mappings/{id}");
    key.delete(&target).await.expect_error(422, "idempotency_key_reused");
    assert_eq!(ada.get("/api/mappings").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_keys_of_two_users_have_nothing_to_do_with_each_other() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    for kind in KINDS {
        let key = kind.path.trim_start_matches('/');
        let ours = keyed(&ada, key).post(kind.path, &kind.minimal()).await.expect(201);
        // The same request, and another one.
        let theirs = keyed(&eve, key).post(kind.path, &kind.minimal()).await.expect(201);
        assert!(!is_replayed(&theirs));
        assert_ne!(ours.id(), theirs.id());
        let again = keyed(&ada, key).post(kind.path, &kind.minimal()).await;
        assert_replayed(&ours, &again);
        keyed(&eve, &format!("{key}-2")).post(kind.path, &(kind.full)()).await.expect(201);
        keyed(&ada, &format!("{key}-2")).post(kind.path, &(kind.other)()).await.expect(201);
    }
}

#[tokio::test]
async fn a_request_that_was_refused_has_changed_nothing_and_is_judged_anew() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let mapping = pair(&ada).await;
    let assigned = ada.post("/api/mappings", &mapping).await.expect(201).id();
    let patient = PATIENT.target(mapping["patient_id"].as_i64().unwrap());
    let doctor = DOCTOR.target(mapping["doctor_id"].as_i64().unwrap());

    // Twice each, so that the second would be the first one's answer if that were kept.
    let change = json!({"phone": "1"});
    for _ in 0..2 {
        let assign = keyed(&ada, "assign").post("/api/mappings", &mapping).await;
        assign.expect_error(409, "already_assigned");
        let delete = keyed(&ada, "delete").delete(&doctor).await;
        delete.expect_error(409, "doctor_assigned");
        let stale = keyed(&ada, "stale").with("if-match", "\"2\"");
        stale.patch(&patient, &change).await.expect_error(412, "precondition_failed");
        stale.delete(&patient).await.expect_error(412, "precondition_failed");
        stale.patch(&doctor, &change).await.expect_error(412, "precondition_failed");
        stale.delete(&doctor).await.expect_error(412, "precondition_failed");
        keyed(&eve, "k").patch(&doctor, &change).await.expect_error(403, "forbidden");
        keyed(&eve, "k").delete(&doctor).await.expect_error(403, "forbidden");
        keyed(&eve, "k").patch(&patient, &change).await.expect_error(404, "patient_not_found");
        keyed(&eve, "k").delete(&patient).await.expect_error(404, "patient_not_found");
        let nobody = keyed(&ada, "k");
        nobody.patch("/api/doctors/999", &change).await.expect_error(404, "doctor_not_found");
        nobody.delete("/api/doctors/999").await.expect_error(404, "doctor_not_found");
        nobody.delete("/api/mappings/999").await.expect_error(404, "not_found");
        let (theirs, none) = (json!({"patient_id": 999, "doctor_id": 1}), 999);
        let answer = nobody.post("/api/mappings", &theirs).await;
        answer.expect_error(404, "patient_not_found");
        let no_doctor = json!({"patient_id": mapping["patient_id"], "doctor_id": none});
        let answer = nobody.post("/api/mappings", &no_doctor).await;
        answer.expect_error(404, "doctor_not_found");
        let wrong = nobody.post(PATIENT.path, &json!({"name": ""})).await;
        wrong.expect_error(422, "validation_failed");
    }
    // Now they have their effect.
    ada.delete(&format!("/api/mappings/{assigned}")).await.expect(204);
    let assign = keyed(&ada, "assign").post("/api/mappings", &mapping).await.expect(201);
    assert!(!is_replayed(&assign));
    ada.patch(&patient, &change).await.expect(200);
    let stale = keyed(&ada, "stale").with("if-match", "\"2\"");
    assert!(!is_replayed(&stale.patch(&patient, &json!({"phone": "2"})).await.expect(200)));
    ada.delete(&format!("/api/mappings/{}", assign.id())).await.expect(204);
    let delete = keyed(&ada, "delete").delete(&doctor).await.expect(204);
    assert!(!is_replayed(&delete));
}

#[tokio::test]
async fn a_key_is_free_for_another_request_until_one_has_had_its_effect() {
    let server = TestServer::start().await;
    let ada = keyed(&server.user().await, "one");
    ada.post(PATIENT.path, &json!({"name": ""})).await.expect_error(422, "validation_failed");
    ada.delete("/api/patients/999").await.expect_error(404, "patient_not_found");
    ada.post(PATIENT.path, &PATIENT.minimal()).await.expect(201);
    let again = ada.delete("/api/patients/999").await;
    again.expect_error(422, "idempotency_key_reused");
}
