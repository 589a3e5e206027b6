//! The commands that work on many rows, and those for whoever runs the service. The others are in
//! `program`.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::export::export;
use crate::harness::program::{Ended, Program, SECRET, Workplace, database_url, with_database};
use crate::harness::proxy::Cut;
use crate::harness::{Proxy, TestDb, TestServer, cluster, free_port, until};
use crate::import::NDJSON;

const PASSWORD: &str = "correct horse\n";

fn settings(database: &TestDb) -> [(&'static str, String); 2] {
    [("DATABASE_URL", database_url(&database.config())), ("JWT_SECRET", SECRET.to_owned())]
}

/// Runs a command on a database.
fn run(database: &TestDb, input: &str, arguments: &[&str]) -> Ended {
    let settings = settings(database);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    Workplace::new().run_with_input(input, arguments, &settings)
}

async fn count(database: &TestDb, sql: &str) -> i64 {
    database.connect().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn seeded_users_log_in_and_have_patients_with_doctors() {
    let server = TestServer::start().await;
    let arguments = ["seed", "--users", "3", "--patients", "1000", "--doctors", "20"];
    let ended = run(server.database(), PASSWORD, &arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let report = "3 users, 1000 patients, 20 doctors and 600 mappings in ";
    assert!(ended.stdout.contains(report) && ended.stdout.contains(" a second."), "{ended:?}");
    let user = server.anyone().logged_in("user2@example.com").await;
    let patients = user.get("/api/patients").await.expect(200).json();
    let patients = patients.as_array().unwrap();
    assert_eq!(patients.len(), 333);
    let mappings = user.get("/api/mappings").await.expect(200).json();
    assert_eq!(mappings.as_array().unwrap().len(), 199);
    // Each is what a client could have sent, and nobody whom there might be.
    for patient in patients {
        user.post("/api/patients", patient).await.expect(201);
        assert!(patient["email"].as_str().unwrap().ends_with("@example.com"), "{patient}");
        assert!(patient["phone"].as_str().unwrap().contains(" 555-01"), "{patient}");
    }
    for doctor in user.get("/api/doctors").await.expect(200).json().as_array().unwrap() {
        user.post("/api/doctors", doctor).await.expect(201);
    }
}

#[tokio::test]
async fn a_database_with_users_is_seeded_only_when_told_to() {
    let database = TestDb::new().await;
    let small = ["seed", "--users", "1", "--patients", "5", "--doctors", "1"];
    assert_eq!(run(&database, PASSWORD, &small).code, Some(0));
    let refused = run(&database, PASSWORD, &small);
    assert!(refused.complaint(1).contains("--add"), "{refused:?}");
    assert_eq!(count(&database, "SELECT count(*) FROM patients").await, 5);
    let added = run(&database, PASSWORD, &[&small[..], &["--add"]].concat());
    assert_eq!(added.code, Some(0), "{added:?}");
    assert_eq!(count(&database, "SELECT count(*) FROM patients").await, 10);
    // The same number invents the same people.
    let sql = "SELECT count(DISTINCT (name, age, phone, address, notes)) FROM patients";
    assert_eq!(count(&database, sql).await, 5);
    let emails = "SELECT count(*) FROM users
        WHERE email IN ('user1@example.com', 'user2@example.com')";
    assert_eq!(count(&database, emails).await, 2);
}

#[tokio::test]
async fn a_seed_has_a_password_by_the_rules_and_no_default() {
    let database = TestDb::new().await;
    for input in ["", "short\n", "two\nlines\n"] {
        let refused = run(&database, input, &["seed"]);
        assert!(refused.complaint(2).contains("password"), "{refused:?}");
    }
    let refused = run(&database, PASSWORD, &["seed", "--users", "0"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(count(&database, "SELECT count(*) FROM users").await, 0);
}

#[tokio::test]
async fn a_file_is_imported_for_a_user_as_the_service_does_it() {
    let server = TestServer::start().await;
    let user = server.anyone().registered("ada@example.com").await;
    let workplace = Workplace::new();
    let folder = workplace.data();
    fs::create_dir(&folder).unwrap();
    let settings = settings(server.database());
    let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let import = |name: &str, text: &str, more: &[&str]| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        let arguments = [&["import", file.to_str().unwrap(), "--user", "ADA@example.com"], more];
        workplace.run(&arguments.concat(), &settings)
    };
    let line = json!({"name": "Grace", "age": 36}).to_string();
    let ended = import("a.ndjson", &format!("{line}\n").repeat(20_000), &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("Imported 20000 patients in "), "{ended:?}");
    for (name, text, more) in [
        ("b.CSV", "name\nZoë\n", &[][..]),
        ("c.txt", "name\nB\n", &["--format", "csv"]),
        ("d.jsonl", "{\"name\":\"C\"}", &[]),
    ] {
        let ended = import(name, text, more);
        assert!(ended.stdout.contains("Imported 1 patients in "), "{ended:?}");
    }
    assert_eq!(export(&user, NDJSON).await.lines().count(), 20_003);

    let wrong = import("e.csv", "name,age\nD,1\nE,151\n,2\n", &[]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let lines: Vec<&str> = wrong.stderr.lines().collect();
    assert_eq!(
        lines,
        [
            "healthcare-backend: Some lines are wrong. Nothing was imported.",
            "line 3: age: must be between 0 and 150",
            "line 4: name: is required",
        ]
    );
    let unknown = import("f.txt", "name\nB\n", &[]);
    assert!(unknown.complaint(2).contains("--format"), "{unknown:?}");
    let missing = workplace.run(&["import", "none.csv", "--user", "ada@example.com"], &settings);
    assert!(missing.complaint(2).contains("none.csv"), "{missing:?}");
    let nobody = workplace.run(
        &["import", folder.join("b.CSV").to_str().unwrap(), "--user", "eve@example.com"],
        &settings,
    );
    assert!(nobody.complaint(1).contains("no user"), "{nobody:?}");
    assert_eq!(export(&user, NDJSON).await.lines().count(), 20_003);
}

#[tokio::test]
async fn a_command_that_loses_its_answer_does_not_say_that_nothing_was_done() {
    let server = TestServer::start().await;
    server.anyone().registered("ada@example.com").await;
    let database = server.database();
    let import = ["import", "-", "--format", "csv", "--user", "ada@example.com"];
    for (statement, input, arguments, done) in [
        (
            "INSERT INTO users",
            PASSWORD,
            &["user", "add", "eve@example.com"][..],
            "SELECT FROM users WHERE email = 'eve@example.com'",
        ),
        (
            "UPDATE users",
            "",
            &["admin", "ada@example.com"],
            "SELECT FROM users WHERE email = 'ada@example.com' AND role = 'admin'",
        ),
        ("INSERT INTO patients", "name\nGrace\n", &import, "SELECT FROM patients"),
    ] {
        let proxy = Proxy::for_statement(cluster().socket(), statement);
        // What asks is sent, and the connection breaks before the answer.
        proxy.cut(Cut::AfterMessages(3));
        let config = database.config();
        let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
        let port = proxy.config(user, name).get_ports()[0];
        let url = format!("host=127.0.0.1 port={port} user={user} dbname={name}");
        let ended = Workplace::new().run_with_input(input, arguments, &with_database(&url));
        assert!(ended.complaint(1).contains("may or may not have been done"), "{ended:?}");
        let connection = database.connect().await;
        until(done, async || connection.query_opt(done, &[]).await.unwrap()).await;
    }
}

#[tokio::test]
async fn lines_are_imported_from_standard_input_too() {
    let server = TestServer::start().await;
    let user = server.anyone().registered("ada@example.com").await;
    let arguments = ["import", "-", "--format", "csv", "--user", "ada@example.com"];
    let ended = run(server.database(), "name\nA\nB\n", &arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(export(&user, NDJSON).await.lines().count(), 2);
}

#[tokio::test]
async fn a_health_check_succeeds_while_the_service_is_ready() {
    let database = TestDb::new().await;
    let workplace = Workplace::new();
    let port = free_port().to_string();
    let mut settings = settings(&database).to_vec();
    settings.push(("PORT", port.clone()));
    // It goes on for a while after the signal to stop, without being ready.
    settings.push(("DRAIN_DELAY_SECONDS", "600".to_owned()));
    // The service listens everywhere, and is asked on the loopback.
    settings.push(("HOST", "0.0.0.0".to_owned()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let check = || workplace.run(&["healthcheck"], &settings);
    assert!(check().complaint(1).contains(&port), "nothing listens yet");
    let program: Program = workplace.serve(&settings);
    let healthy = check();
    assert_eq!((healthy.code, healthy.stderr.as_str()), (Some(0), ""), "{healthy:?}");
    program.signal(Signal::TERM);
    program.says("stopping");
    let unready = check();
    assert!(unready.complaint(1).contains("503"), "{unready:?}");
    program.stop();
    let nowhere = workplace.run(&["healthcheck"], &[("PORT", "0")]);
    assert!(nowhere.complaint(1).contains("PORT"), "{nowhere:?}");
}

#[test]
fn completions_know_every_command_and_need_no_settings() {
    let workplace = Workplace::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = workplace.run(&["completions", shell], &[("PORT", "wrong")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        for command in ["serve", "seed", "import", "healthcheck", "completions"] {
            assert!(ended.stdout.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_help_of_each_command_says_what_it_needs_with_an_example() {
    let workplace = Workplace::new();
    for command in ["serve", "migrate", "admin", "seed", "import", "healthcheck", "completions"] {
        let ended = workplace.run(&[command, "--help"], &[]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains("Example:\n"), "{ended:?}");
    }
}
