//! The settings: one struct read by envy from the environment and `.env`, with every default and
//! check.
//!
//! Error messages name the variable, but never show the value of a secret or an address.

mod dotenv;
mod tls;
mod values;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dotenv::DotEnv;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use values::{
    address, cors_origins, database_url, flag, log_format, log_level, number, registration, secret,
    socket_address, switch, trusted_proxies,
};

use tokio_rustls::rustls::ServerConfig;

use crate::auth::client_address::TrustedProxies;
use crate::auth::throttle::Throttle;
use crate::db::ConnectOptions;
use crate::http::cors::Origins;
use crate::http::upload;
use crate::secret::{MIN_SECRET_BYTES, Secret};

/// The longest lifetime of an access token, in seconds.
pub const MAX_TOKEN_TTL: u32 = 86_400;

/// In seconds.
const DAY: i32 = 24 * 60 * 60;

/// The settings as strings. `.env.example` lists them in this order.
#[derive(Deserialize)]
struct Variables {
    database_url: Option<String>,
    pgsslrootcert: Option<String>,
    data_dir: Option<String>,
    postgres_bin: Option<String>,
    migrate_on_start: Option<String>,
    allow_unsafe_database: Option<String>,
    host: Option<String>,
    port: Option<String>,
    metrics_addr: Option<String>,
    tls_cert: Option<String>,
    tls_key: Option<String>,
    cors_origins: Option<String>,
    docs: Option<String>,
    max_connections: Option<String>,
    import_max_bytes: Option<String>,
    drain_delay_seconds: Option<String>,
    jwt_secret: Option<String>,
    jwt_secret_previous: Option<String>,
    token_ttl_seconds: Option<String>,
    session_idle_seconds: Option<String>,
    session_max_seconds: Option<String>,
    bcrypt_cost: Option<String>,
    login_failures_per_address: Option<String>,
    login_failures_total: Option<String>,
    login_failures_all_accounts: Option<String>,
    registrations_per_hour: Option<String>,
    registration: Option<String>,
    trusted_proxies: Option<String>,
    workers: Option<String>,
    pool_size: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
}

/// The names of [`Variables`] in the environment.
const NAMES: [&str; 32] = [
    "DATABASE_URL",
    "PGSSLROOTCERT",
    "DATA_DIR",
    "POSTGRES_BIN",
    "MIGRATE_ON_START",
    "ALLOW_UNSAFE_DATABASE",
    "HOST",
    "PORT",
    "METRICS_ADDR",
    "TLS_CERT",
    "TLS_KEY",
    "CORS_ORIGINS",
    "DOCS",
    "MAX_CONNECTIONS",
    "IMPORT_MAX_BYTES",
    "DRAIN_DELAY_SECONDS",
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "TOKEN_TTL_SECONDS",
    "SESSION_IDLE_SECONDS",
    "SESSION_MAX_SECONDS",
    "BCRYPT_COST",
    "LOGIN_FAILURES_PER_ADDRESS",
    "LOGIN_FAILURES_TOTAL",
    "LOGIN_FAILURES_ALL_ACCOUNTS",
    "REGISTRATIONS_PER_HOUR",
    "REGISTRATION",
    "TRUSTED_PROXIES",
    "WORKERS",
    "POOL_SIZE",
    "LOG",
    "LOG_FORMAT",
];

/// Checked settings.
#[derive(Clone)]
pub struct Config {
    pub database: Database,
    /// If false, the program does not start on an outdated schema.
    pub migrate_on_start: bool,
    /// If false, the program does not use a server that can lose acknowledged writes.
    pub allow_unsafe_database: bool,
    pub host: IpAddr,
    pub port: u16,
    /// Where metrics and health are served instead.
    pub metrics_addr: Option<SocketAddr>,
    /// HTTPS instead of HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    pub cors_origins: Origins,
    /// Whether the API's description and the page on it are served.
    pub docs: bool,
    /// Client connections of the whole process.
    pub max_connections: usize,
    /// The largest body of an import, in bytes.
    pub import_max_bytes: usize,
    /// How long the service keeps listening after the signal to stop.
    pub drain_delay: Duration,
    /// Not needed with [`Database::Embedded`], which has a generated secret, nor by commands, which
    /// sign no tokens.
    pub jwt_secret: Option<Secret>,
    /// The secret before the current one, whose tokens are still accepted.
    pub jwt_secret_previous: Option<Secret>,
    /// The lifetime of an access token, unless its session ends sooner.
    pub token_ttl_seconds: u32,
    /// The lifetime of a refresh token.
    pub session_idle_seconds: i32,
    /// The lifetime of a session, however often it is refreshed.
    pub session_max_seconds: i32,
    pub bcrypt_cost: u32,
    pub throttle: Throttle,
    pub registration: Registration,
    pub trusted_proxies: TrustedProxies,
    pub workers: usize,
    /// Pooled database connections of the whole process, divided among the workers, at least four
    /// each.
    pub pool_size: usize,
    pub log: LevelFilter,
    pub log_format: LogFormat,
    /// What may be a mistake in the settings, for the log.
    pub warnings: Vec<String>,
}

/// Which PostgreSQL to use.
#[derive(Clone)]
pub enum Database {
    /// An existing server.
    Url(Box<ConnectOptions>),
    /// A server that the service runs itself.
    Embedded { data_dir: Option<PathBuf>, postgres_bin: Option<PathBuf> },
}

