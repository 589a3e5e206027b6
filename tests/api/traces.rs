//! The log in JSON, and the traces of other services in both formats.

use std::collections::HashMap;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::program::{Program, Workplace, database_url};
use crate::harness::{Client, JWT_SECRET, TestDb, free_port, random};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A program whose log has this format.
fn serve(workplace: &Workplace, database: &TestDb, format: &str) -> (Program, Client) {
    let (url, port) = (database_url(&database.config()), free_port().to_string());
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("JWT_SECRET", secret),
        ("LOG_FORMAT", format),
        ("PORT", &port),
    ];
    let program = Program::spawn(workplace.command(&[], &settings));
    program.says("listening");
    program.says("the schema is up to date");
    let client = Client::new(format!("127.0.0.1:{port}").parse().unwrap());
    (program, client)
}

/// One request of each kind, with its id.
async fn requests(anyone: &Client) -> Vec<String> {
    let user = anyone.clone().registered(&format!("{}@example.com", random())).await;
    let traced = user.with("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
    let cases = [
        (anyone, "GET", "/health/live", None),
        (anyone, "GET", "/nowhere", None),
        (&user, "BREW", "/api/doctors", None),
        (&user, "HEAD", "/api/doctors", None),
        (&traced, "GET", "/api/doctors", None),
        (&traced, "POST", "/api/doctors", Some("{}")),
    ];
    let mut ids = Vec::new();
    for (client, method, target, body) in cases {
        let id = format!("\"{}\\", random());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        client.with("x-request-id", &id).send(method, target, body.map(Bytes::from)).await;
        ids.push(id);
    }
    ids
}

/// The fields of a line of text, whose strings are quoted. No value contains a space.
fn read_text(line: &str) -> HashMap<String, Value> {
    let fields = line.split(' ').filter_map(|word| word.split_once('='));
    fields.map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap())).collect()
}

/// The fields whose values are another request's in another run.
const VARYING: [&str; 3] = ["id", "us", "user"];

#[tokio::test]
async fn a_line_of_json_has_the_fields_of_text_and_peer_and_bytes() {
    let database = TestDb::new().await;
    let workplace = Workplace::new();
    let (program, client) = serve(&workplace, &database, "text");
    let in_text = requests(&client).await;
    let text = program.stop().stdout;
    let text: Vec<_> =
        text.lines().filter(|line| line.contains(" request id=")).map(read_text).collect();
    let (program, client) = serve(&workplace, &database, "json");
    let in_json = requests(&client).await;
    let json = program.stop().stdout;
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    for (text_id, json_id) in in_text.iter().zip(&in_json) {
        let expected = text.iter().find(|line| line["id"] == *text_id).unwrap();
        let line = json.iter().find(|line| line["id"] == *json_id).unwrap().as_object().unwrap();
        for (name, value) in expected {
            let found = line.get(name).unwrap_or_else(|| panic!("no {name} in {line:?}"));
            if VARYING.contains(&name.as_str()) {
                assert_eq!(found.is_number(), value.is_number(), "{name}");
            } else {
                assert_eq!(found, value, "{name}");
            }
        }
        assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("request")));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["peer"], "127.0.0.1");
        let more = ["time", "level", "message", "peer", "bytes"].len();
        assert_eq!(line.len(), expected.len() + more, "{line:?}");
    }
    let bytes = |method: &str| {
        let line = json.iter().find(|line| line["method"] == method && line["route"] != "-");
        line.unwrap()["bytes"].as_u64().unwrap()
    };
    assert_eq!((bytes("GET"), bytes("HEAD")), ("{\"status\":\"ok\"}".len() as u64, 0));
    // Start and stop are lines like any.
    let listening = json.iter().find(|line| line["message"] == "listening").unwrap();
    assert!(listening["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{listening}");
}

#[tokio::test]
async fn a_trace_is_in_every_line_and_problem_of_its_requests_and_no_other_is() {
    let database = TestDb::new().await;
    let workplace = Workplace::new();
    let (program, anyone) = serve(&workplace, &database, "json");
    let valid = format!("00-{TRACE}-{PARENT}-00");
    let wrong = [
        valid.to_uppercase(),
        valid.replace("00-4b", "01-4b"),
        valid.replace(TRACE, &"0".repeat(32)),
        format!("{valid}-more"),
        format!("canary{}", random()),
    ];
    for (headers, traced) in [
        (vec![valid.as_str()], true),
        (vec![], false),
        (vec![&valid, &valid], false),
        (vec![&wrong[0]], false),
        (vec![&wrong[1]], false),
        (vec![&wrong[2]], false),
        (vec![&wrong[3]], false),
        (vec![&wrong[4]], false),
    ] {
        let id = random();
        let mut client = anyone.with("x-request-id", &id);
        for value in &headers {
            client = client.with("traceparent", value);
        }
        let problem = client.get("/api/patients").await.expect(401).json();
        let expected = traced.then_some(TRACE);
        assert_eq!(problem.get("trace_id").map(|id| id.as_str().unwrap()), expected, "{headers:?}");
        // What may write runs in a task of its own.
        let body = json!({"refresh_token": "wrong"});
        let problem = client.post("/api/auth/refresh", &body).await.expect(401).json();
        assert_eq!(problem.get("trace_id").map(|id| id.as_str().unwrap()), expected, "{headers:?}");
    }
    let stdout = program.stop().stdout;
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let traced: Vec<&Value> = lines.iter().filter(|line| line.get("trace_id").is_some()).collect();
    assert_eq!(traced.len(), 2, "{stdout}");
    for line in traced {
        assert_eq!((&line["trace_id"], &line["parent_id"]), (&json!(TRACE), &json!(PARENT)));
    }
    assert!(!stdout.contains("canary"), "{stdout}");
}

#[tokio::test]
async fn a_list_in_parts_is_one_line_that_has_all_its_bytes() {
    let database = TestDb::new().await;
    let workplace = Workplace::new();
    let (program, anyone) = serve(&workplace, &database, "json");
    let user = anyone.registered("ada@example.com").await;
    let sql = "INSERT INTO doctors (created_by, name, specialization)
        SELECT users.id, 'Doctor ' || n, 'S' FROM users, generate_series(1, 2000) AS n";
    database.connect().await.batch_execute(sql).await.unwrap();
    let answer = user.with("x-request-id", "whole").get("/api/doctors").await.expect(200);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let stdout = program.stop().stdout;
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.filter(|line| line["id"] == "whole").collect();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(answer.body.len())));
}
