//! The real server on a free port, with a database of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use healthcare_backend::app::App;
use healthcare_backend::config::Config;
use healthcare_backend::db::ConnectOptions;
use healthcare_backend::secret::Secret;
use healthcare_backend::server::serve;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::Client;
use super::cluster::random;
use super::database::TestDb;
use super::program::SECRET;
use super::wait::until;

pub const JWT_SECRET: &[u8] = SECRET.as_bytes();

/// A running server. Dropping it shuts it down as a signal would.
pub struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    database: Arc<TestDb>,
}

impl TestServer {
    /// Starts with a fresh database.
    pub async fn start() -> Self {
        Self::start_on(Arc::new(TestDb::new().await)).await
    }

    /// Starts with a database that other servers may share.
    pub async fn start_on(database: Arc<TestDb>) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts with settings in addition to those of [`config`].
    pub async fn start_with(database: Arc<TestDb>, variables: &[(&str, &str)]) -> Self {
        let address = database.config();
        Self::start_at(address, database, variables).await
    }

    /// Starts with its own connect options for the database.
    pub async fn start_at(
        address: tokio_postgres::Config,
        database: Arc<TestDb>,
        variables: &[(&str, &str)],
    ) -> Self {
        let (config, address) = (config(variables), ConnectOptions::plain(address));
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, listening) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let secret = config.jwt_secret.clone();
                let secret = secret.unwrap_or_else(|| Secret::new(JWT_SECRET).unwrap());
                let app = App::new(config, address, &secret).unwrap();
                app.use_database();
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                let stopped = async { drop(stopped.await) };
                serve(listener, Arc::new(app), stopped).await.unwrap();
            });
        });
        let address = listening.await.unwrap();
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

    /// A client of a newly registered user with a unique e-mail.
    pub async fn user(&self) -> Client {
        self.anyone().registered(&format!("user-{}@example.com", random())).await
    }

    /// A client of an admin.
    pub async fn admin(&self) -> Client {
        let admin = self.user().await;
        let id = admin.user_id().await;
        let database = self.database.connect().await;
        database.execute("UPDATE users SET role = 'admin' WHERE id = $1", &[&id]).await.unwrap();
        admin
    }

    /// Begins the shutdown, as a signal would.
    pub fn begin_stop(&mut self) {
        self.stop = None;
    }

    /// Shuts down and waits for the end.
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

/// The settings of a server: small defaults, overridden by the test's.
pub fn config(variables: &[(&str, &str)]) -> Config {
    // Low-cost hashes, because tests register many users.
    let small = [("WORKERS", "2"), ("POOL_SIZE", "8"), ("BCRYPT_COST", "4")];
    let pairs = small.iter().chain(variables);
    let owned: HashMap<_, _> =
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_variables(owned).unwrap()
}

impl Client {
    /// This client with a newly registered user and session.
    pub async fn logged_in(self, email: &str) -> Self {
        let login = json!({"email": email, "password": "correct horse"});
        let session = self.post("/api/auth/login", &login).await.expect(200).json();
        self.with_token(session["token"].as_str().unwrap())
    }

    /// Waits until the instance is ready.
    pub async fn becomes_ready(&self) {
        until("the instance is ready", async || {
            (self.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// The id of the token's user.
    pub async fn user_id(&self) -> i64 {
        self.get("/api/auth/me").await.expect(200).id()
    }

    /// This client with a user of this e-mail and the password `correct horse`.
    pub async fn registered(self, email: &str) -> Self {
        let body = json!({"name": "Test", "email": email, "password": "correct horse"});
        let session = self.post("/api/auth/register", &body).await.expect(201).json();
        self.with_token(session["token"].as_str().unwrap())
    }
}
