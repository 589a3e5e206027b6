//! TLS on both sides of the service: HTTPS for clients, and the database connection.

mod database;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};

use crate::harness::program::{Workplace, database_url, with_database};
use crate::harness::socket::read_to_end;
use crate::harness::{Client, TestDb, TestServer, free_port, until};

/// A self-signed certificate for `localhost`, and its key, in files.
struct Identity {
    certificate: CertificateDer<'static>,
    cert_file: String,
    key_file: String,
}

impl Identity {
    fn new(workplace: &Workplace, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = |kind: &str, text: &str| {
            let path = workplace.path().join(format!("{name}.{kind}"));
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Self {
            cert_file: file("crt", &certificate.pem()),
            key_file: file("key", &key.serialize_pem()),
            certificate: certificate.der().clone(),
        }
    }

    fn settings(&self) -> [(&str, &str); 2] {
        [("TLS_CERT", &self.cert_file), ("TLS_KEY", &self.key_file)]
    }

    /// A connection that trusts this certificate alone.
    async fn connect(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

async fn server(identity: &Identity, more: &[(&str, &str)]) -> TestServer {
    let settings = [&identity.settings()[..], more].concat();
    TestServer::start_with(Arc::new(TestDb::new().await), &settings).await
}

const REQUEST: &str = "GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LAST_REQUEST: &str =
    "GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn requests_are_answered_over_tls_1_2_and_1_3() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[]).await;
    for (versions, version) in [
        (vec![&TLS12], ProtocolVersion::TLSv1_2),
        (vec![&TLS13], ProtocolVersion::TLSv1_3),
        (vec![&TLS12, &TLS13], ProtocolVersion::TLSv1_3),
    ] {
        for protocols in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
            let connected = identity.connect(server.address(), &versions, protocols).await;
            let mut stream = connected.unwrap();
            let agreed = stream.get_ref().1;
            assert_eq!(agreed.protocol_version(), Some(version));
            let expected = (!protocols.is_empty()).then_some(&b"http/1.1"[..]);
            assert_eq!(agreed.alpn_protocol(), expected);
            let requests = [REQUEST, REQUEST, LAST_REQUEST].concat();
            stream.write_all(requests.as_bytes()).await.unwrap();
            let mut answers = String::new();
            // Fails without a `close_notify` of the service.
            stream.read_to_string(&mut answers).await.unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
        }
    }
}

#[tokio::test]
async fn who_says_that_nothing_more_comes_gets_the_answer() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[]).await;
    for version in [&TLS12, &TLS13] {
        let mut stream = identity.connect(server.address(), &[version], &[]).await.unwrap();
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        // `close_notify`, and the end of the socket's side.
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn a_protocol_that_only_others_speak_is_not_agreed_on() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[]).await;
    for protocols in [&["h2"][..], &["http/1.0", "spdy/3"]] {
        assert!(identity.connect(server.address(), &[&TLS13], protocols).await.is_err());
    }
    // A client that trusts another authority does not connect.
    let other = Identity::new(&workplace, "other");
    assert!(other.connect(server.address(), &[&TLS13], &[]).await.is_err());
}

/// A handshake that offers this version and one of its cipher suites.
fn hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()
}

#[tokio::test]
async fn what_is_not_tls_1_2_or_1_3_gets_no_more_than_an_alert() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[]).await;
    for (name, bytes) in [
        ("SSL 3.0", hello(0)),
        ("TLS 1.0", hello(1)),
        ("TLS 1.1", hello(2)),
        ("HTTP", LAST_REQUEST.as_bytes().to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("noise", (0..=255).collect()),
        ("a record that is too long", [vec![0x16, 3, 3, 0xff, 0xff], vec![0; 70_000]].concat()),
    ] {
        let since = Instant::now();
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        // Closing while more comes in resets the connection.
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer[0] == 0x15 && answer.len() == 7, "{name}: {answer:?}");
        assert!(since.elapsed() < Duration::from_secs(20), "{name}: {:?}", since.elapsed());
    }
    let mut stream = identity.connect(server.address(), &[&TLS13], &[]).await.unwrap();
    stream.write_all(LAST_REQUEST.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_takes_three_seconds_is_given_up_and_counts_as_a_connection() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[("MAX_CONNECTIONS", "2")]).await;
    let since = Instant::now();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut halfway = TcpStream::connect(server.address()).await.unwrap();
    halfway.write_all(&hello(3)[..20]).await.unwrap();
    // A connection beyond the limit is closed without a response, before its TLS handshake.
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, "");
    for socket in [&mut silent, &mut halfway] {
        assert_eq!(read_to_end(socket).await, "");
        let taken = since.elapsed();
        assert!((2950..18_000).contains(&taken.as_millis()), "{taken:?}");
    }
    until("a connection is served again", async || {
        identity.connect(server.address(), &[&TLS13], &[]).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn after_the_handshake_the_limits_of_http_hold() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "own");
    let server = server(&identity, &[]).await;
    let since = Instant::now();
    let mut stream = identity.connect(server.address(), &[&TLS13], &[]).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    let taken = since.elapsed();
    assert!((4950..20_000).contains(&taken.as_millis()), "{taken:?}");
}

