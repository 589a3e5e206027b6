//! A lane: one connection that all requests of a worker share for short reads. tokio-postgres
//! pipelines them, so that many requests cost one write and one read of the socket.
//!
//! There is nothing here but single statements outside of transactions: whatever one request could
//! leave behind on the connection would meet the next. Writes take a connection of the
//! [`Pool`], because pipelined commits would wait for each other's flush to disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Row;

use super::Sql;
use super::connection::{Connection, Parameter};
use super::errors::{self, Aftermath};
use super::merge::{Asked, Merger, in_places};
use super::pool::{CANCEL_TIMEOUT, Pool, RESPONSE_TIMEOUT};
use crate::error::{Error, Result};

/// How long a request waits for a new connection that another is making.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the statements of a connection that is given up may take to end, once the one that runs is
/// cancelled; then the next is cancelled too.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How many are cancelled at most.
const MAX_CANCELS: usize = 16;

/// Patients that one statement looks up at most.
const MAX_LOOKUPS: usize = 256;

/// The owner and the id that a patient is looked up by.
type PatientKey = (i64, i64);

/// Made with the manager of a worker's pool, and so with its limits.
pub struct Lane {
    pool: Pool,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held by the request that makes a new connection.
    making: tokio::sync::Mutex<()>,
    patients: Merger<PatientKey, Option<Row>>,
}

impl Lane {
    /// The connection is made when it is first needed.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            current: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            patients: Merger::new(MAX_LOOKUPS, None),
        }
    }

    /// All rows of a short statement.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        self.query_on(&self.connection().await?, sql, parameters).await
    }

    /// All rows of a short statement, on a [`connection`](Self::connection) that the caller wants to know.
    pub async fn query_on(
        &self,
        connection: &Arc<Connection>,
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>> {
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, connection, result)
    }

    /// The only row of a short statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let connection = self.connection().await?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, &connection, result)
    }

    /// A patient of a user.
    pub async fn patient(&self, owner: i64, id: i64) -> Result<Option<Row>> {
        let key = (owner, id);
        match self.patients.ask(key, |keys| self.find_patients(keys)).await {
            Asked::Answered(found) => found,
            Asked::Impatient(_) | Asked::Lost => self.find_patient(key).await,
        }
    }

    async fn find_patients(&self, keys: Vec<PatientKey>) -> Vec<Result<Option<Row>>> {
        if let [key] = keys[..] {
            return vec![self.find_patient(key).await];
        }
        let count = keys.len();
        let (owners, ids): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
        let rows = self.query(Sql::PatientsGetMany, &[&owners, &ids]).await;
        match rows.and_then(|rows| in_places(rows, count)) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn find_patient(&self, (owner, id): PatientKey) -> Result<Option<Row>> {
        self.query_opt(Sql::PatientsGet, &[&owner, &id]).await
    }

    /// The connection that is used now.
    pub async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let making = timeout(WAIT_TIMEOUT, self.making.lock()).await;
        let _making = making.map_err(|_| Error::Overloaded { retry_after: 1 })?;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let connection = Arc::new(self.pool.connect().await?);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// The connection, unless it is closed or out of date. What is in flight on one that is replaced
    /// keeps it until it has its answer.
    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .filter(|connection| self.pool.manager().is_good(connection))
            .map(Arc::clone)
    }

    fn finish<T>(
        &self,
        sql: Sql,
        connection: &Arc<Connection>,
        result: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let Ok(result) = result else {
            self.give_up(connection);
            let cause = format!("{}: no answer", sql.file());
            return Err(Error::DatabaseUnavailable { cause });
        };
        result.map_err(|error| {
            let (error, aftermath) = errors::map(sql, &error);
            self.pool.manager().take_note(aftermath, connection);
            error
        })
    }

    /// Nobody who comes from now on waits for a server that is silent, or behind a statement that nobody
    /// waits for any more.
    fn give_up(&self, connection: &Arc<Connection>) {
        self.pool.manager().take_note(Aftermath::ReplaceAll, connection);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|current| Arc::ptr_eq(current, connection));
        if connection.give_up() {
            tokio::spawn(end_statements(self.pool.clone(), Arc::clone(connection)));
        }
    }
}

/// Cancels what runs on a connection that nobody new uses, until what was sent on it before has ended.
/// PostgreSQL cancels whatever statement it is at, not a certain one: the oldest, which has timed out or
/// keeps the others from their answers.
async fn end_statements(pool: Pool, connection: Arc<Connection>) {
    for _ in 0..MAX_CANCELS {
        let token = connection.client().cancel_token();
        let cancelled = timeout(CANCEL_TIMEOUT, pool.manager().cancel(token)).await;
        // The empty statement's answer comes after those of all others.
        let ended = timeout(DRAIN_TIMEOUT, connection.client().simple_query("")).await;
        if ended.is_ok() || !matches!(cancelled, Ok(Ok(()))) {
            return;
        }
    }
}
