//! A fresh database for one test, copied from a template with the product's own migrations.

use std::thread;

use healthcare_backend::db::ConnectOptions;
use healthcare_backend::db::migrations::{self, Requirements};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use super::cluster::{cluster, random};

/// As in production, the service's role owns its database and is no superuser.
const ROLE: &str = "healthcare";
const TEMPLATE: &str = "healthcare_template";

/// The tests' servers do not wait for the disk.
pub const REQUIREMENTS: Requirements =
    Requirements { connections: 1, migrate: true, allow_unsafe: true };

/// A database that is dropped with this value.
pub struct TestDb {
    name: String,
}

impl TestDb {
    /// A database with the newest schema and no rows.
    pub async fn new() -> Self {
        static MIGRATED: OnceCell<()> = OnceCell::const_new();
        MIGRATED
            .get_or_init(|| async {
                let admin = superuser("postgres").await;
                admin.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN")).await.unwrap();
                create(TEMPLATE, "template0").await;
                let options = ConnectOptions::plain(cluster().config(ROLE, TEMPLATE));
                migrations::prepare(&options, REQUIREMENTS).await.unwrap();
            })
            .await;
        Self::copy_of(TEMPLATE).await
    }

    /// A database without any schema.
    pub async fn empty() -> Self {
        drop(Self::new().await);
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        let name = format!("test_{}", random());
        create(&name, template).await;
        Self { name }
    }

    /// The service's connect options.
    pub fn config(&self) -> Config {
        cluster().config(ROLE, &self.name)
    }

    /// Connect options with a lock timeout as long as the statement timeout: a test may hold a lock
    /// for longer than production code should.
    pub fn config_for_locks(&self) -> Config {
        let mut config = self.config();
        config.options("-clock_timeout=5s");
        config
    }

    /// A connection with the service's rights.
    pub async fn connect(&self) -> Client {
        connect(&self.config()).await
    }

    /// A connection with superuser rights.
    pub async fn connect_as_superuser(&self) -> Client {
        superuser(&self.name).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A runtime of its own, because that of the test may be shutting down.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let sql = format!("DROP DATABASE {name} WITH (FORCE)");
                superuser("postgres").await.batch_execute(&sql).await.unwrap();
            });
        });
        dropping.join().unwrap();
    }
}

async fn create(name: &str, template: &str) {
    // FILE_COPY is faster than WAL_LOG, whose durability nothing needs here.
    let sql = format!("CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} STRATEGY FILE_COPY");
    superuser("postgres").await.batch_execute(&sql).await.unwrap();
}

async fn superuser(database: &str) -> Client {
    connect(&cluster().config("postgres", database)).await
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
