//! The workers' connections to the database, and what is on them.

use std::fmt;
use std::sync::Arc;

use super::requests::SECONDS;
use super::{Page, sum, total};
use crate::app::App;
use crate::metrics::{BatchMetrics, Histogram, ShareMetrics, WorkerMetrics};

pub fn write(page: &mut Page<'_>, app: &App, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let help = "1 if the database answers and can be written.";
    page.gauge("database_ready", help, usize::from(app.readiness.is_ready()))?;
    let help = "Connections that were opened to the database, also anew.";
    let opened = total(workers, |worker| worker.database_connections.opened.get());
    page.counter("database_connections_opened", help, opened)?;
    let help = "Connections to the database that could not be opened.";
    let failed = total(workers, |worker| worker.database_connections.failed.get());
    page.counter("database_connection_failures", help, failed)?;
    let help = "How often a worker replaced all its connections, because the server has changed.";
    let replaced = total(workers, |worker| worker.database_connections.replaced.get());
    page.counter("database_connection_replacements", help, replaced)?;
    let help = "Shared connections that were opened, also anew.";
    let opened = total(workers, |worker| worker.shared_connection.opened.get());
    page.counter("database_shared_connections_opened", help, opened)?;
    let help = "Statements under way on the shared connections.";
    let in_flight = sum(workers, |worker| worker.shared_connection.in_flight.get());
    page.gauge("database_shared_statements", help, in_flight)?;
    shares(page, workers)?;
    batches(page, workers)
}

fn shares(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let shares = by_name(workers, |worker| &worker.shares);
    let gauges = |of: fn(&ShareMetrics) -> usize| {
        let shares = shares.iter();
        shares.map(move |(name, shares)| ([("share", *name)], shares.iter().map(|s| of(s)).sum()))
    };
    let help = "Connections that a share of the pool may have at the same time.";
    page.gauges("database_pool_size", help, gauges(|share| share.size))?;
    let help = "Of these, in use.";
    page.gauges("database_pool_in_use", help, gauges(|share| share.in_use.get()))?;
    let help = "Requests that wait for a connection of the share.";
    page.gauges("database_pool_waiting", help, gauges(|share| share.waiting.get()))?;
    let help = "How long requests waited that did not get a connection at once.";
    let waits = shares.iter().filter_map(|(name, shares)| {
        Some(([("share", *name)], merged(shares.iter().map(|share| share.waits.get()))?))
    });
    page.histograms("database_pool_wait_seconds", help, SECONDS, waits)
}

fn batches(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let batches = by_name(workers, |worker| &worker.batches);
    let gauges = |of: fn(&BatchMetrics) -> usize| {
        let batches = batches.iter();
        batches.map(move |(name, all)| ([("batch", *name)], all.iter().map(|b| of(b)).sum()))
    };
    let help = "Requests that one statement has served.";
    let sizes = batches.iter().filter_map(|(name, batches)| {
        Some(([("batch", *name)], merged(batches.iter().map(|batch| batch.sizes.get()))?))
    });
    page.histograms("database_batch_requests", help, 1.0, sizes)?;
    let help = "Requests that waited for the statement before theirs.";
    let waits = batches.iter().map(|(name, batches)| {
        ([("batch", *name)], batches.iter().map(|batch| batch.waits.get()).sum())
    });
    page.counters("database_batch_waits", help, waits)?;
    let help = "Requests that wait now.";
    page.gauges("database_batch_waiting", help, gauges(|batch| batch.waiting.get()))?;
    let help = "Statements under way.";
    page.gauges("database_batch_statements", help, gauges(|batch| batch.in_flight.get()))
}

/// Each name with what all workers have of it. They have the same in the same order.
fn by_name<T>(
    workers: &[Arc<WorkerMetrics>],
    named: impl Fn(&WorkerMetrics) -> &Vec<(&'static str, Arc<T>)>,
) -> Vec<(&'static str, Vec<Arc<T>>)> {
    let first = workers.first().map(|worker| named(worker)).into_iter().flatten();
    first
        .enumerate()
        .map(|(at, (name, _))| {
            let all = workers.iter().filter_map(|worker| named(worker).get(at));
            (*name, all.map(|(_, metrics)| Arc::clone(metrics)).collect())
        })
        .collect()
}

fn merged(histograms: impl Iterator<Item = Histogram>) -> Option<Histogram> {
    histograms.reduce(|mut sum, histogram| {
        sum.merge(&histogram);
        sum
    })
}
