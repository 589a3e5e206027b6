//! A worker's connections for writes, searches and long lists: a deadpool pool, divided into shares
//! by kind of work. Every wait has a timeout, and no caller inherits another's unfinished
//! statement.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Object, PoolError};
use futures_util::future::{join_all, join4};
use tokio::time::{timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::connect::ConnectError;
use super::connection::{
    CONNECTION_WAIT, Connection, Manager, Parameter, Purpose, STATEMENT_RESERVE, StatementOutcome,
};
use super::share::{Claim, Permit, PoolShare, TURN_WAIT};
use super::{ConnectOptions, Sql, errors};
use crate::deadline;
use crate::error::{Error, Result};
use crate::metrics::ShareMetrics;

/// The timeout for cancelling a statement.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool or a share of one, with the limits of a user or of a row if there is one.
#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
    share: Arc<PoolShare>,
    claim: Claim,
    /// Whether a connection is being opened for which no request waits any more.
    opening: Arc<AtomicBool>,
}

impl Pool {
    /// A pool that is told nothing of the database by a heartbeat.
    pub fn new(options: &ConnectOptions, size: usize) -> Result<Self> {
        Self::with(Manager::new(options, Purpose::Usual, Arc::default()), size)
    }

    /// Connections are opened at their first use, or by [`ensure_open`](Self::ensure_open).
    pub fn with(manager: Manager, size: usize) -> Result<Self> {
        let inner = managed::Pool::builder(manager)
            .max_size(size)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        let (share, claim) = (PoolShare::new(size, TURN_WAIT), Claim::default());
        Ok(Self { inner, share, claim, opening: Arc::default() })
    }

    /// A share of `size` connections. Shares that add up to no more than the pool's size cannot
    /// starve each other. Requests wait for one for `patience` at most.
    #[must_use]
    pub fn share(&self, size: usize, patience: Duration) -> Self {
        Self { share: PoolShare::new(size, patience), ..self.clone() }
    }

    /// The same share, of which this user gets at most half.
    #[must_use]
    pub fn of(&self, user: i64) -> Self {
        Self { claim: Claim { user: Some(user), ..self.claim }, ..self.clone() }
    }

    /// What this share has counted.
    pub fn metrics(&self) -> &Arc<ShareMetrics> {
        self.share.metrics()
    }

    /// The same share for a change of one row, by a statement of its table. Few wait for it at the
    /// same time if it is locked.
    #[must_use]
    pub fn on_row(&self, sql: Sql, id: i64) -> Self {
        Self { claim: Claim { row: Some((sql.noun(), id)), ..self.claim }, ..self.clone() }
    }

    /// The same share for what waits for no row.
    #[must_use]
    pub fn off_row(&self) -> Self {
        Self { claim: Claim { row: None, ..self.claim }, ..self.clone() }
    }

