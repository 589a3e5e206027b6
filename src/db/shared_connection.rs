//! A shared connection: one connection that all requests of a worker share for short reads. tokio-postgres
//! pipelines them, so that many requests cost one write and one read of the socket.
//!
//! There is nothing here but single statements outside of transactions: whatever one request could
//! leave behind on the connection would meet the next. Writes take a connection of the
//! [`Pool`], because pipelined commits would wait for each other's flush to disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use super::connection::{Connection, Outcome, Parameter, RESPONSE_TIMEOUT};
use super::pool::{CANCEL_TIMEOUT, Pool};
use super::{RoundTrip, Sql};
use crate::error::{Error, Result};

/// How long a request waits for a new connection that another is making.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the statements of a connection that is given up may take to end, once the one that runs is
/// cancelled; then the next is cancelled too.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How many are cancelled at most.
const MAX_CANCELS: usize = 16;

/// Made with the manager of a worker's pool, and so with its limits.
pub struct SharedConnection {
    pool: Pool,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held by the request that makes a new connection.
    making: tokio::sync::Mutex<()>,
    round_trip: Arc<RoundTrip>,
}

impl SharedConnection {
    /// The connection is made when it is first needed.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            current: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            round_trip: Arc::default(),
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
        let sent = Instant::now();
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, connection, sent, result)
    }

    /// The only row of a short statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let connection = self.connection().await?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let sent = Instant::now();
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, &connection, sent, result)
    }

    /// How far away the database is, by the statements that were answered here.
    pub fn round_trip(&self) -> &Arc<RoundTrip> {
        &self.round_trip
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
        self.round_trip.forget();
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
        sent: Instant,
        result: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> Result<T> {
        match self.pool.manager().outcome(sql, connection, result) {
            Outcome::Answer(result) => {
                self.round_trip.record(sent.elapsed());
                result
            }
            Outcome::Silence(error) => {
                self.give_up(connection);
                Err(error)
            }
        }
    }

    /// Nobody who comes from now on waits for a server that is silent, or behind a statement that nobody
    /// waits for any more.
    fn give_up(&self, connection: &Arc<Connection>) {
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
