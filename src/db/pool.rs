//! A worker's connections for writes, searches and long lists: a deadpool pool, divided into shares
//! by kind of work. Every wait has a timeout, and no caller inherits another's unfinished
//! statement.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, TimeoutType};
use futures_util::future::{join_all, join4};
use tokio::time::timeout;
use tokio_postgres::Row;

use super::connect::ConnectError;
use super::connection::{Connection, Manager, Parameter, RESPONSE_TIMEOUT, StatementOutcome};
use super::share::{Permit, PoolShare, WAIT_TIMEOUT};
use super::{ConnectOptions, Sql};
use crate::error::{Error, Result};
use crate::metrics::ShareMetrics;

/// The timeout for cancelling a statement.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool or a share of one, with the limits of a user if there is one.
#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
    share: Arc<PoolShare>,
    user: Option<i64>,
}

impl Pool {
    /// Connections are opened at their first use, or by [`ensure_open`](Self::ensure_open). Opening
    /// and checking them have timeouts in the manager.
    pub fn new(options: &ConnectOptions, size: usize) -> Result<Self> {
        let inner = managed::Pool::builder(Manager::new(options))
            .max_size(size)
            .wait_timeout(Some(WAIT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { inner, share: PoolShare::new(size), user: None })
    }

    /// A share of `size` connections. Shares that add up to no more than the pool's size cannot
    /// starve each other.
    #[must_use]
    pub fn share(&self, size: usize) -> Self {
        Self { share: PoolShare::new(size), ..self.clone() }
    }

    /// The same share, of which this user gets at most half.
    #[must_use]
    pub fn of(&self, user: i64) -> Self {
        Self { user: Some(user), ..self.clone() }
    }

    /// What this share has counted.
    pub fn metrics(&self) -> &Arc<ShareMetrics> {
        self.share.metrics()
    }

    /// All rows of a statement.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let in_use = self.get().await?;
        let connection = in_use.connection()?;
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        let outcome = self.manager().outcome(sql, connection, result);
        in_use.finish(outcome)
    }

    /// The only row of a statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let in_use = self.get().await?;
        let connection = in_use.connection()?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        let outcome = self.manager().outcome(sql, connection, result);
        in_use.finish(outcome)
    }

    /// As [`query_opt`](Self::query_opt), in a transaction that first takes locks, each of a kind
    /// and a key, in their order. So the statement sees what others have committed under these
    /// locks. All is sent at once, and takes one round trip.
    pub async fn query_opt_locked(
        &self,
        locks: &[(i32, &str)],
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>> {
        let in_use = self.get().await?;
        let connection = in_use.connection()?;
        let (client, statement) = (connection.client(), connection.statement(sql)?);
        let lock = connection.statement(Sql::LimitsLock)?;
        let transaction = async {
            let lock = async |(kind, key): &(i32, &str)| client.execute(lock, &[kind, key]).await;
            // Each is sent when it is polled for the first time, and so in this order. Once one has
            // failed, those behind it fail too, and COMMIT rolls back.
            let (begun, locked, row, committed) = join4(
                client.batch_execute("BEGIN"),
                join_all(locks.iter().map(lock)),
                client.query_opt(statement, parameters),
                client.batch_execute("COMMIT"),
            )
            .await;
            begun?;
            locked.into_iter().collect::<Result<Vec<_>, _>>()?;
            let row = row?;
            committed.map(|()| row)
        };
        let result = timeout(RESPONSE_TIMEOUT, transaction).await;
        let outcome = self.manager().outcome(sql, connection, result);
        in_use.finish(outcome)
    }

    /// A connection outside of the pool, with the pool's settings.
    pub async fn connect(&self) -> Result<Connection> {
        let made = managed::Manager::create(self.manager()).await;
        made.map_err(|error| cannot_connect(PoolError::Backend(error)))
    }

    /// Whether a good connection is open, in use or not. Closes idle ones that are no longer good.
    pub fn has_open(&self) -> bool {
        self.inner.retain(|connection, _| self.manager().is_good(connection));
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

    async fn get(&self) -> Result<InUse> {
        let permit = self.share.acquire(self.user).await?;
        let object = self.inner.get().await.map_err(cannot_connect)?;
        Ok(InUse(Some((object, permit))))
    }
}

fn cannot_connect(error: PoolError<ConnectError>) -> Error {
    let cause = match error {
        PoolError::Timeout(TimeoutType::Wait) => return Error::Overloaded { retry_after: 1 },
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

    /// Returns a connection whose statement has ended to the pool. If the server is silent, the
    /// statement is cancelled and the connection never used again.
    fn finish<T>(mut self, outcome: StatementOutcome<T>) -> Result<T> {
        let in_use = self.0.take();
        match outcome {
            StatementOutcome::Answered(result) => result,
            StatementOutcome::TimedOut(error) => {
                if let Some((object, _)) = in_use {
                    tokio::spawn(cancel(object));
                }
                Err(error)
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some((object, permit)) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The empty statement is answered after the one in flight.
            match timeout(RESPONSE_TIMEOUT, object.client().simple_query("")).await {
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
