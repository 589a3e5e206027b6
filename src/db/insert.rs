//! Inserts into one table: concurrent ones become one statement and one transaction, so that
//! PostgreSQL checks constraints and flushes the log once for all of them.
//!
//! With two workers, new patients at 32 connections went from 6,300 to 13,300 a second, at 64 from
//! 6,300 to 20,000; at 4 connections from 3,500 to 3,200, because each batch waits for the flush of
//! the one before. Two statements in flight per worker win that back (1.16 times), but cost 0.84
//! times the throughput at 32.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{BatchOutcome, Batcher, in_order};
use super::connection::Parameter;
use super::{Pool, RoundTrip, Sql};
use crate::error::{Error, Result};

/// The most rows in one statement.
const MAX_ROWS: usize = 64;
/// After how long without an answer the statement in flight counts as blocked by a lock on another
/// user's row, and no row waits behind it.
const SLOW_AFTER: Duration = Duration::from_millis(100);

/// Inserts one row, whose values are the statement's parameters, and returns the statement's row.
pub async fn insert(pool: &Pool, sql: Sql, values: &[impl ToSql + Sync]) -> Result<Row> {
    let parameters: Vec<Parameter<'_>> = values.iter().map(|value| value as _).collect();
    pool.query_opt(sql, &parameters).await?.ok_or_else(no_row)
}

/// Inserts rows that are made of values `V`.
pub struct Inserts<V> {
    pool: Pool,
    /// Takes the values of one row as parameters.
    one: Sql,
    /// Takes an array for each column, and returns rows whose last column is their ordinal in those
    /// arrays, from 1 on.
    many: Sql,
    batcher: Batcher<NewRow<V>, Row>,
}

struct NewRow<V> {
    user: i64,
    values: Vec<V>,
}

impl<V: ToSql + Sync> Inserts<V> {
    pub fn new(pool: Pool, one: Sql, many: Sql, round_trip: &Arc<RoundTrip>) -> Self {
        let batcher = Batcher::new(MAX_ROWS, Some(SLOW_AFTER), Arc::clone(round_trip));
        Self { pool, one, many, batcher }
    }

    /// Inserts a row for a user and returns the statement's row.
    pub async fn insert(&self, user: i64, values: Vec<V>) -> Result<Row> {
        match self.batcher.ask(NewRow { user, values }, |rows| self.insert_all(rows)).await {
            BatchOutcome::Answered(row) => row,
            BatchOutcome::TimedOut(row) => self.insert_within_user_limit(&row).await,
            BatchOutcome::Lost => {
                // The row may or may not have been inserted, so a retry could insert it twice.
                let cause = format!("{}: no answer", self.many.file());
                Err(Error::OutcomeUnknown { cause })
            }
        }
    }

    async fn insert_all(&self, rows: Vec<NewRow<V>>) -> Vec<Result<Row>> {
        if let [row] = &rows[..] {
            // On the whole share, not the user's: at most one per slot, and it must not queue
            // behind what else its user does, because others are queued behind it.
            return vec![insert(&self.pool, self.one, &row.values).await];
        }
        match self.insert_many(&rows).await {
            Ok(made) => match in_order(made, rows.len()) {
                Ok(made) => made.into_iter().map(|row| row.ok_or_else(no_row)).collect(),
                Err(error) => vec![Err(error); rows.len()],
            },
            Err(
                error @ (Error::DatabaseUnavailable { .. }
                | Error::OutcomeUnknown { .. }
                | Error::Overloaded { .. }),
            ) => vec![Err(error); rows.len()],
            // One row was refused or blocked, so none was inserted. Each is retried alone and gets
            // its own answer.
            Err(error) => {
                let (statement, rows_sent) = (self.many.file(), rows.len());
                let (code, cause) = (error.status_and_code().1, error.cause());
                tracing::warn!(statement, rows_sent, code, cause, "refused; sent row by row");
                join_all(rows.iter().map(|row| self.insert_within_user_limit(row))).await
            }
        }
    }

    /// Within its user's limit: it may wait for a lock that concerns only this user.
    async fn insert_within_user_limit(&self, row: &NewRow<V>) -> Result<Row> {
        insert(&self.pool.of(row.user), self.one, &row.values).await
    }

    async fn insert_many(&self, rows: &[NewRow<V>]) -> Result<Vec<Row>> {
        let width = rows.first().map_or(0, |row| row.values.len());
        let column = |at| rows.iter().filter_map(|row| row.values.get(at)).collect();
        let columns: Vec<Vec<&V>> = (0..width).map(column).collect();
        let parameters: Vec<Parameter<'_>> = columns.iter().map(|column| column as _).collect();
        self.pool.query(self.many, &parameters).await
    }
}

fn no_row() -> Error {
    Error::internal("an INSERT returned no row")
}
