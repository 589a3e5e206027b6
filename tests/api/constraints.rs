//! Every constraint of the schema: a statement that violates it, the error for the client, and a
//! request whose response shows that it does not get that far.
//!
//! NOT NULL and primary keys are not in the table, because no statement can violate them: ids are
//! always generated, and a non-null column is required, has a default, or is the user's id. Tests
//! below prove both from the schema. Random ids could collide and idempotency keys come from
//! clients, so their keys are in the table.

mod table;

use std::collections::BTreeSet;

use healthcare_backend::db::Sql;
use healthcare_backend::db::errors::violation;
use healthcare_backend::models::input::Field;
use healthcare_backend::models::{doctor, mapping, patient, user};
use hyper::Method;
use serde_json::json;
use tokio_postgres::Client as Database;

use self::table::{TABLE, Violation};
use crate::harness::{Client, TestDb, TestServer, random};

/// One row in each table, on which the statements work: all ids are 1, of a user 1 and a patient 1
/// with a mapping to doctor 1; there is also a user 2.
const ROWS: &str = "
    INSERT INTO users (id, name, email, password_hash) VALUES (1, 'A', 'a@example.com', 'x');
    INSERT INTO users (id, name, email, password_hash) VALUES (2, 'B', 'b@example.com', 'x');
    INSERT INTO patients (created_by, name) VALUES (1, 'P');
    INSERT INTO doctors (created_by, name, specialization) VALUES (1, 'D', 'S');
    INSERT INTO mappings (created_by, patient_id, doctor_id) VALUES (1, 1, 1);";

async fn strings(database: &Database, sql: &str) -> BTreeSet<String> {
    let rows = database.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_table_lists_every_constraint_of_the_schema() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    // Since PostgreSQL 18 every NOT NULL is a row of pg_constraint, too.
    let found = strings(
        &database,
        "SELECT conname::text FROM pg_constraint
         JOIN pg_class ON pg_class.oid = conrelid
         WHERE relnamespace = 'public'::regnamespace AND contype <> 'n'
            AND (contype <> 'p' OR conname IN ('users_pkey', 'idempotency_keys_pkey'))
            AND relname <> 'refinery_schema_history'
         UNION
         SELECT indexrelid::regclass::text FROM pg_index
         JOIN pg_class ON pg_class.oid = indrelid
         WHERE relnamespace = 'public'::regnamespace AND indisunique AND NOT indisprimary
            AND relname <> 'refinery_schema_history'",
    )
    .await;
    let listed: BTreeSet<String> = TABLE.iter().map(|row| row.constraint.to_owned()).collect();
    assert_eq!(found, listed);
}

#[tokio::test]
async fn every_constraint_holds_for_every_row() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    let sql = "SELECT conname::text FROM pg_constraint WHERE NOT convalidated";
    assert_eq!(strings(&database, sql).await, BTreeSet::new());
}

#[tokio::test]
async fn the_table_lists_both_violations_of_a_key_that_keeps_its_target_from_being_deleted() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    // The service deletes no users.
    let restricting = strings(
        &database,
        "SELECT conname::text FROM pg_constraint
         WHERE contype = 'f' AND confdeltype IN ('a', 'r') AND confrelid <> 'users'::regclass",
    )
    .await;
    assert!(restricting.contains("mappings_doctor_id_fkey"));
    for key in restricting {
        let mut rows = TABLE.iter().filter(|row| row.constraint == key);
        assert!(rows.any(|row| row.sql.starts_with("DELETE")), "{key}: its target is deleted");
        let mut rows = TABLE.iter().filter(|row| row.constraint == key);
        assert!(rows.any(|row| !row.sql.starts_with("DELETE")), "{key}: its target is missing");
    }
}

#[tokio::test]
async fn every_violation_means_something_to_a_client() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    database.batch_execute(ROWS).await.unwrap();
    for row in TABLE {
        let violated = database.batch_execute(row.sql).await;
        let error = violated.err().unwrap_or_else(|| panic!("{} violates nothing", row.sql));
        let error = error.as_db_error().unwrap();
        assert_eq!(error.constraint(), Some(row.constraint), "{}: {error:?}", row.sql);
        let meaning = violation(row.statement, error.code(), row.constraint);
        let meaning = meaning.unwrap_or_else(|| panic!("{} means nothing", row.constraint));
        assert_eq!(meaning.status_and_code().1, row.code, "{}", row.constraint);
        let fields: Vec<&str> = meaning.errors().iter().map(|error| &*error.field).collect();
        assert_eq!(fields, row.field.as_slice(), "{}", row.constraint);
    }
}

