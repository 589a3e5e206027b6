//! The client's address: the peer's, or what trusted proxies report.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Once;

use hyper::header::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

/// An address or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u128,
    mask: u128,
}

impl FromStr for TrustedProxies {
    /// What the setting must be, after its name.
    type Err = &'static str;

    /// Parses a comma-separated list of networks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|network| network.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be addresses or networks like 10.0.0.0/8, with commas";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| FORM)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(FORM);
        }
        let mask = u128::MAX.checked_shl(width - prefix).unwrap_or(0);
        let network = Self { address: number(address), mask };
        if network.address & !mask != 0 {
            return Err(
                "must be networks without bits beyond the prefix: 10.0.0.0/8, not 10.0.0.1/8",
            );
        }
        if network.has_all_of_ipv4() {
            return Err("must not be every address: anybody could then claim to be anybody else");
        }
        Ok(network)
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        number(address) & self.mask == self.address
    }

    /// As `0.0.0.0/0`, and a network of IPv6 around the mapped addresses.
    fn has_all_of_ipv4(self) -> bool {
        [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST]
            .map(IpAddr::V4)
            .iter()
            .all(|end| self.contains(*end))
    }
}

impl TrustedProxies {
    /// The client's address: the peer, or the last entry of `X-Forwarded-For` that is not a trusted
    /// proxy.
    pub fn source(&self, peer: IpAddr, headers: &HeaderMap) -> Source {
        let peer = peer.to_canonical();
        let mut client = peer;
        let mut is_forwarded = false;
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        for hop in values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
            if !self.contains(client) {
                break;
            }
            let Some(before) = address(hop) else { break };
            client = before;
            is_forwarded = true;
        }
        Source { address: counted(client), is_local: peer.is_loopback() && !is_forwarded }
    }

    /// Logs once per process that a proxy is not trusted: its operator may not know that one user's
    /// failed logins then lock out everyone behind it.
    pub fn warn_if_ignored(&self, peer: IpAddr, headers: &HeaderMap) {
        static WARNING: Once = Once::new();
        if headers.contains_key(FORWARDED_FOR) && !self.contains(peer.to_canonical()) {
            WARNING.call_once(|| {
                tracing::warn!(
                    "logins come with X-Forwarded-For from a peer that is not in TRUSTED_PROXIES: \
                     everybody behind it is counted as one"
                );
            });
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The address in one entry of `X-Forwarded-For`, which some proxies send with a port.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// IPv4 addresses are mapped into IPv6 (RFC 4291, section 2.5.5.2).
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The client's address as the limits count it.
#[derive(Debug)]
pub struct Source {
    /// An IPv4 address, or the /64 network of an IPv6 address.
    pub address: String,
    /// The peer is this machine, and named no one else. An address that was forwarded is only what
    /// somebody says, also if it is a loopback address.
    is_local: bool,
}

impl Source {
    /// A limit on all requests of the address. This machine has none: an untrusted proxy on it may
    /// forward everyone's requests.
    pub fn limit(&self, limit: i32) -> i32 {
        if self.is_local { 0 } else { limit }
    }
}

/// What the limits count as one client: an IPv4 address, or the /64 network that one IPv6 customer
/// has.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

fn counted(client: IpAddr) -> String {
    match network(client) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::header::HeaderValue;

    use super::*;

    fn client(trusted: &str, peer: &str, forwarded: &[&'static [u8]]) -> String {
        let trusted =
            if trusted.is_empty() { TrustedProxies::default() } else { trusted.parse().unwrap() };
        let values = forwarded
            .iter()
            .map(|value| (FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap()))
            .collect();
        trusted.source(peer.parse().unwrap(), &values).address
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        for (trusted, peer, forwarded, expected) in [
            ("", "10.0.0.1", &[&b"1.2.3.4"[..]][..], "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", &[b"1.2.3.4"], "1.2.3.4"),
            ("10.0.0.0/8", "11.0.0.1", &[b"1.2.3.4"], "11.0.0.1"),
            // Entries further left are the client's own claims.
            ("10.0.0.0/8", "10.0.0.1", &[b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.0/8", "10.0.0.1", &[b"6.6.6.6, 1.2.3.4", b"10.0.0.2"], "1.2.3.4"),
            ("10.0.0.1", "10.0.0.1", &[b"garbage"], "10.0.0.1"),
            ("10.0.0.1", "::ffff:10.0.0.1", &[b"1.2.3.4"], "1.2.3.4"),
            ("::1, 10.0.0.0/8", "::1", &[b"2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ] {
            assert_eq!(
                client(trusted, peer, forwarded),
                expected,
                "{trusted} {peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn an_address_with_a_port_counts_as_that_address() {
        for (forwarded, expected) in [
            (&b"1.2.3.4:1111"[..], "1.2.3.4"),
            (b"[2001:db8::1]:443", "2001:db8::/64"),
            (b"[2001:db8::1]", "2001:db8::/64"),
            (b"[::ffff:1.2.3.4]:80", "1.2.3.4"),
            (b"6.6.6.6:1, 1.2.3.4:2, 10.0.0.2:3", "1.2.3.4"),
            // An entry that is no address ends the chain of trust.
            (b"1.2.3.4:", "10.0.0.1"),
            (b"1.2.3.4:65536", "10.0.0.1"),
            (b"[1.2.3.4", "10.0.0.1"),
            (b"6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ] {
            let found = client("10.0.0.0/8", "10.0.0.1", &[forwarded]);
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(forwarded));
        }
    }

    #[test]
    fn bytes_that_are_not_ascii_void_their_own_element_alone() {
        for (forwarded, expected) in [
            (&[&b"\xff\xfe, 1.2.3.4"[..]][..], "1.2.3.4"),
            (&[b"6.6.6.6, caf\xc3\xa9, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
            (&[b"\xff", b"1.2.3.4"], "1.2.3.4"),
            (&[b"1.2.3.4, \xff"], "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", forwarded), expected, "{forwarded:?}");
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
            let client = proxies.source(address.parse().unwrap(), &HeaderMap::new());
            assert_eq!(client.limit(7), expected, "{address}");
        }
    }

    #[test]
    fn an_address_that_was_forwarded_has_a_limit_whatever_it_is() {
        let proxies: TrustedProxies = "127.0.0.0/8,10.0.0.0/8".parse().unwrap();
        for peer in ["127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1"] {
            for forwarded in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1", "1.1.1.1, ::1"] {
                let value = HeaderValue::from_static(forwarded);
                let headers = [(FORWARDED_FOR, value)].into_iter().collect();
                let client = proxies.source(peer.parse().unwrap(), &headers);
                assert_eq!(client.limit(7), 7, "{peer} {forwarded}");
            }
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.1;10.0.0.2"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
        for (wrong, why) in [
            ("10.0.0.1/8", "bits beyond"),
            ("10.0.0.1/0", "bits beyond"),
            ("10.0.0.1,10.0.0.2/31,10.0.0.3/31", "bits beyond"),
            ("2001:db8::1/64", "bits beyond"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
            ("10.0.0.1, ::ffff:0.0.0.0/96", "every address"),
        ] {
            let told = wrong.parse::<TrustedProxies>().unwrap_err();
            assert!(told.contains(why), "{wrong}: {told}");
        }
        for right in ["10.0.0.0/8", "0.0.0.0/1", "10.0.0.2/31", "2001:db8::/64", "::1", "::/96"] {
            assert!(right.parse::<TrustedProxies>().is_ok(), "{right}");
        }
    }
}
