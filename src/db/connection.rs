//! Connections with their prepared statements, and the manager that opens them, asks on them and
//! knows which are still good, for the pool and the shared connections alike.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError};
use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join_all;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Config, Row, Statement};

use super::connect::{ClientAndTask, ConnectError};
use super::errors::{self, Aftermath};
use super::pulse::Pulse;
use super::{ConnectOptions, Sql};
use crate::deadline;
use crate::error::{Error, Result};
use crate::metrics::DatabaseConnectionMetrics;

/// The timeout for preparing statements on a new connection.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(1);
/// PostgreSQL's `lock_timeout`, so that a lock on one row blocks a connection only briefly. It is
/// longer than a migration tries to get its locks, and so short that a request that waits for
/// another of the kind before it is answered within a second.
const LOCK_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a wait for an answer goes on before it is asked whether the database is away, or its
/// connection was found silent.
const AWAY_CHECK: Duration = Duration::from_millis(800);
/// What a request keeps of its time while it waits for a turn or a connection: enough for a
/// statement that then waits for a lock in vain, so that it still learns that nothing was changed.
pub const STATEMENT_RESERVE: Duration = Duration::from_millis(600);
/// How long a request waits for a connection that is being opened.
pub const CONNECTION_WAIT: Duration = Duration::from_millis(1200);

/// A value for a statement's `$1`, `$2`, ...
pub type Parameter<'a> = &'a (dyn ToSql + Sync);

/// What connections are for, and so how long a statement on them may take.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Reads of a page at most, pipelined, so that what waits behind them waits too. These statements
    /// are prepared when the connection is opened, all others at their first use.
    Short(&'static [Sql]),
    /// Whatever one request needs of one row.
    Usual,
    /// Searches and long lists.
    Long,
    /// Imports.
    Bulk,
}

impl Purpose {
    /// PostgreSQL's `statement_timeout`.
    fn statement_timeout(self) -> Duration {
        Duration::from_millis(match self {
            Self::Short(_) => 800,
            Self::Usual => 1500,
            Self::Long => 5000,
            Self::Bulk => 300_000,
        })
    }

    /// How long to wait for an answer. Unless there are many before it, only a silent server exceeds
    /// it.
    pub const fn response_timeout(self) -> Duration {
        Duration::from_millis(match self {
            Self::Short(_) => 900,
            Self::Usual => 2000,
            Self::Long => 5500,
            Self::Bulk => 302_000,
        })
    }
}

/// Opens connections for one purpose and knows which are still good.
#[derive(Clone)]
pub struct Manager {
    options: ConnectOptions,
    purpose: Purpose,
    pulse: Arc<Pulse>,
    attempts: Arc<Attempts>,
}

/// Attempts to connect. While they fail, one is made at a time.
#[derive(Default)]
struct Attempts {
    failing: AtomicBool,
    last_failure: Mutex<Option<Instant>>,
}

/// A connection with its statements, by the index of [`Sql`].
pub struct Connection {
    client: ClientWrapper,
    statements: Vec<OnceCell<Statement>>,
    generation: u64,
    retired: AtomicBool,
}

/// The outcome of a statement that was sent.
pub enum StatementOutcome<T> {
    Answered(Result<T>),
    /// The connection was closed or is outdated. A read can be repeated on a new one.
    Lost(Error),
    /// There was no answer in time. The statement may still run, so the connection must not be
    /// reused.
    TimedOut(Error),
}

