//! The log: one entry for each request, and no data of clients.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;

use bytes::Bytes;
use futures_util::future::join_all;
use healthcare_backend::db::embedded;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::program::{Workplace, database_url, with_database};
use crate::harness::socket::{request, send};
use crate::harness::{Answer, Client, Lock, TestDb, random, until};

/// Generates values that are recognized wherever they turn up.
#[derive(Default)]
struct Canaries(Vec<String>);

impl Canaries {
    fn word(&mut self) -> String {
        self.keep(format!("canary{}", random()))
    }

    fn email(&mut self) -> String {
        format!("{}@example.com", self.word())
    }

    fn phone(&mut self) -> String {
        self.keep(format!("{:020}", getrandom::u64().unwrap()))
    }

    fn date(&mut self) -> String {
        self.keep("1871-11-17".to_owned())
    }

    fn keep(&mut self, value: String) -> String {
        self.0.push(value.clone());
        value
    }

    fn patient(&mut self) -> Value {
        json!({
            "name": self.word(), "age": 149, "gender": "female", "date_of_birth": self.date(),
            "phone": self.phone(), "email": self.email(), "address": self.word(),
            "blood_group": "AB-", "allergies": self.word(), "medical_history": self.word(),
            "notes": self.word(), "emergency_contact_name": self.word(),
            "emergency_contact_phone": self.phone(), "metadata": {self.word(): self.word()},
        })
    }

    fn doctor(&mut self) -> Value {
        json!({
            "name": self.word(), "specialization": self.word(), "email": self.email(),
            "phone": self.phone(), "license_number": self.word(), "years_of_experience": 79,
            "qualification": self.word(), "hospital": self.word(), "address": self.word(),
            "bio": self.word(), "metadata": {self.word(): [self.word()]},
        })
    }

    #[track_caller]
    fn check(&self, place: &str, text: &str) {
        let lower = text.to_ascii_lowercase();
        for canary in &self.0 {
            if let Some(at) = lower.find(&canary.to_ascii_lowercase()) {
                let start = lower.floor_char_boundary(at.saturating_sub(200));
                panic!("{canary} is in {place}: {}", &text[start..at + canary.len()]);
            }
        }
    }
}

/// Registers and logs in, with right and wrong passwords.
async fn authenticate(anyone: &Client, canaries: &mut Canaries) -> Client {
    let (name, email, password) = (canaries.word(), canaries.email(), canaries.word());
    let register = json!({"name": name, "email": email, "password": password});
    let session = anyone.post("/api/auth/register", &register).await.expect(201).json();
    let token = canaries.keep(session["token"].as_str().unwrap().to_owned());
    for part in token.split('.') {
        canaries.keep(part.to_owned());
    }
    anyone.post("/api/auth/register", &register).await.expect_error(409, "email_taken");
    let login = json!({"email": email, "password": canaries.word()});
    anyone.post("/api/auth/login", &login).await.expect(401);
    let login = json!({"email": canaries.email(), "password": canaries.word()});
    anyone.post("/api/auth/login", &login).await.expect(401);
    let login = json!({"email": email, "password": password});
    let session = anyone.post("/api/auth/login", &login).await.expect(200).json();
    canaries.keep(session["token"].as_str().unwrap().to_owned());
    anyone.with_token(&canaries.word()).get("/api/auth/me").await.expect(401);
    anyone.with_token(&token)
}

/// Provokes every kind of failed request, with canaries in all of them.
async fn misbehave(user: &Client, patient: i64, doctor: i64, canaries: &mut Canaries) {
    let target = format!("/api/patients/{patient}");
    let word = canaries.word();
    user.get(&format!("/{word}")).await.expect(404);
    user.get(&format!("/api/patients/{word}")).await.expect(404);
    user.get(&format!("{target}?{word}={word}")).await.expect_error(400, "bad_query");
    user.get(&format!("/api/patients?gender={word}")).await.expect_error(400, "bad_query");
    user.get(&format!("/api/patients?limit={word}")).await.expect_error(400, "bad_query");
    let method = Method::from_bytes(canaries.word().as_bytes()).unwrap();
    user.send(method, "/api/patients", None).await.expect(405);
    let text = |text: String| Some(Bytes::from(text));
    let broken = text(format!("{{\"name\": \"{word}\""));
    user.send(Method::POST, "/api/patients", broken).await.expect_error(400, "malformed_json");
    let typed = user.with("content-type", &format!("text/{word}"));
    typed.send(Method::POST, "/api/patients", text(word.clone())).await.expect(415);
    let large = text(word.repeat(20_000));
    user.send(Method::POST, "/api/patients", large).await.expect(413);
    let mut wrong = canaries.patient();
    for field in ["age", "gender", "date_of_birth", "phone", "email", "blood_group", "metadata"] {
        wrong[field] = canaries.word().into();
    }
    wrong[canaries.word()] = canaries.word().into();
    user.post("/api/patients", &wrong).await.expect_error(422, "validation_failed");
    user.patch(&target, &json!({"notes": canaries.word(), "name": 1})).await.expect(422);
    let stale = user.with("if-match", &format!("\"{}\"", canaries.word()));
    stale.patch(&target, &json!({"notes": canaries.word()})).await.expect(412);
    user.patch("/api/patients/4711", &json!({"notes": canaries.word()})).await.expect(404);
    let mapping = json!({"patient_id": patient, "doctor_id": doctor, "notes": canaries.word()});
    user.post("/api/mappings", &mapping).await.expect(201);
    user.post("/api/mappings", &mapping).await.expect_error(409, "already_assigned");
    user.delete(&format!("/api/doctors/{doctor}")).await.expect_error(409, "doctor_assigned");
    let mapping = json!({"patient_id": patient, "doctor_id": 4711, "notes": canaries.word()});
    user.post("/api/mappings", &mapping).await.expect_error(404, "doctor_not_found");
}

