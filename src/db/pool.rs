//! A worker's connections: a deadpool pool whose connections carry the prepared statements. No wait
//! is without a limit, and no caller inherits another's unfinished statement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, TimeoutType};
use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row, Statement};

use super::errors::{self, Aftermath};
use super::{Address, Sql};
use crate::error::{Error, Result};

/// How long a request waits for a connection before it is refused.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long making a connection may take, its statements included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// When PostgreSQL itself gives up a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// When a server that does not even give up is no longer waited for.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);
/// How long the attempt to cancel a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

pub type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Makes connections and tells which are still good.
pub struct Manager {
    inner: deadpool_postgres::Manager,
    address: Address,
    /// Rises when all connections made so far must be replaced.
    generation: AtomicU64,
}

/// A connection with its statements, by the index of [`Sql`].
pub struct Connection {
    client: ClientWrapper,
    statements: Vec<Statement>,
    generation: u64,
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, Self::Error> {
        let generation = self.generation.load(Ordering::Relaxed);
        let client = self.inner.create().await?;
        let prepare = async |sql: &Sql| {
            client.prepare(sql.text()).await.inspect_err(|error| {
                let code = error.code().map(SqlState::code).unwrap_or_default();
                tracing::error!(statement = sql.file(), code, "cannot be prepared");
            })
        };
        let statements = try_join_all(Sql::ALL.iter().map(prepare)).await?;
        Ok(Connection { client, statements, generation })
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        if connection.generation != self.generation.load(Ordering::Relaxed) {
            return Err(RecycleError::message("out of date"));
        }
        Ok(())
    }
}

#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
}

impl Pool {
    /// Connections are made when they are first needed.
    pub fn new(address: &Address, size: usize) -> Result<Self> {
        let address = bounded(address);
        let config = address.config.clone();
        let inner = match &address.tls {
            Some(tls) => deadpool_postgres::Manager::new(config, tls.clone()),
            None => deadpool_postgres::Manager::new(config, NoTls),
        };
        let manager = Manager { inner, address, generation: AtomicU64::new(0) };
        let inner = managed::Pool::builder(manager)
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
        let running = Running::on(self.get().await?);
        let connection = running.connection()?;
        let query = connection.client.query(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, running, result)
    }

    /// The only row of a statement, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let running = Running::on(self.get().await?);
        let connection = running.connection()?;
        let query = connection.client.query_opt(connection.statement(sql)?, parameters);
        let result = timeout(RESPONSE_TIMEOUT, query).await;
        self.finish(sql, running, result)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let running = Running::on(self.get().await?);
        let result = timeout(RESPONSE_TIMEOUT, running.connection()?.client.simple_query("")).await;
        match result {
            Ok(Ok(_)) => {
                running.done();
                Ok(())
            }
            Ok(Err(error)) => {
                running.done();
                Err(Error::DatabaseUnavailable { cause: format!("ping: {error}") })
            }
            Err(_) => {
                running.abandon();
                Err(Error::DatabaseUnavailable { cause: "ping: no answer".into() })
            }
        }
    }

    async fn get(&self) -> Result<Object<Manager>> {
        self.inner.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => Error::Overloaded { retry_after: 1 },
            PoolError::Backend(error) => Error::DatabaseUnavailable {
                cause: match error.as_db_error() {
                    Some(db) => format!("connect: SQLSTATE {}", db.code().code()),
                    None => format!("connect: {error}"),
                },
            },
            other => Error::DatabaseUnavailable { cause: format!("connect: {other}") },
        })
    }

    fn finish<T>(
        &self,
        sql: Sql,
        running: Running,
        result: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let Ok(result) = result else {
            running.abandon();
            let cause = format!("{}: no answer", sql.file());
            return Err(Error::DatabaseUnavailable { cause });
        };
        let result = result.map_err(|error| {
            let (error, aftermath) = errors::map(sql, &error);
            if aftermath == Aftermath::ReplaceAll {
                self.inner.manager().generation.fetch_add(1, Ordering::Relaxed);
            }
            error
        });
        running.done();
        result
    }
}

impl Connection {
    fn statement(&self, sql: Sql) -> Result<&Statement> {
        self.statements
            .get(sql as usize)
            .ok_or_else(|| Error::internal("a statement is not in the list"))
    }
}

/// A connection with a statement under way. If its request goes away first, the statement runs to
/// its end before anybody else gets the connection: they would wait behind it.
struct Running(Option<Object<Manager>>);

impl Running {
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

impl Drop for Running {
    fn drop(&mut self) {
        let Some(object) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The empty statement's answer comes after that of the one under way.
            match timeout(RESPONSE_TIMEOUT, object.client.simple_query("")).await {
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
        let token = connection.client.cancel_token();
        let _ = timeout(CANCEL_TIMEOUT, pool.manager().address.cancel(token)).await;
    }
}

/// Adds the limits without which a silent server would be waited for forever.
pub fn bounded(address: &Address) -> Address {
    let mut address = address.clone();
    let config = &mut address.config;
    // Once a statement has run a few times, PostgreSQL plans it for all values alike, and guesses that
    // optional filters leave almost nothing: it would collect all of a user's rows by bitmap and sort
    // them for every page. Without bitmaps it reads the key in order.
    let options = format!(
        "{} -c statement_timeout={} -c timezone=UTC -c jit=off -c enable_bitmapscan=off",
        config.get_options().unwrap_or_default(),
        STATEMENT_TIMEOUT.as_millis()
    );
    config
        .options(options.trim())
        .application_name("healthcare-backend")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(Duration::from_secs(10))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3);
    address
}
