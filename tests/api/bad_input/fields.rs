//! Every field of every body, on both sides of its bounds.

use hyper::Method;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use super::rules::Kind::{self, *};
use super::{Setting, invalid, refused};
use crate::harness::{TestServer, random};

/// Name, kind, whether it is required.
type Field = (&'static str, Kind, bool);

const REGISTER: [Field; 3] =
    [("name", Name(200), true), ("email", Email, true), ("password", Password, true)];

const PATIENT: [Field; 14] = [
    ("name", Name(200), true),
    ("age", Integer(0, 150), false),
    ("gender", Gender, false),
    ("date_of_birth", BirthDate, false),
    ("phone", Phone, false),
    ("email", Email, false),
    ("address", Text(500), false),
    ("blood_group", BloodGroup, false),
    ("allergies", Text(5000), false),
    ("medical_history", Text(5000), false),
    ("notes", Text(5000), false),
    ("emergency_contact_name", Name(200), false),
    ("emergency_contact_phone", Phone, false),
    ("metadata", Metadata, false),
];

const DOCTOR: [Field; 11] = [
    ("name", Name(200), true),
    ("specialization", Name(100), true),
    ("email", Email, false),
    ("phone", Phone, false),
    ("license_number", Text(64), false),
    ("years_of_experience", Integer(0, 80), false),
    ("qualification", Text(200), false),
    ("hospital", Text(200), false),
    ("address", Text(500), false),
    ("bio", Text(2000), false),
    ("metadata", Metadata, false),
];

const MAPPING: [Field; 3] =
    [("patient_id", Id, true), ("doctor_id", Id, true), ("notes", Text(2000), false)];

/// A body with the required fields, and this one as raw JSON.
fn body(required: &Value, name: &str, value: &str) -> String {
    let mut members = vec![format!("\"{name}\":{value}")];
    for (other, value) in required.as_object().unwrap() {
        if other != name {
            members.push(format!("\"{other}\":{value}"));
        }
    }
    format!("{{{}}}", members.join(","))
}

/// Where a kind of body is sent.
struct Resource {
    fields: &'static [Field],
    create: &'static str,
    /// The path of one that exists, unless it cannot be changed.
    change: Option<String>,
    required: fn(&Setting) -> Value,
}

fn resources(setting: &Setting) -> [Resource; 4] {
    [
        Resource {
            fields: &REGISTER,
            create: "/api/auth/register",
            change: None,
            required: |_| {
                let email = format!("{}@example.com", random());
                json!({"name": "N", "email": email, "password": "long enough"})
            },
        },
        Resource {
            fields: &PATIENT,
            create: "/api/patients",
            change: Some(format!("/api/patients/{}", setting.patient)),
            required: |_| json!({"name": "N"}),
        },
        Resource {
            fields: &DOCTOR,
            create: "/api/doctors",
            change: Some(format!("/api/doctors/{}", setting.doctor)),
            required: |_| json!({"name": "N", "specialization": "S"}),
        },
        Resource {
            fields: &MAPPING,
            create: "/api/mappings",
            change: None,
            required: |setting| json!({"patient_id": setting.patient, "doctor_id": setting.doctor}),
        },
    ]
}

#[tokio::test]
async fn what_is_just_outside_is_refused_by_the_name_of_its_field() {
    let setting = Setting::new().await;
    for resource in resources(&setting) {
        for (name, kind, required) in resource.fields {
            let mut values = kind.bad();
            values.extend(required.then(|| "null".to_owned()));
            for value in values {
                let case = format!("{name} of {} = {value:.60}", resource.create);
                let create = body(&(resource.required)(&setting), name, &value);
                let answer = setting.send(&Method::POST, resource.create, create).await;
                invalid(&case, answer, &[name]);
                for method in [Method::PUT, Method::PATCH] {
                    let Some(path) = &resource.change else { continue };
                    let change = format!("{{\"{name}\":{value}}}");
                    invalid(&case, setting.send(&method, path, change).await, &[name]);
                }
            }
        }
    }
    // None of this had an effect.
    for path in resources(&setting).iter().filter_map(|resource| resource.change.as_ref()) {
        assert_eq!(setting.user.get(path).await.expect(200).json()["version"], 1);
    }
}

#[tokio::test]
async fn what_is_just_inside_is_accepted_and_comes_back_as_it_was_sent() {
    let setting = Setting::new().await;
    for resource in resources(&setting) {
        for (name, kind, _) in resource.fields {
            for value in kind.good() {
                let case = format!("{name} of {} = {value:.60}", resource.create);
                let create = body(&(resource.required)(&setting), name, &value);
                let answer = setting.send(&Method::POST, resource.create, create).await;
                assert_eq!((answer.status.as_u16(), &case), (201, &case), "{answer:?}");
                let mut answers = vec![answer];
                if let Some(path) = &resource.change {
                    for method in [Method::PUT, Method::PATCH] {
                        let change = format!("{{\"{name}\":{value}}}");
                        answers.push(setting.send(&method, path, change).await.expect(200));
                    }
                    answers.push(setting.user.get(path).await.expect(200));
                }
                for answer in answers {
                    if resource.create.ends_with("register") {
                        // A session shows the user, but never the password.
                        let user = &answer.json()["user"];
                        let sent: Value = serde_json::from_str(&value).unwrap();
                        assert!(*name == "password" || user[name] == sent, "{case}");
                        continue;
                    }
                    assert_eq!(answer.json()[name], parsed(&value), "{case}");
                    if matches!(kind, Metadata) {
                        let text = String::from_utf8(answer.body.to_vec()).unwrap();
                        assert!(text.contains(&value), "{case}: {text}");
                    }
                }
                if resource.create.ends_with("mappings") {
                    let mappings = setting.user.get("/api/mappings").await.json();
                    let path = format!("/api/mappings/{}", mappings[0]["id"]);
                    setting.user.delete(&path).await.expect(204);
                }
            }
        }
    }
}

fn parsed(value: &str) -> Value {
    serde_json::from_str(value).unwrap()
}

#[tokio::test]
async fn null_clears_every_optional_field() {
    let setting = Setting::new().await;
    for resource in resources(&setting) {
        for (name, kind, required) in resource.fields {
            if *required {
                continue;
            }
            let cleared = if matches!(kind, Metadata) { json!({}) } else { Value::Null };
            let create = body(&(resource.required)(&setting), name, "null");
            let answer = setting.send(&Method::POST, resource.create, create).await.expect(201);
            assert_eq!(answer.json()[name], cleared, "{name} of {}", resource.create);
            let Some(path) = &resource.change else { continue };
            let set = format!("{{\"{name}\":{}}}", kind.good().last().unwrap());
            setting.send(&Method::PUT, path, set).await.expect(200);
            let clear = format!("{{\"{name}\":null}}");
            let answer = setting.send(&Method::PUT, path, clear).await.expect(200);
            assert_eq!(answer.json()[name], cleared, "{name} of {}", resource.create);
        }
    }
}

#[tokio::test]
async fn a_required_field_that_is_missing_is_named() {
    let setting = Setting::new().await;
    for resource in resources(&setting) {
        let required = resource.fields.iter().filter(|(_, _, required)| *required);
        let names: Vec<&str> = required.map(|(name, ..)| *name).collect();
        let answer = setting.send(&Method::POST, resource.create, "{}").await;
        invalid(resource.create, answer, &names);
        for name in names {
            let mut body = (resource.required)(&setting);
            body.as_object_mut().unwrap().remove(name);
            let answer = setting.user.post(resource.create, &body).await;
            invalid(&format!("{name} of {}", resource.create), answer, &[name]);
        }
    }
    // Fields that are not sent are unchanged.
    for path in resources(&setting).iter().filter_map(|resource| resource.change.as_ref()) {
        let before = setting.user.get(path).await.body;
        assert_eq!(setting.user.put(path, &json!({})).await.expect(200).body, before);
    }
}

#[tokio::test]
async fn a_birth_date_may_be_tomorrow_but_no_later() {
    let setting = Setting::new().await;
    let path = format!("/api/patients/{}", setting.patient);
    let today = || Timestamp::now().to_zoned(TimeZone::UTC).date();
    loop {
        let day = today();
        let mut answers = Vec::new();
        for days in [1, 2] {
            let date = day.checked_add(days.days()).unwrap().to_string();
            answers.push(setting.user.put(&path, &json!({"date_of_birth": date})).await);
        }
        // Retried if midnight (UTC) passed in between.
        if today() != day {
            continue;
        }
        invalid("the day after tomorrow", answers.pop().unwrap(), &["date_of_birth"]);
        answers.pop().unwrap().expect(200);
        break;
    }
}

#[tokio::test]
async fn an_id_may_be_a_number_or_a_string_of_digits() {
    let setting = Setting::new().await;
    let (patient, doctor) = (setting.patient, setting.doctor);
    for body in [
        json!({"patient_id": patient, "doctor_id": doctor}),
        json!({"patient_id": patient.to_string(), "doctor_id": doctor.to_string()}),
    ] {
        let mapping = setting.user.post("/api/mappings", &body).await.expect(201);
        assert_eq!(mapping.json()["patient_id"], patient);
        assert_eq!(mapping.json()["doctor_id"], doctor);
        setting.user.delete(&format!("/api/mappings/{}", mapping.id())).await.expect(204);
    }
    // The largest id is valid, but not in use.
    for largest in [json!(i64::MAX), json!(i64::MAX.to_string())] {
        let body = json!({"patient_id": largest, "doctor_id": 1});
        let answer = setting.user.post("/api/mappings", &body).await;
        refused("patient", answer, 404, "patient_not_found");
        let body = json!({"patient_id": patient, "doctor_id": largest});
        let answer = setting.user.post("/api/mappings", &body).await;
        refused("doctor", answer, 404, "doctor_not_found");
    }
}

#[tokio::test]
async fn logging_in_with_what_can_never_be_right_is_just_wrong() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    for (email, password) in [
        ("nobody", "short"),
        ("", ""),
        ("a\0b@example.com", "long enough"),
        ("nobody@example.com", "nul\0nul\0nul"),
        ("' OR 1=1 --", "' OR 1=1 --"),
    ] {
        let body = json!({"email": email, "password": password});
        let answer = anyone.post("/api/auth/login", &body).await;
        refused(email, answer, 401, "invalid_credentials");
    }
    let long = json!({"email": "a@b", "password": "x".repeat(1000)});
    refused("long", anyone.post("/api/auth/login", &long).await, 401, "invalid_credentials");
    for (body, fields) in [
        (json!({}), &["email", "password"][..]),
        (json!({"email": "a@b"}), &["password"]),
        (json!({"email": 1, "password": ["x"]}), &["email", "password"]),
        (json!({"email": null, "password": "x"}), &["email"]),
        (json!({"email": "a@b", "password": "x", "name": "N"}), &["name"]),
    ] {
        let answer = anyone.post("/api/auth/login", &body).await;
        invalid(&body.to_string(), answer, fields);
    }
}
