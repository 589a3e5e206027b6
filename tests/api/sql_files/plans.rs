//! PostgreSQL's plans use the indexes that the files' comments name, once the tables are larger
//! than a page or two.

use std::collections::BTreeMap;

use healthcare_backend::db::{ConnectOptions, Sql, migrations};
use tokio_postgres::types::Type;
use tokio_postgres::{Client as Database, SimpleQueryMessage};

use super::named_indexes;
use crate::harness::TestDb;

/// The owner of patient `n` of 20,000: one user has half of them, or most users have a single one.
const OWNERS: [&str; 2] =
    ["CASE WHEN n % 2 = 0 THEN 1 ELSE 1 + n % 4000 END", "CASE WHEN n <= 19000 THEN n ELSE 1 END"];

/// 20,000 users, 4,000 doctors, and two of them to every patient.
const FILL: &str = "
    INSERT INTO users (id, name, email, password_hash)
    SELECT n, 'User ' || n, 'user' || n || '@example.com', 'x' FROM generate_series(1, 20000) AS n;

    INSERT INTO patients (created_by, name, gender, notes)
    SELECT OWNER, 'Patient ' || n, 'f', repeat('x', 100) FROM generate_series(1, 20000) AS n;

    INSERT INTO doctors (created_by, name, specialization, bio)
    SELECT 1 + n % 5, 'Doctor ' || n, 'Specialty ' || n % 20, repeat('x', 100)
    FROM generate_series(1, 4000) AS n;

    INSERT INTO mappings (created_by, patient_id, doctor_id)
    SELECT created_by, id, 1 + (id * 7 + n) % 4000
    FROM patients, generate_series(1, 2) AS n;

    INSERT INTO sessions (sid, user_id, expires_at, idle_until, ended_at)
    SELECT
        gen_random_uuid(), 1 + n % 4000, now() + interval '30 days', now() + interval '7 days',
        CASE WHEN n % 10 = 0 THEN now() - n * interval '1 second' END
    FROM generate_series(1, 20000) AS n;

    INSERT INTO login_failures (email_hash, address, failed_at)
    SELECT sha256(('user' || n % 4000)::bytea), 'a' || n % 1000, now() - n * interval '1 second'
    FROM generate_series(1, 20000) AS n;

    INSERT INTO login_addresses (email_hash, address, seen_at)
    SELECT sha256(('user' || n)::bytea), 'a', now() - n * interval '3 hours'
    FROM generate_series(1, 4000) AS n;

    INSERT INTO registrations (address, registered_at)
    SELECT 'a' || n % 1000, now() - n * interval '1 second' FROM generate_series(1, 20000) AS n;

    INSERT INTO idempotency_keys (created_by, key, request_hash, created_at)
    SELECT 1 + n % 4000, 'key' || n, sha256('x'), now() - n * interval '1 second'
    FROM generate_series(1, 20000) AS n;

    ANALYZE;";

/// Used by the check of a foreign key, which a plan does not show.
const BY_FOREIGN_KEY: [(Sql, &str); 4] = [
    (Sql::PatientsDelete, "mappings_patient_id_doctor_id_key"),
    (Sql::PatientsDeleteOnce, "mappings_patient_id_doctor_id_key"),
    (Sql::DoctorsDelete, "mappings_doctor_id_idx"),
    (Sql::DoctorsDeleteOnce, "mappings_doctor_id_idx"),
];

/// The generic plan of each statement.
async fn plans(database: &Database) -> BTreeMap<&'static str, String> {
    let mut plans = BTreeMap::new();
    for sql in Sql::ALL {
        let name = sql.file().replace('/', "_");
        let parameters = database.prepare(sql.text()).await.unwrap().params().to_vec();
        let values: Vec<&str> = parameters
            .iter()
            .map(|sql_type| match *sql_type {
                Type::INT8 | Type::INT4 => "1",
                Type::JSON => "'{}'",
                _ => "NULL",
            })
            .collect();
        database.batch_execute(&format!("PREPARE {name} AS {}", sql.text())).await.unwrap();
        // The statement is only planned, so the values do not matter.
        let values = values.join(", ");
        let call = if values.is_empty() { name } else { format!("{name}({values})") };
        let plan = explain(database, &call).await;
        plans.insert(sql.file(), plan);
    }
    plans
}

