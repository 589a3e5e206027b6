//! Upgrades of the program and its schema while others serve: newer and older programs side by
//! side, migrations that must wait, roles without rights on the schema, a database that starts
//! later.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::future::join_all;
use healthcare_backend::db::ConnectOptions;
use healthcare_backend::db::migrations::{self, MIGRATIONS, history};
use hyper::Method;
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::harness::program::{Program, Workplace, database_url, with_database};
use crate::harness::{Client, Cluster, Proxy, TestDb, cluster, random};

/// The state that a newer program leaves: with a migration that this program does not know.
async fn upgrade(database: &TestDb, minimum: Option<&str>) {
    let client = database.connect().await;
    let sql = "ALTER TABLE patients ADD COLUMN insurance text;
               INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
               VALUES (999, 'insurance', '2030-01-31T09:30:00Z', '1')";
    client.batch_execute(sql).await.unwrap();
    if let Some(minimum) = minimum {
        let sql = "INSERT INTO schema_requirements (version, minimum) VALUES (999, $1)";
        client.execute(sql, &[&minimum]).await.unwrap();
    }
}

async fn make_a_patient(program: &Program) {
    let ada = program.client().registered(&format!("{}@example.com", random())).await;
    ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
}

#[tokio::test]
async fn an_older_program_starts_and_serves_on_a_newer_schema() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let running = workplace.serve(&with_database(&url));
    upgrade(&database, Some(env!("CARGO_PKG_VERSION"))).await;
    make_a_patient(&running).await;
    running.stop();
    let restarted = workplace.serve(&with_database(&url));
    make_a_patient(&restarted).await;
    for arguments in [["migrate"].as_slice(), &["admin", "nobody@example.com"]] {
        let ended = workplace.run(arguments, &with_database(&url));
        assert!(!ended.stderr.contains("missing"), "{ended:?}");
    }
}

#[tokio::test]
async fn an_older_program_than_the_schema_requires_says_so_and_does_not_start() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    upgrade(&database, Some("999.10.0")).await;
    let workplace = Workplace::new();
    for arguments in [["serve"].as_slice(), &["migrate"], &["admin", "ada@example.com"]] {
        let ended = workplace.run(arguments, &with_database(&url));
        let line = ended.complaint(1);
        let own = env!("CARGO_PKG_VERSION");
        assert!(line.contains("999.10.0 or later") && line.contains(own), "{ended:?}");
    }
}

#[tokio::test]
async fn a_history_that_is_not_this_programs_is_refused_by_name() {
    for (change, word) in [
        ("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 3", "V3__doctors"),
        ("DELETE FROM refinery_schema_history WHERE version = 4", "V4__mappings"),
    ] {
        let database = TestDb::new().await;
        database.connect().await.batch_execute(change).await.unwrap();
        let url = database_url(&database.config());
        let ended = Workplace::new().run(&[], &with_database(&url));
        assert!(ended.complaint(1).contains(word), "{ended:?}");
    }
}

/// A database with the first three migrations, those of users, patients and doctors.
async fn as_of_the_third_migration() -> TestDb {
    let database = TestDb::empty().await;
    let mut client = migrations::connect(&ConnectOptions::plain(database.config())).await.unwrap();
    for migration in &history::pending(&client).await.unwrap()[..3] {
        history::apply(&mut client, migration).await.unwrap();
    }
    database
}

#[tokio::test]
async fn a_migration_waits_behind_an_open_transaction_and_nobody_behind_the_migration() {
    let database = as_of_the_third_migration().await;
    // The next one adds foreign keys to patients and doctors, which blocks writes to them.
    let open = database.connect().await;
    let user = "INSERT INTO users (name, email, password_hash) VALUES ('A', 'a@example.com', 'x')";
    open.batch_execute(user).await.unwrap();
    let insert = "INSERT INTO doctors (created_by, name, specialization)
                  SELECT id, 'Strange', 'Surgery' FROM users";
    open.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();

    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let migrating = Program::spawn(workplace.command(&["migrate"], &with_database(&url)));
    let serving = Program::spawn(workplace.command(&[], &with_database(&url)));
    migrating.says("waiting for the database");
    serving.says("waiting for the database");
    let other = database.connect().await;
    other.batch_execute("SET lock_timeout = '5s'").await.unwrap();
    for _ in 0..50 {
        other.batch_execute(insert).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It listens while it waits.
    serving.client().get("/health/live").await.expect(200);
    serving.client().get("/health/ready").await.expect_error(503, "database_unavailable");

    open.batch_execute("COMMIT").await.unwrap();
    let ended = migrating.wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serving.says("the schema is up to date");
    make_a_patient(&serving).await;
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let database = as_of_the_third_migration().await;
    let client = database.connect().await;
    // Its name is taken, which fails only after the table was created.
    client.batch_execute("CREATE SEQUENCE mappings_doctor_id_idx").await.unwrap();
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let ended = workplace.run(&["migrate"], &with_database(&url));
    assert!(ended.complaint(1).contains("V4__mappings"), "{ended:?}");
    let sql = "SELECT to_regclass('mappings') IS NULL, count(*) FROM refinery_schema_history";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (true, 3_i64));
    client.batch_execute("DROP SEQUENCE mappings_doctor_id_idx").await.unwrap();
    assert_eq!(workplace.run(&["migrate"], &with_database(&url)).code, Some(0));
}

