//! The driver's configuration of one host of a connection string.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::{ConnectOptionsError, Parameters, Target, refuse};

/// The longest `connect_timeout`, in seconds.
const MAX_CONNECT_TIMEOUT: u64 = 3600;

/// Builds a string for the driver with one host, every value quoted and no name repeated, and
/// checks that the driver parsed it as we did.
pub fn configure(
    parameters: &Parameters,
    target: &Target<'_>,
    ssl_mode: SslMode,
) -> Result<Config, ConnectOptionsError> {
    let Target { host, address, port } = target;
    let tls = if ssl_mode == SslMode::Disable { "disable" } else { "require" };
    let timeout = seconds(parameters)?;
    let mut text =
        [word("host", host), word("port", &port.to_string()), word("sslmode", tls)].concat();
    if let Some(address) = address {
        text += &word("hostaddr", &address.to_string());
    }
    let ours = ["host", "hostaddr", "port", "sslmode", "sslrootcert", "tcp_user_timeout"];
    for (name, value) in parameters.iter().filter(|(name, _)| !ours.contains(name)) {
        // libpq's name differs from the driver's.
        let drivers = if name == "keepalives_count" { "keepalives_retries" } else { name };
        let word = word(drivers, value);
        if Config::from_str(&word).is_err() {
            return refuse(format!("has a {name} that is not understood"));
        }
        text += &word;
    }
    let Ok(mut config) = Config::from_str(&text) else {
        return refuse("is not understood by the driver");
    };
    if let Some(milliseconds) = parameters.get("tcp_user_timeout") {
        // The driver's parser would read it as seconds, libpq as milliseconds.
        match milliseconds.parse::<u32>() {
            Ok(0) => {}
            Ok(milliseconds) => {
                config.tcp_user_timeout(Duration::from_millis(milliseconds.into()));
            }
            Err(_) => return refuse("has a tcp_user_timeout that is not understood"),
        }
    }
    let known_host =
        if host.starts_with('/') { Host::Unix(host.into()) } else { Host::Tcp((*host).to_owned()) };
    let agreed = config.get_hosts() == [known_host]
        && config.get_hostaddrs() == address.as_slice()
        && config.get_ports() == [*port]
        && config.get_ssl_mode() == ssl_mode
        && config.get_user() == parameters.get("user")
        && config.get_password() == parameters.get("password").map(str::as_bytes)
        && config.get_dbname() == parameters.get("dbname")
        && config.get_options() == parameters.get("options")
        && config.get_application_name() == parameters.get("application_name")
        && config.get_connect_timeout().copied() == timeout;
    if agreed { Ok(config) } else { refuse("means something else to the driver") }
}

fn seconds(parameters: &Parameters) -> Result<Option<Duration>, ConnectOptionsError> {
    match parameters.get("connect_timeout").map(str::parse) {
        None => Ok(None),
        Some(Ok(seconds @ 1..=MAX_CONNECT_TIMEOUT)) => Ok(Some(Duration::from_secs(seconds))),
        // Zero would disable the timeout.
        Some(_) => refuse(format!(
            "has a connect_timeout that is not from 1 to {MAX_CONNECT_TIMEOUT} seconds"
        )),
    }
}

/// `name='value'` and a space.
fn word(name: &str, value: &str) -> String {
    format!("{name}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'"))
}
