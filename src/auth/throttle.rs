//! Failed logins and registrations, counted in the database, and where a request comes from.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName};

use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};

/// How long a failed login counts, in seconds.
pub const WINDOW_SECONDS: i32 = 15 * 60;
/// How long a registration counts, in seconds.
pub const REGISTRATION_WINDOW_SECONDS: i32 = 60 * 60;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How much is let through within the windows; 0 is any number.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    /// Failed logins to one account from one address.
    pub per_address: i32,
    /// To one account from everywhere, but for addresses that have logged in to it before.
    pub total: i32,
    /// To all accounts from one address.
    pub all_accounts: i32,
    /// Registrations from one address.
    pub registrations: i32,
}

impl Throttle {
    /// [`Error::TooManyAttempts`] if the client must wait before it tries the account again.
    pub async fn check(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        let all_accounts = client.limit(self.all_accounts);
        if (self.per_address, self.total, all_accounts) == (0, 0, 0) {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 6] = [
            &email,
            &client.address,
            &self.per_address,
            &self.total,
            &WINDOW_SECONDS,
            &all_accounts,
        ];
        let row = pool.query_opt(Sql::LoginsCheck, &parameters).await?;
        wait(row.map_or(Ok(None), |row| column(&row, 0))?)
    }

    pub async fn failed(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        pool.query_opt(Sql::LoginsFail, &[&email, &client.address]).await.map(drop)
    }

    pub async fn succeeded(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        pool.query_opt(Sql::LoginsSucceed, &[&email, &client.address]).await.map(drop)
    }

    /// Notes a registration, or [`Error::TooManyAttempts`] if the client must wait before the next.
    pub async fn register(self, pool: &Pool, client: &Source) -> Result<()> {
        let limit = client.limit(self.registrations);
        if limit == 0 {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 3] =
            [&client.address, &limit, &REGISTRATION_WINDOW_SECONDS];
        let row = pool.query_opt(Sql::RegistrationsAdmit, &parameters).await?;
        wait(row.map_or(Ok(None), |row| column(&row, 0))?)
    }
}

/// What a statement says that a client must wait, in seconds.
fn wait(seconds: Option<i32>) -> Result<()> {
    match seconds.map(u32::try_from) {
        Some(Ok(seconds)) => Err(Error::TooManyAttempts { retry_after: seconds.max(1) }),
        _ => Ok(()),
    }
}

/// Where a request comes from, for the limits.
#[derive(Debug)]
pub struct Source {
    /// An IPv4 address, or the network of an IPv6 address.
    pub address: String,
    is_loopback: bool,
}

impl Source {
    /// `client` is as [`TrustedProxies::client`] tells it.
    pub fn new(client: IpAddr) -> Self {
        Self { address: counted(client), is_loopback: client.is_loopback() }
    }

    /// A limit on the whole address. Whoever is on this machine has none: there a proxy that is not
    /// trusted may stand, and stand for everybody.
    fn limit(&self, limit: i32) -> i32 {
        if self.is_loopback { 0 } else { limit }
    }
}

/// Addresses whose word on where a request comes from is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

/// An address or a range of them, as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u128,
    mask: u128,
}

impl FromStr for TrustedProxies {
    type Err = ();

    /// Reads networks that are separated by commas.
    fn from_str(text: &str) -> Result<Self, ()> {
        text.split(',').map(|network| network.trim().parse()).collect::<Result<_, ()>>().map(Self)
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| ())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(());
        }
        let mask = u128::MAX.checked_shl(width - prefix).unwrap_or(0);
        Ok(Self { address: number(address) & mask, mask })
    }
}

impl TrustedProxies {
    /// Where a request comes from: the peer, or what trusted peers say, read from the end to the
    /// first that is not one of them.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let values = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        for hop in hops.iter().rev() {
            let Ok(before) = hop.trim().parse::<IpAddr>() else { break };
            if !self.contains(client) {
                break;
            }
            client = before.to_canonical();
        }
        client
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| number(address) & network.mask == network.address)
    }
}

/// IPv4 addresses as they are mapped into IPv6 (RFC 4291, section 2.5.5.2).
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What failures are counted by: an IPv4 address, or the /64 network that one IPv6 customer has.
pub fn counted(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            format!("{}/64", Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::header::HeaderValue;

    use super::*;

    fn client(trusted: &str, peer: &str, forwarded: &[&'static str]) -> String {
        let trusted =
            if trusted.is_empty() { TrustedProxies::default() } else { trusted.parse().unwrap() };
        let values = forwarded.iter().map(|value| (FORWARDED_FOR, HeaderValue::from_static(value)));
        counted(trusted.client(peer.parse().unwrap(), &values.collect()))
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        for (trusted, peer, forwarded, expected) in [
            ("", "10.0.0.1", &["1.2.3.4"][..], "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("10.0.0.0/8", "11.0.0.1", &["1.2.3.4"], "11.0.0.1"),
            // What the client claims itself stands further left.
            ("10.0.0.0/8", "10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.0/8", "10.0.0.1", &["6.6.6.6, 1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            ("10.0.0.1", "10.0.0.1", &["garbage"], "10.0.0.1"),
            ("10.0.0.1", "::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("::1, 10.0.0.0/8", "::1", &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
            ("0.0.0.0/0", "9.9.9.9", &["1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(
                client(trusted, peer, forwarded),
                expected,
                "{trusted} {peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn whoever_is_on_this_machine_has_no_limit_as_a_whole() {
        let proxies = TrustedProxies::default();
        for (address, expected) in [
            ("127.0.0.1", 0),
            ("127.255.0.1", 0),
            ("::1", 0),
            ("::ffff:127.0.0.1", 0),
            ("128.0.0.1", 7),
            ("::2", 7),
            ("::ffff:10.0.0.1", 7),
        ] {
            let client = proxies.client(address.parse().unwrap(), &HeaderMap::new());
            assert_eq!(Source::new(client).limit(7), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.1;10.0.0.2"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
    }
}
