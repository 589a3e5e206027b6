//! Patients and doctors follow the same rules, so each rule is tested on both.

mod aliases;
mod bounds;
mod fields;
mod metadata;
mod versions;

use serde_json::{Map, Value, json};

use crate::harness::{Answer, Client};

/// The fields that the server sets.
pub const SERVER_FIELDS: [&str; 5] = ["id", "created_by", "version", "created_at", "updated_at"];

/// A kind of resource.
pub struct Kind {
    pub path: &'static str,
    pub not_found: &'static str,
    pub required: &'static [&'static str],
    /// Every field with a unique value.
    pub full: fn() -> Value,
    /// Every field with another value.
    pub other: fn() -> Value,
}

pub const PATIENT: Kind = Kind {
    path: "/api/patients",
    not_found: "patient_not_found",
    required: &["name"],
    full: || {
        json!({
            "name": "Ada", "age": 36, "gender": "Female", "date_of_birth": "1915-12-10",
            "phone": "+1 (2) 3", "email": "ada@example.com", "address": "St James's Square",
            "blood_group": "AB-", "allergies": "Pollen", "medical_history": "Measles",
            "notes": "Writes notes", "emergency_contact_name": "Charles",
            "emergency_contact_phone": "4.5/6#x7", "metadata": {"clinic": 1},
        })
    },
    other: || {
        json!({
            "name": "Grace", "age": 0, "gender": "m", "date_of_birth": "2000-02-29",
            "phone": "112", "email": "grace@example.org", "address": "Arlington",
            "blood_group": "O+", "allergies": "Moths", "medical_history": "None",
            "notes": "", "emergency_contact_name": "Vincent",
            "emergency_contact_phone": "999", "metadata": {"ward": [2]},
        })
    },
};

pub const DOCTOR: Kind = Kind {
    path: "/api/doctors",
    not_found: "doctor_not_found",
    required: &["name", "specialization"],
    full: || {
        json!({
            "name": "House", "specialization": "Nephrology", "email": "house@example.com",
            "phone": "+1 609 555", "license_number": "NJ-1", "years_of_experience": 25,
            "qualification": "MD", "hospital": "Princeton", "address": "221B", "bio": "Limps",
            "metadata": {"clinic": 1},
        })
    },
    other: || {
        json!({
            "name": "Wilson", "specialization": "Oncology", "email": "wilson@example.org",
            "phone": "112", "license_number": "", "years_of_experience": 0,
            "qualification": "PhD", "hospital": "McGill", "address": "Elsewhere", "bio": "Listens",
            "metadata": {"ward": [2]},
        })
    },
};

pub const KINDS: [&Kind; 2] = [&PATIENT, &DOCTOR];

impl Kind {
    pub fn target(&self, id: i64) -> String {
        format!("{}/{id}", self.path)
    }

    /// Every field of `full` by its name.
    pub fn full_fields(&self) -> Map<String, Value> {
        object((self.full)())
    }

    /// The required fields of `full`.
    pub fn minimal(&self) -> Value {
        let full = self.full_fields();
        let required = full.into_iter().filter(|(name, _)| self.required.contains(&name.as_str()));
        Value::Object(required.collect())
    }

    /// Creates a resource and returns its path.
    pub async fn create(&self, client: &Client, body: &Value) -> (String, Value) {
        let created = client.post(self.path, body).await.expect(201);
        (self.target(created.id()), created.json())
    }

    /// The resource, and the caller's whole list.
    pub async fn read(&self, client: &Client, target: &str) -> Value {
        let found = client.get(target).await.expect(200).json();
        let list = client.get(self.path).await.expect(200).json();
        assert!(list.as_array().unwrap().contains(&found), "{found} is not in {list}");
        found
    }
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// The expected resource after a change of fields: the next version, updated later.
#[track_caller]
pub fn assert_changed(before: &Value, changes: &Value, answer: &Answer) {
    let after = answer.json();
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str(), "{after}");
    let mut expected = object(before.clone());
    expected.extend(object(changes.clone()));
    expected["version"] = json!(before["version"].as_i64().unwrap() + 1);
    expected["updated_at"] = after["updated_at"].clone();
    assert_eq!(after, Value::Object(expected));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", after["version"])));
}
