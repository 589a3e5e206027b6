//! The embedded database: its folder, its server, and commands beside it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use healthcare_backend::db::embedded;
use healthcare_backend::db::embedded::programs::Programs;
use serde_json::json;

use crate::harness::processes::processes_in;
use crate::harness::program::Workplace;
use crate::harness::{Client, until};

/// A connection to the server of a data folder.
async fn connect(data: &Path, role: &str) -> tokio_postgres::Client {
    embedded::socket_options(&data.join("run"), role, "healthcare").connect().await.unwrap()
}

/// What `pg_controldata` prints for a stopped cluster.
fn cluster_state(cluster: &Path) -> String {
    // Some systems link the server's programs into `PATH`, but not this one.
    let programs = Programs::find(None, None).unwrap();
    let initdb = fs::canonicalize(programs.command("initdb").get_program()).unwrap();
    let output = Command::new(initdb.with_file_name("pg_controldata")).arg(cluster).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("Database cluster state:")).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

async fn first_patient(client: &Client) -> String {
    let list = client.get("/api/patients").await.expect(200).json();
    list[0]["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_empty_folder_becomes_a_database_that_outlives_a_restart() {
    let workplace = Workplace::new();
    let data = workplace.data();
    // Without settings, the data is in `data` below the working folder.
    let program = workplace.serve(&[]);
    let ada = program.client().registered("ada@example.com").await;
    ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
    assert_eq!(mode(&data.join("jwt_secret")), 0o600);
    assert_eq!(mode(&data.join("run")), 0o700);
    assert_eq!(mode(&data.join("cluster")), 0o700);
    assert_eq!(mode(&data.join("postgresql.log")), 0o600);
    let secret = fs::read(data.join("jwt_secret")).unwrap();
    assert!(secret.len() >= 32);
    assert!(!processes_in(&data.join("cluster")).is_empty());
    program.stop();
    assert_eq!(processes_in(&data.join("cluster")), []);
    assert_eq!(cluster_state(&data.join("cluster")), "shut down");

    let program = workplace.serve(&[]);
    let ada = program.client().with_token(ada.token());
    assert_eq!(first_patient(&ada).await, "Grace", "the token and the data are still good");
    assert_eq!(fs::read(data.join("jwt_secret")).unwrap(), secret);
    program.stop();
}

#[tokio::test]
async fn a_second_start_on_the_folder_is_refused_and_the_first_goes_on() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let ada = program.client().registered("ada@example.com").await;
    let before = processes_in(&workplace.data().join("cluster")).len();
    for _ in 0..2 {
        let ended = workplace.run(&[], &[]);
        let line = ended.complaint(1);
        assert!(line.contains("Another"), "{ended:?}");
        assert!(line.contains(workplace.data().to_str().unwrap()), "{ended:?}");
    }
    ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
    assert!(processes_in(&workplace.data().join("cluster")).len() >= before.min(5));
    program.stop();
}

