//! The examples are answers of the service: a walk through all operations, compared with the ones
//! that are kept.

use std::fs;
use std::path::Path;

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Client, TestServer};
use crate::import::{CSV, NDJSON};

const KEPT: &str = include_str!("../../../src/openapi/examples.json");

/// Headers that belong to an example.
const HEADERS: [&str; 4] = ["allow", "etag", "link", "location"];

/// Members whose values are different each time.
const RANDOM: [&str; 5] = ["token", "refresh_token", "created_at", "updated_at", "created_by"];

const SHOWN_METRIC: &str = "healthcare_http_requests";

#[derive(Default)]
struct Walk(Map<String, Value>);

impl Walk {
    async fn step(
        &mut self,
        id: &str,
        client: &Client,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> Answer {
        let sent = body.as_ref().map(|body| match body {
            // Lines that are not JSON.
            Value::String(text) => text.clone().into(),
            body => body.to_string().into(),
        });
        let answer = client.send(method, target, sent).await;
        assert!(answer.status.is_success(), "{id}: {answer:?}");
        let mut example = Map::new();
        example.extend(body.map(|body| ("sent".to_owned(), body)));
        example.insert("status".to_owned(), answer.status.as_u16().into());
        let headers = HEADERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), answer.header(name)?.into())));
        example.insert("headers".to_owned(), headers.collect::<Map<_, _>>().into());
        if !answer.body.is_empty() {
            let json = answer.header("content-type") == Some("application/json");
            let body = if json { answer.json() } else { excerpt(&answer.body).into() };
            example.insert("body".to_owned(), body);
        }
        self.0.insert(id.to_owned(), example.into());
        answer
    }
}

/// The text of an answer, of which metrics are shown only in part.
fn excerpt(text: &[u8]) -> String {
    let text = str::from_utf8(text).unwrap();
    let metrics = text.starts_with('#');
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !metrics || line.contains(SHOWN_METRIC)).collect()
}

/// The example without what is different each time.
fn steady(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            // A user's id is random, and the version of the service rises.
            let (user, index) = (members.contains_key("role"), members.contains_key("links"));
            let members = members.iter().map(|(name, value)| {
                let random = match name.as_str() {
                    "id" => user,
                    "version" => index,
                    name => RANDOM.contains(&name),
                };
                (name.clone(), if random { Value::Null } else { steady(value) })
            });
            members.collect::<Map<_, _>>().into()
        }
        // Others may have asked, too.
        Value::String(text) if text.contains(SHOWN_METRIC) => Value::Null,
        Value::Array(items) => items.iter().map(steady).collect(),
        other => other.clone(),
    }
}

async fn walk(server: &TestServer) -> Value {
    use Method as M;
    let mut walk = Walk::default();
    let anyone = server.anyone();
    for (id, path) in
        [("getIndex", "/api"), ("getLive", "/health/live"), ("getReady", "/health/ready")]
    {
        walk.step(id, &anyone, M::GET, path, None).await;
    }
    walk.step("getMetrics", &anyone, M::GET, "/metrics", None).await;
    accounts(&mut walk, &anyone).await;
    let ada = anyone.logged_in("ada@example.com").await;
    records(&mut walk, &ada).await;
    lines(&mut walk, &ada).await;
    walk.step("logout", &ada, M::POST, "/api/auth/logout", None).await;
    walk.0.into()
}

async fn accounts(walk: &mut Walk, anyone: &Client) {
    use Method as M;
    let ada = json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse"});
    walk.step("register", anyone, M::POST, "/api/auth/register", Some(ada)).await;
    let login = json!({"email": "ada@example.com", "password": "correct horse"});
    let session = walk.step("login", anyone, M::POST, "/api/auth/login", Some(login)).await;
    let refresh = json!({"refresh_token": session.json()["refresh_token"]});
    let session = walk.step("refresh", anyone, M::POST, "/api/auth/refresh", Some(refresh)).await;
    let ada = anyone.with_token(session.json()["token"].as_str().unwrap());
    walk.step("getMe", &ada, M::GET, "/api/auth/me", None).await;
    let change = json!({"current_password": "correct horse", "new_password": "correct horse"});
    walk.step("changePassword", &ada, M::PUT, "/api/auth/password", Some(change)).await;
}

