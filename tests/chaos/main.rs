//! Faults: whatever dies, falls silent, fills up or leaves, nothing acknowledged is lost, nothing
//! happens twice, and every answer is a success or a 503.
//!
//! Each fault is one function, which runs short as a test, and long as a row of the table that
//! `make chaos` prints. How long something may take depends on the machine, so these bounds are
//! judged in the long form alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The harness is that of the API's tests.
#[path = "../api"]
mod api {
    pub mod harness;
}
mod clients;
mod cuts;
mod history;
mod kills;
mod ledger;
mod load;
mod locks;
mod overload;
mod registers;
mod report;
mod silence;
mod stage;
mod states;
mod wire;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use report::{Form, Report};

/// Does what a fault does and reports it.
type Fault = fn(Form) -> LocalBoxFuture<'static, Report>;

/// All faults by their names.
const FAULTS: [(&str, Fault); 21] = [
    ("service killed", |form| Box::pin(kills::service(form))),
    ("service and PostgreSQL killed", |form| Box::pin(kills::service_and_postgres(form))),
    ("embedded PostgreSQL killed", |form| Box::pin(kills::embedded(form))),
    ("PostgreSQL killed", |form| Box::pin(kills::postgres(form))),
    ("backends terminated", |form| Box::pin(kills::backends(form))),
    ("PostgreSQL stopped", |form| Box::pin(silence::stopped(form))),
    ("network silent", |form| Box::pin(silence::network(form))),
    ("create cut", |form| Box::pin(cuts::without_keys(form))),
    ("create cut and repeated", |form| Box::pin(cuts::with_keys(form))),
    ("table locked", |form| Box::pin(locks::table(form))),
    ("row locked", |form| Box::pin(locks::row(form))),
    ("database read-only", |form| Box::pin(states::read_only(form))),
    ("connections taken", |form| Box::pin(states::connections_taken(form))),
    ("disk full", |form| Box::pin(states::disk_full(form))),
    ("clients leave", |form| Box::pin(clients::leave(form))),
    ("stop under load", |form| Box::pin(clients::stop(form))),
    ("stop beside new clients", |form| Box::pin(clients::stop_beside_new_clients(form))),
    ("few descriptors", |form| Box::pin(clients::few_descriptors(form))),
    ("overload", |form| Box::pin(overload::open_loop(form))),
    ("registers", |form| Box::pin(registers::registers(form))),
    ("registers beside a killed service", |form| Box::pin(registers::registers_of_a_service(form))),
];

/// Prints a Markdown table of all faults, or of those that `ROWS` names, separated by commas.
#[tokio::test]
#[ignore = "too long for every run: make chaos"]
async fn every_bound_holds() {
    let rows = std::env::var("ROWS").unwrap_or_default();
    let rows: Vec<_> = rows.split(',').map(str::trim).filter(|row| !row.is_empty()).collect();
    for row in &rows {
        assert!(FAULTS.iter().any(|(name, _)| name == row), "there is no row {row:?}");
    }
    println!("| fault | figure | measured | bound | held |\n|---|---|---|---|---|");
    let mut failed = Vec::new();
    for (name, fault) in FAULTS {
        if !rows.is_empty() && !rows.contains(&name) {
            continue;
        }
        let started = Instant::now();
        // One that fails early does not keep the others from being tried.
        let report = AssertUnwindSafe(fault(Form::Long)).catch_unwind().await;
        let mut report = report.unwrap_or_else(|_| Report::of_failure());
        report.tell("took", &format!("{} s", started.elapsed().as_secs()));
        if !report.print(name) {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "not held: {failed:?}");
}
