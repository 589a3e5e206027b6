//! `/api/mappings`: which doctors are assigned to which patients.

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, TestServer};

const PATH: &str = "/api/mappings";
/// No row has this id.
const MISSING: i64 = i64::MAX;

async fn patient(client: &Client, name: &str) -> i64 {
    client.post("/api/patients", &json!({"name": name})).await.expect(201).id()
}

async fn doctor(client: &Client, name: &str) -> Value {
    let body = json!({"name": name, "specialization": "Nephrology", "bio": "Limps"});
    client.post("/api/doctors", &body).await.expect(201).json()
}

async fn assign(client: &Client, patient_id: i64, doctor_id: i64) -> Answer {
    client.post(PATH, &json!({"patient_id": patient_id, "doctor_id": doctor_id})).await
}

fn id(value: &Value) -> i64 {
    value["id"].as_i64().unwrap()
}

/// The expected mapping, without what the server sets.
fn expected(mapping: &Value, patient: (i64, &str), doctor: &Value, notes: Option<&str>) -> Value {
    json!({
        "id": mapping["id"],
        "patient_id": patient.0,
        "doctor_id": doctor["id"],
        "notes": notes,
        "created_at": mapping["created_at"],
        "patient": {"id": patient.0, "name": patient.1},
        "doctor": {
            "id": doctor["id"], "name": doctor["name"],
            "specialization": doctor["specialization"],
        },
    })
}

