//! The history of migrations: which are applied, which program version they require, and applying
//! one. The table is refinery's, so that programs that use refinery itself can read it.

use std::time::Duration;

use jiff::Timestamp;
use refinery::Migration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::MIGRATIONS;
use crate::db::SetupError;

/// The advisory lock that is held while a migration is applied: "healthca" in ASCII.
const LOCK: i64 = 0x6865_616c_7468_6361;
/// How long a migration waits for a lock. New queries on the table queue behind it meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// Marks the line of a migration that names the oldest program version that can serve after it.
const REQUIRES: &str = "-- Requires: ";

/// The migrations that are not applied yet, in order. An error if those applied are not ours, or if
/// they require a newer program.
pub async fn pending(client: &Client) -> Result<Vec<Migration>, SetupError> {
    check_requirements(client).await?;
    let applied = applied(client).await?;
    let newest = applied.last().map(|(version, _)| *version);
    let mut pending = Vec::new();
    for migration in ours()? {
        match applied.iter().find(|(version, _)| *version == migration.version()) {
            Some((_, checksum)) if *checksum == migration.checksum().to_string() => {}
            Some(_) => {
                return Err(SetupError::new(format!(
                    "The database's migration {migration} is not this program's: it was made by \
                     another program, or the file was changed."
                )));
            }
            None if newest.is_some_and(|newest| newest > migration.version()) => {
                return Err(SetupError::new(format!(
                    "The database lacks the migration {migration}, but has later ones."
                )));
            }
            None => pending.push(migration),
        }
    }
    Ok(pending)
}

/// Applies a migration in one transaction, unless another instance has done so meanwhile.
pub async fn apply(client: &mut Client, migration: &Migration) -> Result<(), SetupError> {
    let failed = |error: tokio_postgres::Error| {
        let who = match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                " by this role; run healthcare-backend migrate with the owner's"
            }
            _ => "",
        };
        SetupError::because(&format!("{migration} cannot be applied{who}"), &error)
    };
    let transaction = client.transaction().await.map_err(failed)?;
    // A migration may take longer than the statement timeout of requests.
    let begin = format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {}; \
         SELECT pg_advisory_xact_lock({LOCK}); \
         CREATE TABLE IF NOT EXISTS refinery_schema_history ( \
             version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), \
             checksum varchar(255))",
        LOCK_TIMEOUT.as_millis()
    );
    transaction.batch_execute(&begin).await.map_err(failed)?;
    if applied(&transaction).await?.iter().any(|(version, _)| *version == migration.version()) {
        return Ok(());
    }
    let sql = migration.sql().unwrap_or_default();
    transaction.batch_execute(sql).await.map_err(failed)?;
    add(&transaction, migration).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

async fn add(
    transaction: &Transaction<'_>,
    migration: &Migration,
) -> Result<(), tokio_postgres::Error> {
    let (version, name, checksum) =
        (migration.version(), migration.name(), migration.checksum().to_string());
    let sql = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
               VALUES ($1, $2, $3, $4)";
    // RFC 3339, as in refinery.
    let now = Timestamp::now().to_string();
    transaction.execute(sql, &[&version, &name, &now, &checksum]).await?;
    if let Some(minimum) = requirement(migration.sql().unwrap_or_default()) {
        let sql = "INSERT INTO schema_requirements (version, minimum) VALUES ($1, $2)";
        transaction.execute(sql, &[&version, &minimum]).await?;
    }
    Ok(())
}

/// The oldest program version that can serve after a migration, if its text names one.
pub fn requirement(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(REQUIRES))
}

async fn check_requirements(client: &Client) -> Result<(), SetupError> {
    let own = env!("CARGO_PKG_VERSION");
    if !exists(client, "schema_requirements").await? {
        return Ok(());
    }
    let sql = "SELECT minimum FROM schema_requirements ORDER BY version DESC";
    for row in client.query(sql, &[]).await.map_err(unreadable)? {
        let minimum: &str = row.try_get(0).map_err(unreadable)?;
        if parts(minimum) > parts(own) {
            return Err(SetupError::new(format!(
                "The database's schema requires healthcare-backend {minimum} or later, and this is \
                 {own}."
            )));
        }
    }
    Ok(())
}

/// The numeric parts of a version.
pub fn parts(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(u64::MAX)).collect()
}

fn ours() -> Result<Vec<Migration>, SetupError> {
    MIGRATIONS
        .iter()
        .map(|(name, text)| Migration::unapplied(name, text))
        .collect::<Result<_, _>>()
        .map_err(|error| SetupError::new(format!("a migration is misnamed: {error}")))
}

/// Version and checksum of every applied migration, in order.
async fn applied(client: &impl GenericClient) -> Result<Vec<(i32, String)>, SetupError> {
    if !exists(client, "refinery_schema_history").await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT version, checksum FROM refinery_schema_history ORDER BY version";
    let rows = client.query(sql, &[]).await.map_err(unreadable)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(unreadable)
}

async fn exists(client: &impl GenericClient, table: &str) -> Result<bool, SetupError> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await;
    row.and_then(|row| row.try_get(0)).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: tokio_postgres::Error) -> SetupError {
    SetupError::because("the history of the schema cannot be read", &error)
}
