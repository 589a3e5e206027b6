//! Requests and the connections of clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Page, sum, total};
use crate::app::App;
use crate::metrics::{ConnectionMetrics, Histogram, WorkerMetrics};

/// Recorded in microseconds.
pub const SECONDS: f64 = 1e6;

pub fn write(page: &mut Page<'_>, app: &App, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    // Sorted, so that two scrapes are easy to compare.
    let mut counts: BTreeMap<(&str, &str, u16), u64> = BTreeMap::new();
    let mut latencies: BTreeMap<&str, Histogram> = BTreeMap::new();
    for route in workers.iter().flat_map(|worker| worker.requests.routes()) {
        for ((method, status), count) in route.counts {
            *counts.entry((route.label, method, status)).or_default() += count;
        }
        latencies
            .entry(route.label)
            .and_modify(|sum| sum.merge(&route.latency))
            .or_insert(route.latency);
    }
    let help = "Requests by route, method and status. 499 is a request without an answer, - a path \
                that does not exist.";
    let counts = counts.into_iter().map(|((route, method, status), count)| {
        let labels = [("route", route), ("method", method)];
        ((labels, [("status", u32::from(status))]), count)
    });
    page.counters("http_requests", help, counts)?;
    let help = "From the head of a request to the head of its answer.";
    let latencies = latencies.into_iter().map(|(route, latency)| ([("route", route)], latency));
    page.histograms("http_request_duration_seconds", help, SECONDS, latencies)?;
    let help = "Requests without an answer so far.";
    let in_flight = sum(workers, |worker| worker.requests.in_flight.get());
    page.gauge("http_requests_in_flight", help, in_flight)?;
    connections(page, app, workers)
}

fn connections(page: &mut Page<'_>, app: &App, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let of =
        |gauge: fn(&ConnectionMetrics) -> usize| sum(workers, |worker| gauge(&worker.connections));
    let (open, handshaking, answering) = (
        of(|connections| connections.open.get()),
        of(|connections| connections.handshaking.get()),
        of(|connections| connections.answering.get()),
    );
    let help = "Open connections: in a TLS handshake, waiting for a request, answering one.";
    let states = [
        ([("state", "handshake")], handshaking),
        ([("state", "waiting")], open.saturating_sub(handshaking + answering)),
        ([("state", "answering")], answering),
    ];
    page.gauges("connections", help, states)?;
    page.gauge("connections_limit", "MAX_CONNECTIONS.", app.config.max_connections)?;
    let accepted = total(workers, |worker| worker.connections.accepted.get());
    page.counter("connections_accepted", "Connections that were accepted.", accepted)?;
    let help = "Requests answered as overloaded, and connections beyond the limit.";
    let refused = [
        ([("what", "request")], total(workers, |worker| worker.requests.refused.get())),
        ([("what", "connection")], app.metrics.refused_connections.get()),
    ];
    page.counters("overload_refusals", help, refused)
}
