//! Exporting patients: all of a user's, in the order of their ids, as lines.

use serde_json::{Value, json};

use crate::harness::{Client, TestServer};
use crate::import::{NDJSON, import};
use crate::resources::PATIENT;

const EXPORT: &str = "/api/patients/export";
const CSV_HEADER: &str = "name,age,gender,date_of_birth,phone,email,address,blood_group,allergies,\
    medical_history,notes,emergency_contact_name,emergency_contact_phone,metadata\r\n";

/// The export in the format that the client accepts.
pub async fn export(client: &Client, accept: &str) -> String {
    let answer = client.with("accept", accept).get(EXPORT).await.expect(200);
    assert_eq!(answer.header("vary"), Some("accept"));
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn an_export_has_every_field_that_a_client_may_send() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let full = (PATIENT.full)();
    user.post("/api/patients", &full).await.expect(201);
    user.post("/api/patients", &json!({"name": "B, \"b\"\r\n"})).await.expect(201);
    let lines = export(&user, "*/*").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], full);
    let empty = json!({
        "name": "B, \"b\"\r\n", "age": null, "gender": null, "date_of_birth": null, "phone": null,
        "email": null, "address": null, "blood_group": null, "allergies": null,
        "medical_history": null, "notes": null, "emergency_contact_name": null,
        "emergency_contact_phone": null, "metadata": {},
    });
    assert_eq!(lines[1], empty);
    let expected = CSV_HEADER.to_owned()
        + "Ada,36,Female,1915-12-10,+1 (2) 3,ada@example.com,St James's Square,AB-,Pollen,Measles,\
           Writes notes,Charles,4.5/6#x7,\"{\"\"clinic\"\":1}\"\r\n\
           \"B, \"\"b\"\"\r\n\",,,,,,,,,,,,,{}\r\n";
    assert_eq!(export(&user, "text/csv").await, expected);
}

#[tokio::test]
async fn the_type_says_the_format_which_the_client_chooses() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (accept, media_type, body) in [
        ("text/csv", "text/csv; charset=utf-8", CSV_HEADER),
        ("text/csv;q=0.5, application/x-ndjson;q=0.4", "text/csv; charset=utf-8", CSV_HEADER),
        (NDJSON, NDJSON, ""),
        ("text/html", NDJSON, ""),
    ] {
        let answer = user.with("accept", accept).get(EXPORT).await.expect(200);
        assert_eq!(answer.header("content-type"), Some(media_type), "{accept}");
        assert_eq!(answer.body, body);
        assert_eq!(answer.header("content-length"), Some(&*body.len().to_string()));
    }
    user.get("/api/patients/export?limit=1").await.expect_error(400, "bad_query");
}

#[tokio::test]
async fn an_export_of_many_is_streamed_whole_and_has_nobody_elses() {
    let server = TestServer::start().await;
    let (user, other) = (server.user().await, server.user().await);
    let notes = "\u{1f600}\"".repeat(500);
    let line = |n: usize| {
        json!({"name": format!("P{n}"), "notes": n.is_multiple_of(3).then_some(&notes)}).to_string()
            + "\n"
    };
    let body: String = (0..2000).map(line).collect();
    import(&user, NDJSON, body).await.expect(200);
    import(&other, NDJSON, line(1)).await.expect(200);
    let answer = user.get(EXPORT).await.expect(200);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let lines = export(&user, NDJSON).await;
    for (n, exported) in lines.lines().enumerate() {
        let exported: Value = serde_json::from_str(exported).unwrap();
        assert_eq!(exported["name"], format!("P{n}"));
        assert_eq!(exported["notes"].as_str(), n.is_multiple_of(3).then_some(&*notes));
    }
    assert_eq!(lines.lines().count(), 2000);
    let csv = export(&user, "text/csv").await;
    assert_eq!(csv.lines().count(), 2001);
    assert!(csv.starts_with(CSV_HEADER) && csv.ends_with("{}\r\n"));
    assert_eq!(export(&other, NDJSON).await.lines().count(), 1);
}

#[tokio::test]
async fn metadata_on_several_lines_is_exported_on_one() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let body = "{\"name\":\"A\",\"metadata\":{\"a\":\r\n [1,\n\"\\n\"]}}";
    user.send(hyper::Method::POST, "/api/patients", Some(body.into())).await.expect(201);
    let line = export(&user, NDJSON).await;
    assert_eq!(line.lines().count(), 1);
    assert!(line.ends_with("\"metadata\":{\"a\":   [1, \"\\n\"]}}\n"), "{line}");
    // A cell may have several lines.
    let csv = export(&user, "text/csv").await;
    assert!(csv.ends_with("\"{\"\"a\"\":\r\n [1,\n\"\"\\n\"\"]}\"\r\n"), "{csv}");
}
