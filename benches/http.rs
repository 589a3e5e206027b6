//! Whole requests over 1 and 64 keep-alive connections: to the service, and to two lower bounds, a
//! socket that responds without parsing and bare hyper.
//!
//! Run with `cargo bench --bench http`, or a part of it with `cargo bench --bench http -- page`. It
//! starts its own PostgreSQL. One thread is the client and one the server; requests are not logged.
//! The time is that of one request on every connection; elements are requests. Creating is durable,
//! so it measures the disk too.
//!
//! On 2 cores of an Intel Xeon, PostgreSQL 15, 2026-11-23, with 1 and 64 connections: without
//! parsing 95 and 321 us, bare hyper 84 and 317 us, live 87 and 438 us, get 132 and 1,128 us, page
//! 283 and 6,951 us, create 442 and 3,112 us. Other runs within the hour took up to a third more.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "http/client.rs"]
mod client;
mod fixture;
#[path = "http/servers.rs"]
mod servers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use client::Client;
use criterion::{BenchmarkId, Criterion, Throughput};
use fixture::{EACH, Fixture, PATIENT, PATIENTS, session_id};
use futures_util::future::join_all;
use healthcare_backend::app::App;
use servers::Server;

const CONNECTIONS: [u32; 2] = [1, 64];

fn main() {
    let mut criterion = fixture::criterion();
    let fixture = Fixture::start();
    let app = servers::app(&fixture);
    let requests = Requests::new(&app);
    let (floor, hyper, service) = (Server::floor(), Server::hyper(), Server::service(app));
    for (name, server, requests) in [
        ("answer without looking", &floor, &requests.live),
        ("bare hyper", &hyper, &requests.live),
        ("live", &service, &requests.live),
        ("get a patient", &service, &requests.get),
        ("page of 50", &service, &requests.page),
        ("create a patient", &service, &requests.create),
    ] {
        measure(&mut criterion, name, server.address, requests);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, name: &str, address: SocketAddr, requests: &[String]) {
    let runtime = fixture::runtime();
    let mut group = criterion.benchmark_group(name);
    for connections in CONNECTIONS {
        group.throughput(Throughput::Elements(connections.into()));
        group.bench_function(BenchmarkId::from_parameter(connections), |bencher| {
            let mut clients = runtime.block_on(connect(address, connections));
            bencher.iter_custom(|times| runtime.block_on(ask(&mut clients, requests, times)));
        });
    }
    group.finish();
}

async fn connect(address: SocketAddr, connections: u32) -> Vec<Client> {
    join_all((0..connections).map(|_| Client::connect(address))).await
}

/// The time in which concurrent clients each make this many sequential requests.
async fn ask(clients: &mut [Client], requests: &[String], times: u64) -> Duration {
    let (step, times) = (clients.len(), usize::try_from(times).unwrap());
    let asking = clients.iter_mut().enumerate().map(|(at, client)| async move {
        for turn in 0..times {
            client.ask(requests[(at + turn * step) % requests.len()].as_bytes()).await;
        }
    });
    let start = Instant::now();
    join_all(asking).await;
    start.elapsed()
}

/// The requests, serialized before the measurement.
struct Requests {
    live: Vec<String>,
    /// One for each patient.
    get: Vec<String>,
    /// The first page of each user, and further pages of the same length.
    page: Vec<String>,
    create: Vec<String>,
}

impl Requests {
    fn new(app: &App) -> Self {
        let users = 1..=PATIENTS / EACH;
        let token = |user| app.keys.sign(user, session_id(user), u64::MAX).unwrap().token;
        let tokens: Vec<String> = users.map(token).collect();
        let for_each = |target: &str, from: i64, to: i64| {
            let mut requests = Vec::new();
            for id in from..to {
                for (owner, token) in (0..).zip(&tokens) {
                    let target = format!("{target}{}", owner * EACH + id);
                    requests.push(request("GET", &target, Some(token), ""));
                }
            }
            requests
        };
        let create = |token| request("POST", "/api/patients", Some(token), PATIENT);
        Self {
            live: vec![request("GET", "/health/live", None, "")],
            get: for_each("/api/patients/", 1, EACH + 1),
            page: for_each("/api/patients?limit=50&after=", 0, EACH - 50),
            create: tokens.iter().map(create).collect(),
        }
    }
}

fn request(method: &str, target: &str, token: Option<&String>, body: &str) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
    };
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{token}{length}\r\n{body}")
}
