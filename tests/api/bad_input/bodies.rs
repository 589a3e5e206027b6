//! Whole bodies: content type, unknown fields, all errors at once, and the order of checks.

use hyper::Method;
use serde_json::json;

use super::{Setting, invalid, refused, refused_for};

#[tokio::test]
async fn only_json_in_utf_8_is_read() {
    let setting = Setting::new().await;
    for (method, path, body) in setting.readers() {
        for content_type in [
            "text/plain",
            "",
            "json",
            "application/jsonp",
            "application/x-www-form-urlencoded",
            "application/merge-patch+json",
            "application/json, text/plain",
            "application/json; charset=latin1",
            "application/json; charset=utf-16",
            "application/json; charset=",
            "multipart/form-data; boundary=x",
        ] {
            let client = setting.user.with("content-type", content_type);
            let answer = client.send(method.clone(), &path, Some(body.clone().into())).await;
            let case = format!("{content_type}: {method} {path}");
            refused_for(&case, answer, 415, "unsupported_media_type", &[]);
        }
        let case = format!("{method} {path}");
        let twice = setting.user.with("content-type", "application/json");
        let twice = twice.with("content-type", "application/json");
        let answer = twice.send(method.clone(), &path, Some(body.clone().into())).await;
        refused(&case, answer, 415, "unsupported_media_type");
        for encoding in ["gzip", "deflate", "br", "aws-chunked"] {
            let client = setting.user.with("content-encoding", encoding);
            let answer = client.send(method.clone(), &path, Some(body.clone().into())).await;
            refused(&case, answer, 415, "unsupported_media_type");
        }
        // No body and no content type.
        let answer = setting.user.send(method.clone(), &path, None).await;
        refused(&case, answer, 415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn the_type_may_be_spelled_in_every_way_that_means_the_same() {
    let setting = Setting::new().await;
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json ; charset=Utf-8",
    ] {
        let client = setting.user.with("content-type", content_type);
        client.post("/api/patients", &json!({"name": "N"})).await.expect(201);
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_and_a_known_one_that_is_near_named() {
    let setting = Setting::new().await;
    let (patient, doctor) =
        (format!("/api/patients/{}", setting.patient), format!("/api/doctors/{}", setting.doctor));
    for (method, path, sent, nearest) in [
        (Method::POST, "/api/patients", "alergies", "allergies"),
        (Method::POST, "/api/patients", "nmae", "name"),
        (Method::POST, "/api/patients", "Name", "name"),
        (Method::POST, "/api/patients", "blood-group", "blood_group"),
        (Method::PUT, &patient, "medicalHistory", "medical_history"),
        (Method::PATCH, &patient, "metdata", "metadata"),
        (Method::PATCH, &patient, "emergency_contact_nam", "emergency_contact_name"),
        (Method::POST, "/api/doctors", "specialisation", "specialization"),
        (Method::PUT, &doctor, "licence_number", "license_number"),
        (Method::PATCH, &doctor, "year_of_experience", "years_of_experience"),
        (Method::POST, "/api/mappings", "docter_id", "doctor_id"),
        (Method::POST, "/api/mappings", "note", "notes"),
        (Method::POST, "/api/auth/register", "emial", "email"),
        (Method::POST, "/api/auth/login", "pasword", "password"),
    ] {
        let mut body = match path {
            "/api/doctors" => json!({"name": "N", "specialization": "S"}),
            "/api/mappings" => json!({"patient_id": setting.patient, "doctor_id": setting.doctor}),
            "/api/auth/register" => json!({"name": "N", "email": "a@b", "password": "long enough"}),
            "/api/auth/login" => json!({"email": "a@b", "password": "x"}),
            _ => json!({"name": "N"}),
        };
        body[sent] = json!("x");
        let answer = setting.send(&method, path, body.to_string()).await;
        let answer = invalid(&format!("{method} {path}"), answer, &[sent]);
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        let words: Vec<&str> = message.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        assert!(words.contains(&nearest), "{sent}: {message}");
    }
    for name in ["", " name", "name ", "__proto__", "password_hash", "role", "naïve", "'--"] {
        let answer = setting.user.post("/api/patients", &json!({"name": "N", name: "x"})).await;
        invalid(name, answer, &[name]);
    }
}

#[tokio::test]
async fn an_unknown_field_that_is_near_to_none_is_told_of_metadata() {
    let setting = Setting::new().await;
    let patients = "/api/patients";
    for (path, body, sent, message) in [
        (patients, json!({"name": "N"}), "password", "fields of your own go into metadata"),
        (patients, json!({"name": "N"}), "birth_date", "fields of your own go into metadata"),
        (patients, json!({"name": "N"}), "phonenumber", "fields of your own go into metadata"),
        (
            patients,
            json!({"name": "N"}),
            "emergency_contact",
            "the nearest are emergency_contact_name and emergency_contact_phone",
        ),
        (
            "/api/doctors",
            json!({"name": "N", "specialization": "S"}),
            "role",
            "fields of your own go into metadata",
        ),
        (
            "/api/auth/register",
            json!({"name": "N", "email": "a@b", "password": "long enough"}),
            "role",
            "",
        ),
    ] {
        let mut body = body;
        body[sent] = json!("+49 30 123456");
        let answer = invalid(sent, setting.user.post(path, &body).await, &[sent]);
        let expected = match message {
            "" => "is not a known field".to_owned(),
            message => format!("is not a known field; {message}"),
        };
        assert_eq!(answer.json()["errors"][0]["message"], expected, "{sent}");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_at_once() {
    let setting = Setting::new().await;
    let bad = r#"{"age":151,"gender":"x","contact":"?","email":"a@","dob":"2000-02-30","nmae":"N",
        "metadata":[],"blood_group":null,"notes":"n","notes":"n","id":1,"id":2}"#;
    let all = ["age", "gender", "contact", "email", "dob", "nmae", "metadata", "notes", "id"];
    let missing = [&all[..], &["name"]].concat();
    let answer = setting.send(&Method::POST, "/api/patients", bad).await;
    invalid("a new patient", answer, &missing);
    for method in [Method::PUT, Method::PATCH] {
        let path = format!("/api/patients/{}", setting.patient);
        invalid("a patient", setting.send(&method, &path, bad).await, &all);
    }
    for (path, body, fields) in [
        (
            "/api/doctors",
            r#"{"specialty":" ","experience":81,"bio":1,"hospital":[],"x":{}}"#,
            &["specialty", "experience", "bio", "hospital", "x", "name"][..],
        ),
        (
            "/api/mappings",
            r#"{"patientId":0,"doctor":"x","notes":1,"id":1,"extra":1}"#,
            &["patientId", "doctor", "notes", "extra"],
        ),
        ("/api/auth/register", r#"{"email":"x","password":"x"}"#, &["name", "email", "password"]),
    ] {
        invalid(path, setting.send(&Method::POST, path, body).await, fields);
    }
}

#[tokio::test]
async fn what_was_read_can_be_sent_back() {
    let setting = Setting::new().await;
    for path in
        [format!("/api/patients/{}", setting.patient), format!("/api/doctors/{}", setting.doctor)]
    {
        let before = setting.user.get(&path).await.expect(200);
        for method in [Method::PUT, Method::PATCH] {
            let after = setting.send(&method, &path, before.body.to_vec()).await.expect(200);
            assert_eq!(after.body, before.body);
        }
        // Fields that the server sets are ignored, whatever their value.
        let claims = json!({"id": 99, "created_by": "x", "created_at": null, "updated_at": [], "version": 7});
        let after = setting.user.put(&path, &claims).await.expect(200);
        assert_eq!(after.body, before.body);
    }
}

#[tokio::test]
async fn a_request_with_many_mistakes_is_told_the_first_in_the_order_of_the_contract() {
    let setting = Setting::new().await;
    let user = &setting.user;
    let junk = "x".repeat((256 << 10) + 1);
    let text = |client: &crate::harness::Client| client.with("content-type", "text/plain");
    let anyone = setting.server.anyone();
    let brew = || Method::from_bytes(b"BREW").unwrap();
    let put = || Method::PUT;
    let none = format!("/api/patients/{}", i64::MAX);
    let query = format!("{none}?x=1");
    let stale = user.with("if-match", "\"99\"");
    for (client, method, path, body, status, code) in [
        (text(&anyone), brew(), "/api/x?x=1", &*junk, 404, "not_found"),
        (text(&anyone), brew(), &*query, &junk, 405, "method_not_allowed"),
        (text(&anyone), put(), &query, &junk, 401, "unauthorized"),
        (text(user), put(), &query, &junk, 400, "bad_query"),
        (text(user), put(), &none, &junk, 415, "unsupported_media_type"),
        (stale.clone(), put(), &none, &junk, 413, "body_too_large"),
        (stale.clone(), put(), &none, "{\"nmae\":1,}", 400, "malformed_json"),
        (stale.clone(), put(), &none, "{\"nmae\":1}", 422, "validation_failed"),
        (stale.clone(), put(), &none, "{\"name\":\"N\"}", 404, "patient_not_found"),
    ] {
        let answer = client.send(method, path, Some(body.to_owned().into())).await;
        refused(path, answer, status, code);
    }
    let doctor = format!("/api/doctors/{}", setting.doctor);
    let other = setting.server.user().await.with("if-match", "\"99\"");
    refused("not theirs", other.put(&doctor, &json!({"bio": "x"})).await, 403, "forbidden");
    let answer = stale.put(&doctor, &json!({"bio": "x"})).await;
    refused("stale", answer, 412, "precondition_failed");
    let body = json!({"patient_id": setting.patient, "doctor_id": setting.doctor});
    user.post("/api/mappings", &body).await.expect(201);
    refused("stale", stale.delete(&doctor).await, 412, "precondition_failed");
    refused("not theirs", other.delete(&doctor).await, 403, "forbidden");
    refused("assigned", user.delete(&doctor).await, 409, "doctor_assigned");
    // The patient of a mapping is checked first.
    let body = json!({"patient_id": i64::MAX, "doctor_id": i64::MAX});
    refused("both", user.post("/api/mappings", &body).await, 404, "patient_not_found");
}
