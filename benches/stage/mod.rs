//! What the benchmarks with a database play on: a PostgreSQL of their own, durable as in production, with
//! the schema and a few rows. It is stopped and removed at the end, on a panic, and on Ctrl-C.

use std::path::PathBuf;
use std::process::exit;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, panic, thread};

use criterion::Criterion;
use healthcare_backend::auth::SessionId;
use healthcare_backend::db::embedded::Embedded;
use healthcare_backend::db::{Address, SetupError, embedded, migrations};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The ids of users go from 1 to this, as do those of their sessions ([`session_id`]).
pub const ACCOUNTS: i64 = 100;
/// The ids of patients go from 1 to this.
pub const PATIENTS: i64 = 1000;
/// So many patients has each of the first users: user 1 those from 1 on, user 2 the next.
pub const EACH: i64 = 100;
/// The ids of doctors go from 1 to this; three treat each patient.
pub const DOCTORS: i64 = 100;

/// What a client sends to create a patient.
pub const PATIENT: &str = r#"{"name":"Grace Hopper","age":36,"gender":"female","phone":"+1 555 0100",
    "email":"grace@example.com","address":"1 Main Street","blood_group":"O+","allergies":"none",
    "notes":"Prefers mornings.","metadata":{"room":12}}"#;

/// More than any of the benchmarks uses.
const CONNECTIONS: usize = 50;

const EMPTY: &str = "TRUNCATE users, sessions, login_failures, login_addresses, patients, doctors, \
                     mappings RESTART IDENTITY;\n";

/// The session with this number.
pub fn session_id(number: i64) -> SessionId {
    SessionId::from_bytes(i128::from(number).to_be_bytes())
}

/// Short runs, because there are many; the command line may say otherwise.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args()
}

/// A runtime as a worker of the service has one.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub struct Stage {
    address: Address,
    server: Arc<Mutex<Option<Server>>>,
}

impl Stage {
    /// Ends the process with one sentence where there is no PostgreSQL to start.
    pub fn start() -> Self {
        let server = Arc::default();
        stop_on_signals(&server);
        // Held until the server runs: a signal that comes earlier waits for it, and then stops it.
        let mut place = server.lock().unwrap();
        match runtime().block_on(Server::start()) {
            Ok(started) => {
                let address = started.embedded.address().clone();
                *place = Some(started);
                drop(place);
                let stage = Self { address, server };
                stage.fill();
                stage
            }
            Err(error) => {
                eprintln!(
                    "{error} (A benchmark does not read DATABASE_URL: it fills and empties a \
                     database of its own.)"
                );
                exit(1);
            }
        }
    }

    /// How the service connects.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Replaces all rows by those with which everything begins.
    pub fn fill(&self) {
        let mut config = self.address.hosts()[0].clone();
        // The service's role may not checkpoint.
        let superuser = Address::plain(config.user("postgres").clone());
        let script = [EMPTY, include_str!("accounts.sql"), include_str!("../load/fill.sql")]
            .concat()
            .replace(":accounts", &ACCOUNTS.to_string())
            .replace(":patients", &PATIENTS.to_string())
            .replace(":each", &EACH.to_string())
            .replace(":doctors", &DOCTORS.to_string())
            .replace(":mapped", &EACH.to_string());
        runtime().block_on(async {
            let client = superuser.connect().await.unwrap();
            // One by one, because VACUUM refuses to share a transaction.
            for statement in script.split_inclusive(";\n") {
                client.batch_execute(statement).await.unwrap();
            }
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        take(&self.server);
    }
}

/// The running PostgreSQL and its folder. Dropping it removes both.
struct Server {
    embedded: Embedded,
    _folder: Folder,
}

impl Server {
    async fn start() -> Result<Self, SetupError> {
        let folder = Folder::new();
        let bin = env::var_os("POSTGRES_BIN").filter(|bin| !bin.is_empty()).map(PathBuf::from);
        let embedded = Embedded::start(Some(&folder.0), bin.as_deref(), CONNECTIONS).await?;
        migrations::run(embedded.address(), CONNECTIONS).await?;
        // The fields of a struct are dropped in their order: first the server, then its folder.
        Ok(Self { embedded, _folder: folder })
    }
}

struct Folder(PathBuf);

impl Folder {
    /// On a disk: the usual folder for what is temporary may be memory, where writing costs nothing.
    fn new() -> Self {
        let parent = env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let random = embedded::folder::random_hex::<8>().unwrap();
        Self(parent.join(format!("healthcare-bench-{random}")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The server does not hear the terminal's signals, and would outlive the benchmark.
fn stop_on_signals(server: &Arc<Mutex<Option<Server>>>) {
    let server = Arc::clone(server);
    let runtime = runtime();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hangup] = {
        let _entered = runtime.enter();
        kinds.map(|kind| signal(kind).unwrap())
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // Whoever misses the server from here on need not tell.
        panic::set_hook(Box::new(|_| ()));
        take(&server);
        exit(130);
    });
}

/// Stops the server, unless that is done. Whoever comes second waits for the first.
fn take(server: &Mutex<Option<Server>>) {
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    *server = None;
}