/// Who can create accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anyone can register.
    Open,
    /// Only the operator, on the command line.
    Closed,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// A wrong setting, named, in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn wrong<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

impl Config {
    /// Reads the environment, and `.env` in the working directory for what it does not set.
    pub fn from_env() -> Result<Self, ConfigError> {
        let file = DotEnv::read()?;
        let mut variables: HashMap<String, String> = file.variables.into_iter().collect();
        variables.extend(utf8(std::env::vars_os())?);
        Ok(Self { warnings: file.warnings, ..Self::from_variables(variables)? })
    }

    /// Checks settings given as pairs. An empty value counts as not set.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let raw: Variables =
            envy::from_iter(set).map_err(|_| ConfigError("the settings cannot be read".into()))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);

        let database = match raw.database_url {
            Some(url) => Database::Url(Box::new(database_url(&url, raw.pgsslrootcert.as_deref())?)),
            None => Database::Embedded {
                data_dir: raw.data_dir.map(PathBuf::from),
                postgres_bin: raw.postgres_bin.map(PathBuf::from),
            },
        };
        Ok(Self {
            database,
            migrate_on_start: flag("MIGRATE_ON_START", raw.migrate_on_start.as_deref(), true)?,
            allow_unsafe_database: flag(
                "ALLOW_UNSAFE_DATABASE",
                raw.allow_unsafe_database.as_deref(),
                false,
            )?,
            host: address("HOST", raw.host, IpAddr::V4(Ipv4Addr::LOCALHOST))?,
            port: number("PORT", raw.port, 8080, 0..=u16::MAX)?,
            metrics_addr: socket_address("METRICS_ADDR", raw.metrics_addr.as_deref())?,
            tls: tls::server(raw.tls_cert.as_deref(), raw.tls_key.as_deref())?,
            cors_origins: cors_origins(raw.cors_origins.as_deref())?,
            docs: switch("DOCS", raw.docs.as_deref(), true)?,
            max_connections: number("MAX_CONNECTIONS", raw.max_connections, 16_384, 1..=1_000_000)?,
            import_max_bytes: number(
                "IMPORT_MAX_BYTES",
                raw.import_max_bytes,
                upload::DEFAULT_LIMIT,
                1..=1 << 40,
            )?,
            drain_delay: Duration::from_secs(number(
                "DRAIN_DELAY_SECONDS",
                raw.drain_delay_seconds,
                0,
                0..=3600,
            )?),
            jwt_secret: secret("JWT_SECRET", raw.jwt_secret)?,
            jwt_secret_previous: secret("JWT_SECRET_PREVIOUS", raw.jwt_secret_previous)?,
            token_ttl_seconds: number(
                "TOKEN_TTL_SECONDS",
                raw.token_ttl_seconds,
                3600,
                1..=MAX_TOKEN_TTL,
            )?,
            session_idle_seconds: number(
                "SESSION_IDLE_SECONDS",
                raw.session_idle_seconds,
                7 * DAY,
                1..=365 * DAY,
            )?,
            session_max_seconds: number(
                "SESSION_MAX_SECONDS",
                raw.session_max_seconds,
                30 * DAY,
                1..=365 * DAY,
            )?,
            bcrypt_cost: number("BCRYPT_COST", raw.bcrypt_cost, 12, 4..=14)?,
            throttle: Throttle {
                per_address: number(
                    "LOGIN_FAILURES_PER_ADDRESS",
                    raw.login_failures_per_address,
                    10,
                    0..=1_000_000,
                )?,
                total: number(
                    "LOGIN_FAILURES_TOTAL",
                    raw.login_failures_total,
                    100,
                    0..=1_000_000,
                )?,
                all_accounts: number(
                    "LOGIN_FAILURES_ALL_ACCOUNTS",
                    raw.login_failures_all_accounts,
                    100,
                    0..=1_000_000,
                )?,
                registrations: number(
                    "REGISTRATIONS_PER_HOUR",
                    raw.registrations_per_hour,
                    100,
                    0..=1_000_000,
                )?,
            },
            registration: registration(raw.registration.as_deref())?,
            trusted_proxies: trusted_proxies(raw.trusted_proxies.as_deref())?,
            workers: number("WORKERS", raw.workers, cores, 1..=1024)?,
            pool_size: number("POOL_SIZE", raw.pool_size, 32, 1..=10_000)?,
            log: log_level(raw.log.as_deref())?,
            log_format: log_format(raw.log_format.as_deref())?,
            warnings: Vec::new(),
        })
    }

    /// What only the service needs beyond the settings of every command.
    pub fn check_for_service(&self) -> Result<(), ConfigError> {
        if self.jwt_secret.is_none() && matches!(self.database, Database::Url(_)) {
            let length = format!("{MIN_SECRET_BYTES} bytes or more");
            return wrong(format!("JWT_SECRET must be set beside DATABASE_URL ({length})"));
        }
        Ok(())
    }
}

/// Drops variables that are not UTF-8 (envy would panic); an error if one is a setting of ours.
fn utf8(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => pairs.push((name, value)),
            Err(_) if NAMES.contains(&name.as_str()) => {
                return wrong(format!("{name} must be UTF-8"));
            }
            Err(_) => {}
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
