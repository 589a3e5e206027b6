//! Parsing and checking the values of single settings.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

use super::{ConfigError, LogFormat, Registration, wrong};
use crate::auth::client_address::TrustedProxies;
use crate::db::ConnectOptions;
use crate::http::cors::Origins;
use crate::secret::{MIN_SECRET_BYTES, Secret};

pub fn database_url(url: &str, roots: Option<&str>) -> Result<ConnectOptions, ConfigError> {
    ConnectOptions::parse(url, roots.filter(|roots| *roots != "system").map(Path::new))
        .or_else(|error| wrong(format!("DATABASE_URL {error}")))
}

pub fn cors_origins(value: Option<&str>) -> Result<Origins, ConfigError> {
    let Some(value) = value else { return Ok(Origins::default()) };
    match value.parse() {
        Ok(origins) => Ok(origins),
        Err(()) => wrong("CORS_ORIGINS must be origins like https://app.example.com, with commas"),
    }
}

/// A secret of sufficient length, if it is set.
pub fn secret(name: &str, value: Option<String>) -> Result<Option<Secret>, ConfigError> {
    match value.map(Secret::new) {
        None => Ok(None),
        Some(Some(secret)) => Ok(Some(secret)),
        Some(None) => wrong(format!("{name} must have {MIN_SECRET_BYTES} bytes or more")),
    }
}

pub fn trusted_proxies(value: Option<&str>) -> Result<TrustedProxies, ConfigError> {
    let Some(value) = value else { return Ok(TrustedProxies::default()) };
    value.parse().or_else(|must_be| wrong(format!("TRUSTED_PROXIES {must_be}")))
}

pub fn number<T>(
    name: &str,
    value: Option<String>,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let Some(value) = value else { return Ok(default) };
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => wrong(format!(
            "{name} must be a whole number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

pub fn flag(name: &str, value: Option<&str>, default: bool) -> Result<bool, ConfigError> {
    match value {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => wrong(format!("{name} must be true or false")),
    }
}

pub fn switch(name: &str, value: Option<&str>, default: bool) -> Result<bool, ConfigError> {
    match value {
        None => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(_) => wrong(format!("{name} must be on or off")),
    }
}

pub fn address(name: &str, value: Option<String>, default: IpAddr) -> Result<IpAddr, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    match value.parse() {
        Ok(address) => Ok(address),
        Err(_) => wrong(format!("{name} must be an IP address, for example 127.0.0.1 or ::")),
    }
}

pub fn socket_address(name: &str, value: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    match value.map(str::parse).transpose() {
        Ok(address) => Ok(address),
        Err(_) => wrong(format!(
            "{name} must be an IP address and a port, for example 127.0.0.1:9464 or [::]:9464"
        )),
    }
}

pub fn registration(value: Option<&str>) -> Result<Registration, ConfigError> {
    match value {
        None | Some("open") => Ok(Registration::Open),
        Some("closed") => Ok(Registration::Closed),
        Some(_) => wrong("REGISTRATION must be open or closed"),
    }
}

pub fn log_level(value: Option<&str>) -> Result<LevelFilter, ConfigError> {
    match value {
        None | Some("info") => Ok(LevelFilter::INFO),
        Some("off") => Ok(LevelFilter::OFF),
        Some("error") => Ok(LevelFilter::ERROR),
        Some("warn") => Ok(LevelFilter::WARN),
        Some("debug") => Ok(LevelFilter::DEBUG),
        Some("trace") => Ok(LevelFilter::TRACE),
        Some(_) => wrong("LOG must be off, error, warn, info, debug or trace"),
    }
}

pub fn log_format(value: Option<&str>) -> Result<LogFormat, ConfigError> {
    match value {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(_) => wrong("LOG_FORMAT must be text or json"),
    }
}
