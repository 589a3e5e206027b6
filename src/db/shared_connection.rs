//! A shared connection: all requests of a worker pipeline their short reads over it, so that many
//! requests cost one write and one read of the socket. Each table has one of its own, so that a lock
//! on one reaches the requests for no other.
//!
//! It runs only single statements outside of transactions, because any session state that one
//! request left behind would leak into the next. Writes take a connection of the
//! [`Pool`](super::Pool), because pipelined commits would wait for each other's flush.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::Manager as _;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Row;

use super::connection::{
    CONNECTION_WAIT, Connection, Manager, Parameter, STATEMENT_RESERVE, StatementOutcome,
};
use super::pool::{CANCEL_TIMEOUT, only};
use super::pulse::REPLACE_INTERVAL;
use super::share::TURN_WAIT;
use super::{RoundTrip, Sql};
use crate::deadline;
use crate::error::{Error, Result};
use crate::metrics::SharedConnectionMetrics;

/// How long the statements of an abandoned connection may take to end after the oldest is
/// cancelled, before the next is cancelled too.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The most statements that are cancelled on one connection.
const MAX_CANCELS: usize = 16;

/// The most statements in flight. It is more than pipelining gains from, and few enough to be
/// answered in time on a slow server; further requests wait for a turn, and are refused without
/// having cost anything.
const MAX_IN_FLIGHT: usize = 128;
/// A connection with an answer since then is busy and not blocked.
const BUSY: Duration = Duration::from_millis(300);