#[tokio::test]
async fn a_mapping_names_both_sides() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (grace, joan) = (patient(&ada, "Grace").await, patient(&ada, "Joan").await);
    let house = doctor(&eve, "House").await;
    let body = json!({"patient_id": grace, "doctor_id": house["id"], "notes": "Be\n brief "});
    let first = ada.post(PATH, &body).await.expect(201);
    let second = assign(&ada, joan, id(&house)).await.expect(201);
    assert_eq!(first.header("etag"), None);
    let (first, second) = (first.json(), second.json());
    assert_eq!(first, expected(&first, (grace, "Grace"), &house, Some("Be\n brief ")));
    assert_eq!(second, expected(&second, (joan, "Joan"), &house, None));
    let moment = first["created_at"].as_str().unwrap();
    assert!(moment.ends_with('Z') && moment.parse::<jiff::Timestamp>().is_ok(), "{moment}");

    let list = ada.get(PATH).await.expect(200);
    assert_eq!(list.header("etag"), None);
    assert_eq!(list.json(), json!([first, second]));
    assert_eq!(eve.get(PATH).await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn the_doctors_of_a_patient_are_whole() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (grace, joan) = (patient(&ada, "Grace").await, patient(&ada, "Joan").await);
    let doctors = [doctor(&ada, "House").await, doctor(&ada, "Wilson").await];
    // Ordered by mapping, not by doctor.
    let mut expected = Vec::new();
    for (doctor, notes) in doctors.iter().rev().zip([Some("First"), None]) {
        let body = json!({"patient_id": grace, "doctor_id": doctor["id"], "notes": notes});
        let mapping = ada.post(PATH, &body).await.expect(201).json();
        expected.push(json!({
            "id": mapping["id"], "patient_id": grace, "doctor_id": doctor["id"], "notes": notes,
            "created_at": mapping["created_at"], "doctor": doctor,
        }));
    }
    let target = format!("{PATH}/{grace}");
    for target in [&target, &format!("{target}/")] {
        let found = ada.get(target).await.expect(200);
        assert_eq!(found.header("etag"), None);
        assert_eq!(found.json(), json!(expected));
        ada.send(Method::HEAD, target, None).await.expect(200);
    }
    assert_eq!(ada.get(&format!("{PATH}/{joan}")).await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn the_patient_is_looked_at_before_the_doctor() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let (hers, others) = (patient(&ada, "Grace").await, patient(&eve, "Joan").await);
    let house = id(&doctor(&eve, "House").await);
    for (patient, doctor, code) in [
        (MISSING, house, "patient_not_found"),
        (MISSING, MISSING, "patient_not_found"),
        (others, house, "patient_not_found"),
        (others, MISSING, "patient_not_found"),
        (hers, MISSING, "doctor_not_found"),
    ] {
        assign(&ada, patient, doctor).await.expect_error(404, code);
    }
    assert_eq!(ada.get(PATH).await.json(), json!([]));
    assign(&eve, others, house).await.expect(201);
    // Another user's assignment does not make the patient visible.
    assign(&ada, others, house).await.expect_error(404, "patient_not_found");
    assign(&ada, hers, house).await.expect(201);
}

#[tokio::test]
async fn ids_may_be_strings_of_digits_and_have_other_names() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let house = id(&doctor(&ada, "House").await);
    for (patient_name, doctor_name) in
        [("patient_id", "doctor_id"), ("patient", "doctor"), ("patientId", "doctorId")]
    {
        for quoted in [false, true] {
            let grace = patient(&ada, "Grace").await;
            let value = |id: i64| if quoted { json!(id.to_string()) } else { json!(id) };
            let body = json!({ patient_name: value(grace), doctor_name: value(house) });
            let mapping = ada.post(PATH, &body).await.expect(201).json();
            assert_eq!(mapping["patient_id"], grace);
            assert_eq!(mapping["doctor_id"], house);
            let twice = json!({"patient_id": 1, "patient": 1, "doctor_id": 1});
            let refused = ada.post(PATH, &twice).await.expect_error(422, "validation_failed");
            assert_eq!(refused.bad_fields().len(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_no_id_is_refused_before_anything_is_looked_up() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for value in [
        json!(0),
        json!(-1),
        json!(1.0),
        json!("0"),
        json!("-1"),
        json!("+1"),
        json!("01"),
        json!(" 1"),
        json!(""),
        json!("1.0"),
        json!("x"),
        json!("9223372036854775808"),
        json!(9_223_372_036_854_775_808_u64),
        json!(null),
        json!([1]),
        json!(true),
        json!("١"),
    ] {
        let refused = ada.post(PATH, &json!({"patient_id": value, "doctor_id": value})).await;
        let mut names = refused.expect_error(422, "validation_failed").bad_fields();
        names.sort();
        assert_eq!(names, ["doctor_id", "patient_id"], "{value}");
    }
    let missing = ada.post(PATH, &json!({})).await.expect_error(422, "validation_failed");
    assert_eq!(missing.bad_fields(), ["patient_id", "doctor_id"]);
}

#[tokio::test]
async fn notes_have_at_most_2000_characters() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (grace, house) = (patient(&ada, "Grace").await, id(&doctor(&ada, "House").await));
    let body = |notes: &str| json!({"patient_id": grace, "doctor_id": house, "notes": notes});
    for notes in [&"😀".repeat(2001), "a\0b"] {
        let refused = ada.post(PATH, &body(notes)).await.expect_error(422, "validation_failed");
        assert_eq!(refused.bad_fields(), ["notes"]);
    }
    let notes = "😀".repeat(2000);
    assert_eq!(ada.post(PATH, &body(&notes)).await.expect(201).json()["notes"], notes);
}

#[tokio::test]
async fn the_same_pair_cannot_be_assigned_twice() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (grace, house) = (patient(&ada, "Grace").await, id(&doctor(&ada, "House").await));
    let first = assign(&ada, grace, house).await.expect(201).json();
    assign(&ada, grace, house).await.expect_error(409, "already_assigned");
    assert_eq!(ada.get(PATH).await.json(), json!([first]));
    ada.delete(&format!("{PATH}/{}", id(&first))).await.expect(204);
    assign(&ada, grace, house).await.expect(201);
}

#[tokio::test]
async fn of_racing_assignments_of_one_pair_one_wins() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let house = id(&doctor(&ada, "House").await);
    for _ in 0..8 {
        let grace = patient(&ada, "Grace").await;
        let answers = join_all((0..8).map(|_| assign(&ada, grace, house))).await;
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(won.len(), 1);
        for answer in lost {
            answer.expect_error(409, "already_assigned");
        }
        let of_patient = ada.get(&format!("{PATH}/{grace}")).await.expect(200).json();
        assert_eq!(of_patient.as_array().unwrap().len(), 1);
    }
}

/// The second statement sees the first one's effect: nothing is ever assigned to a row that does
/// not exist.
#[tokio::test]
async fn an_assignment_races_with_deletions() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    for _ in 0..10 {
        let (grace, house) = (patient(&ada, "Grace").await, id(&doctor(&ada, "House").await));
        let doctor_target = format!("/api/doctors/{house}");
        let (assigned, deleted) =
            tokio::join!(assign(&ada, grace, house), ada.delete(&doctor_target));
        match (assigned.status.as_u16(), deleted.status.as_u16()) {
            (201, 409) => drop(deleted.expect_error(409, "doctor_assigned")),
            (404, 204) => drop(assigned.expect_error(404, "doctor_not_found")),
            _ => panic!("{assigned:?} {deleted:?}"),
        }
        let house = id(&doctor(&ada, "House").await);
        let patient_target = format!("/api/patients/{grace}");
        let (assigned, deleted) =
            tokio::join!(assign(&ada, grace, house), ada.delete(&patient_target));
        deleted.expect(204);
        if assigned.status != 201 {
            assigned.expect_error(404, "patient_not_found");
        }
        assert_eq!(ada.get(PATH).await.json(), json!([]));
    }
}

