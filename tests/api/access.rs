//! Authorization: every route with every method, for every kind of client.

pub mod table;
pub mod tokens;

use std::fmt;

use bytes::Bytes;
use healthcare_backend::routes::{Access, Route};
use hyper::Method;
use serde_json::{Value, json};

use self::table::{Id, Row, TABLE, row_of};
use self::tokens::bad_tokens;
use crate::harness::{Answer, Client, TestServer, random};

/// Each HTTP method except CONNECT, which is for proxies, and one unknown method.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];

/// The rows that requests name. All belong to the owner.
struct Examples {
    email: String,
    refresh_token: String,
    patient: i64,
    /// Not assigned, so that it can be deleted.
    doctor: i64,
    mapping: i64,
}

impl Examples {
    async fn of(owner: &Client) -> Self {
        let email = owner.get("/api/auth/me").await.json()["email"].as_str().unwrap().to_owned();
        let login = json!({"email": email, "password": "correct horse"});
        let session = owner.post("/api/auth/login", &login).await.expect(200).json();
        let refresh_token = session["refresh_token"].as_str().unwrap().to_owned();
        let patient = owner.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        let body = json!({"name": "D", "specialization": "S"});
        let doctor = owner.post("/api/doctors", &body).await.expect(201).id();
        let assigned = owner.post("/api/doctors", &body).await.expect(201).id();
        let body = json!({"patient_id": patient, "doctor_id": assigned});
        let mapping = owner.post("/api/mappings", &body).await.expect(201).id();
        Self { email, refresh_token, patient, doctor, mapping }
    }

    /// One of a row's paths.
    fn path(&self, row: &Row, path: &str, method: &str) -> String {
        let id = match row.id {
            Id::None => return path.to_owned(),
            Id::Doctor => self.doctor,
            Id::PatientOrMapping if method == "DELETE" => self.mapping,
            Id::Patient | Id::PatientOrMapping => self.patient,
        };
        path.replace("{id}", &id.to_string())
    }

    /// A body that succeeds for the owner.
    fn body(&self, row: &Row, method: &str) -> Option<Bytes> {
        if !["POST", "PUT", "PATCH"].contains(&method) {
            return None;
        }
        let email = format!("new-{}@example.com", random());
        let body: Value = match row.label {
            "/api/auth/register" => json!({"name": "N", "email": email, "password": "long enough"}),
            "/api/auth/login" => json!({"email": self.email, "password": "correct horse"}),
            "/api/auth/refresh" => json!({"refresh_token": self.refresh_token}),
            "/api/auth/password" => {
                json!({"current_password": "correct horse", "new_password": "correct horse"})
            }
            "/api/mappings" => json!({"patient_id": self.patient, "doctor_id": self.doctor}),
            "/api/doctors" => json!({"name": "N", "specialization": "S"}),
            _ => json!({"name": "N"}),
        };
        Some(body.to_string().into())
    }
}

/// One cell of the table, for messages.
struct Cell<'a> {
    method: &'a str,
    path: &'a str,
    who: &'a str,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} by {}", self.method, self.path, self.who)
    }
}

impl Cell<'_> {
    async fn ask(&self, client: &Client, body: Option<Bytes>) -> Answer {
        let lines = client.with("content-type", "application/x-ndjson");
        let client = if self.path.starts_with("/api/patients/import") { &lines } else { client };
        client.send(Method::from_bytes(self.method.as_bytes()).unwrap(), self.path, body).await
    }

    fn check(&self, row: &Row, answer: &Answer, status: u16, code: &str) {
        assert_eq!(answer.status, status, "{self}: {answer:?}");
        let allow = (status == 405 || self.method == "OPTIONS").then_some(row.allow);
        assert_eq!(answer.header("allow"), allow, "{self}");
        if !code.is_empty() && self.method != "HEAD" {
            assert_eq!(answer.json()["code"], code, "{self}");
        }
        let challenge = match code {
            "unauthorized" => Some("Bearer"),
            "invalid_token" => Some("Bearer error=\"invalid_token\""),
            _ => None,
        };
        assert_eq!(answer.header("www-authenticate"), challenge, "{self}");
    }
}

/// The expected response if it does not depend on the client.
fn without_identity(row: &Row, method: &str) -> Option<(u16, &'static str)> {
    match method {
        _ if !row.allow.split(", ").any(|allowed| allowed == method) => {
            Some((405, "method_not_allowed"))
        }
        "OPTIONS" => Some((204, "")),
        _ => None,
    }
}

/// Every path of a row with every method.
fn requests(row: &Row) -> impl Iterator<Item = (String, &'static str)> {
    let paths = row.paths();
    METHODS.into_iter().flat_map(move |method| paths.clone().into_iter().map(move |p| (p, method)))
}

#[tokio::test]
async fn without_a_valid_token_nothing_but_the_public_routes_works() {
    let server = TestServer::start().await;
    let (owner, other) = (server.user().await, server.user().await);
    let examples = Examples::of(&owner).await;
    let mut callers = vec![("nobody", server.anyone(), "unauthorized")];
    for (who, token) in bad_tokens(owner.token(), other.token()) {
        callers.push((who, server.anyone().with_token(&token), "invalid_token"));
    }
    for row in TABLE {
        for (path, method) in requests(row) {
            let path = examples.path(row, &path, method);
            for (who, client, refusal) in &callers {
                let cell = Cell { method, path: &path, who };
                let (status, code) =
                    without_identity(row, method).unwrap_or_else(|| match row.access {
                        Access::User => (401, refusal),
                        Access::Anyone => (row.cell(method).owner, ""),
                    });
                let answer = cell.ask(client, examples.body(row, method)).await;
                cell.check(row, &answer, status, code);
            }
        }
    }
    // None of it had an effect.
    for (list, count) in [("patients", 1), ("doctors", 2), ("mappings", 1)] {
        let list = owner.get(&format!("/api/{list}")).await.expect(200).json();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), count, "{list:?}");
        // A mapping has no version.
        assert!(list.iter().all(|item| [&json!(1), &Value::Null].contains(&&item["version"])));
    }
}

