//! Warm connections: a worker's shared connections and one of each of its pools are opened before a
//! request needs them, and opened anew in the background when they are lost.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::pulse::{Pulse, REPLACE_INTERVAL};
use super::{Pool, SharedConnection};
use crate::error::Result;

/// How often it is checked whether the connections are open, which asks nothing of the database.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after opening connections, whether or not that succeeded. A server that is away, has
/// no connection left or closes them again is not flooded.
const RENEW_INTERVAL: Duration = REPLACE_INTERVAL;

/// Whether a worker has its connections.
#[derive(Debug, Clone, Copy)]
pub enum Warmth {
    /// The first attempt to open them has not ended.
    Unknown,
    /// They were never open.
    Cold,
    /// They were open then.
    At(Instant),
}

/// Keeps the connections of a worker open and reports whether they are; never returns. Each pool may
/// be any share of it. While the database is away, nothing is tried.
pub async fn keep_warm(
    shared: &[&SharedConnection],
    pools: &[&Pool],
    pulse: &Pulse,
    warmth: &watch::Sender<Warmth>,
) -> Infallible {
    let mut failing = false;
    loop {
        if pulse.is_away() && !matches!(*warmth.borrow(), Warmth::Unknown) {
            sleep(CHECK_INTERVAL).await;
            continue;
        }
        let is_open = |shared: &&SharedConnection| shared.is_open();
        let warm = shared.iter().all(is_open) && pools.iter().all(|pool| pool.has_open());
        match open_all(shared, pools).await {
            Ok(()) => {
                warmth.send_replace(Warmth::At(Instant::now()));
                failing = false;
            }
            Err(error) => {
                let never_open = matches!(*warmth.borrow(), Warmth::Unknown);
                if never_open {
                    warmth.send_replace(Warmth::Cold);
                }
                if !failing {
                    tracing::warn!(cause = error.cause(), "a worker cannot open its connections");
                }
                failing = true;
            }
        }
        sleep(if warm { CHECK_INTERVAL } else { RENEW_INTERVAL }).await;
    }
}

async fn open_all(shared: &[&SharedConnection], pools: &[&Pool]) -> Result<()> {
    let shared = join_all(shared.iter().map(|shared| shared.connection()));
    let pools = join_all(pools.iter().map(|pool| pool.ensure_open()));
    let (shared, pools) = tokio::join!(shared, pools);
    let shared = shared.into_iter().map(|connection| connection.map(drop));
    shared.chain(pools).collect()
}
