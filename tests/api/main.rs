//! The service's tests, from outside: real sockets, real PostgreSQL, nothing to start by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod attacks;
mod auth;
mod bad_input;
mod collections;
mod constraints;
mod crashes;
mod doctors;
mod edge;
mod embedded;
mod failover;
mod failures;
mod fairness;
mod harness;
mod identity;
mod layers;
mod limits;
mod lists;
mod logins;
mod logs;
mod mappings;
mod memory;
mod openapi;
mod patients;
mod program;
mod properties;
mod resources;
mod restores;
mod sessions;
mod settings;
mod sql_files;
mod tls;
mod upgrades;
