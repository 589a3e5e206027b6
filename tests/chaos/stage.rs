//! The service as a process that can be killed and started again, beside a database that can be,
//! too.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use healthcare_backend::db::embedded;
use rustix::process::Signal;
use tokio::time::sleep;
use tokio_postgres::NoTls;

use crate::api::harness::program::{Program, Workplace, with_database};
use crate::api::harness::{Client, Cluster, Proxy, free_port, random};
use crate::report::Form;
use crate::wire::{Outcome, Wire, request};

/// As in production, the service's role is no superuser.
const ROLE: &str = "healthcare";
const PAUSE: Duration = Duration::from_millis(2);

/// A PostgreSQL, which waits for the disk where times are judged. That a process is killed loses
/// nothing that was written.
pub async fn cluster(form: Form, options: &[&str]) -> Cluster {
    let durable = form.pick(&[][..], &["-c", "fsync=on", "-c", "full_page_writes=on"]);
    let cluster = Cluster::start(&[durable, options].concat(), &[]);
    let superuser = connect(&cluster.config("postgres", "postgres")).await;
    for sql in ["CREATE ROLE healthcare LOGIN", "CREATE DATABASE healthcare OWNER healthcare"] {
        superuser.batch_execute(sql).await.unwrap();
    }
    cluster
}

pub async fn connect(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A `DATABASE_URL` without a proxy.
fn url(cluster: &Cluster) -> String {
    let socket = cluster.socket();
    format!("host={} user={ROLE} dbname={ROLE}", socket.parent().unwrap().display())
}

/// The service at one address, however often it is started.
pub struct Service {
    workplace: Workplace,
    settings: Vec<(String, String)>,
    descriptors: Option<u32>,
    program: Option<Program>,
    address: SocketAddr,
    /// None for the embedded database.
    database: Option<tokio_postgres::Config>,
}

impl Service {
    /// With the embedded database.
    pub async fn embedded(settings: &[(&str, &str)]) -> Self {
        Self::start(settings, None, None).await
    }

    pub async fn beside(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        Self::with_url(&url(cluster), cluster, settings, None).await
    }

    pub async fn behind(proxy: &Proxy, cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let address = proxy.config(ROLE, ROLE);
        let port = address.get_ports()[0];
        let url = format!("postgres://{ROLE}@127.0.0.1:{port}/{ROLE}?sslmode=disable");
        Self::with_url(&url, cluster, settings, None).await
    }

    /// With a limit of file descriptors.
    pub async fn limited(descriptors: u32, cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        Self::with_url(&url(cluster), cluster, settings, Some(descriptors)).await
    }

    async fn with_url(
        url: &str,
        cluster: &Cluster,
        settings: &[(&str, &str)],
        descriptors: Option<u32>,
    ) -> Self {
        let settings = [with_database(url).as_slice(), settings].concat();
        Self::start(&settings, descriptors, Some(cluster.config("postgres", ROLE))).await
    }

    async fn start(
        settings: &[(&str, &str)],
        descriptors: Option<u32>,
        database: Option<tokio_postgres::Config>,
    ) -> Self {
        let port = free_port();
        let own = [("PORT".to_owned(), port.to_string()), ("LOG".to_owned(), "warn".to_owned())];
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = own.into_iter().chain(given).collect();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let workplace = Workplace::new();
        let mut service =
            Self { workplace, settings, descriptors, program: None, address, database };
        service.begin();
        service.ready().await;
        service
    }

    /// Starts the program, which does not run.
    pub fn begin(&mut self) {
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let command = match self.descriptors {
            None => self.workplace.command(&[], &settings),
            Some(limit) => self.workplace.command_with_descriptors(limit, &settings),
        };
        self.program = Some(Program::spawn(command));
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let ask = request("GET", "/health/ready", "", "", None);
        loop {
            let mut wire = Wire::to(self.address);
            if matches!(wire.ask(&ask).await, Outcome::Answered(reply) if reply.status == 200) {
                return;
            }
            assert!(Instant::now() < deadline, "never ready");
            sleep(PAUSE).await;
        }
    }

    pub fn kill(&mut self) {
        if let Some(program) = self.program.take() {
            program.kill();
        }
    }

    pub fn terminate(&self) {
        self.program.as_ref().unwrap().signal(Signal::TERM);
    }

    /// Waits until the program has ended by itself, without a failure.
    pub fn ended(&mut self) {
        let ended = self.program.take().unwrap().wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The tokens of new users.
    pub async fn users(&self, count: usize) -> Vec<String> {
        let mut tokens = Vec::new();
        for _ in 0..count {
            let client = self.client().registered(&format!("{}@example.com", random())).await;
            tokens.push(client.token().to_owned());
        }
        tokens
    }

    /// The data folder of the embedded PostgreSQL.
    pub fn data(&self) -> PathBuf {
        let folder = self.settings.iter().find(|(name, _)| name == "DATA_DIR");
        folder.map_or_else(|| self.workplace.data(), |(_, path)| path.into()).join("cluster")
    }

    /// A connection of a superuser to the database, not through a proxy.
    pub async fn sql(&self) -> tokio_postgres::Client {
        if let Some(config) = &self.database {
            return connect(config).await;
        }
        let socket = self.data().with_file_name("run");
        embedded::socket_options(&socket, "postgres", ROLE).connect().await.unwrap()
    }

    /// When the embedded PostgreSQL accepted connections that came after the one with this id.
    pub async fn postgres_ready(&self, before: &str) -> Instant {
        let notes = self.data().join("postmaster.pid");
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let text = fs::read_to_string(&notes).unwrap_or_default();
            let ready = text.lines().nth(7).is_some_and(|status| status.trim() == "ready");
            if ready && text.lines().next() != Some(before) {
                return Instant::now();
            }
            assert!(Instant::now() < deadline, "PostgreSQL is never ready");
            sleep(PAUSE).await;
        }
    }

    /// The id of the embedded postmaster.
    pub fn postmaster(&self) -> String {
        let notes = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        notes.lines().next().unwrap().to_owned()
    }

    /// Open file descriptors of the service.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.program.as_ref().unwrap().id());
        fs::read_dir(folder).unwrap().count()
    }

    pub fn resident_kib(&self) -> u64 {
        self.program.as_ref().unwrap().resident_kib()
    }

    /// The processor time that the service has used, in hundredths of a second.
    pub fn processor_ticks(&self) -> u64 {
        let stat = format!("/proc/{}/stat", self.program.as_ref().unwrap().id());
        let stat = fs::read_to_string(stat).unwrap();
        // The name may contain spaces; utime and stime are the 14th and 15th field.
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// The database's processes for the service.
    pub async fn backends(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'healthcare'";
        self.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}
