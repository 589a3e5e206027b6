//! Which database, and how to connect: a connection string with the same meaning as in libpq, or
//! the embedded server's socket.

mod driver;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::Parameters;
use super::tls::{Verify, connector};
use driver::configure;

const DEFAULT_PORT: u16 = 5432;

/// The servers of one database, and TLS if it is required.
#[derive(Clone)]
pub struct ConnectOptions {
    /// One host each, in the order in which they are tried.
    pub(super) hosts: Vec<Config>,
    pub(super) tls: Option<MakeRustlsConnect>,
}

/// Why a connection string cannot be used, without any of its values.
#[derive(Debug)]
pub struct ConnectOptionsError(String);

impl fmt::Display for ConnectOptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, ConnectOptionsError> {
    Err(ConnectOptionsError(message.into()))
}

/// One host of a connection string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target<'a> {
    /// A host name, an IP address, or the folder of a Unix socket.
    host: &'a str,
    address: Option<IpAddr>,
    port: u16,
}

impl ConnectOptions {
    /// Without TLS, as for a Unix socket. The configuration must have one host.
    pub fn plain(config: Config) -> Self {
        Self { hosts: vec![config], tls: None }
    }

    /// Parses `postgres://user:password@host/database?sslmode=...` or `host=... sslmode=...`.
    /// `roots` is a PEM file with the trusted authorities, unless the string names another.
    pub fn parse(text: &str, roots: Option<&Path>) -> Result<Self, ConnectOptionsError> {
        let parameters = Parameters::parse(text).map_err(ConnectOptionsError)?;
        let targets = targets(&parameters)?;
        let verify = verify(&parameters, &targets, roots.is_some())?;
        let roots = match parameters.get("sslrootcert") {
            // The system's authorities are the default.
            Some("system") => None,
            named => named.map(Path::new).or(roots),
        };
        let tls = verify.map(|verify| connector(verify, roots)).transpose();
        let tls = tls.map_err(|error| ConnectOptionsError(format!("asks for TLS, but {error}")))?;
        let ssl_mode = if tls.is_some() { SslMode::Require } else { SslMode::Disable };
        let hosts = targets.iter().map(|target| configure(&parameters, target, ssl_mode));
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, tls })
    }

    /// The driver's configuration of each host, in the order in which they are tried.
    pub fn hosts(&self) -> &[Config] {
        &self.hosts
    }

    /// The first remote host that would be connected to without encryption, if there is one.
    pub fn exposed_host(&self) -> Option<String> {
        let exposed = |config: &Config| match (config.get_hosts(), config.get_hostaddrs()) {
            (_, [address, ..]) => Some(address.to_string()),
            ([Host::Tcp(name), ..], []) => Some(name.clone()),
            _ => None,
        };
        let exposed = |config| exposed(config).filter(|host| !is_local(host));
        self.hosts.iter().filter(|_| self.tls.is_none()).find_map(exposed)
    }
}

fn is_local(name: &str) -> bool {
    let address: Option<IpAddr> = name.parse().ok();
    address.map_or(name.eq_ignore_ascii_case("localhost"), |a| a.to_canonical().is_loopback())
}

/// The hosts with their addresses and ports: comma-separated lists of equal length, except that a
/// single port applies to all hosts.
fn targets(parameters: &Parameters) -> Result<Vec<Target<'_>>, ConnectOptionsError> {
    let list = |name| parameters.get(name).map(|list| list.split(',').collect::<Vec<_>>());
    let addresses = list("hostaddr");
    // A host that has only an address is named by it.
    let Some(hosts) = list("host").or(addresses.clone()) else { return refuse("names no host") };
    if hosts.contains(&"") {
        return refuse("names an empty host");
    }
    // It is part of a password that was not encoded, and would be logged as the name of the host.
    if hosts.iter().any(|host| host.contains('@') && !host.starts_with(['/', '@'])) {
        return refuse("names a host with an @; in a user or password it is written %40");
    }
    if addresses.as_ref().is_some_and(|addresses| addresses.len() != hosts.len()) {
        return refuse("has another number of hostaddr than of hosts");
    }
    let ports = list("port").unwrap_or_default();
    if ports.len() > 1 && ports.len() != hosts.len() {
        return refuse("has another number of ports than of hosts");
    }
    let target = |(at, host)| {
        let address = match addresses.as_ref().and_then(|addresses| addresses.get(at)) {
            None | Some(&"") => None,
            Some(address) => match address.parse() {
                Ok(address) => Some(address),
                Err(_) => return refuse("has a hostaddr that is no IP address"),
            },
        };
        let port = match ports.get(at).or(ports.first()) {
            None | Some(&"") => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port @ 1..) => port,
                _ => return refuse("has a port that is not from 1 to 65535"),
            },
        };
        Ok(Target { host, address, port })
    };
    hosts.into_iter().enumerate().map(target).collect()
}

