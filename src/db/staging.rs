//! The rows of an import on their way into the table. They are staged in a temporary table, in short
//! statements of their own, and inserted by one more when the last has come. So while a client is
//! sending, however slowly, no transaction is open, which would keep vacuum and migrations from
//! their work, and what breaks off leaves nothing behind.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::Statement;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::connection::{Parameter, Purpose, with_limits};
use super::errors;
use super::share::{Claim, Permit, PoolShare, TURN_WAIT};
use super::{ConnectOptions, Sql};
use crate::error::{Error, Result};

/// The nice value (`setpriority`) of the thread, so that it yields to those that serve requests.
const NICENESS: i32 = 5;
/// How long to wait for the answer to a statement over many rows; longer than its
/// `statement_timeout`, so that only a silent server exceeds it.
pub const BULK_TIMEOUT: Duration = Purpose::Bulk.response_timeout();
/// How long to wait for the answer to any other.
const RESPONSE_TIMEOUT: Duration = Purpose::Long.response_timeout();

/// A connection for statements over many rows, outside of the pool.
pub async fn connect(options: &ConnectOptions) -> Result<ClientWrapper> {
    let options = with_limits(options, Purpose::Bulk);
    let (client, task) = options.connect_fast().await.map_err(|error| {
        let cause = format!("connect: {}", error.describe());
        Error::DatabaseUnavailable { cause }
    })?;
    Ok(ClientWrapper::new(client, task))
}

/// The imports of the process: few at once, of which one user gets at most half, and on a thread of
/// their own, because checking thousands of lines would delay the requests of a worker.
pub struct Imports {
    pub options: ConnectOptions,
    share: Arc<PoolShare>,
    runtime: Handle,
    /// Dropped with this value, which ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Imports {
    /// Starts the thread, for this many imports at once.
    pub fn start(options: ConnectOptions, size: usize) -> Result<Self> {
        let failed = |error: io::Error| Error::internal(format!("no thread: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let (share, handle) = (PoolShare::new(size, TURN_WAIT), runtime.handle().clone());
        let work = move || {
            // If this is not permitted, imports merely compete with other threads.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let _ = runtime.block_on(stopped);
        };
        thread::Builder::new().name("imports".into()).spawn(work).map_err(failed)?;
        Ok(Self { options, share, runtime: handle, _stop: stop })
    }

    /// Runs an import, or a part of one, on the thread.
    pub async fn run<T: Send + 'static>(
        &self,
        import: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let ended = self.runtime.spawn(import).await;
        ended.unwrap_or_else(|_| Err(Error::internal("an import has panicked")))
    }

    /// Waits for the right to one import. [`Error::Overloaded`] if others do not end soon.
    pub async fn admit(&self, user: i64) -> Result<Permit> {
        self.share.acquire(Claim { user: Some(user), row: None }).await
    }
}

/// A connection with staged rows. They are gone when it is dropped.
pub struct Staging {
    client: ClientWrapper,
    copy: Statement,
    types: Vec<Type>,
}

impl Staging {
    /// `types` are those of the columns of `imports/copy.sql`.
    pub async fn open(options: &ConnectOptions, types: Vec<Type>) -> Result<Self> {
        let client = connect(options).await?;
        answer(Sql::ImportsCreate, client.batch_execute(Sql::ImportsCreate.text())).await?;
        let copy = answer(Sql::ImportsCopy, client.prepare(Sql::ImportsCopy.text())).await?;
        Ok(Self { client, copy, types })
    }

    /// Begins to stage rows, all of which are at hand: until its end a transaction is open.
    pub async fn begin(&self) -> Result<Batch> {
        let sink = answer(Sql::ImportsCopy, self.client.copy_in(&self.copy)).await?;
        Ok(Batch(Box::pin(BinaryCopyInWriter::new(sink, &self.types))))
    }

    /// Inserts the staged rows as patients of this user, and returns their number.
    pub async fn insert(self, user: i64) -> Result<u64> {
        let parameters: [Parameter<'_>; 1] = [&user];
        let insert = self.client.execute(Sql::ImportsInsert.text(), &parameters);
        answer_within(BULK_TIMEOUT, Sql::ImportsInsert, insert).await
    }
}

/// Rows that are being staged. If it is dropped before its end, none of them is.
pub struct Batch(Pin<Box<BinaryCopyInWriter>>);

impl Batch {
    pub async fn write(&mut self, values: &[Parameter<'_>]) -> Result<()> {
        answer(Sql::ImportsCopy, self.0.as_mut().write(values)).await
    }

    pub async fn finish(mut self) -> Result<()> {
        answer(Sql::ImportsCopy, self.0.as_mut().finish()).await.map(drop)
    }
}

/// The answer to a short statement.
async fn answer<T>(
    sql: Sql,
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    answer_within(RESPONSE_TIMEOUT, sql, query).await
}

async fn answer_within<T>(
    limit: Duration,
    sql: Sql,
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    match timeout(limit, query).await {
        Ok(result) => result.map_err(|error| errors::map(sql, &error).0),
        Err(_) => Err(errors::unanswered(sql, format!("{}: no answer", sql.file()))),
    }
}