async fn records(walk: &mut Walk, ada: &Client) {
    use Method as M;
    let grace = json!({
        "name": "Grace",
        "age": 36,
        "gender": "female",
        "date_of_birth": "1990-02-28",
        "phone": "+1 555 0100",
        "blood_group": "O+",
        "allergies": "penicillin",
        "metadata": {"ward": "3B"},
    });
    walk.step("createPatient", ada, M::POST, "/api/patients", Some(grace)).await;
    ada.post("/api/patients", &json!({"name": "Alan"})).await.expect(201);
    walk.step("listPatients", ada, M::GET, "/api/patients?limit=1", None).await;
    walk.step("getPatient", ada, M::GET, "/api/patients/1", None).await;
    let change = json!({"phone": "+1 555 0199", "allergies": null});
    walk.step("changePatient", ada, M::PATCH, "/api/patients/1", Some(change)).await;
    let change = json!({"notes": "Prefers to be called in the evening."});
    walk.step("putPatient", ada, M::PUT, "/api/patients/1", Some(change)).await;

    let house = json!({
        "name": "Dr. House",
        "specialization": "Diagnostics",
        "email": "house@example.com",
        "years_of_experience": 20,
        "hospital": "Princeton-Plainsboro",
    });
    walk.step("createDoctor", ada, M::POST, "/api/doctors", Some(house)).await;
    walk.step("listDoctors", ada, M::GET, "/api/doctors", None).await;
    walk.step("getDoctor", ada, M::GET, "/api/doctors/1", None).await;
    let change = json!({"phone": "+1 555 0123"});
    walk.step("changeDoctor", ada, M::PATCH, "/api/doctors/1", Some(change)).await;
    let change = json!({"license_number": "NJ-4711"});
    walk.step("putDoctor", ada, M::PUT, "/api/doctors/1", Some(change)).await;

    let mapping = json!({"patient_id": 1, "doctor_id": 1, "notes": "Second opinion."});
    walk.step("createMapping", ada, M::POST, "/api/mappings", Some(mapping)).await;
    walk.step("listMappings", ada, M::GET, "/api/mappings", None).await;
    walk.step("listPatientsDoctors", ada, M::GET, "/api/mappings/1", None).await;
    walk.step("listDoctorsOfPatient", ada, M::GET, "/api/mappings/patient/1", None).await;
    walk.step("deleteMapping", ada, M::DELETE, "/api/mappings/1", None).await;
    walk.step("deleteDoctor", ada, M::DELETE, "/api/doctors/1", None).await;
    walk.step("deletePatient", ada, M::DELETE, "/api/patients/1", None).await;
}

/// Import and export, in both formats.
async fn lines(walk: &mut Walk, ada: &Client) {
    use Method as M;
    let json =
        "{\"name\":\"Grace\",\"age\":36,\"metadata\":{\"ward\":\"3B\"}}\n{\"name\":\"Alan\"}\n";
    let csv = "name,age,phone\r\n\"Hopper, Grace\",36,+1 555 0100\r\nAlan,,\r\n";
    let (import, export) = ("/api/patients/import", "/api/patients/export");
    let sends = [NDJSON, CSV].map(|media_type| ada.with("content-type", media_type));
    walk.step("importPatients", &sends[0], M::POST, import, Some(json.into())).await;
    walk.step("exportPatients", &ada.with("accept", NDJSON), M::GET, export, None).await;
    walk.step("importPatients 2", &sends[1], M::POST, import, Some(csv.into())).await;
    walk.step("exportPatients 2", &ada.with("accept", CSV), M::GET, export, None).await;
}

#[tokio::test]
async fn the_examples_are_answers_of_the_service() {
    let server = TestServer::start().await;
    let answered = walk(&server).await;
    if steady(&answered) != steady(&serde_json::from_str(KEPT).unwrap()) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples.json");
        fs::write(&file, serde_json::to_string_pretty(&answered).unwrap() + "\n").unwrap();
        panic!("copy {} to src/openapi/examples.json", file.display());
    }
}
