#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_variables(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

#[test]
fn nothing_set_means_the_embedded_database_on_loopback() {
    let config = config(&[]).unwrap();
    assert!(matches!(config.database, Database::Embedded { data_dir: None, .. }));
    assert_eq!((config.host.to_string().as_str(), config.port), ("127.0.0.1", 8080));
    assert_eq!((config.token_ttl_seconds, config.bcrypt_cost), (3600, 12));
}

#[test]
fn a_wrong_value_is_named_and_a_secret_is_not_shown() {
    let url = ("DATABASE_URL", "postgres://u:hunter2@localhost/db");
    let long = "0123456789abcdef0123456789abcdef";
    for (pairs, name) in [
        (vec![("PORT", "65536")], "PORT"),
        (vec![("PORT", "-1")], "PORT"),
        (vec![("HOST", "example")], "HOST"),
        (vec![("BCRYPT_COST", "15")], "BCRYPT_COST"),
        (vec![("DRAIN_DELAY_SECONDS", "3601")], "DRAIN_DELAY_SECONDS"),
        (vec![("TOKEN_TTL_SECONDS", "0")], "TOKEN_TTL_SECONDS"),
        (vec![("WORKERS", "0")], "WORKERS"),
        (vec![("POOL_SIZE", "many")], "POOL_SIZE"),
        (vec![("REGISTRATION", "Closed")], "REGISTRATION"),
        (vec![("REGISTRATIONS_PER_HOUR", "-1")], "REGISTRATIONS_PER_HOUR"),
        (vec![("MIGRATE_ON_START", "perhaps")], "MIGRATE_ON_START"),
        (vec![("DOCS", "false")], "DOCS"),
        (vec![("LOG", "loud")], "LOG"),
        (vec![("LOG_FORMAT", "JSON")], "LOG_FORMAT"),
        (vec![("METRICS_ADDR", "9464")], "METRICS_ADDR"),
        (vec![("METRICS_ADDR", "127.0.0.1")], "METRICS_ADDR"),
        (vec![("METRICS_ADDR", "localhost:9464")], "METRICS_ADDR"),
        (vec![("JWT_SECRET", "hunter2")], "JWT_SECRET"),
        (vec![("DATABASE_URL", "mysql://hunter2"), ("JWT_SECRET", long)], "DATABASE_URL"),
    ] {
        let message = config(&pairs).err().unwrap().to_string();
        assert!(message.contains(name), "{message}");
        assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
    }
    assert!(config(&[url, ("JWT_SECRET", long)]).is_ok());
}

#[test]
fn the_secret_beside_a_database_is_needed_by_the_service_alone() {
    let url = ("DATABASE_URL", "postgres://u:hunter2@localhost/db");
    let secret = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let wrong = config(&[url]).unwrap().check_for_service().unwrap_err().to_string();
    assert!(wrong.contains("JWT_SECRET"), "{wrong}");
    for enough in [&[url, secret][..], &[]] {
        assert_eq!(config(enough).unwrap().check_for_service(), Ok(()));
    }
}

#[test]
fn the_example_file_lists_every_setting_in_order() {
    let example = include_str!("../../.env.example");
    let listed: Vec<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert_eq!(listed, NAMES);
}
