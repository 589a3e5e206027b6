//! The schema: migrations in refinery's format, and applying them. Each is one transaction with a
//! short lock timeout, so that the migration waits and not the service.

pub mod history;

use std::time::{Duration, Instant};

use refinery::Migration;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::ConnectOptions;
use super::connection::with_limits;
use super::setup_error::{Obstacle, SetupError};

macro_rules! migrations {
    ($($name:literal,)*) => {
        /// Name and text of every file in `refinery_migrations/`, in order. The list is explicit
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
    "V14__idempotency_keys",
}

/// The timeout for inspecting the server and its schema.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a migration is retried while others hold the locks that it needs.
const LOCKED_TIMEOUT: Duration = Duration::from_secs(600);
/// The pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often the log says why the start is waiting.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What a command requires of the database.
#[derive(Debug, Clone, Copy)]
pub struct Requirements {
    /// The most connections that this process will use.
    pub connections: usize,
    /// Whether pending migrations are applied. If not, they are an error.
    pub migrate: bool,
    /// Whether the server may be one that loses acknowledged writes when it crashes.
    pub allow_unsafe: bool,
}

/// Checks the server and applies pending migrations. Any number of instances may do so at once.
/// Retries for ten minutes to get the locks.
pub async fn prepare(
    options: &ConnectOptions,
    requirements: Requirements,
) -> Result<(), SetupError> {
    let started = Instant::now();
    let may_pass = |error: &SetupError| {
        error.obstacle() == Obstacle::Locked && started.elapsed() < LOCKED_TIMEOUT
    };
    attempts(may_pass, || attempt(options, requirements)).await
}

/// As [`prepare`], but waits indefinitely for a database that is unreachable, read-only or locked.
pub async fn prepare_when_available(
    options: &ConnectOptions,
    requirements: Requirements,
) -> Result<(), SetupError> {
    let may_pass = |error: &SetupError| error.obstacle() != Obstacle::Lasting;
    attempts(may_pass, || attempt(options, requirements)).await
}

/// Retries while the obstacle may pass, and logs why.
async fn attempts(
    may_pass: impl Fn(&SetupError) -> bool,
    attempt: impl AsyncFn() -> Result<(), SetupError>,
) -> Result<(), SetupError> {
    let mut logged: Option<Instant> = None;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                    tracing::warn!(cause = %error, "waiting for the database");
                    logged = Some(Instant::now());
                }
            }
            ended => return ended,
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn attempt(options: &ConnectOptions, requirements: Requirements) -> Result<(), SetupError> {
    let mut client = connect(options).await?;
    let inspected = timeout(INSPECT_TIMEOUT, inspect(&client, requirements));
    let pending = inspected.await.unwrap_or_else(|_| Err(silent()))?;
    match pending.first() {
        Some(first) if !requirements.migrate => Err(SetupError::new(format!(
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

/// Checks the server and returns the pending migrations.
async fn inspect(
    client: &Client,
    requirements: Requirements,
) -> Result<Vec<Migration>, SetupError> {
    check_server(client, requirements).await?;
    history::pending(client).await
}

fn silent() -> SetupError {
    SetupError::unavailable("the database cannot be reached: it does not answer")
}

/// A connection outside of the pool. It closes when the client is dropped.
pub async fn connect(options: &ConnectOptions) -> Result<Client, SetupError> {
    with_limits(options).connect().await.map_err(|error| SetupError::unreachable(&error))
}

async fn check_server(client: &Client, requirements: Requirements) -> Result<(), SetupError> {
    let Requirements { connections, allow_unsafe, .. } = requirements;
    let row = client
        .query_one(
            "SELECT current_setting('server_encoding'),
                    current_setting('max_connections')::int
                        - current_setting('superuser_reserved_connections')::int,
                    current_setting('server_version_num')::int,
                    ARRAY(
                        SELECT name
                        FROM unnest('{fsync,full_page_writes,synchronous_commit}'::text[]) name
                        WHERE current_setting(name) = 'off'
                    )",
            &[],
        )
        .await
        .map_err(|error| {
            SetupError::because("the database cannot be asked for its settings", &error)
        })?;
    let (encoding, limit, version): (&str, i32, i32) = (row.get(0), row.get(1), row.get(2));
    let unsafe_settings: Vec<String> = row.get(3);
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
    if !allow_unsafe && !unsafe_settings.is_empty() {
        return Err(SetupError::new(format!(
            "The database has {} = off, so it can lose writes that were acknowledged. Turn it on, or \
             set ALLOW_UNSAFE_DATABASE=true for tests.",
            unsafe_settings.join(" and ")
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
