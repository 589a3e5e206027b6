//! Importing patients: the same rules as for single ones, all or nothing, and nobody is slowed.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::Client as Database;

use crate::harness::raw::converse;
use crate::harness::socket::{read_head, read_to_end, send};
use crate::harness::{Answer, Client, Lock, TestDb, TestServer, until};
use crate::resources::PATIENT;

const IMPORT: &str = "/api/patients/import";
pub const NDJSON: &str = "application/x-ndjson";
pub const CSV: &str = "text/csv";

/// Imports a body of this type.
pub async fn import(client: &Client, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let client = client.with("content-type", media_type);
    client.send(Method::POST, IMPORT, Some(body.into().into())).await
}

async fn patients(client: &Client) -> Vec<Value> {
    let list = client.get("/api/patients").await.expect(200).json();
    list.as_array().unwrap().clone()
}

async fn names(client: &Client) -> Vec<Value> {
    patients(client).await.iter().map(|patient| patient["name"].clone()).collect()
}

/// The errors of a refused import, each as one text.
fn errors(answer: Answer) -> Vec<String> {
    let answer = answer.expect_error(422, "validation_failed").json();
    assert_eq!(answer["detail"], "Some lines are wrong. Nothing was imported.");
    let text = |error: &Value| {
        format!("{}: {}", error["field"].as_str().unwrap(), error["message"].as_str().unwrap())
    };
    answer["errors"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn lines_of_json_become_patients_in_their_order() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let lines: Vec<String> =
        (0..3000).map(|n| json!({"name": format!("P{n}")}).to_string()).collect();
    // The last line needs no end.
    let answer = import(&user, NDJSON, lines.join("\n")).await.expect(200);
    assert_eq!(answer.json(), json!({"imported": 3000}));
    let expected: Vec<Value> = (0..3000).map(|n| json!(format!("P{n}"))).collect();
    assert_eq!(names(&user).await, expected);
    assert!(patients(&server.user().await).await.is_empty());
}

#[tokio::test]
async fn an_imported_patient_is_what_post_makes_of_it() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let made = user.post("/api/patients", &(PATIENT.full)()).await.expect(201);
    // Also what the server sets may be sent, and fields by their other names.
    let aliased = json!({"name": "B", "dob": "1990-01-01", "contact": "1"});
    let body = format!("{}\r\n\r\n{aliased}\n", String::from_utf8_lossy(&made.body));
    import(&user, &format!("{NDJSON}; charset=utf-8"), body).await.expect(200);
    let patients = patients(&user).await;
    let without_moments = |patient: &Value| {
        let mut patient = patient.as_object().unwrap().clone();
        for name in ["id", "created_at", "updated_at"] {
            patient.remove(name).unwrap();
        }
        patient
    };
    assert_eq!(patients.len(), 3);
    assert_eq!(without_moments(&patients[0]), without_moments(&patients[1]));
    assert_eq!(patients[2]["date_of_birth"], "1990-01-01");
    assert_eq!((&patients[2]["phone"], &patients[2]["metadata"]), (&json!("1"), &json!({})));
}

