//! The program: settings, commands, signals, and its errors at start.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;

use healthcare_backend::db::migrations::MIGRATIONS;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::program::{Ended, Program, SECRET, Workplace, database_url, with_database};
use crate::harness::socket::{read_head, read_to_end, request, send};
use crate::harness::{Client, Lock, TestDb, random};

/// A part of every secret.
const HIDDEN: &str = "hunter2";

#[test]
fn a_wrong_setting_is_one_line_that_names_it_and_hides_its_value() {
    let workplace = Workplace::new();
    let url = "postgres://u:hunter2@127.0.0.1/db";
    for (name, settings) in [
        ("DATABASE_URL", vec![("DATABASE_URL", "mysql://u:hunter2@h/d"), ("JWT_SECRET", SECRET)]),
        ("DATABASE_URL", vec![("DATABASE_URL", "user=hunter2"), ("JWT_SECRET", SECRET)]),
        ("JWT_SECRET", vec![("DATABASE_URL", url)]),
        ("JWT_SECRET", vec![("JWT_SECRET", "hunter2")]),
        ("TRUSTED_PROXIES", vec![("TRUSTED_PROXIES", "10.0.0.1/8")]),
        ("TRUSTED_PROXIES", vec![("TRUSTED_PROXIES", "0.0.0.0/0")]),
        ("HOST", vec![("HOST", "hunter2")]),
        ("PORT", vec![("PORT", "65536")]),
        ("PORT", vec![("PORT", "hunter2")]),
        ("DRAIN_DELAY_SECONDS", vec![("DRAIN_DELAY_SECONDS", "3601")]),
        ("TOKEN_TTL_SECONDS", vec![("TOKEN_TTL_SECONDS", "0")]),
        ("BCRYPT_COST", vec![("BCRYPT_COST", "31")]),
        ("WORKERS", vec![("WORKERS", "-1")]),
        ("POOL_SIZE", vec![("POOL_SIZE", "1.5")]),
        ("LOG", vec![("LOG", "hunter2")]),
    ] {
        let ended = workplace.run(&[], &settings);
        let line = ended.complaint(2);
        assert!(line.contains(name), "{ended:?}");
        assert!(!line.contains(HIDDEN) && ended.stdout.is_empty(), "{ended:?}");
    }
    assert!(!workplace.data().exists(), "nothing was started");
}

#[test]
fn help_names_every_command_and_an_unknown_one_is_refused() {
    let workplace = Workplace::new();
    let ended = workplace.run(&["--help"], &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for command in
        ["serve", "migrate", "admin", "user", "seed", "import", "healthcheck", "completions"]
    {
        assert!(ended.stdout.contains(command), "{ended:?}");
    }
    assert_eq!(workplace.run(&["serv"], &[]).code, Some(2));
    assert_eq!(workplace.run(&["admin"], &[]).code, Some(2));
    assert_eq!(workplace.run(&["user"], &[]).code, Some(2));
    assert_eq!(workplace.run(&["user", "add"], &[]).code, Some(2));
}

#[tokio::test]
async fn eight_migrations_at_once_on_an_empty_database_all_succeed() {
    let database = TestDb::empty().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    // Nothing but the address of the database is needed.
    let settings = [("DATABASE_URL", url.as_str())];
    let start = |_| Program::spawn(workplace.command(&["migrate"], &settings));
    let programs: Vec<Program> = (0..8).map(start).collect();
    for program in programs {
        let ended = program.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let rows = database
        .connect()
        .await
        .query("SELECT version FROM refinery_schema_history", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), MIGRATIONS.len());
}

#[tokio::test]
async fn the_right_of_an_admin_is_given_and_taken_on_the_command_line_at_once() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let ada = program.client().registered("ada@example.com").await;
    let eve = program.client().registered("eve@example.com").await;
    let doctor = json!({"name": "Strange", "specialization": "Surgery"});
    let target = format!("/api/doctors/{}", eve.post("/api/doctors", &doctor).await.id());
    let change = json!({"bio": "changed"});

    ada.patch(&target, &change).await.expect_error(403, "forbidden");
    let ended = workplace.run(&["admin", "Ada@example.com"], &with_database(&url));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ada.patch(&target, &change).await.expect(200);
    let ended = workplace.run(&["admin", "ada@example.com", "--revoke"], &with_database(&url));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ada.patch(&target, &change).await.expect_error(403, "forbidden");

    let ended = workplace.run(&["admin", "nobody@example.com"], &with_database(&url));
    assert!(ended.complaint(1).contains("e-mail"), "{ended:?}");
}

