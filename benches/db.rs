//! Every statement of the service as it runs there, short reads on a shared connection and all on
//! the pool, with 1, 8 and 64 concurrent clients, next to `SELECT 1` on a bare connection; and rows
//! serialized to JSON.
//!
//! Run with `cargo bench --bench db`, or a part of it with `cargo bench --bench db --
//! patients/get`. It starts its own PostgreSQL. A name is a file under `sql/`, where the statement
//! runs, and the number of clients. The time is that of one statement of every client; elements are
//! statements. Writes are durable, so they measure the disk too.
//!
//! On 2 cores of an Intel Xeon, PostgreSQL 15, 2026-11-23, with 1, 8 and 64 clients: `SELECT 1` 89,
//! 87 and 253 us; `patients/get` on the shared connection 95, 104 and 756 us, on the pool 81, 179
//! and 1,270 us; `patients/get_many` of 32 patients on the shared connection 176, 905 and 8,806 us,
//! with 8 clients 283,000 patients a second where single ones are 77,000; `patients/create` 450,
//! 1,139 and 6,492 us; `patients/create_many` of 32 patients 1,257, 5,540 and 30,859 us, with 64
//! clients 66,000 patients a second where single ones are 9,900. JSON of 1, 20 and 100 patients
//! 0.8, 10.2 and 50.7 us.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "db/calls.rs"]
mod calls;
mod fixture;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Once;
use std::time::{Duration, Instant};

use calls::{Call, Kind, call, supply};
use criterion::{BenchmarkId, Criterion, Throughput};
use fixture::Fixture;
use futures_util::future::join_all;
use healthcare_backend::db::connection::Parameter;
use healthcare_backend::db::{FromRow, Pool, SharedConnection, Sql};
use healthcare_backend::error::Result;
use healthcare_backend::json::WriteJson;
use healthcare_backend::models::patient::Patient;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Row};

const CLIENTS: [u32; 3] = [1, 8, 64];
/// The default of a whole process, here on one thread.
const POOL_SIZE: usize = 32;

fn main() {
    let mut criterion = fixture::criterion();
    let fixture = Fixture::start();
    let runtime = fixture::runtime();
    let database = runtime.block_on(Database::connect(&fixture));
    bare(&mut criterion, &runtime, &database);
    for sql in Sql::ALL {
        statement(&mut criterion, &runtime, &database, *sql);
    }
    json(&mut criterion, &runtime, &database);
    criterion.final_summary();
}

/// The lower bound of any query.
fn bare(criterion: &mut Criterion, runtime: &Runtime, database: &Database) {
    let mut group = criterion.benchmark_group("SELECT 1");
    for clients in CLIENTS {
        group.throughput(Throughput::Elements(clients.into()));
        group.bench_function(BenchmarkId::new("bare", clients), |bencher| {
            bencher.iter_custom(|times| runtime.block_on(database.select_one(clients, times)));
        });
    }
    group.finish();
}

fn statement(criterion: &mut Criterion, runtime: &Runtime, database: &Database, sql: Sql) {
    let ways = [(Way::SharedConnection, "shared"), (Way::Pool, "pool")];
    let kind = call(sql, 0).kind;
    let tidied = Once::new();
    let mut group = criterion.benchmark_group(sql.file());
    for (way, name) in
        ways.into_iter().filter(|(way, _)| kind == Kind::ShortRead || *way == Way::Pool)
    {
        for clients in CLIENTS {
            group.throughput(Throughput::Elements(clients.into()));
            group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                tidied.call_once(|| database.tidy(kind));
                bencher.iter_custom(|times| {
                    runtime.block_on(database.measure(way, sql, clients, times))
                });
            });
        }
    }
    group.finish();
}

/// Rows as in the response of a list. Only a database can produce a `Row`, so this is not in
/// `micro.rs`.
fn json(criterion: &mut Criterion, runtime: &Runtime, database: &Database) {
    database.tidy(Kind::Read);
    let rows = runtime.block_on(database.patients());
    for (name, count) in [("json, 1 row", 1), ("json, 20 rows", 20), ("json, 100 rows", 100)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| write(black_box(&rows[..count])));
        });
    }
}

