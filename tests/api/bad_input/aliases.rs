//! Aliases of fields: they are accepted in bodies, reported by the name that was sent, and must not
//! be combined with another name of the field.

use hyper::Method;
use serde_json::{Value, json};

use super::{Setting, invalid, refused_for};

/// Resource, field, alias, and a valid and an invalid value.
const ALIASES: [(&str, &str, &str, &str, &str); 12] = [
    ("patients", "phone", "phone_number", "\"123\"", "\"abc\""),
    ("patients", "phone", "contact", "\"123\"", "\"abc\""),
    ("patients", "phone", "contact_number", "\"123\"", "\"abc\""),
    ("patients", "date_of_birth", "dob", "\"2000-01-31\"", "\"31.1.2000\""),
    ("doctors", "phone", "phone_number", "\"123\"", "\"abc\""),
    ("doctors", "phone", "contact", "\"123\"", "\"abc\""),
    ("doctors", "phone", "contact_number", "\"123\"", "\"abc\""),
    ("doctors", "specialization", "specialty", "\"Cardiology\"", "null"),
    ("doctors", "years_of_experience", "experience", "30", "30.0"),
    ("doctors", "years_of_experience", "experience_years", "30", "\"30\""),
    ("doctors", "hospital", "hospital_name", "\"General\"", "7"),
    ("doctors", "hospital", "hospital_affiliation", "\"General\"", "7"),
];

/// The aliases of the ids, the only ones in camel case.
const IDS: [(&str, &str); 4] = [
    ("patient_id", "patient"),
    ("patient_id", "patientId"),
    ("doctor_id", "doctor"),
    ("doctor_id", "doctorId"),
];

/// The required fields without this one, which is appended.
fn others(resource: &str, field: &str) -> String {
    let required: &[(&str, &str)] = match resource {
        "doctors" => &[("name", "\"N\""), ("specialization", "\"S\"")],
        _ => &[("name", "\"N\"")],
    };
    let others = required.iter().filter(|(name, _)| *name != field);
    others.map(|(name, value)| format!("\"{name}\":{value},")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn an_alias_sets_its_field_and_is_not_shown() {
    let setting = Setting::new().await;
    for (resource, field, alias, good, _) in ALIASES {
        let path = format!("/api/{resource}");
        let good_value: Value = serde_json::from_str(good).unwrap();
        let create = format!("{{{}\"{alias}\":{good}}}", others(resource, field));
        let created = setting.send(&Method::POST, &path, create).await.expect(201);
        let one = format!("{path}/{}", created.id());
        let optional = !["name", "specialization"].contains(&field);
        if optional {
            let clear = format!("{{\"{alias}\":null}}");
            let cleared = setting.send(&Method::PATCH, &one, clear).await.expect(200);
            assert_eq!(cleared.json()[field], Value::Null, "{alias}");
        }
        let change = format!("{{\"{alias}\":{good}}}");
        let changed = setting.send(&Method::PUT, &one, change).await.expect(200);
        for answer in [created, changed, setting.user.get(&one).await] {
            let shown = answer.json();
            assert_eq!(shown[field], good_value, "{alias}");
            assert!(!shown.as_object().unwrap().contains_key(alias), "{alias}");
        }
    }
}

#[tokio::test]
async fn the_ids_of_a_mapping_have_aliases_too() {
    let setting = Setting::new().await;
    let (patient, doctor) = (setting.patient, setting.doctor);
    for (patient_name, doctor_name) in
        [("patient_id", "doctor"), ("patient", "doctor_id"), ("patientId", "doctorId")]
    {
        let body = json!({patient_name: patient, doctor_name: doctor.to_string()});
        let id = setting.user.post("/api/mappings", &body).await.expect(201).id();
        setting.user.delete(&format!("/api/mappings/{id}")).await.expect(204);
    }
    for (field, alias) in IDS {
        let mut body = json!({"patient_id": patient, "doctor_id": doctor});
        body.as_object_mut().unwrap().remove(field);
        body[alias] = json!("01");
        invalid(alias, setting.user.post("/api/mappings", &body).await, &[alias]);
        body[alias] = json!(1);
        body[field] = json!(1);
        let answer = setting.user.post("/api/mappings", &body).await.expect(422);
        assert_eq!(answer.bad_fields().len(), 1, "{alias}");
    }
}

#[tokio::test]
async fn a_bad_value_is_known_by_the_name_that_was_sent() {
    let setting = Setting::new().await;
    for (resource, field, alias, _, bad) in ALIASES {
        let path = format!("/api/{resource}");
        let create = format!("{{{}\"{alias}\":{bad}}}", others(resource, field));
        invalid(alias, setting.send(&Method::POST, &path, create).await, &[alias]);
    }
}

#[tokio::test]
async fn a_field_given_twice_is_refused_under_any_of_its_names() {
    let setting = Setting::new().await;
    for (resource, field, alias, good, _) in ALIASES {
        let path = format!("/api/{resource}");
        let others = others(resource, field);
        for (first, second) in [(field, alias), (alias, field), (alias, alias), (field, field)] {
            let body = format!("{{{others}\"{first}\":{good},\"{second}\":{good}}}");
            let case = format!("{first} and {second} of {resource}");
            invalid(&case, setting.send(&Method::POST, &path, body).await, &[second]);
        }
    }
    let twice = r#"{"name":"N","contact":"1","phone_number":"1"}"#;
    let answer = setting.send(&Method::POST, "/api/patients", twice).await;
    invalid("two aliases", answer, &["phone_number"]);
    // Null is a value like any other.
    let twice = r#"{"name":"N","phone":null,"contact":"1"}"#;
    let answer = setting.send(&Method::POST, "/api/patients", twice).await;
    invalid("null and an alias", answer, &["contact"]);
    // Escaped, it is the same name.
    let twice = r#"{"name":"N","\u006eame":"N"}"#;
    let answer = setting.send(&Method::POST, "/api/patients", twice).await;
    invalid("an escaped name", answer, &["name"]);
}

#[tokio::test]
async fn an_alias_of_another_resource_is_unknown_and_filters_have_none() {
    let setting = Setting::new().await;
    for (resource, alias) in
        [("patients", "specialty"), ("patients", "patientId"), ("doctors", "dob")]
    {
        let body = format!("{{{}\"{alias}\":\"1\"}}", others(resource, ""));
        let answer = setting.send(&Method::POST, &format!("/api/{resource}"), body).await;
        invalid(alias, answer, &[alias]);
    }
    for (list, filter) in [
        ("doctors", "specialty"),
        ("mappings", "patient"),
        ("mappings", "patientId"),
        ("mappings", "doctor"),
    ] {
        let answer = setting.user.get(&format!("/api/{list}?{filter}=1")).await;
        refused_for(filter, answer, 400, "bad_query", &[filter]);
    }
}
