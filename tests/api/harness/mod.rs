//! What every test stands on: a private PostgreSQL, a fresh database, the real server on a free port,
//! and clients that check what every answer must hold.

mod client;
mod cluster;
mod database;
mod server;

pub use client::{Answer, Client};
pub use cluster::{cluster, random};
pub use database::TestDb;
pub use server::{JWT_SECRET, TestServer, config};