/// What is verified of the server's certificate; None without TLS.
fn verify(
    parameters: &Parameters,
    targets: &[Target<'_>],
    has_roots: bool,
) -> Result<Option<Verify>, ConnectOptionsError> {
    let roots = parameters.get("sslrootcert");
    let verify = match (parameters.get("sslmode"), roots) {
        _ if parameters.is_given_empty("sslmode") => return refuse("has an empty sslmode"),
        (None | Some("verify-full"), Some("system")) => Some(Verify::AuthorityAndName),
        (Some(_), Some("system")) => {
            return refuse("has sslrootcert=system without sslmode=verify-full");
        }
        (None | Some("disable" | "allow" | "prefer"), _) => None,
        // As in libpq, `require` verifies the chain if there is a file with authorities.
        (Some("require"), None) if !has_roots => Some(Verify::Nothing),
        (Some("require" | "verify-ca"), _) => Some(Verify::Authority),
        (Some("verify-full"), _) => Some(Verify::AuthorityAndName),
        (Some(_), _) => {
            return refuse(
                "has an sslmode other than disable, allow, prefer, require, verify-ca, verify-full",
            );
        }
    };
    let on_socket = |target: &Target<'_>| target.host.starts_with('/') && target.address.is_none();
    match targets.iter().filter(|target| on_socket(target)).count() {
        0 => Ok(verify),
        // As in libpq, sslmode is ignored for Unix sockets.
        sockets if sockets == targets.len() => Ok(None),
        _ if verify.is_none() => Ok(None),
        _ => refuse("asks for TLS, but names the folder of a socket among its hosts"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<ConnectOptions, String> {
        ConnectOptions::parse(text, None).map_err(|error| error.to_string())
    }

    #[test]
    fn tls_is_used_where_it_is_asked_for_however_it_is_spelled() {
        for text in [
            "postgres://u@h/d?sslmode=require&connect_timeout=3",
            "postgresql://u@h/d?connect_timeout=3&sslmode=require",
            "postgres://u@h/d?sslmode=%72equire",
            "postgres://u@h/d?ssl%6dode=require",
            "postgres://u@h?sslmode=require&",
            "postgres://u@h/d?ssl=true",
            "postgres://u@h/d?sslmode=disable&sslmode=require",
            "postgres://u:sslmode=disable@h/d?sslmode=require",
            "host=h user=u sslmode=require dbname=d",
            "sslmode = require host=h",
            "host=h sslmode\t=\trequire",
            "host=h\nsslmode\n=\nrequire\n",
            "host=h\u{b}sslmode=\u{b}require",
            "host=h sslmode='require'",
            "host=h sslmode = 'require' ",
            "host='h'sslmode='require'user='u'",
            r"host=h sslmode=re\quire",
            r"host=h sslmode='re\quire'",
            "host=h sslmode=disable sslmode=require",
            "host=h password='sslmode=disable' sslmode=require",
            r"host=h sslmode=require password=sslmode=disable\ sslmode=disable",
        ] {
            let options = read(text).unwrap();
            assert!(options.tls.is_some(), "{text}");
            assert_eq!(options.hosts[0].get_ssl_mode(), SslMode::Require, "{text}");
        }
        for text in [
            "postgres://u@h/d",
            "postgres://u@h/d?sslmode=disable",
            "postgres://u@h/d?sslmode=require&sslmode=prefer",
            "postgres://u:p?sslmode=require@h/d",
            "host=h user=u dbname=d",
            "host=h sslmode=allow",
            "host=h password=' sslmode=require'",
            r"host=h password=x\ sslmode=require",
            // Ignored for a Unix socket.
            "host=/run sslmode=require",
        ] {
            let options = read(text).unwrap();
            assert!(options.tls.is_none(), "{text}");
            assert_eq!(options.hosts[0].get_ssl_mode(), SslMode::Disable, "{text}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused_by_name_and_never_by_value() {
        for (text, named) in [
            ("postgres://u@h/d?sslmode=hunter2", "sslmode"),
            ("postgres://u@h/d?sslmode=require%20", "sslmode"),
            ("postgres://u@h/d?sslmode=require%09", "sslmode"),
            ("postgres://u@h/d?sslmode=", "sslmode"),
            ("postgres://u@h/d?sslmode=REQUIRE", "sslmode"),
            ("host=h sslmode=Require", "sslmode"),
            ("host=h sslmode=''", "sslmode"),
            ("host=h sslmode='require '", "sslmode"),
            ("host=h sslmode=require\u{a0}", "sslmode"),
            ("host=h SSLMODE=require", "SSLMODE"),
            ("host=h sslmod=require", "sslmod"),
            ("host=h sslcert=/hunter2", "sslcert"),
            ("host=h sslnegotiation=direct", "sslnegotiation"),
            ("postgres://u:hunter2@h/d?sslkey=x", "sslkey"),
            ("host=h password=hunter1 hunter2=x", "parameter"),
            ("postgres://u:1/2?hunter2=3@h/d", "parameter"),
            ("host=h sslrootcert=system sslmode=require", "sslrootcert=system"),
            ("host=h,/run sslmode=require", "socket"),
            ("host=h port=hunter2", "port"),
            ("host=h port=0", "port"),
            ("host=h,i port=1,2,3", "ports"),
            ("postgres://h:1,i:2/d?host=j", "ports"),
            ("host=h hostaddr=hunter2", "hostaddr"),
            ("host=h hostaddr=1.2.3.4,1.2.3.5", "hostaddr"),
            ("host=h, user=u", "host"),
            ("postgres:///d", "host"),
            ("user=u", "host"),
            ("", "host"),
            ("host=h connect_timeout=0", "connect_timeout"),
            ("host=h connect_timeout=-1", "connect_timeout"),
            ("host=h connect_timeout=hunter2", "connect_timeout"),
            ("host=h target_session_attrs=hunter2", "target_session_attrs"),
            ("host=h tcp_user_timeout=hunter2", "tcp_user_timeout"),
            ("host=h keepalives_count=hunter2", "keepalives_count"),
            ("host=h password='hunter2", "quote"),
            ("host=h password", "connection string"),
            ("mysql://u:hunter2@h/d", "connection string"),
            ("postgres://u:p@hunter2@h/d", "%40"),
            ("postgres://u:hunter2%@h/d", "%25"),
            ("postgres://u:hunter2%00@h/d", "%00"),
            ("postgres://u:hunter2%ff@h/d", "UTF-8"),
            ("postgres://u@[::1/d", "brackets"),
            ("postgres://u@h/d?sslmode", "name=value"),
            ("postgres://u@h/d?sslmode=require=x", "name=value"),
        ] {
            let message = read(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(message.contains(named), "{text}: {message}");
            assert!(!message.contains("hunter") && !message.contains('\n'), "{text}: {message}");
        }
        let missing = read("postgres://h/d?sslmode=verify-full&sslrootcert=/none");
        assert!(missing.err().unwrap().contains("/none"));
    }

    /// The host, its address and its port.
    fn shown(config: &Config) -> String {
        let ([host], addresses, [port]) =
            (config.get_hosts(), config.get_hostaddrs(), config.get_ports())
        else {
            panic!("{config:?}")
        };
        match host {
            Host::Tcp(name) => format!("{name} {addresses:?} {port}"),
            Host::Unix(folder) => format!("{} {addresses:?} {port}", folder.display()),
        }
    }

    #[test]
    fn every_host_has_a_configuration_of_its_own() {
        for (text, expected) in [
            ("postgres://h", &["h [] 5432"][..]),
            ("postgres://a:1,b,[::1]:3/d", &["a [] 1", "b [] 5432", "::1 [] 3"]),
            ("postgres://a,b/d?port=7", &["a [] 7", "b [] 7"]),
            ("postgres://a/d?host=b,c", &["b [] 5432", "c [] 5432"]),
            ("postgres://%2Frun%2Fpg/d", &["/run/pg [] 5432"]),
            ("host=a,b hostaddr=1.2.3.4,::1 port=,8", &["a [1.2.3.4] 5432", "b [::1] 8"]),
            ("hostaddr=1.2.3.4", &["1.2.3.4 [1.2.3.4] 5432"]),
            ("host=a host=b port=1 port=2", &["b [] 2"]),
        ] {
            let hosts: Vec<String> = read(text).unwrap().hosts.iter().map(shown).collect();
            assert_eq!(hosts, expected, "{text}");
        }
    }

    #[test]
    fn what_the_driver_calls_or_counts_otherwise_is_translated() {
        let text = r"host=h user='o\'neil' password=it\'s dbname='a b\\c' connect_timeout=3
            tcp_user_timeout=1500 keepalives_count=4 keepalives=0 options='-c geqo=off'
            application_name='' target_session_attrs=read-write load_balance_hosts=random";
        let config = read(text).unwrap().hosts.remove(0);
        assert_eq!(config.get_user(), Some("o'neil"));
        assert_eq!(config.get_password(), Some(&b"it's"[..]));
        assert_eq!(config.get_dbname(), Some(r"a b\c"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
        assert_eq!(config.get_keepalives_retries(), Some(4));
        assert_eq!(config.get_options(), Some("-c geqo=off"));
        assert_eq!((config.get_application_name(), config.get_keepalives()), (None, false));
    }

    #[test]
    fn a_plain_connection_through_a_network_is_exposed() {
        for (text, exposed) in [
            ("postgres://db.example.com/d", Some("db.example.com")),
            ("postgres://u:hunter2@192.0.2.1/d?sslmode=prefer", Some("192.0.2.1")),
            ("postgres://localhost,db2/d", Some("db2")),
            ("host=localhost hostaddr=192.0.2.1", Some("192.0.2.1")),
            ("host=/run hostaddr=192.0.2.1", Some("192.0.2.1")),
            ("host=::ffff:192.0.2.1", Some("::ffff:192.0.2.1")),
            ("postgres://db.example.com/d?sslmode=require", None),
            ("host=db hostaddr=127.0.0.1", None),
            ("postgres://LocalHost,127.1.2.3,[::1]/d", None),
            ("host=::ffff:127.0.0.1", None),
            ("host=/run/postgresql", None),
        ] {
            assert_eq!(read(text).unwrap().exposed_host().as_deref(), exposed, "{text}");
        }
    }
}