impl<T> StatementOutcome<T> {
    /// What becomes of a good answer.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> StatementOutcome<U>) -> StatementOutcome<U> {
        match self {
            Self::Answered(Ok(answer)) => next(answer),
            Self::Answered(Err(error)) => StatementOutcome::Answered(Err(error)),
            Self::Lost(error) => StatementOutcome::Lost(error),
            Self::TimedOut(error) => StatementOutcome::TimedOut(error),
        }
    }

    pub fn into_result(self) -> Result<T> {
        match self {
            Self::Answered(result) => result,
            Self::Lost(error) | Self::TimedOut(error) => Err(error),
        }
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, Self::Error> {
        // Boxed, or each request would have the space that opening a connection needs.
        let connection = Box::pin(self.open()).await;
        let DatabaseConnectionMetrics { opened, failed, .. } = &self.pulse.connections;
        let outcome = if connection.is_ok() { opened } else { failed };
        outcome.increment();
        connection
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if self.is_good(connection) && self.is_latest(connection) {
            return Ok(());
        }
        Err(RecycleError::message("closed or out of date"))
    }
}

impl Manager {
    pub fn new(options: &ConnectOptions, purpose: Purpose, pulse: Arc<Pulse>) -> Self {
        let options = with_limits(options, purpose);
        Self { options, purpose, pulse, attempts: Arc::default() }
    }

    /// After an attempt has failed, one is made at a time, and all who waited for it share how it
    /// failed: a server that refuses connections is not asked by each request.
    async fn connect(&self) -> Result<ClientAndTask, ConnectError> {
        let Attempts { failing, last_failure } = &*self.attempts;
        let asked = Instant::now();
        let mut turn = None;
        if failing.load(Ordering::Relaxed) {
            let last_failure = last_failure.lock().await;
            if last_failure.is_some_and(|failed| failed > asked) {
                return Err(ConnectError::AsAnother);
            }
            turn = Some(last_failure);
        }
        let connected = self.options.connect_fast().await;
        failing.store(connected.is_err(), Ordering::Relaxed);
        if let Some(mut last_failure) = turn {
            *last_failure = connected.is_err().then(Instant::now);
        }
        connected
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let generation = self.pulse.generation();
        let (client, task) = self.connect().await?;
        let connection = Connection {
            client: ClientWrapper::new(client, task),
            statements: Sql::ALL.iter().map(|_| OnceCell::new()).collect(),
            generation,
            retired: AtomicBool::new(false),
        };
        if let Purpose::Short(statements) = self.purpose {
            let preparing = try_join_all(statements.iter().map(|sql| connection.statement(*sql)));
            timeout(PREPARE_TIMEOUT, preparing).await.map_err(|_| ConnectError::Silent)??;
        }
        Ok(connection)
    }

    /// Whether a connection may be used.
    pub fn is_good(&self, connection: &Connection) -> bool {
        !connection.retired.load(Ordering::Relaxed)
            && !connection.client.is_closed()
            && self.pulse.is_usable(connection.generation)
    }

    /// Whether a connection need not be opened anew.
    pub fn is_latest(&self, connection: &Connection) -> bool {
        self.pulse.is_latest(connection.generation)
    }

    /// [`Error::DatabaseUnavailable`] while the database is known to be away.
    pub fn check_present(&self) -> Result<()> {
        if self.pulse.is_away() {
            let cause = "it does not answer the heartbeat".to_owned();
            return Err(Error::DatabaseUnavailable { cause });
        }
        Ok(())
    }

