//! The schema: refinery's migrations, one instance at a time.

use std::fmt;

use refinery::{Migration, Runner};
use tokio_postgres::Client;

use super::Address;
use super::connection::bounded;

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
    "V12__gender_o",
    "V13__gender_o_checked",
}

/// The advisory lock that an instance holds while it migrates: "healthca" in ASCII.
const LOCK: i64 = 0x6865_616c_7468_6361;

/// Why the database cannot be used, in one sentence for the person who starts the program.
#[derive(Debug)]
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupError {}

impl SetupError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    fn because(what: &str, error: &dyn std::error::Error) -> Self {
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self(message.replace('\n', " "))
    }
}

/// Checks the server's encoding and its connection limit, then brings the schema up to date. Safe
/// to run from any number of instances at once.
///
/// `connections` is how many this process will use at most.
pub async fn run(address: &Address, connections: usize) -> Result<(), SetupError> {
    let mut client = connect(address).await?;
    check_server(&client, connections).await?;
    // A migration may take longer than a request's statement; waiting for another instance too.
    execute(&client, "SET statement_timeout = 0; SET lock_timeout = '60s'").await?;
    execute(&client, &format!("SELECT pg_advisory_lock({LOCK})")).await?;
    let migrations = MIGRATIONS
        .iter()
        .map(|(name, text)| Migration::unapplied(name, text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SetupError::because("a migration is misnamed", &error))?;
    Runner::new(&migrations)
        .run_async(&mut client)
        .await
        .map_err(|error| SetupError::because("the schema cannot be brought up to date", &error))?;
    execute(&client, &format!("SELECT pg_advisory_unlock({LOCK})")).await
}

/// A connection of its own, beside the pool; it ends when the client is dropped.
pub async fn connect(address: &Address) -> Result<Client, SetupError> {
    let connected = bounded(address).connect().await;
    connected.map_err(|error| SetupError::because("the database cannot be reached", &error))
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
        return Err(SetupError(format!(
            "PostgreSQL 15 or later is needed; this is version {}.",
            version / 10_000
        )));
    }
    if encoding != "UTF8" {
        return Err(SetupError(format!(
            "The database is encoded in {encoding}. Create one in UTF-8: \
             CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
        )));
    }
    if usize::try_from(limit).is_ok_and(|limit| connections > limit) {
        return Err(SetupError(format!(
            "POOL_SIZE and WORKERS need up to {connections} connections, but max_connections of the \
             database leaves {limit}. Lower the one or raise the other."
        )));
    }
    Ok(())
}

async fn execute(client: &Client, sql: &str) -> Result<(), SetupError> {
    client
        .batch_execute(sql)
        .await
        .map_err(|error| SetupError::because("the schema cannot be prepared", &error))
}
