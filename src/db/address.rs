//! Which database, and how to get there: a connection string read as libpq reads it, or the embedded
//! server's socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{Verify, connector};

/// Connection settings with the limits of [`Pool`](super::Pool), and TLS where it is asked for.
#[derive(Clone)]
pub struct Address {
    pub config: Config,
    pub tls: Option<MakeRustlsConnect>,
}

/// A connection string that cannot be used. It says why, without its value.
#[derive(Debug)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// Without TLS, as on a Unix socket.
    pub fn plain(config: Config) -> Self {
        Self { config, tls: None }
    }

    /// Reads `postgres://user:password@host/database?sslmode=...` or `host=... sslmode=...`.
    /// `roots` is a PEM file with the authorities to trust, unless the string names another.
    pub fn parse(text: &str, roots: Option<&Path>) -> Result<Self, AddressError> {
        let (rest, options) = take_tls_options(text);
        let roots = options.roots.as_deref().or(roots);
        let refuse = |message: &str| Err(AddressError(message.to_owned()));
        let verify = match options.mode.as_deref() {
            None | Some("disable" | "allow" | "prefer") => None,
            // As in libpq, a file with authorities makes it stricter.
            Some("require") if roots.is_some() => Some(Verify::Authority),
            Some("require") => Some(Verify::Nothing),
            Some("verify-ca") => Some(Verify::Authority),
            Some("verify-full") => Some(Verify::AuthorityAndName),
            Some(_) => {
                return refuse(
                    "has an sslmode other than disable, require, verify-ca, verify-full",
                );
            }
        };
        let Ok(mut config) = Config::from_str(&rest) else {
            return refuse(
                "is not a connection string; \
                 one looks like postgres://user:password@host:5432/database",
            );
        };
        if config.get_hosts().is_empty() {
            return refuse("names no host");
        }
        let tls = match verify {
            None => None,
            Some(verify) => Some(
                connector(verify, roots)
                    .map_err(|error| AddressError(format!("asks for TLS, but {error}")))?,
            ),
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls })
    }

    /// A connection; its task ends when the client is dropped.
    pub async fn connect(&self) -> Result<Client, Error> {
        if let Some(tls) = &self.tls {
            let (client, connection) = self.config.connect(tls.clone()).await?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Asks the server to stop the statement that a connection runs.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

#[derive(Default)]
struct TlsOptions {
    mode: Option<String>,
    roots: Option<PathBuf>,
}

/// Takes out what tokio-postgres does not know: `sslrootcert`, and the stricter of the modes.
fn take_tls_options(text: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let mut keep = |pair: &&str| {
        let Some((name @ ("sslmode" | "sslrootcert"), value)) = pair.split_once('=') else {
            return true;
        };
        let value = if is_url {
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        } else {
            value.to_owned()
        };
        match name {
            "sslmode" => options.mode = Some(value),
            // `system` is what happens without a file.
            _ => options.roots = (value != "system").then(|| PathBuf::from(value)),
        }
        false
    };
    let rest = if is_url {
        match text.split_once('?') {
            Some((url, query)) => {
                let kept: Vec<&str> = query.split('&').filter(&mut keep).collect();
                if kept.is_empty() { url.to_owned() } else { format!("{url}?{}", kept.join("&")) }
            }
            None => text.to_owned(),
        }
    } else {
        text.split(' ').filter(&mut keep).collect::<Vec<_>>().join(" ")
    };
    (rest, options)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn read(text: &str) -> (bool, SslMode) {
        let address = Address::parse(text, None).map_err(|error| error.to_string()).unwrap();
        (address.tls.is_some(), address.config.get_ssl_mode())
    }

    #[test]
    fn tls_is_used_where_it_is_asked_for() {
        for (text, tls) in [
            ("postgres://u@h/d", false),
            ("postgres://u@h/d?sslmode=disable", false),
            ("postgres://u@h/d?sslmode=require&connect_timeout=3", true),
            ("postgresql://u@h/d?connect_timeout=3&sslmode=require", true),
            ("postgres://u@h/d?sslmode=%72equire", true),
            ("host=h user=u sslmode=require dbname=d", true),
            ("host=h user=u dbname=d", false),
        ] {
            let mode = if tls { SslMode::Require } else { SslMode::Disable };
            assert_eq!(read(text), (tls, mode), "{text}");
        }
        for wrong in ["mysql://h/d", "postgres://u@h/d?sslmode=maybe", "postgres:///d"] {
            assert!(Address::parse(wrong, None).is_err(), "{wrong}");
        }
        let missing = Address::parse("postgres://h/d?sslmode=verify-full&sslrootcert=/none", None);
        assert!(missing.err().unwrap().to_string().contains("/none"));
    }
}
