//! The test harness: a private PostgreSQL, a fresh database, the real server on a free port, and
//! clients that check the invariants of every response.
#![allow(dead_code, unused_imports, reason = "each of the two programs of tests uses a part of it")]

mod client;
mod cluster;
mod database;
pub mod description;
mod lock;
mod pause;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod raw;
mod server;
pub mod socket;
mod wait;

pub use client::{Answer, Client};
pub use cluster::{Cluster, cluster, free_port, random};
pub use database::{REQUIREMENTS, TestDb};
pub use lock::Lock;
pub use pause::Pause;
pub use proxy::Proxy;
pub use server::{JWT_SECRET, TestServer};
pub use wait::{until, wait_until};
