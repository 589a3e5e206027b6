//! TLS to PostgreSQL: each `sslmode` against a real server that requires TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use healthcare_backend::db::ConnectOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

use crate::harness::program::Workplace;
use crate::harness::{Cluster, JWT_SECRET, free_port, random};

/// Without TLS only connections on its Unix socket are accepted.
const ACCESS: &str = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";

/// A PostgreSQL with TLS, and the authority of its certificate for `localhost`.
struct Secure {
    cluster: Cluster,
    port: u16,
    authority: String,
    /// Another authority.
    other: String,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn secure() -> &'static Secure {
    static SECURE: OnceLock<Secure> = OnceLock::new();
    SECURE.get_or_init(|| {
        let (own, other) = (authority("the authority"), authority("another authority"));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &own).unwrap();
        let files = [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
            ("pg_hba.conf", ACCESS.to_owned()),
        ];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let port = free_port();
        let port_option = format!("port={port}");
        let options = ["-c", "ssl=on", "-c", "listen_addresses=127.0.0.1", "-c", &port_option];
        let cluster = Cluster::start(&options, &files);
        Secure { cluster, port, authority: own.pem(), other: other.pem() }
    })
}

impl Secure {
    fn url(&self, host: &str, options: &str) -> String {
        format!("postgres://postgres@{host}:{}/postgres{options}", self.port)
    }
}

/// The authority, another one, and a file that contains none.
struct Files {
    workplace: Workplace,
}

impl Files {
    fn new(secure: &Secure) -> Self {
        let workplace = Workplace::new();
        for (name, text) in [
            ("own.pem", &*secure.authority),
            ("other.pem", &secure.other),
            ("text.pem", "no certificate"),
        ] {
            fs::write(workplace.path().join(name), text).unwrap();
        }
        let both = [secure.other.as_str(), &secure.authority].concat();
        fs::write(workplace.path().join("both.pem"), both).unwrap();
        Self { workplace }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workplace.path().join(name)
    }
}

/// Whether the resulting connection is encrypted; None if there is none.
async fn is_encrypted(url: &str, roots: Option<&Path>) -> Option<bool> {
    let address = ConnectOptions::parse(url, roots).map_err(|error| error.to_string()).unwrap();
    let client = address.connect().await.ok()?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Some(client.query_one(sql, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn each_sslmode_demands_what_libpq_says_it_does() {
    let secure = secure();
    let files = Files::new(secure);
    let encrypted = Some(true);
    for (host, mode, roots, expected) in [
        ("localhost", "", "", None),
        ("localhost", "?sslmode=disable", "", None),
        ("localhost", "?sslmode=require", "", encrypted),
        ("127.0.0.1", "?sslmode=require", "", encrypted),
        ("localhost", "?sslmode=verify-ca", "own.pem", encrypted),
        ("localhost", "?sslmode=verify-ca", "both.pem", encrypted),
        ("127.0.0.1", "?sslmode=verify-ca", "own.pem", encrypted),
        ("localhost", "?sslmode=verify-ca", "other.pem", None),
        ("localhost", "?sslmode=verify-full", "own.pem", encrypted),
        ("127.0.0.1", "?sslmode=verify-full", "own.pem", None),
        ("localhost", "?sslmode=verify-full", "other.pem", None),
        ("127.0.0.1", "?sslmode=verify-full", "other.pem", None),
    ] {
        let path = files.path(roots);
        let given = (!roots.is_empty()).then_some(path.as_path());
        let found = is_encrypted(&secure.url(host, mode), given).await;
        assert_eq!(found, expected, "{host} {mode} {roots}");
        // The same with the file in the connection string, and with the other spelling.
        let named = if roots.is_empty() {
            mode.to_owned()
        } else {
            format!("{mode}&sslrootcert={}", path.display())
        };
        let found = is_encrypted(&secure.url(host, &named), None).await;
        assert_eq!(found, expected, "{host} {named}");
        let words = named.replace(['?', '&'], " ");
        let port = secure.port;
        let words = format!("host={host} port={port} user=postgres dbname=postgres{words}");
        assert_eq!(is_encrypted(&words, None).await, expected, "{words}");
    }
    // The connection string takes precedence.
    let (own, other) = (files.path("own.pem"), files.path("other.pem"));
    let named = format!("?sslrootcert={}&sslmode=verify-full", own.display());
    let found = is_encrypted(&secure.url("localhost", &named), Some(&other)).await;
    assert_eq!(found, encrypted);
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_demanded() {
    let plain = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = plain.local_addr().unwrap().port();
    // As a server without TLS would respond, or an attacker in the middle.
    let refusing = tokio::spawn(async move {
        let (mut socket, _) = plain.accept().await.unwrap();
        let mut asked = [0; 8];
        socket.read_exact(&mut asked).await.unwrap();
        socket.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        let _ = socket.read_to_end(&mut more).await;
        more
    });
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require");
    assert_eq!(is_encrypted(&url, None).await, None);
    assert_eq!(refusing.await.unwrap(), b"", "something was said in the clear");
}

#[tokio::test]
async fn every_connection_of_the_service_is_encrypted() {
    let secure = secure();
    let files = Files::new(secure);
    let name = format!("test_{}", random());
    let mut config = secure.cluster.config("postgres", "postgres");
    let (admin, connection) = config.port(secure.port).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let own = files.path("own.pem");
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    let url =
        |mode: &str| secure.url("localhost", mode).replace("/postgres?", &format!("/{name}?"));
    let url = url("?sslmode=verify-full");
    let settings =
        [("DATABASE_URL", &*url), ("PGSSLROOTCERT", own.to_str().unwrap()), ("JWT_SECRET", secret)];
    let program = files.workplace.serve(&settings);
    let user = program.client().registered("ada@example.com").await;
    let reading = (0..16).map(|_| user.get("/api/patients"));
    for answer in futures_util::future::join_all(reading).await {
        answer.expect(200);
    }
    let sql = "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE datname = $1 AND application_name = 'healthcare-backend'";
    let connections = admin.query(sql, &[&name]).await.unwrap();
    assert!(connections.len() >= 2, "{}", connections.len());
    for connection in connections {
        let (ssl, version): (bool, String) = (connection.get(0), connection.get(1));
        assert!(ssl && ["TLSv1.2", "TLSv1.3"].contains(&&*version), "{version}");
    }
    program.stop();
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

#[tokio::test]
async fn a_database_that_cannot_be_trusted_is_one_clear_line() {
    let secure = secure();
    let files = Files::new(secure);
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    for (host, mode, roots, code, word) in [
        ("localhost", "", "", 1, "database cannot be reached"),
        ("localhost", "?sslmode=verify-ca", "other.pem", 1, "database cannot be reached"),
        ("127.0.0.1", "?sslmode=verify-full", "own.pem", 1, "database cannot be reached"),
        ("localhost", "?sslmode=verify-ca", "text.pem", 2, "PGSSLROOTCERT"),
        ("localhost", "?sslmode=verify-full", "missing.pem", 2, "PGSSLROOTCERT"),
        ("localhost", "?sslmode=always", "", 2, "sslmode"),
    ] {
        let url = secure.url(host, mode);
        let path = if roots.is_empty() { PathBuf::new() } else { files.path(roots) };
        let settings = [
            ("DATABASE_URL", &*url),
            ("PGSSLROOTCERT", path.to_str().unwrap()),
            ("JWT_SECRET", secret),
        ];
        let ended = files.workplace.run(&["migrate"], &settings);
        let line = ended.complaint(code);
        assert!(line.contains(word), "{mode} {roots}: {line}");
    }
}
