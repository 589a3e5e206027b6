//! The real server on a free port, with a database of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use healthcare_backend::app::{App, Settings};
use healthcare_backend::config::Secret;
use healthcare_backend::server::serve;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::Client;
use super::cluster::random;
use super::database::TestDb;

pub const JWT_SECRET: &[u8] = b"a secret of the tests, 32 bytes or more";
/// Cheap, because tests register many users.
const BCRYPT_COST: u32 = 4;

/// A running server. Dropping it stops it as a signal would.
pub struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    database: Arc<TestDb>,
}

impl TestServer {
    /// With a fresh database.
    pub async fn start() -> Self {
        Self::start_on(Arc::new(TestDb::new().await)).await
    }

    /// With a database that other servers may use too.
    pub async fn start_on(database: Arc<TestDb>) -> Self {
        Self::start_with(Arc::clone(&database), settings(&database)).await
    }

    /// With settings of one's own.
    pub async fn start_with(database: Arc<TestDb>, settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, address) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let app = App::new(&settings).unwrap();
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                let stopped = async { drop(stopped.await) };
                serve(listener, Arc::new(app), stopped).await.unwrap();
            });
        });
        let address = address.await.unwrap();
        Self { address, stop: Some(stop), thread: Some(thread), database }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn database(&self) -> &TestDb {
        &self.database
    }

    /// A client without a token.
    pub fn anyone(&self) -> Client {
        Client::new(self.address)
    }

    /// A client that has just registered, with an address of its own.
    pub async fn user(&self) -> Client {
        self.anyone().registered(&format!("user-{}@example.com", random())).await
    }

    /// A user who was made an admin.
    pub async fn admin(&self) -> Client {
        let admin = self.user().await;
        let id = admin.get("/api/auth/me").await.json()["id"].as_i64().unwrap();
        let database = self.database.connect().await;
        database.execute("UPDATE users SET role = 'admin' WHERE id = $1", &[&id]).await.unwrap();
        admin
    }

    /// Begins to stop, as a signal would.
    pub fn begin_stop(&mut self) {
        self.stop = None;
    }

    /// Stops and waits for the end.
    pub fn stop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(!matches!(ended, Some(Err(_))), "the server has panicked");
        }
    }
}

/// The settings of a server with this database.
pub fn settings(database: &TestDb) -> Settings {
    Settings {
        database: database.config(),
        jwt_secret: Secret::new(JWT_SECRET).unwrap(),
        token_ttl_seconds: 3600,
        bcrypt_cost: BCRYPT_COST,
        workers: 2,
        pool_size: 8,
    }
}

impl Client {
    /// This client as a user with this address and the password `correct horse`.
    pub async fn registered(self, email: &str) -> Self {
        let body = json!({"name": "Test", "email": email, "password": "correct horse"});
        let session = self.post("/api/auth/register", &body).await.expect(201).json();
        self.with_token(session["token"].as_str().unwrap())
    }
}
