//! `healthcheck`: whether the service of the same settings is ready, for a container's check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use healthcare_backend::config::Config;
use healthcare_backend::db::tls::{Verify, client_config};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::Failure;

/// From connecting to the answer. Readiness itself is answered in bounded time.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most of the answer that is read, in bytes: its status stands first.
const MAX_ANSWER: u64 = 64;

/// Asks the service that listens where these settings say. An error if it is not ready.
pub async fn run(config: &Config) -> Result<(), Failure> {
    if config.port == 0 {
        return Err("PORT is 0, so that nobody knows where the service listens".into());
    }
    let address = SocketAddr::new(reachable(config.host), config.port);
    let status = timeout(TIMEOUT, ask(address, config.tls.is_some()));
    match status.await {
        Err(_) => Err(format!("{address} does not answer").into()),
        Ok(Err(error)) => Err(format!("{address}: {error}").into()),
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{address} is not ready: {status}").into()),
    }
}

/// A service that listens on all addresses is asked on the loopback.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// The status of the answer.
async fn ask(address: SocketAddr, tls: bool) -> Result<u16, Failure> {
    let socket = TcpStream::connect(address).await?;
    if !tls {
        return exchange(socket, address).await;
    }
    // The certificate names the public host, not this address. Nothing secret is sent or read.
    let config = Arc::new(client_config(Verify::Nothing, None)?);
    let name = ServerName::IpAddress(address.ip().into());
    let socket = TlsConnector::from(config).connect(name, socket).await?;
    exchange(socket, address).await
}

async fn exchange(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
) -> Result<u16, Failure> {
    let request =
        format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut socket).take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let status = std::str::from_utf8(&answer)
        .ok()
        .and_then(|answer| answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok());
    status.ok_or_else(|| "this is no answer of HTTP/1.1".into())
}
