//! What can be stated as a law, checked with whatever proptest comes up with.

mod merge;
mod pages;
mod paths;
mod races;

use proptest::test_runner::Config;
use tokio::runtime::Runtime;

/// For laws whose every case costs requests.
fn config(cases: u32) -> Config {
    Config { cases, max_shrink_iters: 64, failure_persistence: None, ..Config::default() }
}

/// What the requests of a property run on: proptest itself knows nothing of futures.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
