//! Whether the database answers and can be written, asked all the time on a connection of its own: however
//! busy the pools are, a load balancer learns about the database and not about them.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::ConnectOptions;
use super::connect::ConnectError;
use super::connection::bounded;
use crate::error::{Error, Result};

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to answer. Connecting has limits of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer counts: until the next one must have come.
const GOOD_FOR: Duration = Duration::from_millis(1500);
/// How long a connection to a server that cannot be written is asked again, before a new one is made: it
/// may lead to another server by then.
const ASK_AGAIN_FOR: Duration = Duration::from_secs(5);
/// True if nothing can be written here: the server is a standby, or told to be read-only.
const QUESTION: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// What the database has answered last.
pub struct Readiness {
    address: ConnectOptions,
    latest: watch::Sender<Option<Answer>>,
}

struct Answer {
    at: Instant,
    ready: Result<()>,
}

impl Readiness {
    /// Knows nothing before it [watches](Self::watch).
    pub fn new(address: &ConnectOptions) -> Self {
        Self { address: bounded(address), latest: watch::Sender::new(None) }
    }

    /// [`Error::DatabaseUnavailable`] or [`Error::ReadOnly`] unless rows could be written a moment ago. Only
    /// the first answer is waited for, a second at most.
    pub async fn check(&self) -> Result<()> {
        let mut latest = self.latest.subscribe();
        let answered = timeout(ANSWER_TIMEOUT, latest.wait_for(Option::is_some)).await;
        match answered.ok().and_then(Result::ok).as_deref() {
            Some(Some(answer)) if answer.at.elapsed() < GOOD_FOR => answer.ready.clone(),
            _ => Err(unavailable("no answer")),
        }
    }

    /// Asks for as long as it is polled.
    pub async fn watch(&self) -> Infallible {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        loop {
            ticks.tick().await;
            let ready = self.ask(&mut connection).await;
            let stale = |(_, made): &mut (Client, Instant)| match &ready {
                Ok(()) => false,
                Err(Error::ReadOnly) => made.elapsed() > ASK_AGAIN_FOR,
                Err(_) => true,
            };
            let _ = connection.take_if(stale);
            self.latest.send_replace(Some(Answer { at: Instant::now(), ready }));
        }
    }

    /// Asks on the connection, or on a new one.
    async fn ask(&self, connection: &mut Option<(Client, Instant)>) -> Result<()> {
        let open = if let Some(open) = connection.take_if(|(client, _)| !client.is_closed()) {
            open
        } else {
            let made = self.address.connect_soon().await;
            (made.map_err(|error| unreachable(&error))?.0, Instant::now())
        };
        let (client, _) = connection.insert(open);
        let answered = timeout(ANSWER_TIMEOUT, client.query_one(QUESTION, &[])).await;
        let row =
            answered.map_err(|_| unavailable("no answer"))?.map_err(|error| failed(&error))?;
        if row.try_get(0).map_err(|error| failed(&error))? { Err(Error::ReadOnly) } else { Ok(()) }
    }
}

fn failed(error: &tokio_postgres::Error) -> Error {
    // The message may quote names; the code does not.
    match error.code() {
        Some(code) => unavailable(&format!("SQLSTATE {}", code.code())),
        None => unavailable(&error.to_string()),
    }
}

fn unreachable(error: &ConnectError) -> Error {
    match error.as_db_error() {
        Some(db) => unavailable(&format!("SQLSTATE {}", db.code().code())),
        None => unavailable(&error.to_string()),
    }
}

fn unavailable(cause: &str) -> Error {
    Error::DatabaseUnavailable { cause: format!("readiness: {cause}") }
}
