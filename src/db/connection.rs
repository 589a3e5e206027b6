//! Connections that carry their prepared statements, and the manager that makes them and tells which
//! are still good, for the pool and the shared connections alike.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// How long preparing a new connection's statements may take.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(3);
/// When PostgreSQL gives up a statement that waits for a lock, so that what waits for one row is over soon.
/// `options` in the connection string may say otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// When PostgreSQL itself gives up a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connections are kept after all were replaced, whatever their errors say: they may lead to
/// the same server again, and each costs it the preparing of every statement.
const REPLACE_EVERY: Duration = Duration::from_secs(1);
/// When a server that does not even give up is no longer waited for.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);

/// A value for a statement's `$1`, `$2`, ...
pub type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Makes connections and tells which are still good.
pub struct Manager {
    address: ConnectOptions,
    /// Rises when all connections made so far must be replaced.
    generation: AtomicU64,
    replaced: Mutex<Option<Instant>>,
}

/// A connection with its statements, by the index of [`Sql`].
pub struct Connection {
    client: ClientWrapper,
    statements: Vec<Statement>,
    generation: u64,
    given_up: AtomicBool,
}

/// What came of a statement that was sent.
pub enum Outcome<T> {
    Answer(Result<T>),
    /// The server has not answered in time. The statement may still run, so that nobody else must wait for
    /// this connection.
    Silence(Error),
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, Self::Error> {
        let generation = self.generation.load(Ordering::Relaxed);
        let (client, task) = self.address.connect_soon().await?;
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
        Ok(Connection { client, statements, generation, given_up: AtomicBool::new(false) })
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
    pub fn new(address: &ConnectOptions) -> Self {
        Self {
            address: bounded(address),
            generation: AtomicU64::new(0),
            replaced: Mutex::default(),
        }
    }

    /// Whether a connection is open and knows the server as it is now.
    pub fn is_good(&self, connection: &Connection) -> bool {
        !connection.client.is_closed() && self.is_present(connection)
    }

    fn is_present(&self, connection: &Connection) -> bool {
        connection.generation == self.generation.load(Ordering::Relaxed)
    }

    /// Has all connections replaced, if what came on this one says that they are out of date. What comes
    /// on a connection that is being replaced already says nothing about those that replace it.
    fn take_note(&self, aftermath: Aftermath, connection: &Connection) {
        if aftermath == Aftermath::Keep {
            return;
        }
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = replaced.is_some_and(|at| at.elapsed() < REPLACE_EVERY);
        if !lately && self.is_present(connection) {
            *replaced = Some(Instant::now());
            self.generation.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("the connections to the database are replaced");
        }
    }

    /// What came of waiting [`RESPONSE_TIMEOUT`] for a statement, after it was noted what that says of the
    /// connections.
    pub fn outcome<T>(
        &self,
        sql: Sql,
        connection: &Connection,
        result: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> Outcome<T> {
        let Ok(result) = result else {
            self.take_note(Aftermath::ReplaceAll, connection);
            let cause = format!("{}: no answer", sql.file());
            return Outcome::Silence(Error::DatabaseUnavailable { cause });
        };
        Outcome::Answer(result.map_err(|error| {
            let (error, aftermath) = errors::map(sql, &error);
            self.take_note(aftermath, connection);
            error
        }))
    }

    /// Asks the server to stop the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        self.address.cancel(token).await
    }
}

impl Connection {
    pub fn client(&self) -> &tokio_postgres::Client {
        &self.client
    }

    /// Notes that nobody is to use it any more; false if that was known.
    pub fn give_up(&self) -> bool {
        !self.given_up.swap(true, Ordering::Relaxed)
    }

    pub fn statement(&self, sql: Sql) -> Result<&Statement> {
        self.statements
            .get(sql as usize)
            .ok_or_else(|| Error::internal("a statement is not in the list"))
    }
}

/// Adds the limits without which a silent server would be waited for forever, where the settings have
/// none.
pub fn bounded(address: &ConnectOptions) -> ConnectOptions {
    let mut address = address.clone();
    address.hosts.iter_mut().for_each(bound);
    address
}

fn bound(config: &mut Config) {
    // One plan for all values. Left to itself, PostgreSQL plans a list anew for every page, because its
    // optional filters look cheaper for known values; it alone reads 1.16 times as many pages without.
    // Such a plan lasts until the table is next analysed, so two ways are switched off. A sequential
    // scan, chosen while the table was empty, would stay. A bitmap scan would collect and sort all of a
    // user's rows for every page, because PostgreSQL guesses that the filters leave almost nothing.
    let options = format!(
        "-c lock_timeout={} {} -c statement_timeout={} -c timezone=UTC -c jit=off \
         -c plan_cache_mode=force_generic_plan -c enable_bitmapscan=off -c enable_seqscan=off",
        LOCK_TIMEOUT.as_millis(),
        config.get_options().unwrap_or_default(),
        STATEMENT_TIMEOUT.as_millis()
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
