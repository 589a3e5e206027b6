//! Mistakes: what a client gets wrong in a request, and the error response. What is sent to do harm
//! is in `attacks`; what is valid but slow, too much at once or from another origin is in `edge`.

mod aliases;
mod bodies;
mod fields;
mod headers;
mod json;
mod paths;
mod queries;
mod rules;
mod sizes;

use hyper::Method;
use serde_json::json;

use crate::harness::{Answer, Client, TestServer, random};

/// What no response may reveal: SQL, internal names, source locations.
const INTERNALS: [&str; 12] = [
    "SELECT",
    "INSERT",
    "DELETE FROM",
    "WHERE",
    "SQLSTATE",
    "constraint",
    "_check",
    "_fkey",
    "_pkey",
    "pg_",
    "src/",
    "panicked",
];

/// The response, which must be this error and reveal nothing internal.
#[track_caller]
fn refused(case: &str, answer: Answer, status: u16, code: &str) -> Answer {
    assert_eq!((answer.status.as_u16(), case), (status, case), "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{case}: {answer:?}");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for word in INTERNALS {
        assert!(!text.contains(word), "{case} shows {word}: {text}");
    }
    answer
}

/// The response, which must refuse exactly these fields or parameters, in any order.
#[track_caller]
fn refused_for(case: &str, answer: Answer, status: u16, code: &str, fields: &[&str]) -> Answer {
    let answer = refused(case, answer, status, code);
    let mut found = answer.bad_fields();
    found.sort_unstable();
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    assert_eq!(found, fields, "{case}: {answer:?}");
    answer
}

#[track_caller]
fn invalid(case: &str, answer: Answer, fields: &[&str]) -> Answer {
    refused_for(case, answer, 422, "validation_failed", fields)
}

/// A user with a patient and a doctor of their own.
struct Setting {
    server: TestServer,
    user: Client,
    patient: i64,
    doctor: i64,
}

impl Setting {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let user = server.user().await;
        let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        let body = json!({"name": "D", "specialization": "S"});
        let doctor = user.post("/api/doctors", &body).await.expect(201).id();
        Self { server, user, patient, doctor }
    }

    /// Every method and path that reads a body, with a valid one.
    fn readers(&self) -> Vec<(Method, String, String)> {
        let Self { patient, doctor, .. } = self;
        let account = format!("{}@example.com", random());
        let register = json!({"name": "N", "email": account, "password": "long enough"});
        let login = json!({"email": account, "password": "long enough"});
        let person = json!({"name": "N"});
        let new_doctor = json!({"name": "N", "specialization": "S"});
        let pair = json!({"patient_id": patient, "doctor_id": doctor});
        [
            (Method::POST, "/api/auth/register".to_owned(), register),
            (Method::POST, "/api/auth/login".to_owned(), login),
            (Method::POST, "/api/patients".to_owned(), person.clone()),
            (Method::PUT, format!("/api/patients/{patient}"), person.clone()),
            (Method::PATCH, format!("/api/patients/{patient}"), person.clone()),
            (Method::POST, "/api/doctors".to_owned(), new_doctor),
            (Method::PUT, format!("/api/doctors/{doctor}"), person.clone()),
            (Method::PATCH, format!("/api/doctors/{doctor}"), person),
            (Method::POST, "/api/mappings".to_owned(), pair),
        ]
        .map(|(method, path, body)| (method, path, body.to_string()))
        .into()
    }

    async fn send(&self, method: &Method, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.user.send(method.clone(), path, Some(body.into().into())).await
    }
}