/// One connection at a time, opened anew when it is lost.
pub struct SharedConnection {
    manager: Manager,
    state: Arc<Mutex<State>>,
    turns: Semaphore,
    /// When a statement was last answered, in milliseconds since `started`.
    answered: AtomicU64,
    started: Instant,
    round_trip: Arc<RoundTrip>,
    metrics: Arc<SharedConnectionMetrics>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Connection>>,
    /// The attempt to open another, which serves all who wait for it, also if it fails.
    opening: Option<Opening>,
    /// When the last attempt began.
    begun: Option<Instant>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>>>>;

impl SharedConnection {
    /// The [`connection`](Self::connection) is opened when it is first asked for.
    pub fn new(manager: Manager) -> Self {
        Self {
            manager,
            state: Arc::default(),
            turns: Semaphore::new(MAX_IN_FLIGHT),
            answered: AtomicU64::new(0),
            started: Instant::now(),
            round_trip: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// All rows of a short read. It is tried once more if the connection was lost.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let _turn = self.turn().await?;
        let mut again = false;
        loop {
            let connection = self.connection().await?;
            match self.ask(&connection, sql, parameters).await {
                StatementOutcome::Lost(_) if !again => again = true,
                outcome => return outcome.into_result(),
            }
        }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let end = deadline::within(TURN_WAIT, STATEMENT_RESERVE);
        let turn = timeout_at(end, self.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(Error::Overloaded { retry_after: 1 })
    }

    /// All rows of a short statement, on a [`connection`](Self::connection) that the caller has
    /// looked at.
    pub async fn query_on(
        &self,
        connection: &Arc<Connection>,
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>> {
        self.ask(connection, sql, parameters).await.into_result()
    }

    /// The only row of a short read, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        only(sql, self.query(sql, parameters).await?)
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
        self.lock().current.as_ref().is_some_and(|connection| self.manager.is_good(connection))
    }

    /// The current connection, opened if there is none. While another is opened in its place, it
    /// still serves.
    pub async fn connection(&self) -> Result<Arc<Connection>> {
        self.manager.check_present()?;
        let opening = {
            let mut state = self.lock();
            match &state.current {
                Some(current) if self.manager.is_good(current) => {
                    let current = Arc::clone(current);
                    if !self.manager.is_latest(&current)
                        && state.begun.is_none_or(|begun| begun.elapsed() > REPLACE_INTERVAL)
                    {
                        drop(self.open(&mut state));
                    }
                    return Ok(current);
                }
                _ => self.open(&mut state),
            }
        };
        match timeout_at(deadline::within(CONNECTION_WAIT, STATEMENT_RESERVE), opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::DatabaseUnavailable { cause: "connect: not in time".to_owned() }),
        }
    }

    /// Begins to open a connection, in a task of its own, unless that has begun.
    fn open(&self, state: &mut State) -> Opening {
        if let Some(opening) = state.opening.as_ref().filter(|opening| opening.peek().is_none()) {
            return opening.clone();
        }
        state.begun = Some(Instant::now());
        let (manager, shared) = (self.manager.clone(), Arc::clone(&self.state));
        let (round_trip, metrics) = (Arc::clone(&self.round_trip), Arc::clone(&self.metrics));
        let attempt = tokio::spawn(async move {
            let opened = manager.create().await.map(Arc::new);
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.opening = None;
            let connection = opened.map_err(|error| Error::DatabaseUnavailable {
                cause: format!("connect: {}", error.describe()),
            })?;
            state.current = Some(Arc::clone(&connection));
            metrics.opened.increment();
            round_trip.forget();
            Ok(connection)
        });
        let opening = attempt.map(|ended| {
            ended.unwrap_or_else(|error| Err(Error::internal(format!("connect: {error}"))))
        });
        let opening = opening.boxed().shared();
        state.opening = Some(opening.clone());
        opening
    }

    async fn ask(
        &self,
        connection: &Arc<Connection>,
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> StatementOutcome<Vec<Row>> {
        let _in_flight = self.metrics.in_flight.count();
        let sent = Instant::now();
        let outcome = self.manager.query(connection, sql, parameters).await;
        match &outcome {
            StatementOutcome::Answered(result) => {
                let now = Instant::now();
                self.round_trip.record(now - sent);
                if result.is_ok() {
                    self.answered.store(self.milliseconds(now), Ordering::Relaxed);
                }
            }
            StatementOutcome::TimedOut(_) => {
                let since = self.answered.load(Ordering::Relaxed);
                if self.milliseconds(Instant::now() - BUSY) >= since {
                    self.abandon(connection);
                }
            }
            StatementOutcome::Lost(_) => {}
        }
        outcome
    }

    /// Takes a connection out of use, so that no new request queues behind a silent server or
    /// behind a statement that nobody waits for.
    fn abandon(&self, connection: &Arc<Connection>) {
        self.lock().current.take_if(|current| Arc::ptr_eq(current, connection));
        if connection.retire() {
            tokio::spawn(cancel_statements(self.manager.clone(), Arc::clone(connection)));
        }
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cancels statements on an abandoned connection until all that were sent have ended. PostgreSQL
/// cancels whatever is running, which is the oldest statement: the one that timed out or that
/// blocks the others.
async fn cancel_statements(manager: Manager, connection: Arc<Connection>) {
    for _ in 0..MAX_CANCELS {
        let token = connection.client().cancel_token();
        let cancelled = timeout(CANCEL_TIMEOUT, manager.cancel(token)).await;
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
    use crate::db::connection::Purpose;

    // The paused clock jumps to the next timeout, as nothing else is pending.
    #[tokio::test(start_paused = true)]
    async fn one_attempt_to_connect_serves_all_who_wait_for_it() {
        // The kernel completes the TCP handshake, but nothing ever answers.
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        mute.set_nonblocking(true).unwrap();
        let port = mute.local_addr().unwrap().port();
        let text = format!("host=127.0.0.1 port={port} user=u connect_timeout=1");
        let options = ConnectOptions::parse(&text, None).map_err(|error| error.to_string());
        let shared =
            SharedConnection::new(Manager::new(&options.unwrap(), Purpose::Usual, Arc::default()));
        for _ in 0..2 {
            let asked = Instant::now();
            for made in join_all((0..8).map(|_| shared.connection())).await {
                assert!(matches!(made, Err(Error::DatabaseUnavailable { .. })));
            }
            assert_eq!(asked.elapsed().as_secs(), 1);
            mute.accept().unwrap();
            assert!(mute.accept().is_err(), "a second attempt");
        }
    }
}