#[tokio::test]
async fn the_owner_and_another_user_get_what_the_table_says() {
    let server = TestServer::start().await;
    for row in TABLE {
        let emails = [random(), random()].map(|name| format!("{name}@example.com"));
        for email in &emails {
            server.anyone().registered(email).await;
        }
        for (path, method) in requests(row) {
            for who in ["another user", "the owner"] {
                // One cell may delete or end what the next one needs.
                let owner = server.anyone().logged_in(&emails[0]).await;
                let examples = Examples::of(&owner).await;
                let other = server.anyone().logged_in(&emails[1]).await;
                let client = if who == "the owner" { &owner } else { &other };
                let path = examples.path(row, &path, method);
                let cell = Cell { method, path: &path, who };
                let (status, code) = without_identity(row, method).unwrap_or_else(|| {
                    let expected = row.cell(method);
                    if who == "the owner" { (expected.owner, "") } else { expected.other }
                });
                let answer = cell.ask(client, examples.body(row, method)).await;
                cell.check(row, &answer, status, code);
            }
        }
    }
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_not_found_whoever_asks_and_however() {
    let server = TestServer::start().await;
    let clients = [server.anyone(), server.anyone().with_token("garbage"), server.user().await];
    for path in [
        "//",
        "/api//",
        "/api/auth",
        "/api/auth/token",
        "/api/auth/token/refresh/x",
        "/api/mappings/patient",
        "/api/mappings/patient/x",
        "/api/mappings/patient/01",
        "/api/patients/patient/1",
        "/api/patient",
        "/api/patients/1/2",
        "/api/patients//",
        "//api/patients",
        "/api//patients",
        "/API/patients",
        "/api/%70atients",
        "/api/auth/me/x",
        "/health//",
        "/health/dead",
        "/api/patients/x?broken=%",
    ] {
        for method in METHODS {
            for client in &clients {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let answer = client.send(method.clone(), path, Some("not JSON".into())).await;
                assert_eq!(answer.status, 404, "{method} {path}");
                assert_eq!(answer.header("allow"), None, "{method} {path}");
                if method != Method::HEAD {
                    answer.expect_error(404, "not_found");
                }
            }
        }
    }
}

#[test]
fn the_table_has_every_route() {
    // `row_of` matches exhaustively, so that a route without a row does not compile.
    for row in TABLE {
        for path in row.paths() {
            let path = path.replace("{id}", "7");
            let route = Route::parse(&path).unwrap();
            assert_eq!(row_of(route).label, row.label);
            assert_eq!(route.label(), row.label);
            assert_eq!(route.allow(), row.allow, "{path}");
            assert_eq!(route.access(), row.access, "{path}");
            for method in METHODS {
                let allowed = row.allow.split(", ").any(|allowed| allowed == method);
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                assert_eq!(route.allows(&method), allowed, "{method} {path}");
            }
        }
        for method in row.allow.split(", ").filter(|method| *method != "OPTIONS") {
            row.cell(method);
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let server = TestServer::start().await;
    let owner = server.user().await;
    let examples = Examples::of(&owner).await;
    for row in TABLE.iter().filter(|row| row.allow.contains("HEAD")) {
        let path = examples.path(row, row.label, "GET");
        let get = owner.get(&path).await.expect(200);
        let head = owner.send(Method::HEAD, &path, None).await.expect(200);
        for name in ["content-type", "content-length", "etag", "link"] {
            // Each request changes what they say.
            if (name, row.label) == ("content-length", "/metrics") {
                continue;
            }
            assert_eq!(get.header(name), head.header(name), "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn the_index_names_the_service_and_links_to_what_exists() {
    let server = TestServer::start().await;
    let index = server.anyone().get("/").await.expect(200).json();
    assert_eq!(index, server.anyone().get("/api").await.expect(200).json());
    assert_eq!(index["name"], "healthcare-backend");
    assert_eq!(index["version"], env!("CARGO_PKG_VERSION"));
    for (name, path) in index["links"].as_object().unwrap() {
        let path = path.as_str().unwrap();
        assert_eq!(Route::parse(path).map(Route::label), Some(path), "{name}");
    }
    // The health of the process is a part of that of the service, and a file one of the page; the
    // rest needs an id.
    let links: Vec<&str> =
        index["links"].as_object().unwrap().values().filter_map(Value::as_str).collect();
    for row in TABLE.iter().filter(|row| !row.label.contains("{id}")) {
        let linked = links.contains(&row.label);
        let part = matches!(row.label, "/api" | "/health/live") || row.label.starts_with("/docs/");
        assert_eq!(linked, !part, "{}", row.label);
    }
    server.anyone().get("/?x=1").await.expect_error(400, "bad_query");
}

#[tokio::test]
async fn the_scheme_of_the_token_is_bearer_in_any_case() {
    let server = TestServer::start().await;
    let token = server.user().await.token().to_owned();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let client = server.anyone().with("authorization", &format!("{scheme} {token}"));
        client.get("/api/auth/me").await.expect(200);
    }
    for value in [format!("Basic {token}"), format!("Token {token}"), token.clone()] {
        let client = server.anyone().with("authorization", &value);
        client.get("/api/auth/me").await.expect(401);
    }
}
