//! Connecting: host after host and address after address, each with a time of its own, so that one that
//! is silent does not keep the next from being reached.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::error::DbError;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::ConnectOptions;

/// What one address may take until it has let us in, unless `connect_timeout` says otherwise.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);
/// What the last address may take besides, as nothing is reached by giving it up.
const ROOM: Duration = Duration::from_secs(2);
/// The same at start, where nobody waits for an answer.
const START_ROOM: Duration = Duration::from_secs(9);
/// How long a name may be looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 16;

/// Why there is no connection: what became of the last address.
#[derive(Debug)]
pub enum ConnectError {
    /// The name of a host has no address.
    Lookup(io::Error),
    /// It did not answer in time.
    Silent,
    Refused(tokio_postgres::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(_) => f.write_str("a host's name cannot be looked up"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lookup(error) => Some(error),
            Self::Silent => None,
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
    /// What the server itself says.
    pub fn as_db_error(&self) -> Option<&DbError> {
        match self {
            Self::Refused(error) => error.as_db_error(),
            _ => None,
        }
    }
}

/// A connection, and the task that it lives in.
pub type Connected = (Client, JoinHandle<()>);

impl ConnectOptions {
    /// A connection for the start or a command; its task ends when the client is dropped.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_within(START_ROOM, lookup).await.map(|(client, _)| client)
    }

    /// A connection for requests. It takes the sum of what its addresses may take, and a little more.
    pub async fn connect_soon(&self) -> Result<Connected, ConnectError> {
        self.connect_within(ROOM, lookup).await
    }

    async fn connect_within<F: Future<Output = io::Result<Vec<IpAddr>>>>(
        &self,
        room: Duration,
        lookup: fn(String) -> F,
    ) -> Result<Connected, ConnectError> {
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
                // In a box, or its size would be that of every future that may connect.
                let opening = Box::pin(self.open(&config));
                match timeout(limit(&config, last.then_some(room)), opening).await {
                    Ok(Ok(connected)) => return Ok(connected),
                    Ok(Err(error)) => failure = error.into(),
                    Err(_) => failure = ConnectError::Silent,
                }
            }
        }
        Err(failure)
    }

    async fn open(&self, config: &Config) -> Result<Connected, tokio_postgres::Error> {
        if let Some(tls) = &self.tls {
            let (client, connection) = config.connect(tls.clone()).await?;
            return Ok((client, tokio::spawn(async move { drop(connection.await) })));
        }
        let (client, connection) = config.connect(NoTls).await?;
        Ok((client, tokio::spawn(async move { drop(connection.await) })))
    }

    /// Asks the server to stop the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

/// A time that the settings name is kept to, also by the last address.
fn limit(config: &Config, room: Option<Duration>) -> Duration {
    let given = config.get_connect_timeout().copied();
    given.unwrap_or(ADDRESS_TIMEOUT + room.unwrap_or_default())
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
    // The port has no part in it.
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((name, 0))).await??;
    Ok(found.take(MAX_ADDRESSES).map(|found| found.ip()).collect())
}

/// Any order with the same likelihood (Fisher and Yates); the given one where there are no random
/// numbers.
fn shuffle<T>(items: &mut [T]) {
    for place in (1..items.len()).rev() {
        let Ok(random) = getrandom::u64() else { return };
        let other = random % (place as u64 + 1);
        items.swap(place, usize::try_from(other).unwrap_or(place));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::TcpListener;

    use tokio::time::Instant;

    use super::*;

    // The clock jumps to the next timeout, as nothing else is waited for.
    #[tokio::test(start_paused = true)]
    async fn each_address_has_a_time_of_its_own_and_the_last_the_room() {
        // The system takes connections for it, but nobody ever answers on them.
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = mute.local_addr().unwrap().port();
        for (hosts, options, soon, at_start) in [
            ("127.0.0.1", "", 3, 10),
            ("127.0.0.1,127.0.0.1,127.0.0.1", "", 5, 12),
            ("127.0.0.1,127.0.0.1", "load_balance_hosts=random", 4, 11),
            ("127.0.0.1,127.0.0.1", "connect_timeout=7", 14, 14),
        ] {
            let text = format!("host={hosts} port={port} user=u {options}");
            let address =
                ConnectOptions::parse(&text, None).map_err(|error| error.to_string()).unwrap();
            let started = Instant::now();
            assert!(address.connect_soon().await.is_err());
            assert_eq!(started.elapsed().as_secs(), soon, "{text}");
            let started = Instant::now();
            assert!(address.connect().await.is_err());
            assert_eq!(started.elapsed().as_secs(), at_start, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_of_a_name_is_tried_under_that_name() {
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = mute.local_addr().unwrap().port();
        let address = ConnectOptions::parse(&format!("host=a,none,b port={port} user=u"), None);
        let address = address.map_err(|error| error.to_string()).unwrap();
        let lookup = |name: String| {
            std::future::ready(match &*name {
                "none" => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(vec!["127.0.0.1".parse().unwrap(); 3]),
            })
        };
        let started = Instant::now();
        assert!(address.connect_within(ROOM, lookup).await.is_err());
        assert_eq!(started.elapsed().as_secs(), 3 + 3 + 2);
        let found = addresses(&address.hosts[0], lookup).await.unwrap();
        for config in &found {
            // A certificate is compared with the name.
            assert_eq!(config.get_hosts(), [Host::Tcp("a".to_owned())]);
            assert_eq!(config.get_hostaddrs(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_shuffle_loses_nothing_and_comes_to_every_order() {
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