#[tokio::test]
async fn the_history_is_what_refinery_itself_would_have_written() {
    let database = TestDb::new().await;
    let mut client = database.connect().await;
    let known: Vec<_> = MIGRATIONS
        .iter()
        .map(|(name, text)| refinery::Migration::unapplied(name, text).unwrap())
        .collect();
    let runner = refinery::Runner::new(&known);
    let applied = runner.get_applied_migrations_async(&mut client).await.unwrap();
    assert_eq!(applied, known);
    assert!(runner.run_async(&mut client).await.unwrap().applied_migrations().is_empty());
}

#[tokio::test]
async fn a_program_that_must_not_migrate_says_what_is_to_be_done() {
    let database = as_of_the_third_migration().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let [url, secret] = with_database(&url);
    let settings = [url, secret, ("MIGRATE_ON_START", "false")];
    for arguments in [["serve"].as_slice(), &["admin", "ada@example.com"]] {
        let ended = workplace.run(arguments, &settings);
        let line = ended.complaint(1);
        assert!(
            line.contains("V4__mappings") && line.contains("healthcare-backend migrate"),
            "{line}"
        );
    }
    assert_eq!(workplace.run(&["migrate"], &settings).code, Some(0));
    make_a_patient(&workplace.serve(&settings)).await;
}

/// What OPERATING.md says is granted to the role of `serve`.
const GRANTS: &str = "
    ALTER DEFAULT PRIVILEGES FOR ROLE healthcare IN SCHEMA public
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO service;
    ALTER DEFAULT PRIVILEGES FOR ROLE healthcare IN SCHEMA public
        GRANT USAGE ON SEQUENCES TO service";

