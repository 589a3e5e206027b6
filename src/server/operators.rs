//! The listener for those who run the service, on `METRICS_ADDR`.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::error::{Error, Result};
use crate::metrics::{Counted, Gauge};

/// The most of their connections; further ones are closed. They are not among `MAX_CONNECTIONS`,
/// or the clients of a busy service would keep everybody from seeing that it is busy.
const MAX_CONNECTIONS: usize = 64;

pub struct Operators {
    /// None without `METRICS_ADDR`.
    listener: Option<TcpListener>,
    open: Arc<Gauge>,
}

impl Operators {
    pub async fn listen(app: &App) -> Result<Self> {
        let listener = match app.config.metrics_addr {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await.map_err(|error| {
                    Error::internal(format!("cannot listen on METRICS_ADDR {address}: {error}"))
                })?;
                // The port may have been 0.
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!(metrics = %address, "listening for operators");
                Some(listener)
            }
        };
        Ok(Self { listener, open: Arc::default() })
    }

    pub fn open_connections(&self) -> usize {
        self.open.get()
    }

    /// The next connection, counted until it ends.
    pub async fn accept(&self) -> io::Result<(TcpStream, IpAddr, Counted)> {
        let Some(listener) = &self.listener else { return pending().await };
        loop {
            let (socket, peer) = listener.accept().await?;
            if self.open.get() < MAX_CONNECTIONS {
                return Ok((socket, peer.ip(), self.open.count()));
            }
        }
    }
}
