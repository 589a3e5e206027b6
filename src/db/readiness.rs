//! Whether the database answers and accepts writes, polled on a dedicated connection: a health
//! check then reports the state of the database, however busy the pools are. And whether the
//! workers have their connections to it.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::connect::ConnectError;
use super::connection::with_limits;
use super::{ConnectOptions, Warmth};
use crate::error::{Error, Result};

/// How often the database is polled.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of one poll. Connecting has its own timeouts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer is valid: the next one must have arrived by then.
const ANSWER_VALID_FOR: Duration = Duration::from_millis(1500);
/// How long a check waits for what is not known yet at the start.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a worker may be without its connections. They are usually opened anew within
/// milliseconds, which must not take the instance out of a load balancer: the others have lost
/// theirs at the same moment.
const MAX_COLD: Duration = Duration::from_secs(5);
/// How long a connection to a server that accepts no writes is polled before a new one is made,
/// which may lead to another server.
const READ_ONLY_CONNECTION_LIFE: Duration = Duration::from_secs(5);
/// Whether the server accepts no writes, as a standby or one set to read-only; and the rights that
/// the statements need and this role does not have. A table that is missing is an error.
const QUESTION: &str = "
    SELECT
        pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
        (
            SELECT string_agg(privilege || ' on ' || relation, ', ')
            FROM (VALUES
                ('users', '{SELECT,INSERT,UPDATE}'::text[]),
                ('patients', '{SELECT,INSERT,UPDATE,DELETE}'),
                ('doctors', '{SELECT,INSERT,UPDATE,DELETE}'),
                ('mappings', '{SELECT,INSERT,DELETE}'),
                ('sessions', '{SELECT,INSERT,UPDATE,DELETE}'),
                ('login_failures', '{SELECT,INSERT,DELETE}'),
                ('login_addresses', '{SELECT,INSERT,UPDATE,DELETE}'),
                ('registrations', '{SELECT,INSERT,DELETE}'),
                ('idempotency_keys', '{SELECT,INSERT,DELETE}')
            ) AS needed (relation, privileges), unnest(privileges) AS privilege
            WHERE NOT has_table_privilege(relation, privilege)
        )";

/// The latest answer of the database, and the connections of the workers.
pub struct Readiness {
    options: ConnectOptions,
    latest: watch::Sender<Option<Answer>>,
    workers: Mutex<Vec<watch::Receiver<Warmth>>>,
}

struct Answer {
    at: Instant,
    ready: Result<()>,
}

impl Readiness {
    /// Has no answer until it [watches](Self::watch).
    pub fn new(options: &ConnectOptions) -> Self {
        Self {
            options: with_limits(options),
            latest: watch::Sender::new(None),
            workers: Mutex::default(),
        }
    }

    /// Adds a worker, without whose connections the instance is not ready.
    pub fn add_worker(&self) -> watch::Sender<Warmth> {
        let (warmth, latest) = watch::channel(Warmth::Unknown);
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(latest);
        warmth
    }

    /// [`Error::NotReady`] or [`Error::ReadOnly`] unless the latest answer is recent and good and
    /// every worker has its connections. Waits only for the first answer and the first attempt to
    /// open them, for 2 s at most.
    pub async fn check(&self) -> Result<()> {
        let mut latest = self.latest.subscribe();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = timeout(FIRST_ANSWER_TIMEOUT, async {
            let _ = latest.wait_for(Option::is_some).await;
            for worker in &mut workers {
                let _ = worker.wait_for(|warmth| !matches!(warmth, Warmth::Unknown)).await;
            }
        })
        .await;
        match &*latest.borrow() {
            Some(answer) if answer.at.elapsed() < ANSWER_VALID_FOR => answer.ready.clone()?,
            _ => return Err(no_answer("no answer")),
        }
        workers.iter().try_for_each(|worker| has_connections(*worker.borrow()))
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
        let row = answered.map_err(|_| no_answer("no answer"))?.map_err(failed)?;
        if row.try_get(0).map_err(failed)? {
            return Err(Error::ReadOnly);
        }
        match row.try_get::<_, Option<&str>>(1).map_err(failed)? {
            Some(missing) => Err(Error::NotReady {
                detail: "The service lacks a right in the database.",
                cause: format!("readiness: its role lacks {missing}"),
            }),
            None => Ok(()),
        }
    }
}

fn has_connections(warmth: Warmth) -> Result<()> {
    let detail = match warmth {
        Warmth::At(then) if then.elapsed() < MAX_COLD => return Ok(()),
        Warmth::At(_) => "The connections to the database are lost and cannot be made anew.",
        Warmth::Unknown | Warmth::Cold => "The connections to the database are not made yet.",
    };
    Err(Error::NotReady { detail, cause: "a worker has no connections".to_owned() })
}

fn failed(error: impl Into<ConnectError>) -> Error {
    no_answer(&error.into().describe())
}

fn no_answer(cause: &str) -> Error {
    let detail = "The database does not answer.";
    Error::NotReady { detail, cause: format!("readiness: {cause}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_ready_once_every_worker_was_and_until_one_is_cold_for_long() {
        let options = ConnectOptions::parse("host=h user=u", None).map_err(|e| e.to_string());
        let readiness = Readiness::new(&options.unwrap());
        let check = async || {
            let answer = Answer { at: Instant::now(), ready: Ok(()) };
            readiness.latest.send_replace(Some(answer));
            readiness.check().await.is_ok()
        };
        let workers = [readiness.add_worker(), readiness.add_worker()];
        let warm = |worker: &watch::Sender<Warmth>| {
            worker.send_replace(Warmth::At(Instant::now()));
        };
        warm(&workers[0]);
        assert!(!check().await, "the other has not tried");
        workers[1].send_replace(Warmth::Cold);
        assert!(!check().await, "the other has failed");
        workers.iter().for_each(warm);
        assert!(check().await);
        advance(MAX_COLD / 2).await;
        assert!(check().await, "both may be renewing theirs");
        warm(&workers[0]);
        advance(MAX_COLD / 2).await;
        assert!(!check().await, "one is cold for too long");
        warm(&workers[1]);
        assert!(check().await);
    }
}
