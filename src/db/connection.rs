//! Connections with their prepared statements, and the manager that opens them and knows which are
//! still good, for the pool and the shared connections alike.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, RecycleError};
use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Config, Statement};

use super::connect::ConnectError;
use super::errors::{self, Aftermath};
use super::{ConnectOptions, Sql};
use crate::error::{Error, Result};
use crate::metrics::DatabaseConnectionMetrics;

/// The timeout for preparing all statements on a new connection.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(3);
/// PostgreSQL's `lock_timeout`, so that a lock on one row blocks a connection only briefly.
/// `options` in the connection string may set another.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// PostgreSQL's `statement_timeout`.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two replacements of all connections, whatever errors they report: new
/// ones may lead to the same server again, and each costs it preparing every statement.
pub const REPLACE_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for an answer; longer than `STATEMENT_TIMEOUT`, so that only a silent server
/// exceeds it.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);

/// A value for a statement's `$1`, `$2`, ...
pub type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Opens connections and knows which are still good.
pub struct Manager {
    options: ConnectOptions,
    /// Incremented when all connections opened so far must be replaced.
    generation: AtomicU64,
    last_replaced: Mutex<Option<Instant>>,
    metrics: Arc<DatabaseConnectionMetrics>,
}

/// A connection with its statements, by the index of [`Sql`].
pub struct Connection {
    client: ClientWrapper,
    statements: Vec<Statement>,
    generation: u64,
    abandoned: AtomicBool,
}

/// The outcome of a statement that was sent.
pub enum StatementOutcome<T> {
    Answered(Result<T>),
    /// The server did not answer in time. The statement may still run, so the connection must not
    /// be reused.
    TimedOut(Error),
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, Self::Error> {
        let connection = self.open().await;
        let DatabaseConnectionMetrics { opened, failed, .. } = &*self.metrics;
        let outcome = if connection.is_ok() { opened } else { failed };
        outcome.increment();
        connection
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if self.is_good(connection) {
            return Ok(());
        }
        Err(RecycleError::message("closed or out of date"))
    }
}

impl Manager {
    pub fn new(options: &ConnectOptions) -> Self {
        Self {
            options: with_limits(options),
            generation: AtomicU64::new(0),
            last_replaced: Mutex::default(),
            metrics: Arc::default(),
        }
    }

    pub fn metrics(&self) -> &Arc<DatabaseConnectionMetrics> {
        &self.metrics
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let generation = self.generation.load(Ordering::Relaxed);
        let (client, task) = self.options.connect_fast().await?;
        let client = ClientWrapper::new(client, task);
        let prepare = async |sql: &Sql| {
            client.prepare(sql.text()).await.inspect_err(|error| {
                let code = error.code().map(SqlState::code).unwrap_or_default();
                tracing::error!(statement = sql.file(), code, "cannot be prepared");
            })
        };
        let preparing = try_join_all(Sql::ALL.iter().map(prepare));
        let statements = timeout(PREPARE_TIMEOUT, preparing).await;
        let statements = statements.map_err(|_| ConnectError::Silent)??;
        Ok(Connection { client, statements, generation, abandoned: AtomicBool::new(false) })
    }

    /// Whether a connection is open, in use and of the current generation.
    pub fn is_good(&self, connection: &Connection) -> bool {
        let abandoned = connection.abandoned.load(Ordering::Relaxed);
        !abandoned && !connection.client.is_closed() && self.is_current(connection)
    }

    fn is_current(&self, connection: &Connection) -> bool {
        connection.generation == self.generation.load(Ordering::Relaxed)
    }

    /// Replaces all connections, if an error on this one says that they are outdated. An error on a
    /// connection of an earlier generation says nothing about its successors.
    fn replace_if_outdated(&self, aftermath: Aftermath, connection: &Connection) {
        if aftermath == Aftermath::Keep {
            return;
        }
        let mut last_replaced = self.last_replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let recently = last_replaced.is_some_and(|at| at.elapsed() < REPLACE_INTERVAL);
        if !recently && self.is_current(connection) {
            *last_replaced = Some(Instant::now());
            self.generation.fetch_add(1, Ordering::Relaxed);
            self.metrics.replaced.increment();
            tracing::warn!("the connections to the database are replaced");
        }
    }

    /// Maps a result, awaited for [`RESPONSE_TIMEOUT`], and replaces all connections if it says
    /// that they are outdated.
    pub fn outcome<T>(
        &self,
        sql: Sql,
        connection: &Connection,
        result: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> StatementOutcome<T> {
        let Ok(result) = result else {
            self.replace_if_outdated(Aftermath::ReplaceAll, connection);
            let cause = format!("{}: no answer", sql.file());
            return StatementOutcome::TimedOut(errors::unanswered(sql, cause));
        };
        StatementOutcome::Answered(result.map_err(|error| {
            if errors::ends_connection(&error) {
                // It is not closed yet, but of what is sent now there will be no answer.
                connection.abandon();
            }
            let (error, aftermath) = errors::map(sql, &error);
            self.replace_if_outdated(aftermath, connection);
            error
        }))
    }

    /// Asks the server to cancel the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        self.options.cancel(token).await
    }
}

impl Connection {
    pub fn client(&self) -> &tokio_postgres::Client {
        &self.client
    }

    /// Marks the connection as out of use; false if it was already.
    pub fn abandon(&self) -> bool {
        !self.abandoned.swap(true, Ordering::Relaxed)
    }

    pub fn statement(&self, sql: Sql) -> Result<&Statement> {
        self.statements
            .get(sql as usize)
            .ok_or_else(|| Error::internal("a statement is not in the list"))
    }
}

/// Adds the timeouts without which a silent server would be waited for forever, where the settings
/// have none.
pub fn with_limits(options: &ConnectOptions) -> ConnectOptions {
    with_statement_timeout(options, STATEMENT_TIMEOUT)
}

/// As [`with_limits`], for statements that take another time.
pub fn with_statement_timeout(options: &ConnectOptions, timeout: Duration) -> ConnectOptions {
    let mut options = options.clone();
    options.hosts.iter_mut().for_each(|config| add_limits(config, timeout));
    options
}

fn add_limits(config: &mut Config, statement_timeout: Duration) {
    // Generic plans only. By default, PostgreSQL plans a list again for every page, because its
    // optional filters look cheaper for known values; with generic plans it reads 1.16 times as
    // many pages a second. A generic plan lasts until the table is next analysed, so two plan types
    // are disabled: a sequential scan, chosen while the table was empty, would stay; a bitmap scan
    // would collect and sort all rows of a user for every page, because PostgreSQL estimates that
    // the filters leave almost none.
    let options = format!(
        "-c lock_timeout={} {} -c statement_timeout={} -c timezone=UTC -c jit=off \
         -c plan_cache_mode=force_generic_plan -c enable_bitmapscan=off -c enable_seqscan=off",
        LOCK_TIMEOUT.as_millis(),
        config.get_options().unwrap_or_default(),
        statement_timeout.as_millis()
    );
    config.options(options);
    if config.get_application_name().is_none() {
        config.application_name("healthcare-backend");
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(10));
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
}