#[tokio::test]
async fn nothing_that_a_client_sends_is_in_any_log() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[("LOG", "trace")]);
    let mut canaries = Canaries::default();
    let agent = canaries.word();
    let anyone = program.client().with("user-agent", &agent);
    let user = authenticate(&anyone, &mut canaries).await;
    let patient = user.post("/api/patients", &canaries.patient()).await.expect(201).id();
    let doctor = user.post("/api/doctors", &canaries.doctor()).await.expect(201).id();
    let target = format!("/api/patients/{patient}");
    user.put(&target, &canaries.patient()).await.expect(200);
    user.get(&target).await.expect(200);
    for list in ["patients", "doctors"] {
        let word = canaries.word();
        user.get(&format!("/api/{list}?search={word}&limit=1")).await.expect(200);
    }
    let word = canaries.word();
    user.get(&format!("/api/doctors?specialization={word}")).await.expect(200);
    misbehave(&user, patient, doctor, &mut canaries).await;

    // A statement that the database cancels.
    let socket = workplace.data().join("run");
    let options = embedded::socket_options(&socket, "healthcare", "healthcare");
    let connect = async || options.connect().await.unwrap();
    let lock = Lock::patients(connect().await, &[patient]).await;
    let (changing, change) = (user.clone(), canaries.patient());
    let blocked = tokio::spawn(async move { changing.patch(&target, &change).await });
    let waiting = lock.awaited_by(1).await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM unnest($1::int[]) AS pid";
    connect().await.query(cancel, &[&waiting]).await.unwrap();
    blocked.await.unwrap().expect_error(503, "database_unavailable");
    lock.release().await;

    let ended = program.stop();
    assert!(canaries.0.len() > 80);
    canaries.check("standard output", &ended.stdout);
    canaries.check("standard error", &ended.stderr);
    let log = fs::read_to_string(workplace.data().join("postgresql.log")).unwrap();
    canaries.check("the database's log", &log);
    assert!(ended.stdout.contains("request failed"), "{}", ended.stdout);
}

/// Client, method, target and body; the status, route and user of the log entry.
type Case<'a> = (&'a Client, &'a str, &'a str, Option<&'a str>, u16, &'a str, Option<&'a str>);

/// The fields of an access log entry.
fn read_line(line: &str) -> HashMap<&str, &str> {
    line.split(' ')
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect()
}

#[tokio::test]
async fn each_request_leaves_one_line_that_says_what_it_was() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let anyone = program.client();
    let ada = program.client().registered("ada@example.com").await;
    let me = ada.get("/api/auth/me").await.expect(200).id().to_string();
    let patient = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let (one, none) = (format!("/api/patients/{patient}"), String::from("/api/patients/4711"));
    let with_query = String::from("/api/patients/?search=x");

    let me = Some(me.as_str());
    let cases: Vec<Case<'_>> = vec![
        (&anyone, "GET", "/health/live", None, 200, "/health/live", None),
        (&anyone, "HEAD", "/health/ready/", None, 200, "/health/ready", None),
        (&anyone, "GET", "/health", None, 200, "/health/ready", None),
        (&anyone, "GET", "/", None, 200, "/api", None),
        (&anyone, "POST", "/api/auth/login", Some("{}"), 422, "/api/auth/login", None),
        (&anyone, "GET", "/api/patients", None, 401, "/api/patients", None),
        (&anyone, "OPTIONS", "/api/patients", None, 204, "/api/patients", None),
        (&ada, "GET", "/nowhere", None, 404, "-", None),
        (&ada, "GET", &with_query, None, 200, "/api/patients", me),
        (&ada, "GET", &one, None, 200, "/api/patients/{id}", me),
        (&ada, "GET", &none, None, 404, "/api/patients/{id}", me),
        (&ada, "PATCH", &one, Some("{\"age\":1}"), 200, "/api/patients/{id}", me),
        (&ada, "PUT", &one, Some("["), 400, "/api/patients/{id}", me),
        (&ada, "DELETE", &one, None, 204, "/api/patients/{id}", me),
        (&ada, "POST", &one, None, 405, "/api/patients/{id}", None),
        (&ada, "BREW", "/api/doctors", None, 405, "/api/doctors", None),
    ];
    let mut expected = Vec::new();
    for (client, method, target, body, status, route, user) in cases {
        let id = format!("test-{}", random());
        let verb = Method::from_bytes(method.as_bytes()).unwrap();
        let body = body.map(|body| Bytes::from(body.to_owned()));
        let answer = client.with("x-request-id", &id).send(verb, target, body).await;
        assert_eq!(answer.expect(status).header("x-request-id"), Some(id.as_str()));
        let method = if method == "BREW" { "OTHER" } else { method };
        expected.push((id, method, route, status.to_string(), user));
    }
    let made: Answer = anyone.get("/health/live").await;
    let made = made.header("x-request-id").unwrap().to_owned();
    expected.push((made, "GET", "/health/live", "200".to_owned(), None));

    let stdout = program.stop().stdout;
    for (id, method, route, status, user) in expected {
        let lines: Vec<&str> = stdout.lines().filter(|line| line.contains(&id)).collect();
        let [line] = lines[..] else { panic!("{} lines for {id}: {stdout}", lines.len()) };
        let said = read_line(line);
        assert_eq!(said["id"], id, "{line}");
        let found = (said["method"], said["route"], said["status"], said.get("user").copied());
        assert_eq!(found, (method, route, status.as_str(), user), "{line}");
        said["us"].parse::<u64>().unwrap();
    }
}