fn write(rows: &[Row]) -> Vec<u8> {
    let mut bytes = vec![b'['];
    for row in rows {
        if bytes.last() != Some(&b'[') {
            bytes.push(b',');
        }
        Patient::from_row(row, 0).unwrap().write_json(&mut bytes);
    }
    bytes.push(b']');
    bytes
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    SharedConnection,
    Pool,
}

/// What a worker has, and a bare connection.
struct Database<'s> {
    fixture: &'s Fixture,
    pool: Pool,
    shared: SharedConnection,
    bare: Client,
    /// Calls made so far.
    count: Cell<i64>,
    /// Whether rows may differ from the fixture's.
    written: Cell<bool>,
}

impl<'s> Database<'s> {
    async fn connect(fixture: &'s Fixture) -> Self {
        let pool = Pool::new(fixture.connect_options(), POOL_SIZE).unwrap();
        let shared = SharedConnection::new(pool.manager().clone());
        let bare = fixture.connect_options().connect().await.unwrap();
        Self { fixture, pool, shared, bare, count: Cell::default(), written: Cell::default() }
    }

    /// Called before a statement, so that rows written by others are not measured too.
    fn tidy(&self, next: Kind) {
        if self.written.replace(next == Kind::Write) {
            self.fixture.fill();
        }
    }

    /// The time in which `clients` concurrent clients each make this many sequential calls.
    async fn measure(&self, way: Way, sql: Sql, clients: u32, times: u64) -> Duration {
        let calls = self.calls(sql, u64::from(clients) * times).await;
        let parameters: Vec<Vec<Parameter<'_>>> = calls
            .iter()
            .map(|call| call.parameters.iter().map(|value| &**value as Parameter<'_>).collect())
            .collect();
        let rows = calls.first().map_or(0, |call| call.rows);
        let clients = usize::try_from(clients).unwrap();
        // Concurrent calls have consecutive numbers, because those are for different rows.
        let client = async |first: usize| {
            for parameters in parameters.iter().skip(first).step_by(clients) {
                let answer = self.query(way, sql, parameters).await.unwrap();
                assert_eq!(answer.len(), rows, "rows of {}", sql.file());
            }
        };
        let start = Instant::now();
        join_all((0..clients).map(client)).await;
        start.elapsed()
    }

    async fn query(&self, way: Way, sql: Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        match way {
            Way::SharedConnection => self.shared.query(sql, parameters).await,
            Way::Pool => self.pool.query(sql, parameters).await,
        }
    }

    /// Calls with unused numbers.
    async fn calls(&self, sql: Sql, wanted: u64) -> Vec<Call> {
        let wanted = i64::try_from(wanted).unwrap();
        if let Some(supply) = supply(sql) {
            let rows = self.bare.query(supply, &[&wanted]).await.unwrap();
            return rows.iter().map(|row| call(sql, row.get(0))).collect();
        }
        let first = self.count.get();
        self.count.set(first + wanted);
        (first..first + wanted).map(|number| call(sql, number)).collect()
    }

    async fn select_one(&self, clients: u32, times: u64) -> Duration {
        let statement = self.bare.prepare("SELECT 1").await.unwrap();
        let client = async |_| {
            for _ in 0..times {
                self.bare.query(&statement, &[]).await.unwrap();
            }
        };
        let start = Instant::now();
        join_all((0..clients).map(client)).await;
        start.elapsed()
    }

    /// The first patients of one user, as many as fit a chunk.
    async fn patients(&self) -> Vec<Row> {
        let (owner, none) = (1_i64, None::<&str>);
        let parameters: [Parameter<'_>; 5] = [&0_i64, &fixture::EACH, &owner, &none, &none];
        self.pool.query(Sql::PatientsList, &parameters).await.unwrap()
    }
}
