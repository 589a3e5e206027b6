//! Threads and sockets: one acceptor passes each connection to the worker with the fewest. A worker
//! is a thread with its own runtime, HTTP connections and database connections.

mod connection;
mod listener;
mod operators;
mod phase;
mod socket;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::session;
use crate::config::Config;
use crate::db::connection::Purpose;
use crate::db::{Warmth, keep_warm};
use crate::error::{Error, Result};
use crate::http::problem;
use crate::metrics::{Counted, WorkerMetrics};
use crate::service::{Listener, Peer};
use crate::worker::{Worker, max_database_connections};

use operators::Operators;

pub use listener::listen;

/// File descriptors for other than clients and the database: standard streams, the listener, the
/// log, the embedded database's, and those of the event loops.
const OWN_DESCRIPTORS: usize = 32;
/// Of these for each worker.
const DESCRIPTORS_PER_WORKER: usize = 4;
/// How long in-flight requests may take when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection beyond the limit may take to send a request, and then to close.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The most such connections that get a response at the same time; others are closed without one.
const MAX_REFUSALS: usize = 256;

/// Serves until `shutdown` resolves, then drains in-flight requests for at most `DRAIN_TIMEOUT`.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let capacity = Capacity::of(&app.config);
    let operators = Operators::listen(&app).await?;
    let stop = CancellationToken::new();
    let workers = (0..app.config.workers)
        .map(|index| WorkerThread::start(index, Arc::clone(&app), stop.clone()))
        .collect::<Result<Vec<_>>>()?;
    let pool = app.pool(Purpose::Long, 1)?;
    // Not shared with requests, so that the watch notices a new connection.
    let shared = app.shared_connection(Purpose::Usual);
    let background = async {
        app.schema_is_ready.wait().await;
        let watching = session::watch(&app.ended_sessions, &shared);
        let sweeping = session::sweep(&app.ended_sessions, &pool);
        let (never, ..) = tokio::join!(app.readiness.watch(), watching, sweeping);
        never
    };
    let (mut shutdown, mut background) = (pin!(shutdown), pin!(background));
    loop {
        tokio::select! {
            // Biased, so that a flood of connections cannot delay the shutdown.
            biased;
            () = &mut shutdown => break,
            never = &mut background => match never {},
            accepted = operators.accept() => match accepted {
                Ok((socket, address, counted)) => {
                    let peer = Peer { address, listener: Listener::Operators };
                    hand_over(socket, peer, &workers, Some(counted));
                }
                Err(error) => listener::accept_failed(&error).await,
            },
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if is_full(&capacity, &workers, &operators) => {
                    refuse(&app, socket, &capacity.refusals);
                }
                Ok((socket, address)) => {
                    let peer = Peer { address: address.ip(), listener: Listener::Public };
                    hand_over(socket, peer, &workers, None);
                }
                Err(error) => listener::accept_failed(&error).await,
            },
        }
    }
    drop(operators);
    app.begin_stop();
    listener::close(listener, |socket, address| {
        let peer = Peer { address: address.ip(), listener: Listener::Public };
        hand_over(socket, peer, &workers, None);
    })
    .await;
    stop.cancel();
    // A worker takes what was accepted until its sender is dropped.
    let threads: Vec<_> = workers.into_iter().map(|worker| worker.thread).collect();
    // Joining threads must not block the runtime.
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            let _ = thread.join();
        }
    });
    joined.await.map_err(|error| Error::internal(error.to_string()))
}

/// How many clients may be connected.
struct Capacity {
    connections: usize,
    /// Permits for connections beyond that, which get a response first.
    refusals: Arc<Semaphore>,
}

impl Capacity {
    /// What is configured, or as many as the file descriptors allow: without one, neither a client
    /// nor the database can be connected.
    fn of(config: &Config) -> Self {
        let Config { workers, pool_size, max_connections, .. } = *config;
        let reserved = max_database_connections(workers, pool_size)
            + OWN_DESCRIPTORS
            + DESCRIPTORS_PER_WORKER * workers;
        let free = raise_descriptor_limit().saturating_sub(reserved);
        let refusals = MAX_REFUSALS.min(free / 4);
        let connections = max_connections.min(free - refusals).max(1);
        if connections < max_connections {
            tracing::warn!(
                connections,
                "MAX_CONNECTIONS is lowered to what the limit of open files allows"
            );
        }
        Self { connections, refusals: Arc::new(Semaphore::new(refusals)) }
    }
}

/// Raises the soft limit of file descriptors, usually 1,024, to the hard limit, and returns it.
fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

fn is_full(capacity: &Capacity, workers: &[WorkerThread], operators: &Operators) -> bool {
    let open: usize = workers.iter().map(WorkerThread::open_connections).sum();
    open.saturating_sub(operators.open_connections()) >= capacity.connections
}

