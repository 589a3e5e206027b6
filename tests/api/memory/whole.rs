//! A large row is the same wherever it is read, byte for byte, although it takes another path.

use bytes::Bytes;
use serde_json::{Value, json};

use super::LONG_TEXTS;
use crate::harness::{Client, TestServer};

fn large_patient(text: &str) -> Value {
    let long = text.repeat(5000);
    json!({
        "name": "Large", "address": text.repeat(500), "allergies": long, "notes": long,
        "medical_history": long, "metadata": {"a": "m".repeat(8000)},
    })
}

fn large_doctor(text: &str) -> Value {
    json!({
        "name": "Large", "specialization": "s".repeat(100), "address": text.repeat(500),
        "bio": text.repeat(2000), "metadata": {"a": "m".repeat(8000)},
    })
}

/// Small and large ones alternately, as returned by their creation.
async fn create(user: &Client, path: &str, small: &Value, large: fn(&str) -> Value) -> Vec<Bytes> {
    let mut made = Vec::new();
    for n in 0..8 {
        let body = if n % 3 == 2 { large(LONG_TEXTS[n % 2]) } else { small.clone() };
        made.push(user.post(path, &body).await.expect(201).body);
    }
    assert!(made[2].len() > 15_000);
    made
}

/// Checks that a list is the array of these elements.
async fn check_list(user: &Client, target: &str, elements: &[Bytes]) {
    let expected = [&b"["[..], &elements.join(&b','), b"]"].concat();
    let list = user.get(target).await.expect(200);
    assert!(list.body == expected, "{target} has {} bytes", list.body.len());
}

#[tokio::test]
async fn large_resources_come_whole_from_everywhere() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let patient = json!({"name": "Small", "notes": "n"});
    let doctor = json!({"name": "Small", "specialization": "s"});
    for (path, made) in [
        ("/api/patients", create(&user, "/api/patients", &patient, large_patient).await),
        ("/api/doctors", create(&user, "/api/doctors", &doctor, large_doctor).await),
    ] {
        check_list(&user, path, &made).await;
        for limit in [1, 2, 3, 5, 8, 9, 1000] {
            let elements = &made[..limit.min(made.len())];
            check_list(&user, &format!("{path}?limit={limit}"), elements).await;
            check_list(&user, &format!("{path}?limit={limit}&search=l"), elements).await;
        }
        check_list(&user, &format!("{path}?search=L"), &made).await;
        check_list(&user, &format!("{path}?search=large"), &[made[2].clone(), made[5].clone()])
            .await;
        for one in &made {
            let value: Value = serde_json::from_slice(one).unwrap();
            let target = format!("{path}/{}", value["id"]);
            let got = user.get(&target).await.expect(200);
            assert!(got.body == *one, "{target}");
            let tag = got.header("etag").unwrap();
            user.with("if-none-match", tag).get(&target).await.expect(304);
            assert!(user.patch(&target, &json!({})).await.expect(200).body == *one, "{target}");
        }
    }
}

#[tokio::test]
async fn large_mappings_and_their_doctors_come_whole() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let patient = user.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let (mut mappings, mut assigned) = (Vec::new(), Vec::new());
    for n in 0..8 {
        let small = json!({"name": "Small", "specialization": "s"});
        let body = if n % 3 == 2 { large_doctor(LONG_TEXTS[n % 2]) } else { small };
        let doctor = user.post("/api/doctors", &body).await.expect(201);
        let notes = if n % 4 == 1 { LONG_TEXTS[n / 4].repeat(2000) } else { "n".into() };
        let body = json!({"patient_id": patient, "doctor_id": doctor.id(), "notes": notes});
        let mapping = user.post("/api/mappings", &body).await.expect(201).body;
        let text = std::str::from_utf8(&mapping).unwrap();
        let before = &text[..text.find(",\"patient\":{").unwrap()];
        let doctor = std::str::from_utf8(&doctor.body).unwrap();
        assigned.push(Bytes::from(format!("{before},\"doctor\":{doctor}}}")));
        mappings.push(mapping);
    }
    for (path, elements) in
        [("/api/mappings".to_owned(), mappings), (format!("/api/mappings/{patient}"), assigned)]
    {
        check_list(&user, &path, &elements).await;
        for limit in [1, 2, 3, 5, 8, 9, 1000] {
            check_list(&user, &format!("{path}?limit={limit}"), &elements[..limit.min(8)]).await;
        }
        if path == "/api/mappings" {
            check_list(&user, &format!("{path}?patient_id={patient}"), &elements).await;
        }
    }
}

/// Concurrent requests are batched.
#[tokio::test]
async fn large_patients_come_whole_among_others_that_are_asked_for_at_once() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let small = json!({"name": "Small"});
    let made = create(&user, "/api/patients", &small, large_patient).await;
    let gets = (0..64).map(|n| {
        let (user, one) = (&user, &made[n % made.len()]);
        async move {
            let value: Value = serde_json::from_slice(one).unwrap();
            let got = user.get(&format!("/api/patients/{}", value["id"])).await.expect(200);
            assert!(got.body == *one);
        }
    });
    futures_util::future::join_all(gets).await;
}
