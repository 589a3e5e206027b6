//! Failed logins, counted in the database by account and address, and where a request comes from.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName};

use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};

/// How long a failed login counts, in seconds.
pub const WINDOW_SECONDS: i32 = 15 * 60;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How many failed logins within the window are let through; 0 is any number.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    /// To one account from one address.
    pub per_address: i32,
    /// To one account from everywhere, but for addresses that have logged in to it before.
    pub total: i32,
}

impl Throttle {
    /// [`Error::TooManyAttempts`] if the address must wait before it tries the account again.
    pub async fn check(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        if self.per_address == 0 && self.total == 0 {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 5] =
            [&email, &address, &self.per_address, &self.total, &WINDOW_SECONDS];
        let row = pool.query_opt(Sql::LoginsCheck, &parameters).await?;
        let wait: Option<i32> = row.map_or(Ok(None), |row| column(&row, 0))?;
        match wait.map(u32::try_from) {
            Some(Ok(seconds)) => Err(Error::TooManyAttempts { retry_after: seconds.max(1) }),
            _ => Ok(()),
        }
    }

    pub async fn failed(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        pool.query_opt(Sql::LoginsFail, &[&email, &address]).await.map(drop)
    }

    pub async fn succeeded(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        pool.query_opt(Sql::LoginsSucceed, &[&email, &address]).await.map(drop)
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
    fn what_is_no_network_is_refused() {
        for wrong in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.1;10.0.0.2"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
    }
}