#[tokio::test]
async fn commands_work_beside_the_service_and_without_it() {
    let workplace = Workplace::new();
    let cluster = workplace.data().join("cluster");
    let ended = workplace.run(&["migrate"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(processes_in(&cluster), [], "a command stops what it has started");

    let program = workplace.serve(&[]);
    let ada = program.client().registered("ada@example.com").await;
    let eve = program.client().registered("eve@example.com").await;
    let doctor = json!({"name": "Strange", "specialization": "Surgery"});
    let target = format!("/api/doctors/{}", eve.post("/api/doctors", &doctor).await.id());
    for arguments in [["migrate"].as_slice(), &["admin", "ada@example.com"]] {
        let ended = workplace.run(arguments, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "");
    }
    ada.patch(&target, &json!({"bio": "changed"})).await.expect(200);
    let ended = workplace.run_with_input("correct horse", &["user", "add", "bob@example.com"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    program.client().logged_in("bob@example.com").await;
    program.stop();

    let ended = workplace.run(&["admin", "ada@example.com", "--revoke"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(processes_in(&cluster), []);
    let program = workplace.serve(&[]);
    let ada = program.client().with_token(ada.token());
    ada.patch(&target, &json!({"bio": "again"})).await.expect_error(403, "forbidden");
    program.stop();
}

#[tokio::test]
async fn the_role_of_the_service_is_no_superuser() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let ada = program.client().registered("ada@example.com").await;
    ada.get("/api/patients").await.expect(200);
    let superuser = connect(&workplace.data(), "postgres").await;
    let sql = "SELECT DISTINCT r.rolname, r.rolsuper OR r.rolcreaterole OR r.rolcreatedb
                   OR r.rolreplication OR r.rolbypassrls
               FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
               WHERE a.application_name = 'healthcare-backend'";
    let rows = superuser.query(sql, &[]).await.unwrap();
    let roles: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(roles, [("healthcare".to_owned(), false)]);
    let sql = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate
               FROM pg_database WHERE datname = 'healthcare'";
    let row = superuser.query_one(sql, &[]).await.unwrap();
    let database: (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(database, ("healthcare", "UTF8", "C.UTF-8"));
    program.stop();
}

#[tokio::test]
async fn paths_may_be_long_and_hold_spaces_quotes_and_commas() {
    let long = [&*"long".repeat(15), &*"longer".repeat(10), "data"].join("/");
    for folder in [long.as_str(), "it's \"one\", two $HOME\\ \u{e9}/data"] {
        let workplace = Workplace::new();
        let data: PathBuf = workplace.path().join(folder);
        let settings = [("DATA_DIR", data.to_str().unwrap())];
        let program = workplace.serve(&settings);
        let ada = program.client().registered("ada@example.com").await;
        ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
        let ended = workplace.run(&["admin", "ada@example.com"], &settings);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        program.stop();

        let program = workplace.serve(&settings);
        assert_eq!(first_patient(&program.client().with_token(ada.token())).await, "Grace");
        program.stop();
        let left: Vec<_> = fs::read_dir(workplace.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "a socket folder was left behind: {left:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_named_relatively_lies_below_the_working_folder() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[("DATA_DIR", "here/below")]);
    program.client().get("/health/ready").await.expect(200);
    program.stop();
    assert_eq!(cluster_state(&workplace.path().join("here/below/cluster")), "shut down");
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    let workplace = Workplace::new();
    let file = workplace.path().join("file");
    fs::write(&file, "").unwrap();
    let data = file.join("data");
    let ended = workplace.run(&[], &[("DATA_DIR", data.to_str().unwrap())]);
    let line = ended.complaint(1);
    assert!(line.contains(data.to_str().unwrap()), "{ended:?}");
    assert!(line.contains("DATA_DIR") && line.contains("DATABASE_URL"), "{ended:?}");
}

#[test]
fn a_folder_without_server_programs_is_named() {
    let workplace = Workplace::new();
    let folder = workplace.path().join("empty");
    fs::create_dir(&folder).unwrap();
    let ended = workplace.run(&[], &[("POSTGRES_BIN", folder.to_str().unwrap())]);
    let line = ended.complaint(1);
    assert!(line.contains("POSTGRES_BIN"), "{ended:?}");
    assert!(line.contains(folder.to_str().unwrap()), "{ended:?}");
}

#[test]
fn a_closed_folder_above_the_data_is_named() {
    if !rustix::process::geteuid().is_root() {
        // Only as root does PostgreSQL run as another user, who may lack access to a folder.
        return;
    }
    let workplace = Workplace::new();
    let closed = workplace.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let data = closed.join("further/data");
    let ended = workplace.run(&[], &[("DATA_DIR", data.to_str().unwrap())]);
    let line = ended.complaint(1);
    assert!(line.contains("DATA_DIR"), "{ended:?}");
    let named = format!("{},", closed.display());
    assert!(line.contains(&named), "{ended:?}");
}

#[test]
fn data_of_another_major_version_is_refused_and_left_alone() {
    let workplace = Workplace::new();
    let cluster = workplace.data().join("cluster");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "14\n").unwrap();
    for command in ["serve", "migrate"] {
        let ended = workplace.run(&[command], &[]);
        let line = ended.complaint(1);
        assert!(line.contains("PostgreSQL 14"), "{ended:?}");
        assert!(line.contains("POSTGRES_BIN") && line.contains("pg_upgrade"), "{ended:?}");
    }
    assert_eq!(fs::read_dir(&cluster).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_no_cluster_is_refused_and_left_alone() {
    let workplace = Workplace::new();
    let cluster = workplace.data().join("cluster");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("thesis.txt"), "mine").unwrap();
    let ended = workplace.run(&[], &[]);
    assert!(ended.complaint(1).contains(cluster.to_str().unwrap()), "{ended:?}");
    assert_eq!(fs::read_to_string(cluster.join("thesis.txt")).unwrap(), "mine");
}

#[tokio::test]
async fn the_servers_log_holds_no_values_of_rows_or_statements() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let client = connect(&workplace.data(), "healthcare").await;
    for failing in [
        "INSERT INTO users (name, email, password_hash) VALUES (NULL, 'canary', 'canary')",
        "INSERT INTO patients (created_by, name) VALUES (4711, 'canary')",
        "SELECT 'canary'::integer",
        "SELECT canary",
        "DO $$ BEGIN RAISE WARNING 'canary'; RAISE EXCEPTION 'canary' USING DETAIL = 'canary'; END $$",
    ] {
        client.batch_execute(failing).await.unwrap_err();
    }
    // PostgreSQL logs the statement of a crashed process.
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let superuser = connect(&workplace.data(), "postgres").await;
    let sleeping = tokio::spawn(async move {
        client.batch_execute("SELECT 'canary', pg_sleep(600)").await.unwrap_err();
    });
    until("the statement runs", async || {
        let sql = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
        superuser.query_opt(sql, &[&pid]).await.unwrap()
    })
    .await;
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    sleeping.await.unwrap();
    // PostgreSQL restarts its other processes.
    let anyone = program.client();
    anyone.becomes_ready().await;
    program.stop();
    let log = fs::read_to_string(workplace.data().join("postgresql.log")).unwrap();
    assert!(!log.contains("canary"), "{log}");
}