#[tokio::test]
async fn a_request_whose_client_left_leaves_its_line_too() {
    let database = TestDb::new().await;
    let url = database_url(&database.config_for_locks());
    let workplace = Workplace::new();
    let settings = [&with_database(&url)[..], &[("WORKERS", "1")]].concat();
    let program = workplace.serve(&settings);
    let ada = program.client().registered("ada@example.com").await;
    let patient = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{patient}");
    let lock = Lock::table(database.connect().await).await;
    let sockets = [
        send(program.address(), &request("GET", &target, ada.token(), "")).await,
        send(program.address(), &request("PATCH", &target, ada.token(), "{\"age\":1}")).await,
    ];
    lock.awaited_by(2).await;
    drop(sockets);
    // The only worker handles this after the others have disconnected.
    program.client().get("/health/live").await.expect(200);
    lock.release().await;
    let asked = Cell::new(0);
    until("the change arrives", async || {
        asked.set(asked.get() + 1);
        let age = ada.get(&target).await.expect(200).json()["age"].clone();
        (age == 1).then_some(())
    })
    .await;

    let stdout = program.stop().stdout;
    let statuses = |method: &str| -> Vec<String> {
        let lines = stdout.lines().map(read_line);
        let of_patient = lines.filter(|said| {
            said.get("route") == Some(&"/api/patients/{id}") && said.get("method") == Some(&method)
        });
        of_patient.map(|said| said["status"].to_owned()).collect()
    };
    assert_eq!(statuses("PATCH"), ["200"], "{stdout}");
    // Those of the request that was cancelled, and of those that waited for the change.
    assert_eq!(statuses("GET").len(), 1 + asked.get(), "{stdout}");
}

#[tokio::test]
async fn a_merged_insert_that_is_refused_is_a_line_with_its_code() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let settings = [&with_database(&url)[..], &[("WORKERS", "1")]].concat();
    let program = workplace.serve(&settings);
    let ada = program.client().registered("ada@example.com").await;
    let gone = program.client().registered("gone@example.com").await;
    let sql = "DELETE FROM sessions WHERE user_id = $1";
    let client = database.connect().await;
    let id = gone.user_id().await;
    client.execute(sql, &[&id]).await.unwrap();
    client.execute("DELETE FROM users WHERE id = $1", &[&id]).await.unwrap();

    let mut canaries = Canaries::default();
    let bodies = [canaries.patient(), canaries.patient()];
    until("two come at the same moment", async || {
        let create = async |client: &Client, body| drop(client.post("/api/patients", body).await);
        let both = (0..20).map(async |_| {
            tokio::join!(create(&ada, &bodies[0]), create(&gone, &bodies[1]));
        });
        join_all(both).await;
        program.has_said("sent row by row").then_some(())
    })
    .await;
    let stdout = program.stop().stdout;
    canaries.check("standard output", &stdout);
    let line = stdout.lines().find(|line| line.contains("sent row by row")).unwrap();
    let said = read_line(line);
    assert_eq!((said["statement"], said["code"]), ("patients/create_many", "invalid_token"));
}

#[tokio::test]
async fn what_fails_in_the_background_is_logged_with_its_code() {
    let database = TestDb::new().await;
    let url = database_url(database.config().options("-cdefault_transaction_read_only=on"));
    let settings = [("DATABASE_URL", &*url), ("JWT_SECRET", "a secret of 32 bytes, for the tests")];
    let workplace = Workplace::new();
    let program = workplace.serve(&settings);
    program.says("cannot remove what is over");
    let log = program.stop().stdout;
    let line = log.lines().find(|line| line.contains("cannot remove")).unwrap();
    assert!(line.contains(r#"code="read_only""#) && !line.contains(r#"cause="""#), "{line}");
}
