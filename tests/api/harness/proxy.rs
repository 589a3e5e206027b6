//! A proxy to a database that a test can redirect, cut, reset, delay or silence, as network
//! equipment in front of a database can.

mod cut;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use cut::Cut;
use cut::{Admitted, Direction, Exchanges, Knife, Messages};

/// The last message of a server that lets a connection in: no transaction is open.
const READY_FOR_QUERY: &[u8] = b"Z\0\0\0\x05I";

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The target of new connections; None refuses them.
    target: Mutex<Option<PathBuf>>,
    /// Commands for new connections.
    fate: Mutex<Fate>,
    accepted: AtomicUsize,
    /// Whether everything waits, also what is sent on new connections.
    held: watch::Sender<bool>,
    /// How long each piece of data is kept back.
    delay: Mutex<Duration>,
    /// Whether servers say nothing more once they have let a connection in.
    mute: AtomicBool,
    knife: Knife,
}

/// Commands for open connections.
#[derive(Clone, Default)]
struct Fate {
    cut: CancellationToken,
    reset: CancellationToken,
    silenced: CancellationToken,
}

impl Proxy {
    /// To the server behind a socket.
    pub fn to(socket: PathBuf) -> Self {
        Self::with_knife(socket, Knife::default())
    }

    /// As [`to`](Self::to), and able to [`cut`](Self::cut) the exchanges of the statements whose
    /// text contains `statement`.
    pub fn for_statement(socket: PathBuf, statement: &'static str) -> Self {
        Self::with_knife(socket, Knife::at(statement))
    }

    fn with_knife(socket: PathBuf, knife: Knife) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(Some(socket)),
            fate: Mutex::default(),
            accepted: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            delay: Mutex::default(),
            mute: AtomicBool::new(false),
            knife,
        });
        let end = CancellationToken::new();
        // On a thread of its own, so that it runs while a test blocks.
        let (forwarding, ended) = (Arc::clone(&shared), end.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let forwarding = forward(listener, forwarding);
            runtime.unwrap().block_on(ended.run_until_cancelled(forwarding));
        });
        Self { address, shared, end, thread: Some(thread) }
    }

    /// Connects through the proxy.
    pub fn config(&self, user: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.address.port()).user(user).dbname(database);
        config
    }

    /// As another configuration, through the proxy: to the same database as the same user.
    pub fn config_for(&self, direct: &tokio_postgres::Config) -> tokio_postgres::Config {
        self.config(direct.get_user().unwrap(), direct.get_dbname().unwrap())
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Cuts open connections and redirects new ones to another socket, or refuses them.
    pub fn lead_to(&self, socket: Option<&Path>) {
        *self.shared.target.lock().unwrap() = socket.map(Path::to_owned);
        self.take_fate().cut.cancel();
    }

    /// Resets open connections. New ones are not affected.
    pub fn reset(&self) {
        self.take_fate().reset.cancel();
    }

    /// Stops forwarding on open connections without closing them. New ones are not affected.
    pub fn silence(&self) {
        self.take_fate().silenced.cancel();
    }

    /// Holds back everything, also on new connections, until it is called with false. Nothing is
    /// lost, as TCP loses nothing in a network that is silent for a while.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// Lets connections in and forwards no answer after that, as a pooler whose server is gone.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::Relaxed);
    }

    /// Keeps each piece of data back for this long from now on.
    pub fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Cuts the next exchange of the statement there, once.
    pub fn cut(&self, cut: Cut) {
        self.shared.knife.arm(cut);
    }

    /// The number of exchanges that were cut so far.
    pub fn cuts(&self) -> usize {
        self.shared.knife.cuts()
    }

    fn take_fate(&self) -> Fate {
        std::mem::take(&mut *self.shared.fate.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn forward(listener: std::net::TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let target = shared.target.lock().unwrap().clone();
        let fate = shared.fate.lock().unwrap().clone();
        if let Some(target) = target {
            tokio::spawn(connect(client, target, fate, Arc::clone(&shared)));
        }
    }
}

async fn connect(mut client: TcpStream, target: PathBuf, fate: Fate, shared: Arc<Shared>) {
    let Ok(server) = UnixStream::connect(target).await else { return };
    let exchanges = Mutex::new(Exchanges::default());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.into_split();
    let there = pump(Direction::ToServer, from_client, to_server, &shared, &exchanges);
    let back = pump(Direction::ToClient, from_server, to_client, &shared, &exchanges);
    let both = async {
        // Each ends with the side that it reads from, or with an exchange that is cut.
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    };
    tokio::select! {
        _ = both => {}
        () = fate.cut.cancelled() => {}
        () = fate.reset.cancelled() => client.set_zero_linger().unwrap(),
        () = fate.silenced.cancelled() => fate.cut.cancelled().await,
    }
}

/// Forwards one direction of a connection until its end.
async fn pump(
    direction: Direction,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    exchanges: &Mutex<Exchanges>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut messages = Messages::new(direction);
    let mut held = shared.held.subscribe();
    let mut let_in = false;
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let delay = *shared.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let _ = held.wait_for(|held| !held).await;
        if direction == Direction::ToClient {
            if let_in && shared.mute.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
            let_in |= buffer[..count].ends_with(READY_FOR_QUERY);
        }
        if !shared.knife.is_used() {
            to.write_all(&buffer[..count]).await?;
            continue;
        }
        messages.add(&buffer[..count]);
        while let Some(message) = messages.next() {
            let admitted = exchanges.lock().unwrap().admit(direction, &message, &shared.knife);
            match admitted {
                Admitted::Whole => to.write_all(&message).await?,
                Admitted::Until(bytes) => {
                    to.write_all(&message[..bytes]).await?;
                    return to.flush().await;
                }
            }
        }
    }
}