/// A connection beyond the limit.
fn refuse(app: &App, socket: TcpStream, refusals: &Arc<Semaphore>) {
    app.metrics.refused_connections.increment();
    if app.config.tls.is_none()
        && let Ok(permit) = Arc::clone(refusals).try_acquire_owned()
    {
        let answer = problem::refusal(&app.request_ids.next(None));
        tokio::spawn(async move {
            answer_refused(socket, &answer).await;
            drop(permit);
        });
    }
}

fn hand_over(socket: TcpStream, peer: Peer, workers: &[WorkerThread], operator: Option<Counted>) {
    let Some(worker) = workers.iter().min_by_key(|worker| worker.open_connections()) else {
        return;
    };
    // A socket that has failed already is dropped.
    if let Ok(socket) = socket.into_std() {
        worker.metrics.connections.accepted.increment();
        let open = worker.metrics.connections.open.count();
        let _ = worker.accepted.send(Accepted { socket, peer, open, operator });
    }
}

/// Sends the refusal only after the client has sent something, because many clients take an early
/// response for an error, and then drains what it still sends, so that the response is not lost to
/// a reset.
async fn answer_refused(mut socket: TcpStream, answer: &[u8]) {
    let mut ignored = [0; 4096];
    let _ = timeout(REFUSAL_TIMEOUT, socket.read(&mut ignored)).await;
    let _ = timeout(REFUSAL_TIMEOUT, async {
        socket.write_all(answer).await?;
        socket.shutdown().await?;
        while socket.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// An accepted connection on its way to a worker.
struct Accepted {
    socket: std::net::TcpStream,
    peer: Peer,
    open: Counted,
    operator: Option<Counted>,
}

/// A worker as the acceptor sees it.
struct WorkerThread {
    accepted: UnboundedSender<Accepted>,
    metrics: Arc<WorkerMetrics>,
    thread: JoinHandle<()>,
}

impl WorkerThread {
    fn start(index: usize, app: Arc<App>, stop: CancellationToken) -> Result<Self> {
        let (accepted, incoming) = unbounded_channel();
        let failed = |error: io::Error| Error::internal(format!("a worker cannot start: {error}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        // Before anything is accepted, so that no health check misses a worker.
        let warmth = app.readiness.add_worker();
        let worker = Arc::new(Worker::new(app)?);
        let metrics = Arc::clone(&worker.metrics);
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || runtime.block_on(work(&worker, incoming, warmth, &stop)))
            .map_err(failed)?;
        Ok(Self { accepted, metrics, thread })
    }

    fn open_connections(&self) -> usize {
        self.metrics.connections.open.get()
    }
}

async fn work(
    worker: &Arc<Worker>,
    mut incoming: UnboundedReceiver<Accepted>,
    warmth: watch::Sender<Warmth>,
    stop: &CancellationToken,
) {
    tokio::spawn(keep_database_connections(Arc::clone(worker), warmth));
    while let Some(Accepted { socket, peer, open, operator }) = incoming.recv().await {
        let (worker, stop) = (Arc::clone(worker), stop.clone());
        let tasks = worker.tasks.clone();
        tasks.spawn(async move {
            let _counted = (open, operator);
            if let Ok(socket) = TcpStream::from_std(socket) {
                connection::serve(worker, socket, peer, &stop).await;
            }
        });
    }
    worker.tasks.close();
    if timeout(DRAIN_TIMEOUT, worker.tasks.wait()).await.is_err() {
        tracing::warn!("requests were still running after {} s", DRAIN_TIMEOUT.as_secs());
    }
}

/// Opens the worker's database connections as soon as the database can be used, and keeps them open
/// until the worker stops.
async fn keep_database_connections(worker: Arc<Worker>, warmth: watch::Sender<Warmth>) {
    worker.app.schema_is_ready.wait().await;
    let pools = [&worker.writes, &worker.lists];
    keep_warm(&worker.shared.all(), &pools, &worker.app.pulse, &warmth).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::pending;

    use super::*;
    use crate::db::ConnectOptions;
    use crate::secret::Secret;

    #[tokio::test]
    async fn a_handler_that_panics_is_one_500_and_its_connection_lives_on() {
        let secret = "s".repeat(32);
        let variables = [("WORKERS", "1"), ("BCRYPT_COST", "4"), ("JWT_SECRET", &secret)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_variables(variables).unwrap();
        // None of these requests needs a database.
        let database = ConnectOptions::parse("postgres://nobody@127.0.0.1:1/none", None).unwrap();
        let app = App::new(config, database, &Secret::new(secret).unwrap()).unwrap();
        app.use_database();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(app), pending()));

        let mut socket = TcpStream::connect(address).await.unwrap();
        for (request, status) in [
            ("GET /health/live HTTP/1.1\r\nhost: x\r\nx-panic: 1\r\n\r\n", "500"),
            ("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
            // A request that may write runs in a task of its own.
            ("POST /api/auth/refresh HTTP/1.1\r\nhost: x\r\nx-panic: 1\r\n\r\n", "500"),
            ("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ] {
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let length = socket.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(answer.get(..length).unwrap()).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert_eq!(answer.contains("\"code\":\"internal\""), status == "500", "{answer}");
        }
    }
}