#[tokio::test]
async fn cells_become_patients_by_the_names_of_their_columns() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let body = "\u{feff}name,id,age,dob,metadata,notes\r\n\
        \"Zoë, \"\"Z\"\"\",7,36,1990-01-31,\"{\"\"a\"\": [1]}\",\"two\nlines\"\r\n\
        B,,,,,\n";
    let answer = import(&user, "text/csv; header=present", body).await.expect(200);
    assert_eq!(answer.json(), json!({"imported": 2}));
    let patients = patients(&user).await;
    let first = &patients[0];
    assert_eq!((&first["name"], &first["age"]), (&json!("Zoë, \"Z\""), &json!(36)));
    assert_eq!(
        (&first["date_of_birth"], &first["notes"]),
        (&json!("1990-01-31"), &json!("two\nlines"))
    );
    assert_eq!(first["metadata"], json!({"a": [1]}));
    assert_ne!(first["id"], 7);
    assert_eq!((&patients[1]["age"], &patients[1]["notes"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn every_wrong_line_is_named_with_its_fields_and_nothing_is_imported() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let body = "{\"name\":\"A\"}\n\n{\"name\":\" \",\"age\":151}\n[]\n{\"nmae\":\"B\"}\n{\n\
        {\"name\":\"C\"}\n\u{fffd}";
    let found = errors(import(&user, NDJSON, body).await);
    assert_eq!(
        found,
        [
            "line 3: name: must not be blank",
            "line 3: age: must be between 0 and 150",
            "line 4: must be one JSON object in UTF-8",
            "line 5: nmae: is not a known field; the nearest is name",
            "line 5: name: is required",
            "line 6: must be one JSON object in UTF-8",
            "line 8: must be one JSON object in UTF-8",
        ]
    );
    let body = "name,age,metadata\nA,1,\n,x,[]\nB,1\n\"C\n\",151,\n";
    let found = errors(import(&user, CSV, body).await);
    assert_eq!(
        found,
        [
            "line 3: age: must be a whole number, written without quotes, point or exponent",
            "line 3: metadata: must be an object",
            "line 3: name: is required",
            "line 4: must have 3 cells, as the header, and has 2",
            "line 5: age: must be between 0 and 150",
        ]
    );
    for (header, expected) in [
        ("", "line 1: must name the fields in its cells"),
        ("nmae,name\n", "line 1: nmae: is not a known field; the nearest is name"),
        ("name,phone,contact\n", "line 1: contact: is given twice: it is another name of phone"),
        ("age\n", "line 1: name: is required"),
    ] {
        assert_eq!(errors(import(&user, CSV, header).await), [expected]);
    }
    assert!(patients(&user).await.is_empty());
}

#[tokio::test]
async fn a_hundred_errors_are_named_and_what_they_repeat_is_cut() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let long = "ü".repeat(2000);
    let body = format!("{{\"{long}\":1,\"name\":\"A\"}}\n").repeat(300);
    let found = errors(import(&user, NDJSON, body).await);
    assert_eq!(found.len(), 100);
    let expected = format!("line 100: {}...: is not a known field", "ü".repeat(64));
    assert!(found[99].starts_with(&expected), "{}", found[99]);
    assert!(patients(&user).await.is_empty());
}

#[tokio::test]
async fn a_line_has_the_limit_of_a_single_patient() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let line = "{\"name\":\"A\"}";
    let padded = |bytes: usize| format!("{line}{}\n", " ".repeat(bytes - line.len()));
    import(&user, NDJSON, padded(256 << 10)).await.expect(200);
    let body = [padded(256 << 10), padded((256 << 10) + 1)].concat();
    let found = errors(import(&user, NDJSON, body).await);
    assert_eq!(found, ["line 2: must have at most 262144 bytes"]);
    assert_eq!(patients(&user).await.len(), 1);
}

#[tokio::test]
async fn a_body_without_lines_imports_nothing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (media_type, body) in
        [(NDJSON, ""), (NDJSON, "\n \r\n"), (CSV, "name"), (CSV, "name\r\n\r\n")]
    {
        let answer = import(&user, media_type, body).await.expect(200);
        assert_eq!(answer.json(), json!({"imported": 0}), "{body:?}");
    }
}

#[tokio::test]
async fn only_lines_in_utf_8_are_read() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for media_type in ["application/json", "text/plain", "text/csv; charset=latin1", "text/*", ""] {
        let answer = import(&user, media_type, "name\nA\n").await;
        answer.expect_error(415, "unsupported_media_type");
    }
    let compressed = user.with("content-encoding", "gzip");
    import(&compressed, CSV, "name\nA\n").await.expect_error(415, "unsupported_media_type");
    user.with("content-type", CSV)
        .send(Method::POST, "/api/patients/import?x=1", None)
        .await
        .expect_error(400, "bad_query");
}