/// The rows that the paths name. They belong to the client.
async fn fill(path: &str, server: &TestServer, user: &Client) -> String {
    let mut path = path.to_owned();
    if path.contains("{patient}") {
        let id = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        path = path.replace("{patient}", &id.to_string());
    }
    if path.contains("{others_patient}") {
        let other = server.user().await;
        let id = other.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        path = path.replace("{others_patient}", &id.to_string());
    }
    if path.contains("{doctor}") {
        let body = json!({"name": "D", "specialization": "S"});
        let id = user.post("/api/doctors", &body).await.expect(201).id();
        path = path.replace("{doctor}", &id.to_string());
    }
    if path.contains("{assigned_doctor}") {
        let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        let body = json!({"name": "D", "specialization": "S"});
        let doctor = user.post("/api/doctors", &body).await.expect(201).id();
        let body = json!({"patient_id": patient, "doctor_id": doctor});
        user.post("/api/mappings", &body).await.expect(201);
        path = path.replace("{assigned_doctor}", &doctor.to_string());
        path = path.replace("{assigned_patient}", &patient.to_string());
    }
    path.replace("{random}", &random())
}

#[tokio::test]
async fn no_request_that_would_violate_a_constraint_fails_on_our_side() {
    let server = TestServer::start().await;
    let user = server.user().await;
    user.clone().registered("taken@example.com").await;
    let gone = server.user().await;
    let id = gone.get("/api/auth/me").await.id();
    let database = server.database().connect().await;
    database.execute("DELETE FROM sessions WHERE user_id = $1", &[&id]).await.unwrap();
    database.execute("DELETE FROM users WHERE id = $1", &[&id]).await.unwrap();
    for Violation { constraint, code, request, .. } in TABLE {
        let Some(request) = request else { continue };
        // Filled as one text, so that path and body name the same rows.
        let filled = fill(&format!("{} {}", request.path, request.body), &server, &user).await;
        let (path, body) = filled.split_once(' ').unwrap();
        let client = if request.by_a_user_who_is_gone { &gone } else { &user };
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let long = body.replace("{long}", &"x".repeat(5001)).replace("{8193}", &"x".repeat(8190));
        let answer = client.send(method, path, Some(long.into())).await;
        assert!(answer.status.is_client_error(), "{constraint}: {answer:?}");
        assert_eq!(answer.json()["code"], *code, "{constraint}: {answer:?}");
        assert_eq!(answer.bad_fields(), request.field.as_slice(), "{constraint}");
    }
}

#[tokio::test]
async fn ids_are_always_generated_so_that_no_primary_key_is_taken() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    // Generated by a sequence, or at random.
    let keys = strings(
        &database,
        "SELECT DISTINCT relname::text FROM pg_index
         JOIN pg_class ON pg_class.oid = indrelid
         JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
         LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE relnamespace = 'public'::regnamespace AND indisprimary
            AND (attidentity = 'a' OR pg_get_expr(adbin, adrelid) LIKE '%gen_random_uuid()%')",
    )
    .await;
    let tables = strings(
        &database,
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
            AND relname NOT IN ('refinery_schema_history', 'schema_requirements')",
    )
    .await;
    // Of these two are keyed by what they are about and the others have no key.
    let others = ["idempotency_keys", "login_addresses", "login_failures", "registrations"];
    let generated = |table: &String| !others.contains(&&**table);
    assert_eq!(keys, tables.into_iter().filter(generated).collect());
    for sql in Sql::ALL {
        // The statements that set an id take it from the sequence that generates all others.
        let overrides = sql.text().to_uppercase().contains("OVERRIDING");
        let draws = sql.text().contains("SELECT nextval('patients_id_seq') AS id");
        let many = [Sql::PatientsCreateMany, Sql::PatientsCreateOnce].contains(sql);
        assert_eq!((overrides, draws), (many, many), "{}", sql.file());
    }
}

#[tokio::test]
async fn what_must_not_be_null_is_required_or_not_the_clients_to_send() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    let found = strings(
        &database,
        "SELECT relname || '.' || attname FROM pg_attribute
         JOIN pg_class ON pg_class.oid = attrelid
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
            AND relname NOT IN ('refinery_schema_history', 'schema_requirements', 'sessions',
                'login_failures', 'login_addresses', 'registrations', 'idempotency_keys')
            AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
            AND attidentity = ''",
    )
    .await;
    let tables: [(&str, &[Field]); 4] = [
        ("users", &user::REGISTER_FIELDS),
        ("patients", &patient::FIELDS),
        ("doctors", &doctor::FIELDS),
        ("mappings", &mapping::FIELDS),
    ];
    let mut expected = BTreeSet::new();
    for (table, fields) in tables {
        // A password is stored as its hash.
        let names = fields.iter().filter(|field| field.required).map(|field| match field.name {
            "password" => "password_hash",
            name => name,
        });
        expected.extend(names.map(|name| format!("{table}.{name}")));
    }
    // Clients do not write sessions, logins, registrations and kept answers. The user's id comes from the token.
    expected.extend(["patients", "doctors", "mappings"].map(|table| format!("{table}.created_by")));
    assert_eq!(found, expected);
}