    /// All rows of a statement.
    pub async fn query(
        &self,
        connection: &Connection,
        sql: Sql,
        parameters: &[Parameter<'_>],
    ) -> StatementOutcome<Vec<Row>> {
        let rows = async {
            let statement = connection.statement(sql).await?;
            let rows = connection.client.query(statement, parameters).await;
            if sql.is_change() && rows.as_ref().is_err_and(|error| error.as_db_error().is_some()) {
                // PostgreSQL reports an error before it rolls back, and only then frees the locks,
                // which the next attempt may need: this one is answered after that.
                let _ = Box::pin(connection.client.simple_query("")).await;
            }
            rows
        };
        self.answer(connection, sql, pin!(rows)).await
    }

    /// Waits for an answer on a connection, until the deadline of the request and no longer than the
    /// purpose allows or the database is there. The connection is retired if it cannot be used any
    /// more.
    pub async fn answer<T>(
        &self,
        connection: &Connection,
        sql: Sql,
        mut answer: Pin<&mut impl Future<Output = Result<T, tokio_postgres::Error>>>,
    ) -> StatementOutcome<T> {
        let end = deadline::within(self.purpose.response_timeout(), Duration::ZERO);
        loop {
            let pause = end.min(Instant::now() + AWAY_CHECK);
            match timeout_at(pause, &mut answer).await {
                Ok(Ok(answer)) => return StatementOutcome::Answered(Ok(answer)),
                Ok(Err(error)) => return self.failed(connection, sql, &error),
                Err(_) if pause < end && !self.pulse.is_away() && self.is_good(connection) => {}
                Err(_) => {
                    let cause = format!("{}: no answer", sql.file());
                    return StatementOutcome::TimedOut(errors::unanswered(sql, cause));
                }
            }
        }
    }

    fn failed<T>(
        &self,
        connection: &Connection,
        sql: Sql,
        error: &tokio_postgres::Error,
    ) -> StatementOutcome<T> {
        let (error, aftermath) = errors::map(sql, error);
        match aftermath {
            Aftermath::Keep => return StatementOutcome::Answered(Err(error)),
            Aftermath::Doubted => {
                self.pulse.doubt(connection.generation);
                return StatementOutcome::Answered(Err(error));
            }
            Aftermath::Outdated => self.pulse.replace_outdated(connection.generation),
            Aftermath::Lost => {}
        }
        connection.retire();
        StatementOutcome::Lost(error)
    }

    /// Asks the server to cancel the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        self.options.cancel(token).await
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }
}

impl Connection {
    pub fn client(&self) -> &tokio_postgres::Client {
        &self.client
    }

    /// Takes the connection out of use; false if it was already.
    pub fn retire(&self) -> bool {
        !self.retired.swap(true, Ordering::Relaxed)
    }

    /// A prepared statement. It is prepared at its first use, so that a connection can be opened, and
    /// serve others, while a table is locked.
    pub async fn statement(&self, sql: Sql) -> Result<&Statement, tokio_postgres::Error> {
        let cell = &self.statements[sql as usize];
        if let Some(statement) = cell.get() {
            return Ok(statement);
        }
        // Boxed, or each request would have the space that only the first needs.
        let prepare = || async {
            self.client.prepare(sql.text()).await.inspect_err(|error| {
                let code = error.code().map(SqlState::code).unwrap_or_default();
                tracing::error!(statement = sql.file(), code, "cannot be prepared");
            })
        };
        Box::pin(cell.get_or_try_init(prepare)).await
    }
}

/// Adds the timeouts without which a silent server would be waited for forever, where the settings
/// have none.
pub fn with_limits(options: &ConnectOptions, purpose: Purpose) -> ConnectOptions {
    let mut options = options.clone();
    options.hosts.iter_mut().for_each(|host| add_limits(host, purpose));
    options
}

fn add_limits(config: &mut Config, purpose: Purpose) {
    // Generic plans only. By default, PostgreSQL plans a list again for every page, because its
    // optional filters look cheaper for known values; with generic plans it reads 1.16 times as
    // many pages a second. A generic plan lasts until the table is next analysed, so two plan types
    // are disabled: a sequential scan, chosen while the table was empty, would stay; a bitmap scan
    // would collect and sort all rows of a user for every page, because PostgreSQL estimates that
    // the filters leave almost none.
    let options = format!(
        "-c lock_timeout={} -c statement_timeout={} {} -c timezone=UTC -c jit=off \
         -c plan_cache_mode=force_generic_plan -c enable_bitmapscan=off -c enable_seqscan=off",
        LOCK_TIMEOUT.as_millis(),
        purpose.statement_timeout().as_millis(),
        config.get_options().unwrap_or_default()
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
