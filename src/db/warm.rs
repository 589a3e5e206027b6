//! Warm connections: a worker's shared connection and one of its pool are opened, with their
//! statements, before a request needs them, and opened anew in the background when they are lost.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::connection::REPLACE_INTERVAL;
use super::{Pool, SharedConnection};

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

/// Keeps the connections of a worker open and reports whether they are; never returns. The pool may
/// be any share of the worker's.
pub async fn keep_warm(
    shared: &SharedConnection,
    pool: &Pool,
    warmth: &watch::Sender<Warmth>,
) -> Infallible {
    let mut failing = false;
    loop {
        let warm = shared.is_open() && pool.has_open();
        let (one, other) = tokio::join!(shared.connection(), pool.ensure_open());
        match one.map(drop).and(other) {
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
