//! Connecting: hosts and their addresses are tried in turn, each with its own timeout, so that one
//! that is silent does not keep the next from being tried.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::ConnectOptions;

/// The timeout of one address, until we are authenticated, unless `connect_timeout` sets another.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);
/// Added for the last address, since there is no other to try.
const EXTRA_TIME: Duration = Duration::from_secs(2);
/// The same at start, when no request is waiting.
const EXTRA_TIME_AT_START: Duration = Duration::from_secs(9);
/// The timeout of a DNS lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Why there is no connection: the error of the last address.
#[derive(Debug)]
pub enum ConnectError {
    /// The name of a host has no address.
    Lookup(io::Error),
    /// It did not answer in time.
    Silent,
    Refused(tokio_postgres::Error),
    /// Another attempt failed, which this one waited for.
    AsAnother,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(_) => f.write_str("a host's name cannot be looked up"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Refused(error) => error.fmt(f),
            Self::AsAnother => f.write_str("another attempt has just failed"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lookup(error) => Some(error),
            Self::Silent | Self::AsAnother => None,
            Self::Refused(error) => error.source(),
        }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

impl ConnectError {
    /// For the log: the SQLSTATE if the server sent an error, because its message may quote names.
    pub fn describe(&self) -> String {
        let code = match self {
            Self::Refused(error) => error.code(),
            Self::Lookup(_) | Self::Silent | Self::AsAnother => None,
        };
        code.map_or_else(|| self.to_string(), |code| format!("SQLSTATE {}", code.code()))
    }
}

/// A connection, and the task that drives it.
pub type ClientAndTask = (Client, JoinHandle<()>);

impl ConnectOptions {
    /// A connection for the start or for a command. Its task ends when the client is dropped.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_within(EXTRA_TIME_AT_START, lookup).await.map(|(client, _)| client)
    }

    /// A connection that requests wait for. It takes at most the sum of the timeouts of its
    /// addresses, and `EXTRA_TIME`.
    pub async fn connect_fast(&self) -> Result<ClientAndTask, ConnectError> {
        self.connect_within(EXTRA_TIME, lookup).await
    }

    async fn connect_within<F: Future<Output = io::Result<Vec<IpAddr>>>>(
        &self,
        extra: Duration,
        lookup: fn(String) -> F,
    ) -> Result<ClientAndTask, ConnectError> {
        let mut failure = ConnectError::Silent;
        let mut hosts: Vec<&Config> = self.hosts.iter().collect();
        let random = hosts.iter().any(|c| c.get_load_balance_hosts() == LoadBalanceHosts::Random);
        if random {
            shuffle(&mut hosts);
        }
        while !hosts.is_empty() {
            let host = hosts.remove(0);
            let mut addresses = match addresses(host, lookup).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            if random {
                shuffle(&mut addresses);
            }
            while !addresses.is_empty() {
                let config = addresses.remove(0);
                let last = hosts.is_empty() && addresses.is_empty();
                // Boxed, or its size would be part of every future that may connect.
                let opening = Box::pin(self.open(&config));
                match timeout(limit(&config, last.then_some(extra)), opening).await {
                    Ok(Ok(connected)) => return Ok(connected),
                    Ok(Err(error)) => failure = error.into(),
                    Err(_) => failure = ConnectError::Silent,
                }
            }
        }
        Err(failure)
    }

    async fn open(&self, config: &Config) -> Result<ClientAndTask, tokio_postgres::Error> {
        if let Some(tls) = &self.tls {
            let (client, connection) = config.connect(tls.clone()).await?;
            return Ok((client, tokio::spawn(async move { drop(connection.await) })));
        }
        let (client, connection) = config.connect(NoTls).await?;
        Ok((client, tokio::spawn(async move { drop(connection.await) })))
    }

    /// Asks the server to cancel the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

/// An explicit `connect_timeout` holds for the last address too.
fn limit(config: &Config, extra: Option<Duration>) -> Duration {
    let given = config.get_connect_timeout().copied();
    given.unwrap_or(ADDRESS_TIMEOUT + extra.unwrap_or_default())
}

/// One configuration for each address of a host.
async fn addresses<F: Future<Output = io::Result<Vec<IpAddr>>>>(
    host: &Config,
    lookup: fn(String) -> F,
) -> Result<Vec<Config>, ConnectError> {
    let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else {
        return Ok(vec![host.clone()]);
    };
    let at = |address| {
        let mut config = host.clone();
        config.hostaddr(address);
        config
    };
    Ok(lookup(name.clone()).await.map_err(ConnectError::Lookup)?.into_iter().map(at).collect())
}

async fn lookup(name: String) -> io::Result<Vec<IpAddr>> {
    // The port does not matter for the lookup.
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((name, 0))).await??;
    Ok(found.take(MAX_ADDRESSES).map(|found| found.ip()).collect())
}

/// A Fisher-Yates shuffle; the order is kept where there are no random numbers.
fn shuffle<T>(items: &mut [T]) {
    for at in (1..items.len()).rev() {
        let Ok(random) = getrandom::u64() else { return };
        let other = random % (at as u64 + 1);
        items.swap(at, usize::try_from(other).unwrap_or(at));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::TcpListener;

    use tokio::time::Instant;

    use super::*;

    // The paused clock jumps to the next timeout, as nothing else is pending.
    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_own_timeout_and_the_last_one_more_time() {
        // The kernel completes the TCP handshake, but nothing ever answers.
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = mute.local_addr().unwrap().port();
        for (hosts, extra_options, soon, at_start) in [
            ("127.0.0.1", "", 3, 10),
            ("127.0.0.1,127.0.0.1,127.0.0.1", "", 5, 12),
            ("127.0.0.1,127.0.0.1", "load_balance_hosts=random", 4, 11),
            ("127.0.0.1,127.0.0.1", "connect_timeout=7", 14, 14),
        ] {
            let text = format!("host={hosts} port={port} user=u {extra_options}");
            let options =
                ConnectOptions::parse(&text, None).map_err(|error| error.to_string()).unwrap();
            let started = Instant::now();
            assert!(options.connect_fast().await.is_err());
            assert_eq!(started.elapsed().as_secs(), soon, "{text}");
            let started = Instant::now();
            assert!(options.connect().await.is_err());
            assert_eq!(started.elapsed().as_secs(), at_start, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_of_a_name_is_tried_under_that_name() {
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = mute.local_addr().unwrap().port();
        let options = ConnectOptions::parse(&format!("host=a,none,b port={port} user=u"), None);
        let options = options.map_err(|error| error.to_string()).unwrap();
        let lookup = |name: String| {
            std::future::ready(match &*name {
                "none" => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(vec!["127.0.0.1".parse().unwrap(); 3]),
            })
        };
        let started = Instant::now();
        assert!(options.connect_within(EXTRA_TIME, lookup).await.is_err());
        assert_eq!(started.elapsed().as_secs(), 3 + 3 + 2);
        let found = addresses(&options.hosts[0], lookup).await.unwrap();
        for config in &found {
            // The certificate is verified against the name.
            assert_eq!(config.get_hosts(), [Host::Tcp("a".to_owned())]);
            assert_eq!(config.get_hostaddrs(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_reaches_every_order() {
        let mut found = std::collections::BTreeSet::new();
        while found.len() < 6 {
            let mut items = [1, 2, 3];
            shuffle(&mut items);
            found.insert(items);
            items.sort_unstable();
            assert_eq!(items, [1, 2, 3]);
        }
    }
}