    /// All rows of a statement. A read whose connection was lost is tried once more, on a connection
    /// that was opened since.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let mut lost = None;
        loop {
            let in_use = self.get(lost).await?;
            let outcome = self.manager().query(in_use.connection()?, sql, parameters).await;
            let again = lost.is_none() && matches!(outcome, StatementOutcome::Lost(_));
            let result = in_use.finish(outcome);
            if !again || sql.is_change() {
                return result;
            }
            lost = Some(Instant::now());
        }
    }

    /// The only row of a statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        only(sql, self.query(sql, parameters).await?)
    }

    /// As [`query_opt`](Self::query_opt), in a transaction that runs other statements before, in
    /// their order. So the statement sees what others have committed before these got their locks.
    /// All is sent at once, and takes one round trip.
    pub async fn query_opt_after(
        &self,
        before: &[(Sql, Vec<Parameter<'_>>)],
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>> {
        let in_use = self.get(None).await?;
        let connection = in_use.connection()?;
        let client = connection.client();
        let transaction = async {
            let statement = connection.statement(sql).await?;
            let mut prepared = Vec::new();
            for (sql, parameters) in before {
                prepared.push((connection.statement(*sql).await?, parameters));
            }
            let execute = prepared.iter().map(|(sql, parameters)| client.execute(*sql, parameters));
            // Each is sent when it is polled for the first time, and so in this order. Once one has
            // failed, those behind it fail too, and COMMIT rolls back.
            let (begun, executed, row, committed) = join4(
                client.batch_execute("BEGIN"),
                join_all(execute),
                client.query_opt(statement, parameters),
                client.batch_execute("COMMIT"),
            )
            .await;
            begun?;
            executed.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok((row?, committed))
        };
        let outcome = self.manager().answer(connection, sql, pin!(transaction)).await;
        let outcome = outcome.and_then(|(row, committed)| {
            let Err(error) = committed else { return StatementOutcome::Answered(Ok(row)) };
            // PostgreSQL may be told to end the connection or the statement while it commits, and
            // says so behind the commit if it logs how long that took.
            connection.retire();
            let code = error.code().map(SqlState::code).unwrap_or_default();
            let cause = format!("{}: COMMIT: SQLSTATE {code}", sql.file());
            StatementOutcome::Lost(errors::unanswered(sql, cause))
        });
        in_use.finish(outcome)
    }

    /// Whether a good connection is open, in use or not. Closes idle ones that are no longer good.
    pub fn has_open(&self) -> bool {
        let manager = self.manager();
        self.inner.retain(|connection, _| manager.is_good(connection));
        self.inner.status().size > 0
    }

    /// Opens a connection for the requests to come if none is open.
    pub async fn ensure_open(&self) -> Result<()> {
        if self.has_open() {
            return Ok(());
        }
        self.inner.get().await.map(drop).map_err(cannot_connect)
    }

    /// What opens the pool's connections.
    pub fn manager(&self) -> &Manager {
        self.inner.manager()
    }

    /// A connection, opened after `since` if there is such a moment.
    async fn get(&self, since: Option<Instant>) -> Result<InUse> {
        self.manager().check_present()?;
        let permit = self.share.acquire(self.claim).await?;
        Ok(InUse(Some((self.connect(since).await?, permit))))
    }

    async fn connect(&self, since: Option<Instant>) -> Result<Object<Manager>> {
        let connecting = async {
            loop {
                let object = self.inner.get().await.map_err(cannot_connect)?;
                if since.is_none_or(|since| Object::metrics(&object).created > since) {
                    return Ok(object);
                }
                // What was lost may be more than one connection.
                drop(Object::take(object));
            }
        };
        let end = deadline::within(CONNECTION_WAIT, STATEMENT_RESERVE);
        timeout_at(end, connecting).await.unwrap_or_else(|_| {
            self.open_in_background();
            Err(Error::DatabaseUnavailable { cause: "connect: not in time".to_owned() })
        })
    }

    /// Opening a connection may take longer than a request waits, as where several hosts are silent
    /// before one answers. Then it goes on without a request, one at a time.
    fn open_in_background(&self) {
        if !self.opening.swap(true, Ordering::Relaxed) {
            let (inner, opening) = (self.inner.clone(), Arc::clone(&self.opening));
            tokio::spawn(async move {
                drop(inner.get().await);
                opening.store(false, Ordering::Relaxed);
            });
        }
    }
}

/// The only row, if there is one.
pub fn only(sql: Sql, mut rows: Vec<Row>) -> Result<Option<Row>> {
    if rows.len() > 1 {
        return Err(Error::internal(format!("{}: more than one row", sql.file())));
    }
    Ok(rows.pop())
}

fn cannot_connect(error: PoolError<ConnectError>) -> Error {
    let cause = match error {
        PoolError::Backend(error) => format!("connect: {}", error.describe()),
        other => format!("connect: {other}"),
    };
    Error::DatabaseUnavailable { cause }
}

/// A connection with a statement in flight. If its request is cancelled, the statement runs to its
/// end before the connection returns to the pool, or the next request would wait behind it.
struct InUse(Option<(Object<Manager>, Permit)>);

impl InUse {
    fn connection(&self) -> Result<&Connection> {
        let in_use = self.0.as_ref().map(|(object, _)| &**object);
        in_use.ok_or_else(|| Error::internal("the connection is gone"))
    }

    /// Returns a connection whose statement has ended to the pool. If it has not, the statement is
    /// cancelled and the connection never used again.
    fn finish<T>(mut self, outcome: StatementOutcome<T>) -> Result<T> {
        let in_use = self.0.take();
        if let (StatementOutcome::TimedOut(_), Some((object, _))) = (&outcome, in_use) {
            tokio::spawn(cancel(object));
        }
        outcome.into_result()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some((object, permit)) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The empty statement is answered after the one in flight.
            let limit = Object::pool(&object).map(|pool| pool.manager().purpose());
            let limit = limit.map_or(CANCEL_TIMEOUT, Purpose::response_timeout);
            match timeout(limit, object.client().simple_query("")).await {
                Ok(_) => drop(object),
                Err(_) => cancel(object).await,
            }
            drop(permit);
        });
    }
}

async fn cancel(object: Object<Manager>) {
    let pool = Object::pool(&object);
    let connection = Object::take(object);
    if let Some(pool) = pool {
        let token = connection.client().cancel_token();
        let _ = timeout(CANCEL_TIMEOUT, pool.manager().cancel(token)).await;
    }
}
