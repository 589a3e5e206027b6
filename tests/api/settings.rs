//! Connection settings: which host is reached, and the warnings.

use std::net::TcpListener;
use std::sync::OnceLock;

use healthcare_backend::db::ConnectOptions;
use serde_json::json;
use tokio_postgres::{Client as Database, NoTls};

use crate::harness::program::{Program, SECRET, Workplace, database_url};
use crate::harness::{Cluster, TestDb, free_port, random};

/// Makes a server read-only, like a standby.
const READ_ONLY: &str = "default_transaction_read_only=on";
/// A part of every secret.
const HIDDEN: &str = "hunter2";

/// A PostgreSQL that is reached over TCP, and its port.
struct Remote {
    cluster: Cluster,
    port: u16,
}

impl Remote {
    fn start(address: &str, options: &[&str]) -> Self {
        let port = free_port();
        let (address, port_option) =
            (format!("listen_addresses={address}"), format!("port={port}"));
        let all = [&["-c", &address, "-c", &port_option], options].concat();
        Self { cluster: Cluster::start(&all, &[]), port }
    }

    async fn connect(&self) -> Database {
        let mut config = self.cluster.config("postgres", "postgres");
        let (client, connection) = config.port(self.port).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn remote() -> &'static Remote {
    static REMOTE: OnceLock<Remote> = OnceLock::new();
    REMOTE.get_or_init(|| Remote::start("127.0.0.1,127.0.0.2", &[]))
}

/// The kernel completes the TCP handshake, but nothing ever answers.
fn mute(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.3", port)).unwrap()
}

#[tokio::test]
async fn a_silent_host_does_not_keep_the_next_from_being_reached() {
    let remote = remote();
    // On the same port, as one port applies to all addresses.
    let _mute = mute(remote.port);
    let admin = remote.connect().await;
    for target in [
        "host=127.0.0.3,127.0.0.1",
        "host=one,two hostaddr=127.0.0.3,127.0.0.2",
        "host=127.0.0.3,127.0.0.3,127.0.0.1",
    ] {
        let name = format!("test_{}", random());
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = format!("{target} port={} user=postgres dbname={name}", remote.port);
        let settings = [("DATABASE_URL", url.as_str()), ("JWT_SECRET", SECRET)];
        let workplace = Workplace::new();
        let ended = workplace.run(&["migrate"], &settings);
        assert_eq!(ended.code, Some(0), "{target}: {ended:?}");
        let program = workplace.serve(&settings);
        program.client().becomes_ready().await;
        let ada = program.client().registered("ada@example.com").await;
        ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
        ada.get("/api/patients").await.expect(200);
        let ended = workplace.run(&["admin", "ada@example.com"], &settings);
        assert_eq!(ended.code, Some(0), "{target}: {ended:?}");
        program.stop();
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_is_passed_over_that_cannot_be_written_to() {
    let (primary, standby) = (remote(), Remote::start("127.0.0.1", &["-c", READ_ONLY]));
    let ports = format!("{},{}", standby.port, primary.port);
    for (options, expected) in [
        ("target_session_attrs=read-write", primary.port),
        ("target_session_attrs=read-write load_balance_hosts=random", primary.port),
        ("target_session_attrs=read-only", standby.port),
        ("target_session_attrs=any", standby.port),
    ] {
        // Enough time for the first, however busy the machine is.
        let options = format!("{options} connect_timeout=60");
        let url = format!("host=127.0.0.1,127.0.0.1 port={ports} user=postgres {options}");
        let address = ConnectOptions::parse(&url, None).map_err(|error| error.to_string()).unwrap();
        let client = address.connect().await.unwrap();
        let row = client.query_one("SELECT current_setting('port')", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected.to_string(), "{options}");
    }
}

#[test]
fn a_plain_connection_through_a_network_is_warned_of_at_every_start() {
    const WARNING: &str = "is not encrypted";
    let workplace = Workplace::new();
    // Unroutable addresses (RFC 5737), and one that refuses.
    let refusing = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for (url, warned) in [
        ("postgres://u:hunter2@192.0.2.1/d?connect_timeout=1", true),
        ("host = 192.0.2.1 user=u password='hunter2' sslmode = prefer connect_timeout=1", true),
        ("host = 192.0.2.1 user=u password='hunter2' sslmode = require connect_timeout=1", false),
        (&format!("postgres://u:hunter2@{refusing}/d"), false),
    ] {
        for (arguments, warns) in [(&["serve"][..], warned), (&["migrate"], false)] {
            let settings = [("DATABASE_URL", url), ("JWT_SECRET", SECRET)];
            let program = Program::spawn(workplace.command(arguments, &settings));
            // The service waits for its database; a command does not.
            let ended = if arguments == ["serve"] {
                program.says("waiting for the database");
                program.stop()
            } else {
                program.wait()
            };
            assert_eq!(ended.code == Some(0), arguments == ["serve"], "{ended:?}");
            assert_eq!(ended.stdout.contains(WARNING), warns, "{url}: {ended:?}");
            assert!(!format!("{ended:?}").contains(HIDDEN), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_warned_of_once() {
    const WARNING: &str = "not in TRUSTED_PROXIES";
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    for (trusted, header, warnings) in [
        ("192.0.2.7", Some("192.0.2.1"), 1),
        ("192.0.2.7", None, 0),
        ("127.0.0.0/8", Some("192.0.2.1"), 0),
    ] {
        let settings =
            [("DATABASE_URL", url.as_str()), ("JWT_SECRET", SECRET), ("TRUSTED_PROXIES", trusted)];
        let program: Program = workplace.serve(&settings);
        let mut client = program.client();
        if let Some(address) = header {
            client = client.with("x-forwarded-for", address);
        }
        client.get("/health/live").await.expect(200);
        for _ in 0..3 {
            let wrong = json!({"email": "ada@example.com", "password": "wrong"});
            client.post("/api/auth/login", &wrong).await.expect(401);
        }
        let stdout = program.stop().stdout;
        assert_eq!(stdout.matches(WARNING).count(), warnings, "{trusted} {header:?}: {stdout}");
        assert!(!stdout.contains("192.0.2.1"), "{stdout}");
    }
}
