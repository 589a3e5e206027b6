//! New rows of one table. Those that come at the same moment become one statement and one
//! transaction, so that PostgreSQL reads the table's constraints and waits for the disk once for all.
//!
//! With two workers, new patients at 32 connections went from 6,300 to 13,300 a second, at 64 from
//! 6,300 to 20,000; at 4 connections from 3,500 to 3,200, because one waits for the disk before the
//! next is sent. Two statements of a worker under way mend that (1.16 times), but make 0.84 times as
//! many at 32.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{Asked, Batcher, in_order};
use super::connection::Parameter;
use super::{Pool, RoundTrip, Sql};
use crate::error::{Error, Result};

/// Rows in one statement at most.
const MAX_ROWS: usize = 64;
/// How long a row waits for the statement under way. It may be waiting for a lock that concerns a row
/// of another user only.
const PATIENCE: Duration = Duration::from_millis(100);

/// Inserts one row, whose values are the statement's parameters, and returns what the statement does.
pub async fn insert(pool: &Pool, sql: Sql, values: &[impl ToSql + Sync]) -> Result<Row> {
    let parameters: Vec<Parameter<'_>> = values.iter().map(|value| value as _).collect();
    pool.query_opt(sql, &parameters).await?.ok_or_else(nothing)
}

/// Inserts rows that are made of values `V`.
pub struct Inserts<V> {
    pool: Pool,
    /// Takes one row's values as parameters. The other statement would do, but arrays of one value take
    /// PostgreSQL 58 us instead of 40.
    one: Sql,
    /// Takes an array of values for each column, and returns rows with their place among those that
    /// were given, from 1 on, as the last column.
    many: Sql,
    batcher: Batcher<NewRow<V>, Row>,
}

struct NewRow<V> {
    user: i64,
    values: Vec<V>,
}

impl<V: ToSql + Sync> Inserts<V> {
    pub fn new(pool: Pool, one: Sql, many: Sql, round_trip: &Arc<RoundTrip>) -> Self {
        let batcher = Batcher::new(MAX_ROWS, Some(PATIENCE), Arc::clone(round_trip));
        Self { pool, one, many, batcher }
    }

    /// Inserts a row for a user and returns what the statement does.
    pub async fn insert(&self, user: i64, values: Vec<V>) -> Result<Row> {
        match self.batcher.ask(NewRow { user, values }, |rows| self.insert_all(rows)).await {
            Asked::Answered(row) => row,
            Asked::Impatient(row) => self.insert_alone(&row).await,
            Asked::Lost => {
                // The row may be there or not, so that asking again could make it twice.
                let cause = format!("{}: no answer", self.many.file());
                Err(Error::DatabaseUnavailable { cause })
            }
        }
    }

    async fn insert_all(&self, rows: Vec<NewRow<V>>) -> Vec<Result<Row>> {
        if let [row] = &rows[..] {
            // There are few such statements. This one may be in front of others, so that it does not wait
            // for what else its user does.
            return vec![insert(&self.pool, self.one, &row.values).await];
        }
        match self.insert_many(&rows).await {
            Ok(made) => match in_order(made, rows.len()) {
                Ok(made) => made.into_iter().map(|row| row.ok_or_else(nothing)).collect(),
                Err(error) => vec![Err(error); rows.len()],
            },
            Err(error @ (Error::DatabaseUnavailable { .. } | Error::Overloaded { .. })) => {
                vec![Err(error); rows.len()]
            }
            // One is refused or waits for a lock, so none was inserted. Each is sent alone and gets its own
            // answer.
            Err(error) => {
                let (statement, rows_sent) = (self.many.file(), rows.len());
                let (code, cause) = (error.status_and_code().1, error.cause());
                tracing::warn!(statement, rows_sent, code, cause, "refused; sent row by row");
                join_all(rows.iter().map(|row| self.insert_alone(row))).await
            }
        }
    }

    /// In its user's part of the pool: it may wait for a lock that concerns this user only.
    async fn insert_alone(&self, row: &NewRow<V>) -> Result<Row> {
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

fn nothing() -> Error {
    Error::internal("an INSERT returned no row")
}
