//! The counters of all workers, added up, in Prometheus' text format.

mod database;
mod process;
mod requests;

use std::fmt;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE as PROMETHEUS_TEXT, encode};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::Response;
use crate::http::response::{Body, empty};
use crate::metrics::{Histogram, WorkerMetrics};
use crate::worker::Worker;

use process::Process;

/// What the names of our own metrics begin with.
const PREFIX: &str = "healthcare";
/// No label.
const NONE: [(&str, &str); 0] = [];

/// Only where everybody can ask does a response count against what may be held for everybody:
/// clients must not keep the operators' address from being answered, and it has few connections.
pub async fn metrics(worker: &Worker) -> Result<Response> {
    let app = Arc::clone(&worker.app);
    // It reads files of the system, and no other request of this worker shall wait for that.
    let text = tokio::task::spawn_blocking(move || text(app)).await;
    let text = text.map_err(|_| Error::internal("the metrics have failed"))??;
    let bytes = if worker.app.config.metrics_addr.is_some() {
        text.into()
    } else {
        worker.anyones_allowance().lease(text.len()).await?.keep(text.into())
    };
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = Body::Whole(bytes);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS_TEXT));
    Ok(response)
}

fn text(app: Arc<App>) -> Result<String> {
    let mut registry = Registry::default();
    // The names of a process are the same everywhere.
    registry.register_collector(Box::new(Process));
    registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(Service(app)));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Error::internal(error.to_string()))?;
    Ok(text)
}

/// All that is ours.
struct Service(Arc<App>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Collector for Service {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let app = &*self.0;
        let workers = app.metrics.workers();
        let mut page = Page(encoder);
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        page.0
            .encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&build)?;
        requests::write(&mut page, app, &workers)?;
        database::write(&mut page, app, &workers)?;
        accounts(&mut page, app)
    }
}

/// Passwords and sessions.
fn accounts(page: &mut Page<'_>, app: &App) -> fmt::Result {
    let (queued, capacity) = app.passwords.queue();
    let help = "Logins and registrations that wait for a thread that hashes, or have one.";
    page.gauge("password_hash_queue", help, queued)?;
    let help = "The most of these; one more is refused.";
    page.gauge("password_hash_queue_limit", help, capacity)?;
    let help = "Logins and registrations refused because the queue was full or too slow.";
    page.counter("password_hash_refusals", help, app.passwords.refused())?;
    let help = "Wrong passwords.";
    page.counter("failed_logins", help, app.metrics.failed_logins.get())?;
    let help = "Ended sessions that are known here, whose tokens are refused without a query.";
    page.gauge("ended_sessions", help, app.ended_sessions.count())
}

/// The metrics that are being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.gauges(name, help, [(NONE, value)])
    }

    /// One for each set of labels.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, usize)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// `_total` is added to the name.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(NONE, value)])
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// `_seconds_total` is added to the name.
    fn seconds_total(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut metric = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// Histograms of values of which `units` make one of the metric's.
    fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        units: f64,
        series: impl IntoIterator<Item = (L, Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in series {
            let buckets: Vec<(f64, u64)> =
                histogram.buckets().map(|(bound, count)| (float(bound) / units, count)).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                float(histogram.sum()) / units,
                histogram.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// Prometheus has no other numbers.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53, which is 285 years of microseconds"
)]
fn float(number: u64) -> f64 {
    number as f64
}

/// The sum over all workers.
fn sum(workers: &[Arc<WorkerMetrics>], of: impl Fn(&WorkerMetrics) -> usize) -> usize {
    workers.iter().map(|worker| of(worker)).sum()
}

/// The same of what only grows.
fn total(workers: &[Arc<WorkerMetrics>], of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    workers.iter().map(|worker| of(worker)).sum()
}