#[tokio::test]
async fn the_health_check_asks_over_tls_and_minds_no_name_in_the_certificate() {
    let (workplace, database) = (Workplace::new(), TestDb::new().await);
    let identity = Identity::new(&workplace, "own");
    let (url, port) = (database_url(&database.config()), free_port().to_string());
    let settings =
        [&with_database(&url)[..], &[("PORT", &*port)], &identity.settings()[..]].concat();
    let program = workplace.serve(&settings);
    let ended = workplace.run(&["healthcheck"], &settings);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let plain = workplace.run(&["healthcheck"], &settings[..3]);
    plain.complaint(1);
    program.stop();
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_one_clear_line() {
    let workplace = Workplace::new();
    let (own, other) = (Identity::new(&workplace, "own"), Identity::new(&workplace, "other"));
    let file = |name: &str, text: &str| {
        let path = workplace.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, text) = (file("empty", ""), file("text", "hunter2"));
    let broken = "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n";
    let broken = file("broken", broken);
    let nonsense = "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n";
    let nonsense = file("nonsense", nonsense);
    let bad_key = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";
    let bad_key = file("bad-key", bad_key);
    let missing = "/nonexistent/file";
    let (cert, key) = (own.cert_file.as_str(), own.key_file.as_str());
    for (name, cert, key) in [
        ("TLS_KEY", cert, ""),
        ("TLS_CERT", "", key),
        ("TLS_CERT", missing, key),
        ("TLS_CERT", &empty, key),
        ("TLS_CERT", &text, key),
        ("TLS_CERT", &broken, key),
        ("TLS_CERT", &nonsense, key),
        ("TLS_CERT", key, key),
        ("TLS_CERT", workplace.path().to_str().unwrap(), key),
        ("TLS_KEY", cert, missing),
        ("TLS_KEY", cert, &empty),
        ("TLS_KEY", cert, &text),
        ("TLS_KEY", cert, &bad_key),
        ("TLS_KEY", cert, cert),
        ("TLS_KEY", cert, &other.key_file),
    ] {
        let ended = workplace.run(&[], &[("TLS_CERT", cert), ("TLS_KEY", key)]);
        let line = ended.complaint(2);
        assert!(line.contains(name), "{cert} {key}: {line}");
        assert!(!line.contains("hunter2") && ended.stdout.is_empty(), "{ended:?}");
    }
    assert!(!workplace.data().exists(), "nothing was started");
}

#[tokio::test]
async fn the_operators_address_is_plain_and_counts_handshakes() {
    let workplace = Workplace::new();
    let identity = Identity::new(&workplace, "ours");
    let address = format!("127.0.0.1:{}", free_port());
    let server = server(&identity, &[("METRICS_ADDR", &address)]).await;
    // The harness knows the other address before this one listens.
    until("it listens", async || TcpStream::connect(&address).await.ok()).await;
    let operators = Client::new(address.parse().unwrap());
    operators.get("/health/live").await.expect(200);
    // It never begins its handshake.
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    until("a handshake is counted", async || {
        let answer = operators.get("/metrics").await.expect(200);
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        text.contains("healthcare_connections{state=\"handshake\"} 1").then_some(())
    })
    .await;
}
