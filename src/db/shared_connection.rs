//! A shared connection: all requests of a worker pipeline their short reads over it, so that many
//! requests cost one write and one read of the socket.
//!
//! It runs only single statements outside of transactions, because any session state that one
//! request left behind would leak into the next. Writes take a connection of the [`Pool`], because
//! pipelined commits would wait for each other's flush.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use super::connection::{Connection, Parameter, RESPONSE_TIMEOUT, StatementOutcome};
use super::pool::{CANCEL_TIMEOUT, Pool};
use super::{RoundTrip, Sql};
use crate::error::{Error, Result};
use crate::metrics::SharedConnectionMetrics;

/// How long a request waits for a connection that is being opened.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the statements of an abandoned connection may take to end after the oldest is
/// cancelled, before the next is cancelled too.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// The most statements that are cancelled on one connection.
const MAX_CANCELS: usize = 16;

/// Opened by the manager of a worker's pool, and so with its limits.
pub struct SharedConnection {
    pool: Pool,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held while a connection is opened; has when and why that last failed.
    connecting: tokio::sync::Mutex<Option<(Instant, Error)>>,
    round_trip: Arc<RoundTrip>,
    metrics: Arc<SharedConnectionMetrics>,
}

impl SharedConnection {
    /// The [`connection`](Self::connection) is opened when it is first asked for.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            round_trip: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// All rows of a short statement.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        self.query_on(&self.connection().await?, sql, parameters).await
    }

    /// All rows of a short statement, on a [`connection`](Self::connection) that the caller has
    /// looked at.
    pub async fn query_on(
        &self,
        connection: &Arc<Connection>,
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>> {
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let _in_flight = self.metrics.in_flight.count();
        let sent = Instant::now();
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, connection, sent, result)
    }

    /// The only row of a short statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let connection = self.connection().await?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let _in_flight = self.metrics.in_flight.count();
        let sent = Instant::now();
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, &connection, sent, result)
    }

    /// The round trip to the database, measured by the statements that were answered here.
    pub fn round_trip(&self) -> &Arc<RoundTrip> {
        &self.round_trip
    }

    pub fn metrics(&self) -> &Arc<SharedConnectionMetrics> {
        &self.metrics
    }

    /// Whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.current().is_some()
    }

    /// The current connection, opened if there is none. One attempt to open it serves all who wait
    /// for it, also if it fails.
    pub async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let Ok(mut last_failure) = timeout(WAIT_TIMEOUT, self.connecting.lock()).await else {
            let cause = "connect: no connection in time".to_owned();
            return Err(Error::DatabaseUnavailable { cause });
        };
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        if let Some((failed, error)) = &*last_failure
            && *failed > asked
        {
            return Err(error.clone());
        }
        let made = self.pool.connect().await;
        *last_failure = made.as_ref().err().map(|error| (Instant::now(), error.clone()));
        let connection = Arc::new(made?);
        self.metrics.opened.increment();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&connection));
        self.round_trip.forget();
        Ok(connection)
    }

    /// The connection, unless it is closed or outdated. Statements in flight keep a connection that
    /// is replaced until they are answered.
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
            StatementOutcome::Answered(result) => {
                self.round_trip.record(sent.elapsed());
                result
            }
            StatementOutcome::TimedOut(error) => {
                self.abandon(connection);
                Err(error)
            }
        }
    }

    /// Takes a connection out of use, so that no new request queues behind a silent server or
    /// behind a statement that nobody waits for.
    fn abandon(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|current| Arc::ptr_eq(current, connection));
        if connection.abandon() {
            tokio::spawn(cancel_statements(self.pool.clone(), Arc::clone(connection)));
        }
    }
}

/// Cancels statements on an abandoned connection until all that were sent have ended. PostgreSQL
/// cancels whatever is running, which is the oldest statement: the one that timed out or that
/// blocks the others.
async fn cancel_statements(pool: Pool, connection: Arc<Connection>) {
    for _ in 0..MAX_CANCELS {
        let token = connection.client().cancel_token();
        let cancelled = timeout(CANCEL_TIMEOUT, pool.manager().cancel(token)).await;
        // The empty statement is answered after all that were pipelined before it.
        let ended = timeout(DRAIN_TIMEOUT, connection.client().simple_query("")).await;
        if ended.is_ok() || !matches!(cancelled, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::TcpListener;

    use futures_util::future::join_all;

    use super::*;
    use crate::db::ConnectOptions;

    // The paused clock jumps to the next timeout, as nothing else is pending.
    #[tokio::test(start_paused = true)]
    async fn one_attempt_to_connect_serves_all_who_wait_for_it() {
        // The kernel completes the TCP handshake, but nothing ever answers.
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        mute.set_nonblocking(true).unwrap();
        let port = mute.local_addr().unwrap().port();
        let text = format!("host=127.0.0.1 port={port} user=u connect_timeout=2");
        let options = ConnectOptions::parse(&text, None).map_err(|error| error.to_string());
        let shared = SharedConnection::new(Pool::new(&options.unwrap(), 1).unwrap());
        for _ in 0..2 {
            let asked = Instant::now();
            for made in join_all((0..8).map(|_| shared.connection())).await {
                assert!(matches!(made, Err(Error::DatabaseUnavailable { .. })));
            }
            assert_eq!(asked.elapsed().as_secs(), 2);
            mute.accept().unwrap();
            assert!(mute.accept().is_err(), "a second attempt");
        }
    }
}