#[tokio::test]
async fn a_list_can_be_narrowed_to_a_patient_and_a_doctor() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let patients = [patient(&ada, "Grace").await, patient(&ada, "Joan").await];
    let doctors = [id(&doctor(&ada, "House").await), id(&doctor(&eve, "Wilson").await)];
    let mut all = Vec::new();
    for patient in patients {
        for doctor in doctors {
            all.push(assign(&ada, patient, doctor).await.expect(201).json());
        }
    }
    let others = patient(&eve, "Mary").await;
    let theirs = assign(&eve, others, doctors[0]).await.expect(201).json();
    let only = |indexes: &[usize]| json!(indexes.iter().map(|n| &all[*n]).collect::<Vec<_>>());
    let [p, d] = [patients, doctors];
    for (query, expected) in [
        (String::new(), only(&[0, 1, 2, 3])),
        (format!("?patient_id={}", p[0]), only(&[0, 1])),
        (format!("?patient_id={}", p[1]), only(&[2, 3])),
        (format!("?doctor_id={}", d[0]), only(&[0, 2])),
        (format!("?doctor_id={}&patient_id={}", d[1], p[1]), only(&[3])),
        (format!("?doctor_id={}&after={}", d[0], id(&all[0])), only(&[2])),
        (format!("?patient_id={others}"), json!([])),
        (format!("?patient_id={MISSING}"), json!([])),
        (format!("?doctor_id={MISSING}"), json!([])),
    ] {
        assert_eq!(
            ada.get(&format!("{PATH}{query}")).await.expect(200).json(),
            expected,
            "{query}"
        );
    }
    let query = format!("{PATH}?doctor_id={}", doctors[0]);
    assert_eq!(eve.get(&query).await.expect(200).json(), json!([theirs]));
    for query in ["patient_id=0", "doctor_id=x", "patient=1", "doctorId=1", "notes=x"] {
        let refused = ada.get(&format!("{PATH}?{query}")).await.expect_error(400, "bad_query");
        assert_eq!(refused.bad_fields(), [query.split_once('=').unwrap().0]);
    }
}

#[tokio::test]
async fn an_assignment_ends_once() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let (grace, house) = (patient(&ada, "Grace").await, id(&doctor(&ada, "House").await));
    for slash in ["", "/"] {
        let mapping = assign(&ada, grace, house).await.expect(201).id();
        ada.delete(&format!("{PATH}/{mapping}{slash}")).await.expect(204);
        ada.delete(&format!("{PATH}/{mapping}{slash}")).await.expect_error(404, "not_found");
        assert_eq!(ada.get(PATH).await.json(), json!([]));
    }
    ada.get(&format!("/api/patients/{grace}")).await.expect(200);
    ada.get(&format!("/api/doctors/{house}")).await.expect(200);
}

#[tokio::test]
async fn another_users_mapping_is_not_found() {
    let server = TestServer::start().await;
    let (ada, eve, admin) = (server.user().await, server.user().await, server.admin().await);
    let (grace, house) = (patient(&ada, "Grace").await, id(&doctor(&ada, "House").await));
    let mapping = assign(&ada, grace, house).await.expect(201).json();
    for other in [&eve, &admin] {
        other.get(&format!("{PATH}/{grace}")).await.expect_error(404, "patient_not_found");
        other.get(&format!("{PATH}/{MISSING}")).await.expect_error(404, "patient_not_found");
        let target = format!("{PATH}/{}", id(&mapping));
        other.delete(&target).await.expect_error(404, "not_found");
        other.delete(&format!("{PATH}/{MISSING}")).await.expect_error(404, "not_found");
        assert_eq!(other.get(PATH).await.json(), json!([]));
    }
    assert_eq!(ada.get(PATH).await.json(), json!([mapping]));
}
