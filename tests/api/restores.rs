//! A database that is restored to an earlier moment: users registered since are gone, sequences
//! yield the same numbers again, and no earlier token gives access to another user's rows.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use healthcare_backend::db::embedded::programs::Programs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::program::{Program, Workplace};
use crate::harness::{Client, JWT_SECRET, until, wait_until};

/// A user with a session and a patient.
struct Person {
    client: Client,
    session: Value,
    patient: i64,
}

impl Person {
    async fn register(program: &Program, name: &str) -> Self {
        let email = format!("{name}@example.com");
        let body = json!({"name": name, "email": email, "password": "correct horse"});
        let session = program.client().post("/api/auth/register", &body).await.expect(201).json();
        let client = program.client().with_token(session["token"].as_str().unwrap());
        let patient = client.post("/api/patients", &json!({"name": name})).await.expect(201).id();
        Self { client, session, patient }
    }

    /// The same tokens, used with this program.
    fn at(&self, program: &Program) -> Client {
        program.client().with_token(self.client.token())
    }

    async fn refresh(&self, program: &Program) -> crate::harness::Answer {
        let body = json!({"refresh_token": self.session["refresh_token"]});
        program.client().post("/api/auth/refresh", &body).await
    }
}

/// The names of a client's patients.
async fn patients(client: &Client) -> Vec<String> {
    let list = client.get("/api/patients").await.expect(200).json();
    let names = list.as_array().unwrap().iter().map(|patient| patient["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

/// Ada is in the restored database, Bob is not, and Carol registers afterwards.
async fn bob_is_nobody(program: &Program, ada: &Person, bob: &Person) {
    let at_home = ada.at(program);
    until("the service has found the database", async || {
        (at_home.get("/api/patients").await.status == 200).then_some(())
    })
    .await;
    let carol = Person::register(program, "Carol").await;
    assert_eq!(carol.patient, bob.patient, "the sequences were put back");
    assert_ne!(carol.session["user"]["id"], bob.session["user"]["id"]);

    bob.refresh(program).await.expect_error(401, "invalid_credentials");
    let client = bob.at(program);
    let path = format!("/api/patients/{}", carol.patient);
    // A service that was not restarted has Bob's session confirmed for some more seconds.
    until("Bob's token is refused", async || {
        let list = client.get("/api/patients").await;
        let patient = client.get(&path).await;
        let change = client.patch(&path, &json!({"name": "Bob"})).await;
        if list.status == 401 {
            return Some(());
        }
        assert_eq!(list.expect(200).json(), json!([]));
        assert!([401, 404].contains(&patient.status.as_u16()), "{patient:?}");
        assert!([401, 404].contains(&change.status.as_u16()), "{change:?}");
        None
    })
    .await;
    for target in ["/api/patients", "/api/doctors", "/api/mappings", "/api/auth/me", &path] {
        client.get(target).await.expect_error(401, "invalid_token");
    }
    client.post("/api/patients", &json!({"name": "Bob"})).await.expect_error(401, "invalid_token");

    assert_eq!(patients(&carol.client).await, ["Carol"]);
    assert_eq!(patients(&at_home).await, ["Ada"]);
    ada.refresh(program).await.expect(200);
    // The e-mail is available again.
    let bob = Person::register(program, "Bob").await;
    assert_eq!(patients(&bob.client).await, ["Bob"]);
}

/// Runs one of PostgreSQL's programs.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A PostgreSQL program that the service does not use. Some systems link only the server's programs
/// into `PATH`.
fn command(programs: &Programs, name: &str) -> Command {
    let initdb = fs::canonicalize(programs.command("initdb").get_program()).unwrap();
    programs.command(initdb.with_file_name(name).to_str().unwrap())
}

/// A folder that PostgreSQL's programs may write to.
fn folder_of_postgres(parent: &Path, name: &str, programs: &Programs) -> PathBuf {
    let folder = parent.join(name);
    fs::create_dir(&folder).unwrap();
    if let Some(user) = programs.user() {
        chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
    }
    folder
}

/// With the commands that OPERATING.md shows.
async fn dump_and_restore(restart: bool) {
    let programs = Programs::find(None, None).unwrap();
    let workplace = Workplace::new();
    let mut program = workplace.serve(&[]);
    let backup = folder_of_postgres(workplace.path(), "backup", &programs).join("backup.dump");
    let run_on = |name: &str, arguments: &[&str]| {
        let host = format!("--host={}", workplace.data().join("run").display());
        run(command(&programs, name).arg(host).arg("--username=healthcare").args(arguments));
    };

    let ada = Person::register(&program, "Ada").await;
    let file = format!("--file={}", backup.display());
    run_on("pg_dump", &["--format=custom", &file, "healthcare"]);
    let bob = Person::register(&program, "Bob").await;
    let replace = ["--clean", "--if-exists", "--single-transaction", "--dbname=healthcare"];
    run_on("pg_restore", &[&replace[..], &[backup.to_str().unwrap()]].concat());
    if restart {
        program.stop();
        program = workplace.serve(&[]);
    }
    bob_is_nobody(&program, &ada, &bob).await;
    program.stop();
}

#[tokio::test]
async fn a_dump_that_is_restored_opens_no_account_to_another_user() {
    dump_and_restore(false).await;
}

#[tokio::test]
async fn a_dump_that_is_restored_opens_no_account_to_another_user_after_a_restart() {
    dump_and_restore(true).await;
}

/// A separate server on a socket in a folder.
struct Server {
    process: Child,
}

impl Server {
    /// Starts it on a cluster and waits until it accepts connections.
    fn start(programs: &Programs, cluster: &Path, sockets: &Path) -> Self {
        let mut command = programs.command("postgres");
        command.arg("-D").arg(cluster).args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"]);
        command.arg(format!("unix_socket_directories={}", sockets.display()));
        command.stderr(fs::File::create(cluster.with_extension("log")).unwrap());
        let server = Self { process: command.spawn().unwrap() };
        wait_until("PostgreSQL starts", || {
            let notes = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
            let ready = notes.lines().nth(7).is_some_and(|status| status.trim() == "ready");
            ready.then_some(())
        });
        server
    }

    /// As if the machine failed: no shutdown, no notification.
    fn stop_at_once(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::QUIT).unwrap();
        self.process.wait().unwrap();
    }
}

/// A physical backup replaces its server at the same address, as does a standby that is promoted
/// without the last transactions.
async fn physical_backup(restart: bool) {
    let programs = Programs::find(None, None).unwrap();
    let workplace = Workplace::new();
    let folder = folder_of_postgres(workplace.path(), "server", &programs);
    let [cluster, backup] = ["cluster", "backup"].map(|name| folder.join(name));
    run(programs.command("initdb").arg("-D").arg(&cluster).args([
        "--username=postgres",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]));
    let server = Server::start(&programs, &cluster, &folder);
    let url = format!("host={} user=postgres dbname=postgres", folder.display());
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    let settings = [("DATABASE_URL", url.as_str()), ("JWT_SECRET", secret)];
    let mut program = workplace.serve(&settings);

    let ada = Person::register(&program, "Ada").await;
    let copy = ["--username=postgres", "--checkpoint=fast", "--no-sync"];
    let mut pg_basebackup = command(&programs, "pg_basebackup");
    run(pg_basebackup.arg("-h").arg(&folder).arg("-D").arg(&backup).args(copy));
    let bob = Person::register(&program, "Bob").await;
    server.stop_at_once();
    let server = Server::start(&programs, &backup, &folder);
    if restart {
        program.stop();
        program = workplace.serve(&settings);
    }
    bob_is_nobody(&program, &ada, &bob).await;
    program.stop();
    server.stop_at_once();
}

#[tokio::test]
async fn a_physical_backup_opens_no_account_to_another_user() {
    physical_backup(false).await;
}

#[tokio::test]
async fn a_physical_backup_opens_no_account_to_another_user_after_a_restart() {
    physical_backup(true).await;
}
