//! The service's tests, from outside: real sockets, real PostgreSQL, nothing to start by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod logins;
mod patients;
mod sessions;
