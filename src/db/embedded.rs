//! The embedded database: a PostgreSQL server that the service creates in `DATA_DIR` at the first
//! start, runs on a Unix socket, and stops when it stops.
//!
//! [`programs`] finds the installed binaries, [`folder`] manages the data folder and its ownership,
//! [`cluster`] creates and starts the server, [`supervisor`] keeps it running.

pub mod cluster;
pub mod folder;
pub mod programs;
pub mod supervisor;

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::migrations::connect;
use super::{ConnectOptions, SetupError};
use crate::secret::Secret;
use cluster::Cluster;
use folder::{Folder, Lock};
use programs::Programs;
use supervisor::Supervisor;

/// The role that the service connects as. It owns its database and is no superuser.
const ROLE: &str = "healthcare";
const DATABASE: &str = "healthcare";
const SUPERUSER: &str = "postgres";

/// How long a command waits for a service that is starting or stopping.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
const JOIN_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A running server and the folder it serves.
pub struct Embedded {
    folder: Folder,
    options: ConnectOptions,
    /// None if another process runs the server and this one only connects to it.
    supervisor: Option<Supervisor>,
    lock: Option<Lock>,
}

impl Embedded {
    /// Starts the server, after creating its cluster if the folder is empty, and stopping a server
    /// that a crash left running. Refused while another process runs the folder. Blocks.
    pub async fn start(
        data_dir: Option<&Path>,
        postgres_bin: Option<&Path>,
        connections: usize,
    ) -> Result<Self, SetupError> {
        let folder = Folder::open(data_dir)?;
        let Some(lock) = folder.lock_patiently()? else {
            return Err(SetupError::new(format!(
                "Another healthcare-backend runs on {}. Stop it, or set another DATA_DIR.",
                folder.path().display()
            )));
        };
        let programs = Programs::find(postgres_bin, folder.cluster_version().as_deref())?;
        let cluster = Cluster::new(programs, &folder, connections)?;
        cluster.create_if_missing()?;
        cluster.stop_orphan()?;
        let server = cluster.start()?;
        let socket = cluster.socket_folder().to_owned();
        let supervisor = Supervisor::watch(cluster, server);
        let mut embedded = Self {
            folder,
            options: socket_options(&socket, ROLE, DATABASE),
            supervisor: Some(supervisor),
            lock: Some(lock),
        };
        if let Err(error) = create_role_and_database(&socket).await {
            embedded.stop();
            return Err(error);
        }
        Ok(embedded)
    }

    /// As [`start`](Self::start), but connects to the server of another process that runs the
    /// folder.
    pub async fn start_or_join(
        data_dir: Option<&Path>,
        postgres_bin: Option<&Path>,
        connections: usize,
    ) -> Result<Self, SetupError> {
        let folder = Folder::open(data_dir)?;
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            if folder.lock()?.is_some() {
                return Self::start(data_dir, postgres_bin, connections).await;
            }
            if let Some(socket) = folder.running_socket_folder() {
                let options = socket_options(&socket, ROLE, DATABASE);
                if connect(&options).await.is_ok() {
                    return Ok(Self { folder, options, supervisor: None, lock: None });
                }
            }
            // The holder of the lock may be starting or stopping.
            if Instant::now() > deadline {
                return Err(SetupError::new(format!(
                    "Another healthcare-backend holds {}, but its database does not answer.",
                    folder.path().display()
                )));
            }
            tokio::time::sleep(JOIN_RETRY_INTERVAL).await;
        }
    }

    /// How to connect.
    pub fn connect_options(&self) -> &ConnectOptions {
        &self.options
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The secret that signs tokens, generated at the first start.
    pub fn jwt_secret(&self) -> Result<Secret, SetupError> {
        self.folder.jwt_secret()
    }

    /// Stops the server and waits until it has stopped. Blocks.
    pub fn stop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop();
        }
        self.lock = None;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Connect options for the server of a socket folder.
pub fn socket_options(socket: &Path, user: &str, database: &str) -> ConnectOptions {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket).user(user).dbname(database);
    ConnectOptions::plain(config)
}

async fn create_role_and_database(socket: &Path) -> Result<(), SetupError> {
    let failed = |_| SetupError::new("The role or the database of the service cannot be made.");
    let client = connect(&socket_options(socket, SUPERUSER, SUPERUSER)).await?;
    let exists =
        async |sql: &str, name: &str| client.query_opt(sql, &[&name]).await.map_err(failed);
    if exists("SELECT FROM pg_roles WHERE rolname = $1", ROLE).await?.is_none() {
        client.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN")).await.map_err(failed)?;
    }
    if exists("SELECT FROM pg_database WHERE datname = $1", DATABASE).await?.is_none() {
        let sql = format!("CREATE DATABASE {DATABASE} OWNER {ROLE}");
        client.batch_execute(&sql).await.map_err(failed)?;
    }
    Ok(())
}

/// The major version in what PostgreSQL's programs print: the first digits after the name.
fn major_version(text: &str) -> Option<u32> {
    let digits =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    u32::from_str(digits.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_version("initdb (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("17\n"), Some(17));
        assert_eq!(major_version("none"), None);
    }
}