async fn explain(database: &Database, prepared: &str) -> String {
    lines(database, &format!("EXPLAIN (COSTS OFF) EXECUTE {prepared}")).await
}

async fn lines(database: &Database, sql: &str) -> String {
    let messages = database.simple_query(sql).await.unwrap();
    let lines = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn every_statement_takes_the_indexes_that_its_file_names() {
    let mut wrong = Vec::new();
    for owner in OWNERS {
        let database = TestDb::new().await;
        // With the service's connect options, because some are planner settings.
        let database =
            migrations::connect(&ConnectOptions::plain(database.config())).await.unwrap();
        database.batch_execute(&FILL.replace("OWNER", owner)).await.unwrap();
        // Sequential scans are allowed here, so that a missing index shows.
        database.batch_execute("SET enable_seqscan = on").await.unwrap();
        wrong.extend(wrong_plans(&plans(&database).await));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Statements whose plans lack an index that their file names.
fn wrong_plans(plans: &BTreeMap<&'static str, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for sql in Sql::ALL {
        let plan = &plans[sql.file()];
        for index in named_indexes(sql.text()) {
            let hidden = BY_FOREIGN_KEY.contains(&(*sql, index.as_str()));
            let taken = plan.contains(&index);
            if taken == hidden {
                wrong.push(format!("{} and {index}:\n{plan}", sql.file()));
            }
        }
        // No table is ever read whole; VALUES and CTEs are no tables.
        if plan.contains("Seq Scan") {
            wrong.push(format!("{} reads a whole table:\n{plan}", sql.file()));
        }
    }
    wrong
}

#[tokio::test]
async fn a_statement_is_a_change_if_its_plan_is() {
    let database = TestDb::new().await;
    let plans = plans(&database.connect().await).await;
    for sql in Sql::ALL {
        let plan = &plans[sql.file()];
        let changes = ["Insert on ", "Update on ", "Delete on "].iter().any(|on| plan.contains(on));
        assert_eq!(sql.is_change(), changes, "{}", sql.file());
    }
}

/// A sweep deletes a bounded number of rows, and must read a bounded number to find them.
#[tokio::test]
async fn a_sweep_stops_reading_at_its_limit() {
    let database = TestDb::new().await;
    let database = migrations::connect(&ConnectOptions::plain(database.config())).await.unwrap();
    database.batch_execute(&FILL.replace("OWNER", OWNERS[0])).await.unwrap();
    let plans = plans(&database).await;
    for (sql, parts) in
        [(Sql::SessionsSweep, 2), (Sql::LoginsSweep, 2), (Sql::IdempotencyKeysSweep, 1)]
    {
        let plan = &plans[sql.file()];
        let limits = plan.matches("->  Limit\n").count();
        let gathers = ["Sort", "Unique", "HashAggregate"].iter().any(|node| plan.contains(node));
        assert!(limits == parts && !gathers, "{}:\n{plan}", sql.file());
    }
}

/// An ordered read stops after a page; a sort reads all rows of a user for each page again.
#[tokio::test]
async fn a_page_is_read_in_order_also_by_a_plan_that_was_made_for_empty_tables() {
    let database = TestDb::new().await;
    // With the service's connect options, because some are planner settings.
    let database = migrations::connect(&ConnectOptions::plain(database.config())).await.unwrap();
    let mut wrong = Vec::new();
    for filled in [false, true] {
        if filled {
            database.batch_execute(&FILL.replace("OWNER", OWNERS[1])).await.unwrap();
        }
        for (sql, values) in [
            (Sql::PatientsFirst, "0, 101, 1"),
            (Sql::PatientsList, "0, 101, 1, NULL, NULL"),
            (Sql::PatientsPage, "0, 1000, 1, NULL, NULL"),
            (Sql::DoctorsFirst, "0, 101"),
            (Sql::DoctorsList, "0, 101, NULL, NULL"),
            (Sql::DoctorsPage, "0, 1000, NULL, NULL"),
            (Sql::MappingsFirst, "0, 101, 1, NULL, NULL"),
            (Sql::MappingsList, "0, 101, 1, NULL, NULL"),
            (Sql::MappingsPage, "0, 1000, 1, NULL, NULL"),
            (Sql::MappingsPageDoctors, "0, 1000, 1, 1"),
        ] {
            database.batch_execute(&format!("PREPARE page AS {}", sql.text())).await.unwrap();
            let plan = explain(&database, &format!("page({values})")).await;
            database.batch_execute("DEALLOCATE page").await.unwrap();
            // Both ids of a mapping identify at most one row.
            let sorts = plan.matches("->  Sort").count() + usize::from(plan.starts_with("Sort"));
            let both = [Sql::MappingsFirst, Sql::MappingsList, Sql::MappingsPage];
            let single = usize::from(both.contains(&sql));
            // A custom plan would ignore the filters, which are null. A filter on a join would read
            // all of a user's patients for each mapping.
            if sorts > single || plan.contains("Join Filter") || !plan.contains("$1") {
                wrong.push(format!("{}, filled {filled}:\n{plan}", sql.file()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// One patient is assigned to all doctors, and one doctor to all of a user's patients.
const FILL_UNEVENLY: &str = "
    INSERT INTO mappings (created_by, patient_id, doctor_id)
    SELECT 1, (SELECT min(id) FROM patients WHERE created_by = 1), id FROM doctors
    ON CONFLICT DO NOTHING;

    INSERT INTO mappings (created_by, patient_id, doctor_id)
    SELECT 1, id, 7 FROM patients WHERE created_by = 1
    ON CONFLICT DO NOTHING;

    ANALYZE;";

#[tokio::test]
async fn a_page_reads_no_more_rows_than_it_shows() {
    const ROWS: u64 = 11;
    let mut wrong = Vec::new();
    for owner in OWNERS {
        let database = TestDb::new().await;
        // With the service's connect options, because some are planner settings.
        let database =
            migrations::connect(&ConnectOptions::plain(database.config())).await.unwrap();
        database.batch_execute(&FILL.replace("OWNER", owner)).await.unwrap();
        database.batch_execute(FILL_UNEVENLY).await.unwrap();
        let sql = "SELECT min(id) FROM patients WHERE created_by = 1";
        let patient: i64 = database.query_one(sql, &[]).await.unwrap().get(0);
        for (sql, filters) in [
            (Sql::PatientsFirst, "1".to_owned()),
            (Sql::PatientsList, "1, NULL, NULL".to_owned()),
            (Sql::DoctorsList, "NULL, NULL".to_owned()),
            (Sql::MappingsFirst, "1, NULL, NULL".to_owned()),
            (Sql::MappingsFirst, format!("1, {patient}, NULL")),
            (Sql::MappingsFirst, "1, NULL, 7".to_owned()),
            (Sql::MappingsFirst, format!("1, {patient}, 7")),
            (Sql::MappingsFirstDoctors, format!("1, {patient}")),
            (Sql::MappingsList, "1, NULL, NULL".to_owned()),
            (Sql::MappingsList, format!("1, {patient}, NULL")),
            (Sql::MappingsList, "1, NULL, 7".to_owned()),
            (Sql::MappingsList, format!("1, {patient}, 7")),
            (Sql::MappingsDoctors, format!("1, {patient}")),
        ] {
            database.batch_execute(&format!("PREPARE page AS {}", sql.text())).await.unwrap();
            // Starts far from the first row.
            let execute = format!("EXECUTE page(5000, {ROWS}, {filters})");
            let options = "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF";
            let plan = lines(&database, &format!("EXPLAIN ({options}) {execute}")).await;
            database.batch_execute("DEALLOCATE page").await.unwrap();
            let shown = plan.split("(actual rows=").skip(1).map(rows_of);
            let removed = plan.split("Rows Removed by Filter: ").skip(1).map(number);
            if shown.chain(removed).max().is_none_or(|read| read > ROWS) {
                wrong.push(format!("{} of {filters}:\n{plan}", sql.file()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The rows that a plan node has read in total: `11 loops=1)`, from PostgreSQL 18 on `11.00
/// loops=1)`.
fn rows_of(node: &str) -> u64 {
    number(node) * number(node.split_once("loops=").unwrap().1)
}

/// The number at the start of a text.
fn number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
