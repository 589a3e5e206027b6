//! A proxy to a database that a test can redirect, cut or silence, as network equipment in front of
//! a database can.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

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
}

/// Commands for open connections.
#[derive(Clone, Default)]
struct Fate {
    cut: CancellationToken,
    silenced: CancellationToken,
}

impl Proxy {
    /// To the server behind a socket.
    pub fn to(socket: PathBuf) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(Some(socket)),
            fate: Mutex::default(),
            accepted: AtomicUsize::new(0),
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

    /// The number of connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Cuts open connections and redirects new ones to another socket, or refuses them.
    pub fn lead_to(&self, socket: Option<&Path>) {
        *self.shared.target.lock().unwrap() = socket.map(Path::to_owned);
        std::mem::take(&mut *self.shared.fate.lock().unwrap()).cut.cancel();
    }

    /// Stops forwarding on open connections without closing them. New ones are not affected.
    pub fn silence(&self) {
        std::mem::take(&mut *self.shared.fate.lock().unwrap()).silenced.cancel();
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
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let target = shared.target.lock().unwrap().clone();
        let fate = shared.fate.lock().unwrap().clone();
        if let Some(target) = target {
            tokio::spawn(connect(client, target, fate));
        }
    }
}

async fn connect(mut client: TcpStream, target: PathBuf, fate: Fate) {
    let Ok(mut server) = UnixStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = fate.cut.cancelled() => {}
        () = fate.silenced.cancelled() => fate.cut.cancelled().await,
    }
}
