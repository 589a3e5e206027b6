//! A worker's connections for writes, searches and long lists: a deadpool pool, of which each of these has
//! a part. No wait is without a limit, and no caller inherits another's unfinished statement.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, TimeoutType};
use tokio::time::timeout;
use tokio_postgres::Row;

use super::connect::ConnectError;
use super::connection::{Connection, Manager, Outcome, Parameter, RESPONSE_TIMEOUT};
use super::share::{Place, Share, WAIT_TIMEOUT};
use super::{ConnectOptions, Sql};
use crate::error::{Error, Result};

/// How long the attempt to cancel a statement may take.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool, or a part of one, as a user sees it or as nobody does.
#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
    share: Arc<Share>,
    user: Option<i64>,
}

impl Pool {
    /// Connections are made when they are first needed. Making one, and looking whether one is good,
    /// have their limits in the manager.
    pub fn new(address: &ConnectOptions, size: usize) -> Result<Self> {
        let inner = managed::Pool::builder(Manager::new(address))
            .max_size(size)
            .wait_timeout(Some(WAIT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { inner, share: Share::new(size), user: None })
    }

    /// A part with so many of the connections. Parts that together have no more than there are take none from
    /// each other.
    #[must_use]
    pub fn part(&self, size: usize) -> Self {
        Self { share: Share::new(size), ..self.clone() }
    }

    /// The same connections, of which this user gets half at most.
    #[must_use]
    pub fn of(&self, user: i64) -> Self {
        Self { user: Some(user), ..self.clone() }
    }

    /// All rows of a statement.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let running = self.get().await?;
        let connection = running.connection()?;
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        let outcome = self.manager().outcome(sql, connection, result);
        running.finish(outcome)
    }

    /// The only row of a statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let running = self.get().await?;
        let connection = running.connection()?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        let outcome = self.manager().outcome(sql, connection, result);
        running.finish(outcome)
    }

    /// A connection of the caller's own, beside those of the pool.
    pub async fn connect(&self) -> Result<Connection> {
        let made = managed::Manager::create(self.manager()).await;
        made.map_err(|error| cannot_connect(PoolError::Backend(error)))
    }

    /// What makes the pool's connections.
    pub fn manager(&self) -> &Manager {
        self.inner.manager()
    }

    async fn get(&self) -> Result<InUse> {
        let place = self.share.enter(self.user).await?;
        let object = self.inner.get().await.map_err(cannot_connect)?;
        Ok(InUse(Some((object, place))))
    }
}

fn cannot_connect(error: PoolError<ConnectError>) -> Error {
    let cause = match error {
        PoolError::Timeout(TimeoutType::Wait) => return Error::Overloaded { retry_after: 1 },
        // The message may quote names; the code does not.
        PoolError::Backend(error) => match error.as_db_error() {
            Some(db) => format!("connect: SQLSTATE {}", db.code().code()),
            None => format!("connect: {error}"),
        },
        other => format!("connect: {other}"),
    };
    Error::DatabaseUnavailable { cause }
}

/// A connection with a statement under way. If its request goes away first, the statement runs to
/// its end before anybody else gets the connection: they would wait behind it.
struct InUse(Option<(Object<Manager>, Place)>);

impl InUse {
    fn connection(&self) -> Result<&Connection> {
        let in_use = self.0.as_ref().map(|(object, _)| &**object);
        in_use.ok_or_else(|| Error::internal("the connection is gone"))
    }

    /// Gives a connection back whose statement has ended. A silent server is told to stop, if it listens,
    /// and the connection is never used again.
    fn finish<T>(mut self, outcome: Outcome<T>) -> Result<T> {
        let in_use = self.0.take();
        match outcome {
            Outcome::Answer(result) => result,
            Outcome::Silence(error) => {
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
        let Some((object, place)) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The empty statement's answer comes after that of the one under way.
            match timeout(RESPONSE_TIMEOUT, object.client().simple_query("")).await {
                Ok(_) => drop(object),
                Err(_) => cancel(object).await,
            }
            drop(place);
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
