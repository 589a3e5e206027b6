//! The schema: migrations in the form of refinery's, and bringing a database up to date with them. Each
//! is one transaction that waits for no lock for long, so that the migration waits and not the service.

pub mod history;

use std::time::{Duration, Instant};

use refinery::Migration;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::ConnectOptions;
use super::connection::bounded;
use super::setup_error::{Obstacle, SetupError};

macro_rules! migrations {
    ($($name:literal,)*) => {
        /// Name and text of every file in `refinery_migrations/`, in order. The list is written out
        /// because a new file alone does not trigger a rebuild; a test compares it with the folder.
        pub const MIGRATIONS: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../refinery_migrations/", $name, ".sql"))),)*
        ];
    };
}

migrations! {
    "V1__users",
    "V2__patients",
    "V3__doctors",
    "V4__mappings",
    "V5__sessions",
    "V6__logins",
    "V7__owners",
    "V8__random_ids",
    "V9__limits",
    "V10__mappings_indexes",
    "V11__requirements",
    "V12__gender_o",
    "V13__gender_o_checked",
}

/// How long looking at the server and its schema may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long others may keep a migration from what it must lock.
const LOCKED_TIMEOUT: Duration = Duration::from_secs(600);
/// Before another attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often the log says what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Checks the server's version, its encoding and its connection limit, then brings the schema up to date.
/// Safe to run from any number of instances at once. Tries for ten minutes to get the locks it needs.
///
/// `connections` is how many this process will use at most.
pub async fn run(address: &ConnectOptions, connections: usize) -> Result<(), SetupError> {
    prepare(address, connections, true).await
}

/// As [`run`]; without `migrate` it changes nothing, and a schema that is not up to date is an error.
pub async fn prepare(
    address: &ConnectOptions,
    connections: usize,
    migrate: bool,
) -> Result<(), SetupError> {
    let started = Instant::now();
    let passes = |error: &SetupError| {
        error.obstacle() == Obstacle::Locked && started.elapsed() < LOCKED_TIMEOUT
    };
    attempts(passes, || attempt(address, connections, migrate)).await
}

/// As [`prepare`], but waits as long as it takes for a database that cannot be reached, takes no changes,
/// or is locked.
pub async fn prepare_patiently(
    address: &ConnectOptions,
    connections: usize,
    migrate: bool,
) -> Result<(), SetupError> {
    let passes = |error: &SetupError| error.obstacle() != Obstacle::Lasting;
    attempts(passes, || attempt(address, connections, migrate)).await
}

/// Repeats an attempt while what stands in its way may pass, and lets the log know.
async fn attempts(
    passes: impl Fn(&SetupError) -> bool,
    attempt: impl AsyncFn() -> Result<(), SetupError>,
) -> Result<(), SetupError> {
    let mut said: Option<Instant> = None;
    loop {
        match attempt().await {
            Err(error) if passes(&error) => {
                if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    tracing::warn!(cause = %error, "waiting for the database");
                    said = Some(Instant::now());
                }
            }
            ended => return ended,
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn attempt(
    address: &ConnectOptions,
    connections: usize,
    migrate: bool,
) -> Result<(), SetupError> {
    let mut client = connect(address).await?;
    let looking = timeout(LOOK_TIMEOUT, look(&client, connections));
    let pending = looking.await.unwrap_or_else(|_| Err(silent()))?;
    match pending.first() {
        Some(first) if !migrate => Err(SetupError::new(format!(
            "The schema lacks migrations from {first} on, and MIGRATE_ON_START is false: run \
             healthcare-backend migrate."
        ))),
        _ => {
            for migration in &pending {
                history::apply(&mut client, migration).await?;
            }
            Ok(())
        }
    }
}

/// What the schema of a server that will do lacks.
async fn look(client: &Client, connections: usize) -> Result<Vec<Migration>, SetupError> {
    check_server(client, connections).await?;
    history::pending(client).await
}

fn silent() -> SetupError {
    SetupError::unavailable("the database cannot be reached: it does not answer")
}

/// A connection of its own, beside the pool; it ends when the client is dropped.
pub async fn connect(address: &ConnectOptions) -> Result<Client, SetupError> {
    bounded(address).connect().await.map_err(|error| SetupError::unreachable(&error))
}

async fn check_server(client: &Client, connections: usize) -> Result<(), SetupError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_encoding'),
                    current_setting('max_connections')::int
                        - current_setting('superuser_reserved_connections')::int,
                    current_setting('server_version_num')::int",
            &[],
        )
        .await
        .map_err(|error| {
            SetupError::because("the database cannot be asked for its settings", &error)
        })?;
    let (encoding, limit, version): (&str, i32, i32) = (row.get(0), row.get(1), row.get(2));
    if version < 150_000 {
        return Err(SetupError::new(format!(
            "PostgreSQL 15 or later is needed; this is version {}.",
            version / 10_000
        )));
    }
    if encoding != "UTF8" {
        return Err(SetupError::new(format!(
            "The database is encoded in {encoding}. Create one in UTF-8: \
             CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
        )));
    }
    if usize::try_from(limit).is_ok_and(|limit| connections > limit) {
        return Err(SetupError::new(format!(
            "POOL_SIZE and WORKERS need up to {connections} connections, but max_connections of the \
             database leaves {limit}. Lower the one or raise the other."
        )));
    }
    Ok(())
}
