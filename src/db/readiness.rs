//! Whether the database answers and accepts writes, polled on a dedicated connection: a health
//! check then reports the state of the database, however busy the pools are.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::ConnectOptions;
use super::connect::ConnectError;
use super::connection::with_limits;
use crate::error::{Error, Result};

/// How often the database is polled.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of one poll. Connecting has its own timeouts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer is valid: the next one must have arrived by then.
const ANSWER_VALID_FOR: Duration = Duration::from_millis(1500);
/// How long a connection to a server that accepts no writes is polled before a new one is made,
/// which may lead to another server.
const READ_ONLY_CONNECTION_LIFE: Duration = Duration::from_secs(5);
/// True if the server accepts no writes: a standby, or one set to read-only.
const QUESTION: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// The latest answer of the database.
pub struct Readiness {
    options: ConnectOptions,
    latest: watch::Sender<Option<Answer>>,
}

struct Answer {
    at: Instant,
    ready: Result<()>,
}

impl Readiness {
    /// Has no answer until it [watches](Self::watch).
    pub fn new(options: &ConnectOptions) -> Self {
        Self { options: with_limits(options), latest: watch::Sender::new(None) }
    }

    /// [`Error::DatabaseUnavailable`] or [`Error::ReadOnly`] unless the latest answer is recent and
    /// good. Waits only for the first answer, for a second at most.
    pub async fn check(&self) -> Result<()> {
        let mut latest = self.latest.subscribe();
        let answered = timeout(ANSWER_TIMEOUT, latest.wait_for(Option::is_some)).await;
        match answered.ok().and_then(Result::ok).as_deref() {
            Some(Some(answer)) if answer.at.elapsed() < ANSWER_VALID_FOR => answer.ready.clone(),
            _ => Err(unavailable("no answer")),
        }
    }

    /// As [`check`](Self::check), without waiting.
    pub fn is_ready(&self) -> bool {
        let recent = |answer: &Answer| answer.at.elapsed() < ANSWER_VALID_FOR;
        self.latest.borrow().as_ref().is_some_and(|answer| recent(answer) && answer.ready.is_ok())
    }

    /// Polls the database; never returns.
    pub async fn watch(&self) -> Infallible {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        loop {
            ticks.tick().await;
            let ready = self.ask(&mut connection).await;
            let stale = |(_, made): &mut (Client, Instant)| match &ready {
                Ok(()) => false,
                Err(Error::ReadOnly) => made.elapsed() > READ_ONLY_CONNECTION_LIFE,
                Err(_) => true,
            };
            let _ = connection.take_if(stale);
            self.latest.send_replace(Some(Answer { at: Instant::now(), ready }));
        }
    }

    /// Polls on this connection, or on a new one.
    async fn ask(&self, connection: &mut Option<(Client, Instant)>) -> Result<()> {
        let open = if let Some(open) = connection.take_if(|(client, _)| !client.is_closed()) {
            open
        } else {
            let made = self.options.connect_fast().await;
            (made.map_err(failed)?.0, Instant::now())
        };
        let (client, _) = connection.insert(open);
        let answered = timeout(ANSWER_TIMEOUT, client.query_one(QUESTION, &[])).await;
        let row = answered.map_err(|_| unavailable("no answer"))?.map_err(failed)?;
        if row.try_get(0).map_err(failed)? { Err(Error::ReadOnly) } else { Ok(()) }
    }
}

fn failed(error: impl Into<ConnectError>) -> Error {
    unavailable(&error.into().describe())
}

fn unavailable(cause: &str) -> Error {
    Error::DatabaseUnavailable { cause: format!("readiness: {cause}") }
}
