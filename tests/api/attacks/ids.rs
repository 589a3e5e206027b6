//! Other users' ids in every position, and fields that only the service may set.

use serde_json::json;

use super::{Attack, Scene, request};
use crate::harness::TestDb;

/// The victim's path, or an own path with the victim's id in it.
fn others(scene: &Scene) -> Vec<(String, String, String, u16)> {
    let (own, other) = (&scene.attacker, &scene.victim);
    let row = |method: &str, target: String, body: &str, status| {
        (method.to_owned(), target, body.to_owned(), status)
    };
    let [patient, doctor] =
        [format!("/api/patients/{}", other.patient), format!("/api/doctors/{}", other.doctor)];
    let mapping = |id| format!("/api/mappings/{id}");
    let pair = |names: [&str; 2], patient: i64| {
        format!(r#"{{"{}":{patient},"{}":{}}}"#, names[0], names[1], own.doctor)
    };
    let mut rows = vec![
        row("DELETE", mapping(other.mapping), "", 404),
        row("GET", mapping(other.patient), "", 404),
        row("GET", format!("{}?limit=1", mapping(other.patient)), "", 404),
        row("DELETE", patient.clone(), "", 404),
        row("GET", patient.clone(), "", 404),
        row("GET", format!("{patient}/"), "", 404),
        row("DELETE", doctor.clone(), "", 403),
        row("POST", "/api/mappings".into(), &pair(["patient_id", "doctor_id"], other.patient), 404),
        row("POST", "/api/mappings".into(), &pair(["patientId", "doctorId"], other.patient), 404),
        row("POST", "/api/mappings".into(), &pair(["patient", "doctor"], other.patient), 404),
        row(
            "POST",
            "/api/mappings".into(),
            &json!({"patient_id": other.patient.to_string(), "doctor_id": "1"}).to_string(),
            404,
        ),
        row("POST", "/api/mappings".into(), &pair(["patient_id", "doctor_id"], i64::MAX), 404),
        row("GET", format!("/api/mappings?patient_id={}", other.patient), "", 200),
        row(
            "GET",
            format!("/api/mappings?patient_id={}&doctor_id={}", other.patient, other.doctor),
            "",
            200,
        ),
        row(
            "GET",
            format!("/api/mappings?patient_id={}&patient_id={}", own.patient, other.patient),
            "",
            400,
        ),
        row("GET", format!("/api/patients?created_by={}", other.user), "", 400),
        row("GET", format!("/api/patients?id={}", other.patient), "", 400),
        row("GET", format!("/api/patients?after={}", other.patient - 1), "", 200),
        row("GET", "/api/patients?search=%25".into(), "", 200),
        row("GET", "/api/patients?search=%27%20OR%201=1%20--".into(), "", 200),
        row("GET", format!("/api/patients/{},{}", own.patient, other.patient), "", 404),
        row("GET", format!("/api/patients/{}%2f..%2f{}", own.patient, other.patient), "", 404),
    ];
    let change = r#"{"name":"Eve was here"}"#;
    for method in ["PUT", "PATCH"] {
        rows.push(row(method, patient.clone(), change, 404));
        rows.push(row(method, doctor.clone(), change, 403));
        // Mappings cannot be updated.
        rows.push(row(method, mapping(other.mapping), change, 405));
        // The id in the path takes precedence.
        let stolen = json!({"id": other.patient, "created_by": other.user, "notes": "mine"});
        let target = format!("/api/patients/{}", own.patient);
        rows.push(row(method, target, &stolen.to_string(), 200));
        let given = json!({"id": other.doctor, "created_by": other.user, "bio": "mine"});
        let target = format!("/api/doctors/{}", own.doctor);
        rows.push(row(method, target, &given.to_string(), 200));
    }
    rows
}

/// Fields that a client may not set.
const WISHES: [(&str, &str); 12] = [
    ("role", r#""admin""#),
    ("is_admin", "true"),
    ("admin", "true"),
    ("password_hash", r#""$2b$04$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#),
    ("user_id", "1"),
    ("owner", "1"),
    ("created_by", "VICTIM"),
    ("id", "VICTIM"),
    ("version", "99"),
    ("created_at", r#""1999-01-01T00:00:00Z""#),
    ("updated_at", "[]"),
    ("constructor", r#"{"prototype":{"role":"admin"}}"#),
];

/// Fields that the server sets, which are accepted and ignored.
const IGNORED: [&str; 5] = ["created_by", "id", "version", "created_at", "updated_at"];

/// Creates or changes a row with such a field; the status if it is ignored.
fn assignments(scene: &Scene) -> Vec<(String, String, String, u16)> {
    let own = &scene.attacker;
    let mut rows = Vec::new();
    for (index, (field, value)) in WISHES.iter().enumerate() {
        let wish =
            format!(r#""{field}":{}"#, value.replace("VICTIM", &scene.victim.user.to_string()));
        let pair = format!(r#""patient_id":{},"doctor_id":{}"#, own.patient, own.doctor);
        let account =
            format!(r#""name":"W","email":"wish{index}@example.com","password":"long enough""#);
        for (method, target, body, status) in [
            ("POST", "/api/auth/register".to_owned(), &*account, 201),
            (
                "POST",
                "/api/auth/login".to_owned(),
                r#""email":"eve@example.com","password":"correct horse""#,
                200,
            ),
            ("POST", "/api/patients".to_owned(), r#""name":"W""#, 201),
            ("PATCH", format!("/api/patients/{}", own.patient), r#""age":3"#, 200),
            ("POST", "/api/doctors".to_owned(), r#""name":"W","specialization":"S""#, 201),
            ("PUT", format!("/api/doctors/{}", own.doctor), r#""bio":"b""#, 200),
            // The pair is there already.
            ("POST", "/api/mappings".to_owned(), &*pair, 409),
        ] {
            let status = if IGNORED.contains(field) { status } else { 422 };
            rows.push((method.to_owned(), target, format!("{{{body},{wish}}}"), status));
        }
    }
    rows
}

pub fn attacks(scene: &Scene) -> Vec<Attack> {
    let rows = others(scene).into_iter().chain(assignments(scene));
    rows.map(|(method, target, body, status)| {
        let bytes = request(&method, &target, scene.attacker.token(), "", body.as_bytes());
        Attack::new(format!("{method} {target} {body}"), bytes, &[status])
    })
    .collect()
}

/// The result belongs to the attacker, and no role has changed.
pub async fn nobody_has_become_more(scene: &Scene, database: &TestDb) {
    let connection = database.connect().await;
    let count = async |sql: &str,
                       parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]|
           -> i64 { connection.query_one(sql, parameters).await.unwrap().get(0) };
    assert_eq!(count("SELECT count(*) FROM users WHERE role <> 'user'", &[]).await, 0);
    let made = "SELECT count(*) FROM patients WHERE created_by = $1 AND name IN ('W', 'Eve')
        AND (version <> 1 OR created_at < now() - interval '1 day' OR id = 99)";
    assert_eq!(count(made, &[&scene.attacker.user]).await, 0);
    let foreign = "SELECT count(*) FROM patients WHERE created_by <> $1 AND created_by <> $2";
    assert_eq!(count(foreign, &[&scene.attacker.user, &scene.victim.user]).await, 0);
    let victim = scene.victim.patient;
    for target in [
        "/api/patients".to_owned(),
        "/api/mappings".to_owned(),
        "/api/patients?search=%25".to_owned(),
        format!("/api/patients?after={}", victim - 1),
        format!("/api/mappings?patient_id={victim}"),
    ] {
        let list = scene.attacker.client.get(&target).await.expect(200).json();
        for row in list.as_array().unwrap() {
            let id = row.get("patient_id").unwrap_or(&row["id"]);
            assert_ne!(*id, victim, "{target} shows another user's patient");
        }
    }
}