#[tokio::test]
async fn a_role_that_may_only_read_and_write_rows_is_enough_to_serve() {
    let database = TestDb::empty().await;
    let role = format!("service_{}", random());
    let superuser = database.connect_as_superuser().await;
    let grants = GRANTS.replace("service", &role);
    superuser.batch_execute(&format!("CREATE ROLE {role} LOGIN; {grants}")).await.unwrap();
    let owner = database_url(&database.config());
    let service = database_url(database.config().user(&role));
    let workplace = Workplace::new();

    let ended = workplace.run(&[], &with_database(&service));
    let line = ended.complaint(1);
    assert!(line.contains("permission") && line.contains("healthcare-backend migrate"), "{line}");
    let ended = workplace.run(&["migrate"], &with_database(&owner));
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let [url, secret] = with_database(&service);
    for migrate in ["false", "true"] {
        let settings = [url, secret, ("MIGRATE_ON_START", migrate)];
        let program = workplace.serve(&settings);
        let email = format!("{role}-{migrate}@example.com");
        let client = use_everything(&program, &email).await;
        let ended = workplace.run(&["admin", &email], &settings);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        client.send(Method::POST, "/api/auth/logout", None).await.expect(204);
        program.client().get("/health/ready").await.expect(200);
        program.stop();
    }
    let mut config = database.config();
    let (client, connection) = config.user(&role).connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in ["CREATE TABLE mine ()", "ALTER TABLE users ADD mine text", "DROP TABLE mappings"] {
        let code = client.batch_execute(sql).await.unwrap_err().code().cloned();
        assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}

/// One request for each statement.
async fn use_everything(program: &Program, email: &str) -> Client {
    let anyone = program.client();
    let client = anyone.clone().registered(email).await;
    let wrong = json!({"email": email, "password": "wrong horse"});
    anyone.post("/api/auth/login", &wrong).await.expect_error(401, "invalid_credentials");
    let right = json!({"email": email, "password": "correct horse"});
    let session = anyone.post("/api/auth/login", &right).await.expect(200).json();
    let refresh = json!({"refresh_token": session["refresh_token"]});
    anyone.post("/api/auth/refresh", &refresh).await.expect(200);
    let password = json!({"current_password": "correct horse", "new_password": "another horse"});
    client.put("/api/auth/password", &password).await.expect(204);
    client.get("/api/auth/me").await.expect(200);

    // Concurrent ones are batched.
    let name = json!({"name": "Grace"});
    let made = join_all((0..32).map(|_| client.post("/api/patients", &name))).await;
    let patient = made.into_iter().map(|answer| answer.expect(201).id()).max().unwrap();
    let doctor = json!({"name": "Strange", "specialization": "Surgery"});
    let doctor = client.post("/api/doctors", &doctor).await.expect(201).id();
    let mapping = json!({"patient_id": patient, "doctor_id": doctor});
    let mapping = client.post("/api/mappings", &mapping).await.expect(201).id();
    for (path, id) in [("/api/patients", patient), ("/api/doctors", doctor)] {
        client.get(path).await.expect(200);
        client.get(&format!("{path}?limit=200")).await.expect(200);
        client.get(&format!("{path}?search=x")).await.expect(200);
        client.get(&format!("{path}/{id}")).await.expect(200);
        client.patch(&format!("{path}/{id}"), &json!({"name": "Other"})).await.expect(200);
    }
    client.get("/api/mappings").await.expect(200);
    client.get(&format!("/api/mappings/{patient}")).await.expect(200);
    client.delete(&format!("/api/mappings/{mapping}")).await.expect(204);
    client.delete(&format!("/api/patients/{patient}")).await.expect(204);
    client.delete(&format!("/api/doctors/{doctor}")).await.expect(204);
    client
}

/// A `DATABASE_URL` for a database behind a proxy.
fn url_through(proxy: &Proxy, database: &TestDb) -> String {
    let name = database.config().get_dbname().unwrap().to_owned();
    let port = proxy.config("healthcare", &name).get_ports()[0];
    format!("postgres://healthcare@127.0.0.1:{port}/{name}")
}

#[tokio::test]
async fn a_program_that_starts_before_its_database_waits_for_it_and_says_so() {
    let database = TestDb::empty().await;
    let proxy = Proxy::to(cluster().socket());
    proxy.lead_to(None);
    let url = url_through(&proxy, &database);
    let workplace = Workplace::new();
    let program = Program::spawn(workplace.command(&[], &with_database(&url)));
    program.says("waiting for the database");
    let anyone = program.client();
    anyone.get("/health/live").await.expect(200);
    anyone.get("/health/ready").await.expect_error(503, "database_unavailable");
    let login = json!({"email": "ada@example.com", "password": "correct horse"});
    anyone.post("/api/auth/login", &login).await.expect_error(503, "database_unavailable");
    anyone.get("/api/patients").await.expect_error(503, "database_unavailable");
    anyone.get("/api/nothing").await.expect_error(404, "not_found");

    proxy.lead_to(Some(&cluster().socket()));
    anyone.becomes_ready().await;
    make_a_patient(&program).await;
    assert_eq!(program.stop().stderr, "");
}

#[tokio::test]
async fn a_program_that_waits_for_its_database_stops_when_it_is_told_to() {
    let workplace = Workplace::new();
    // Nothing listens at the one, and the other accepts connections without answering.
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let refusing = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for address in [refusing, mute.local_addr().unwrap()] {
        let url = format!("postgres://u:hunter2@{address}/db");
        let [url, secret] = with_database(&url);
        // It was never ready, so no load balancer has to notice.
        let settings = [url, secret, ("DRAIN_DELAY_SECONDS", "3600")];
        let program = Program::spawn(workplace.command(&[], &settings));
        program.client().get("/health/live").await.expect(200);
        program.client().get("/health/ready").await.expect_error(503, "database_unavailable");
        let ended = program.stop();
        assert!(!ended.stdout.contains("hunter2") && ended.stderr.is_empty(), "{ended:?}");
    }
}

#[tokio::test]
async fn what_waiting_does_not_help_against_ends_the_program_with_one_line() {
    let workplace = Workplace::new();
    let strict = Cluster::start(&[], &[("pg_hba.conf", "local all all scram-sha-256\n")]);
    let folder = strict.socket().parent().unwrap().display().to_string();
    let wrong = format!("host={folder} user=postgres password=hunter2 dbname=postgres");
    let ended = workplace.run(&[], &with_database(&wrong));
    let line = ended.complaint(1);
    assert!(line.contains("password authentication failed") && !line.contains("hunter2"), "{line}");

    let database = TestDb::new().await;
    let missing = database_url(database.config().dbname("nowhere"));
    let ended = workplace.run(&[], &with_database(&missing));
    assert!(ended.complaint(1).contains("nowhere"), "{ended:?}");

    // The same if it shows after a wait.
    let proxy = Proxy::to(cluster().socket());
    proxy.lead_to(None);
    let url = url_through(&proxy, &database).replace("/test_", "/nowhere_");
    let program = Program::spawn(workplace.command(&[], &with_database(&url)));
    program.client().get("/health/live").await.expect(200);
    proxy.lead_to(Some(&cluster().socket()));
    let ended = program.wait();
    assert!(ended.complaint(1).contains("nowhere"), "{ended:?}");
}
