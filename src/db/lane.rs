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

use super::connection::{Connection, Parameter};
use super::merge::{Asked, Merger, in_places};
use super::pool::{Pool, RESPONSE_TIMEOUT};
use super::{Sql, errors};
use crate::error::{Error, Result};

/// How long a request waits for a new connection that another is making.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

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
        let connection = self.connection().await?;
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, &connection, result)
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

    async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let making = timeout(WAIT_TIMEOUT, self.making.lock()).await;
        let _making = making.map_err(|_| Error::Overloaded { retry_after: 1 })?;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let connection = Arc::new(self.pool.connect().await?);
        self.replace(Some(Arc::clone(&connection)));
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

    fn replace(&self, connection: Option<Arc<Connection>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn finish<T>(
        &self,
        sql: Sql,
        connection: &Arc<Connection>,
        result: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let Ok(result) = result else {
            // Whoever comes next is not to wait for a server that is silent.
            if self.current().is_some_and(|current| Arc::ptr_eq(&current, connection)) {
                self.replace(None);
            }
            let cause = format!("{}: no answer", sql.file());
            return Err(Error::DatabaseUnavailable { cause });
        };
        result.map_err(|error| {
            let (error, aftermath) = errors::map(sql, &error);
            self.pool.manager().take_note(aftermath);
            error
        })
    }
}
