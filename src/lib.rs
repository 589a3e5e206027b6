//! A healthcare backend on hyper and PostgreSQL.
pub mod app;
pub mod auth;
pub mod config;
pub mod db;
pub mod error;
pub mod handlers;
pub mod http;
pub mod log;
pub mod models;
pub mod routes;
pub mod server;
pub mod service;
