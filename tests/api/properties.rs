//! Properties, checked with proptest.

mod lines;
mod merge;
mod pages;
mod paths;
mod races;

use proptest::test_runner::Config;
use tokio::runtime::Runtime;

/// For properties whose cases send requests.
fn config(cases: u32) -> Config {
    Config { cases, max_shrink_iters: 64, failure_persistence: None, ..Config::default() }
}

/// The runtime for requests, because proptest does not support futures.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