#[tokio::test]
async fn users_are_made_on_the_command_line_also_where_registering_is_closed() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let add = |input: &str, arguments: &[&str]| {
        let arguments = [&["user", "add"], arguments].concat();
        workplace.run_with_input(input, &arguments, &with_database(&url))
    };
    let [address, secret] = with_database(&url);
    let program = workplace.serve(&[address, secret, ("REGISTRATION", "closed")]);
    let log_in = async |email: &str, password: &str| {
        let login = json!({"email": email, "password": password});
        program.client().post("/api/auth/login", &login).await
    };

    let ended = add("correct horse\n", &["ada@example.com"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let user = log_in("ada@example.com", "correct horse").await.expect(200).json()["user"].clone();
    assert_eq!((&user["name"], &user["role"]), (&json!("ada"), &json!("user")));

    // Without a line end, and with CRLF.
    for (input, email) in [("battery staple", "bob@b"), ("battery staple\r\n", "cleo@b")] {
        let ended = add(input, &[email, "--name", "Dr. Zoë", "--admin"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let user = log_in(email, "battery staple").await.expect(200).json()["user"].clone();
        assert_eq!((&user["name"], &user["role"]), (&json!("Dr. Zoë"), &json!("admin")));
    }

    let ended = add("battery staple\n", &["ADA@example.com"]);
    assert!(ended.complaint(1).contains("e-mail"), "{ended:?}");
    log_in("ada@example.com", "correct horse").await.expect(200);
}

#[test]
fn what_makes_no_user_is_one_line_that_names_it_before_anything_is_started() {
    let workplace = Workplace::new();
    let long = format!("{HIDDEN}{}", "x".repeat(5000));
    for (input, arguments, name) in [
        ("correct horse\n", ["ada", "--name=Ada"].as_slice(), "email"),
        ("correct horse\n", &["ada@example.com", "--name= "], "name"),
        ("hunter2\n", &["ada@example.com"], "password"),
        ("", &["ada@example.com"], "password"),
        (&long, &["ada@example.com"], "password"),
        ("hunter2 hunter2\nhunter2 hunter2\n", &["ada@example.com"], "one line"),
        ("hunter2\n", &["ada"], "email"),
    ] {
        let ended = workplace.run_with_input(input, &[&["user", "add"], arguments].concat(), &[]);
        let line = ended.complaint(2);
        assert!(line.contains(name) && !line.contains(HIDDEN), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    assert!(!workplace.data().exists(), "nothing was started");
}

#[tokio::test]
async fn sigterm_and_sigint_stop_it_with_success() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    for signal in [Signal::TERM, Signal::INT] {
        let program = workplace.serve(&with_database(&url));
        program.client().get("/health/ready").await.expect(200);
        program.signal(signal);
        let ended = program.wait();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    }
}

#[tokio::test]
async fn a_request_that_runs_when_it_is_told_to_stop_is_answered() {
    let database = TestDb::new().await;
    let url = database_url(&database.config_for_locks());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let ada = program.client().registered("ada@example.com").await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");

    let lock = Lock::patients(database.connect().await, &[id]).await;
    let running = tokio::spawn(async move { ada.patch(&target, &json!({"name": "Hopper"})).await });
    lock.awaited_by(1).await;
    program.signal(Signal::TERM);
    program.says("stopping");
    lock.release().await;

    assert_eq!(running.await.unwrap().expect(200).json()["name"], "Hopper");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn until_the_delay_is_over_it_serves_but_is_not_ready() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let [database, secret] = with_database(&url);
    let program = workplace.serve(&[database, secret, ("DRAIN_DELAY_SECONDS", "3600")]);
    let ada = program.client().registered("ada@example.com").await;
    ada.get("/health/ready").await.expect(200);
    let live = request("GET", "/health/live", "", "");
    let mut kept_open = send(program.address(), &live).await;
    assert!(!read_head(&mut kept_open).await.contains("connection: "));

    program.signal(Signal::TERM);
    program.says("stopping");
    let ready = ada.get("/health/ready").await.expect_error(503, "overloaded");
    assert_eq!(ready.header("connection"), Some("close"));
    let body = json!({"name": "Grace"});
    for answer in [ada.get("/health/live").await, ada.post("/api/patients", &body).await] {
        assert!(answer.status.is_success(), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    kept_open.write_all(live.as_bytes()).await.unwrap();
    let last = read_to_end(&mut kept_open).await;
    assert!(last.contains("HTTP/1.1 200 ") && last.contains("\r\nconnection: close\r\n"), "{last}");

    // A second signal cuts the hour short.
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code, Some(0));

    let program = workplace.serve(&[database, secret, ("DRAIN_DELAY_SECONDS", "1")]);
    let address = program.address();
    program.stop();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_one_line() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let [database, secret] = with_database(&url);
    let ended = Workplace::new().run(&[], &[database, secret, ("PORT", &port)]);
    assert!(ended.complaint(1).contains(&port), "{ended:?}");
}

#[tokio::test]
async fn a_variable_that_is_not_utf_8_matters_only_if_it_is_a_setting() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let broken = || OsString::from_vec(b"hunter2 \xff".to_vec());

    let mut command = workplace.command(&[], &with_database(&url));
    command.env("UNRELATED", broken()).env(broken(), "value");
    let program = Program::spawn(command);
    program.client().get("/health/live").await.expect(200);
    program.stop();

    let mut command = workplace.command(&[], &with_database(&url));
    command.env("JWT_SECRET", broken());
    let ended = Program::spawn(command).wait();
    let line = ended.complaint(2);
    assert!(line.contains("JWT_SECRET") && !line.contains(HIDDEN), "{ended:?}");
}

#[tokio::test]
async fn the_file_dotenv_is_read_and_the_environment_wins_over_it() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let file = workplace.path().join(".env");
    let text = format!("# Mine.\nDATABASE_URL=\"{url}\"\nJWT_SECRET='{SECRET}'\nHOST=nowhere\n");
    fs::write(&file, text).unwrap();

    let ended = workplace.run(&[], &[]);
    assert!(ended.complaint(2).contains("HOST"), "{ended:?}");
    let program = workplace.serve(&[("HOST", "127.0.0.1")]);
    program.client().registered("ada@example.com").await;
    let users = database.connect().await.query("SELECT FROM users", &[]).await.unwrap();
    assert_eq!(users.len(), 1, "the database of the file was used");
    program.stop();

    fs::remove_file(&file).unwrap();
    // Text of some editors: a byte order mark, CRLF, and a name that is mistyped.
    let text = format!("\u{feff}DATABASE_URL=\"{url}\"\r\nJWT_SECERT='{HIDDEN}'\r\n");
    fs::write(&file, text).unwrap();
    let program = workplace.serve(&[("JWT_SECRET", SECRET)]);
    let said = program.stop().stdout;
    assert_eq!(said.matches("JWT_SECERT, which is not a setting").count(), 1, "{said}");
    assert!(said.contains("the nearest is JWT_SECRET") && !said.contains(HIDDEN), "{said}");
}

#[test]
fn a_file_dotenv_that_is_not_as_it_should_be_is_one_line() {
    let workplace = Workplace::new();
    let file = workplace.path().join(".env");
    for text in ["JWT_SECRET=\"hunter2\nPORT=0\n", "JWT_SECRET=hunter2$HOME", "hunter2"] {
        fs::write(&file, text).unwrap();
        let ended = workplace.run(&[], &[]);
        let line = ended.complaint(2);
        assert!(line.contains("line 1 of .env") && !line.contains(HIDDEN), "{ended:?}");
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ended = workplace.run(&[], &[]);
    assert!(ended.complaint(2).contains(".env cannot be read"), "{ended:?}");
}

#[test]
fn a_database_that_a_command_cannot_reach_is_one_line() {
    let workplace = Workplace::new();
    // Closed again, so that nothing listens there.
    let refusing = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let refusing = format!("postgres://u:hunter2@{refusing}/db");
    for url in ["host=/nonexistent user=u password=hunter2", &refusing] {
        for arguments in [["migrate"].as_slice(), &["admin", "ada@example.com"]] {
            cannot_be_reached(&workplace.run(arguments, &with_database(url)));
        }
    }
}

#[test]
fn a_database_that_never_speaks_is_not_waited_for_by_a_command() {
    let workplace = Workplace::new();
    // The kernel completes the TCP handshake, but nothing ever answers.
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("postgres://u:hunter2@{}/db", mute.local_addr().unwrap());
    let programs = [["migrate"].as_slice(), &["admin", "ada@example.com"]]
        .map(|arguments| Program::spawn(workplace.command(arguments, &with_database(&url))));
    for program in programs {
        cannot_be_reached(&program.wait());
    }
}

#[track_caller]
fn cannot_be_reached(ended: &Ended) {
    let line = ended.complaint(1);
    assert!(line.contains("database cannot be reached"), "{ended:?}");
    assert!(!line.contains(HIDDEN), "{ended:?}");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_with_what_to_do() {
    let database = TestDb::new().await;
    let name = format!("ascii_{}", random());
    let sql = format!(
        "CREATE DATABASE {name} OWNER healthcare TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    );
    let superuser = database.connect_as_superuser().await;
    superuser.batch_execute(&sql).await.unwrap();
    let mut config = database.config();
    let url = database_url(config.dbname(&name));
    let ended = Workplace::new().run(&[], &with_database(&url));
    superuser.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    let line = ended.complaint(1);
    assert!(line.contains("SQL_ASCII") && line.contains("UTF-8"), "{ended:?}");
}

#[tokio::test]
async fn more_connections_than_the_database_allows_are_refused_at_start() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let [url, secret] = with_database(&url);
    let ended = Workplace::new().run(&[], &[url, secret, ("POOL_SIZE", "10000")]);
    let line = ended.complaint(1);
    assert!(line.contains("POOL_SIZE") && line.contains("max_connections"), "{ended:?}");
}

#[tokio::test]
async fn examples_are_printed_when_they_are_asked_for() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = Program::spawn(workplace.command(&["serve", "--examples"], &with_database(&url)));
    let address = program.address();
    program.says(&format!("curl -s http://{address}/api/auth/register"));
    Client::new(address).get("/health/live").await.expect(200);
    let Ended { stdout, .. } = program.stop();
    assert!(!stdout.contains(SECRET) && !stdout.contains(&url), "{stdout}");
}
