//! A worker's connections for writes, searches and long lists: a deadpool pool. No wait is without a
//! limit, and no caller inherits another's unfinished statement.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, TimeoutType};
use tokio::time::timeout;
use tokio_postgres::Row;

use super::connection::{CONNECT_TIMEOUT, Connection, Manager, Parameter};
use super::errors::{self, Aftermath};
use super::{Address, Sql};
use crate::error::{Error, Result};

/// How long a request waits for a connection before it is refused.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);
/// When a server that does not even give up is no longer waited for.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);
/// How long the attempt to cancel a statement may take.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
}

impl Pool {
    /// Connections are made when they are first needed.
    pub fn new(address: &Address, size: usize) -> Result<Self> {
        let inner = managed::Pool::builder(Manager::new(address))
            .max_size(size)
            .wait_timeout(Some(WAIT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { inner })
    }

    /// All rows of a statement.
    pub async fn query(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let running = InUse::on(self.get().await?);
        let connection = running.connection()?;
        let query = connection.client().query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, running, result)
    }

    /// The only row of a statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let running = InUse::on(self.get().await?);
        let connection = running.connection()?;
        let query = connection.client().query_opt(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, running, result)
    }

    /// A connection of the caller's own, beside those of the pool.
    pub async fn connect(&self) -> Result<Connection> {
        match timeout(CONNECT_TIMEOUT, managed::Manager::create(self.manager())).await {
            Ok(made) => made.map_err(|error| cannot_connect(PoolError::Backend(error))),
            Err(_) => Err(cannot_connect(PoolError::Timeout(TimeoutType::Create))),
        }
    }

    /// What makes the pool's connections.
    pub fn manager(&self) -> &Manager {
        self.inner.manager()
    }

    async fn get(&self) -> Result<Object<Manager>> {
        self.inner.get().await.map_err(cannot_connect)
    }

    fn finish<T>(
        &self,
        sql: Sql,
        running: InUse,
        result: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let connection = running.connection()?;
        let Ok(result) = result else {
            self.manager().take_note(Aftermath::ReplaceAll, connection);
            running.abandon();
            let cause = format!("{}: no answer", sql.file());
            return Err(Error::DatabaseUnavailable { cause });
        };
        let result = result.map_err(|error| {
            let (error, aftermath) = errors::map(sql, &error);
            self.manager().take_note(aftermath, connection);
            error
        });
        running.done();
        result
    }
}

fn cannot_connect(error: PoolError<tokio_postgres::Error>) -> Error {
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
struct InUse(Option<Object<Manager>>);

impl InUse {
    fn on(object: Object<Manager>) -> Self {
        Self(Some(object))
    }

    fn connection(&self) -> Result<&Connection> {
        self.0.as_deref().ok_or_else(|| Error::internal("the connection is gone"))
    }

    /// The statement has ended: back into the pool.
    fn done(mut self) {
        self.0 = None;
    }

    /// The server is silent: tell it to stop, if it listens, and never use the connection again.
    fn abandon(mut self) {
        if let Some(object) = self.0.take() {
            tokio::spawn(cancel(object));
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some(object) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The empty statement's answer comes after that of the one under way.
            match timeout(RESPONSE_TIMEOUT, object.client().simple_query("")).await {
                Ok(_) => drop(object),
                Err(_) => cancel(object).await,
            }
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