#[tokio::test]
async fn an_import_has_a_size_limit_of_its_own() {
    let database = Arc::new(TestDb::new().await);
    let settings = [("IMPORT_MAX_BYTES", "1000")];
    let server = TestServer::start_with(database, &settings).await;
    let user = server.user().await;
    let line = "{\"name\":\"A\"}";
    import(&user, NDJSON, format!("{line:1000}")).await.expect(200);
    import(&user, NDJSON, format!("{line:1001}")).await.expect_error(413, "body_too_large");
    // A chunked body does not say how long it is.
    let chunk = format!("1f4\r\n{line:500}\r\n");
    let head = head(&user, NDJSON, "transfer-encoding: chunked");
    let bytes = format!("{head}{chunk}{chunk}1\r\n\n\r\n0\r\n\r\n");
    let answers = converse(server.address(), bytes.as_bytes()).await;
    answers.into_iter().next().unwrap().expect_error(413, "body_too_large");
    assert_eq!(patients(&user).await.len(), 1);
}

fn head(user: &Client, media_type: &str, length: &str) -> String {
    let token = user.token();
    format!(
        "POST {IMPORT} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
         content-type: {media_type}\r\n{length}\r\n\r\n"
    )
}

/// Begins an import of so many lines, of which the last does not come.
async fn begin(address: SocketAddr, user: &Client, lines: usize) -> TcpStream {
    let line = "{\"name\":\"A\"}\n";
    let length = format!("content-length: {}", (lines + 1) * line.len());
    send(address, &(head(user, NDJSON, &length) + &line.repeat(lines))).await
}

/// Waits until this many imports have staged lines, and have no transaction open.
async fn staged(observer: &Database, count: usize) {
    let sql = "SELECT xact_start IS NOT NULL FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%COPY imported_lines%'
            AND pid <> pg_backend_pid()";
    until("an import has staged lines", async || {
        let imports = observer.query(sql, &[]).await.unwrap();
        let idle = imports.iter().filter(|row| !row.get::<_, bool>(0)).count();
        (idle == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_a_client_is_sending_no_table_is_locked_and_what_breaks_off_leaves_nothing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let observer = server.database().connect().await;
    let socket = begin(server.address(), &user, 20_000).await;
    staged(&observer, 1).await;
    let sql = "BEGIN; LOCK TABLE patients NOWAIT; COMMIT";
    observer.batch_execute(sql).await.unwrap();
    drop(socket);
    let sql = "SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%imported_lines%'
            AND pid <> pg_backend_pid()";
    until("the connection of the import is closed", async || {
        observer.query(sql, &[]).await.unwrap().is_empty().then_some(())
    })
    .await;
    assert!(patients(&user).await.is_empty());
}

#[tokio::test]
async fn one_user_has_two_imports_at_once_and_another_user_others() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    let observer = server.database().connect().await;
    let mut held = begin(server.address(), &ada, 20_000).await;
    let _also_held = begin(server.address(), &ada, 20_000).await;
    staged(&observer, 2).await;
    let line = "{\"name\":\"A\"}\n";
    let refused = import(&ada, NDJSON, line).await.expect_error(503, "overloaded");
    assert!(refused.header("retry-after").is_some());
    import(&eve, NDJSON, line).await.expect(200);
    eve.post("/api/patients", &json!({"name": "B"})).await.expect(201);
    held.write_all(line.as_bytes()).await.unwrap();
    let answer = read_head(&mut held).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((patients(&ada).await.len(), patients(&eve).await.len()), (20_001, 2));
}

#[tokio::test]
async fn a_client_that_falls_silent_is_told_so_and_nothing_is_imported() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let mut socket = begin(server.address(), &user, 20_000).await;
    let answer = read_to_end(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(patients(&user).await.is_empty());
}

#[tokio::test]
async fn an_import_that_waits_for_a_lock_is_refused_and_nothing_is_imported() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let lock = Lock::user(server.database().connect().await, user.user_id().await).await;
    let refused = import(&user, NDJSON, "{\"name\":\"A\"}\n").await;
    refused.expect_error(503, "database_unavailable");
    lock.release().await;
    assert!(patients(&user).await.is_empty());
}
