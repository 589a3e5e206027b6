//! The heartbeat: whether the database answers and accepts writes, polled on a dedicated connection.
//! A health check then reports the state of the database, however busy the pools are, and requests
//! need not find out by waiting that it is away. And whether the workers have their connections.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::connect::ConnectError;
use super::connection::{Purpose, with_limits};
use super::pulse::{Pulse, REPLACE_INTERVAL};
use super::{ConnectOptions, Warmth};
use crate::error::{Error, Result};

/// How often the database is polled.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// After this time without an answer the database counts as away. It is far longer than an answer
/// takes on a busy machine, and with the interval shorter than the second after which a silent
/// database must be noticed.
const SILENCE: Duration = Duration::from_millis(600);
/// How often another attempt to connect begins while the others have not ended: one that began
/// during the silence of a network may never end.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(500);
/// How long the first answer on a new connection may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is valid: the next one must have arrived by then.
const ANSWER_VALID_FOR: Duration = Duration::from_millis(1500);
/// How long a check waits for what is not known yet at the start.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a worker may be without its connections. They are usually opened anew within
/// milliseconds, which must not take the instance out of a load balancer: the others have lost
/// theirs at the same moment.
const MAX_COLD: Duration = Duration::from_secs(5);
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
    pulse: Arc<Pulse>,
    latest: watch::Sender<Option<Answer>>,
    workers: Mutex<Vec<watch::Receiver<Warmth>>>,
}

struct Answer {
    at: Instant,
    ready: Result<()>,
}

/// The connection of the heartbeat.
struct Heart {
    client: ClientWrapper,
    question: Statement,
    opened: Instant,
}

/// An answer, or why there is none.
type Beat = Result<Result<()>, ConnectError>;

impl Readiness {
    /// Has no answer until it [watches](Self::watch).
    pub fn new(options: &ConnectOptions, pulse: Arc<Pulse>) -> Self {
        Self {
            options: with_limits(options, Purpose::Usual),
            pulse,
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
        let mut heart = None;
        loop {
            ticks.tick().await;
            let mut beat = pin!(self.beat(&mut heart));
            let beat = if let Ok(beat) = timeout(SILENCE, &mut beat).await {
                beat
            } else {
                self.report(Err(ConnectError::Silent));
                beat.await
            };
            self.report(beat);
        }
    }

    fn report(&self, beat: Beat) {
        self.pulse.set_away(beat.as_ref().is_err_and(is_away));
        let ready = beat.map_err(failed).flatten();
        self.latest.send_replace(Some(Answer { at: Instant::now(), ready }));
    }

    /// Polls on this connection, or on a new one if it is lost, silent or leads to a server that
    /// takes no changes: the address may lead to another by now.
    async fn beat(&self, heart: &mut Option<Heart>) -> Beat {
        let was_read_only =
            matches!(&*self.latest.borrow(), Some(Answer { ready: Err(Error::ReadOnly), .. }));
        let mut doubted = self.pulse.is_doubted();
        let (new, answer) = match heart.take() {
            None => self.open().await?,
            Some(old) => {
                let another = async {
                    sleep(SILENCE).await;
                    self.open().await
                };
                tokio::select! {
                    answer = old.ask() => match answer {
                        Ok(answer) => {
                            if was_read_only && answer.is_ok() {
                                // It was promoted, and so all connections are good again.
                                self.pulse.settle();
                                doubted = false;
                            }
                            let is_suspect = doubted || matches!(answer, Err(Error::ReadOnly));
                            if !is_suspect || old.opened.elapsed() < REPLACE_INTERVAL {
                                *heart = Some(old);
                                return Ok(answer);
                            }
                            self.open().await?
                        }
                        Err(_) => self.open().await?,
                    },
                    new = another => {
                        let new = new?;
                        // The other connections lead where this one did.
                        self.pulse.replace_all();
                        new
                    }
                }
            }
        };
        if doubted && answer.is_ok() {
            self.pulse.renew();
        }
        *heart = Some(new);
        Ok(answer)
    }

    /// Opens a connection by the first of several attempts that ends well.
    async fn open(&self) -> Result<(Heart, Result<()>), ConnectError> {
        let mut attempts = FuturesUnordered::new();
        let mut ticks = interval(ATTEMPT_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => attempts.push(self.attempt()),
                Some(opened) = attempts.next() => {
                    if opened.is_ok() || attempts.is_empty() {
                        return opened;
                    }
                }
            }
        }
    }

    /// A connection with its first answer.
    async fn attempt(&self) -> Result<(Heart, Result<()>), ConnectError> {
        let opened = Instant::now();
        let (client, task) = self.options.connect_fast().await?;
        // Closes the connection when it is dropped, also if that has not answered.
        let client = ClientWrapper::new(client, task);
        let asking = async {
            let question = client.prepare(QUESTION).await?;
            let heart = Heart { client, question, opened };
            let answer = heart.ask().await?;
            Ok((heart, answer))
        };
        timeout(ATTEMPT_TIMEOUT, asking).await.map_err(|_| ConnectError::Silent)?
    }
}

impl Heart {
    /// The server's answer. An error of PostgreSQL's is one too, unless it ends the connection.
    async fn ask(&self) -> Beat {
        let row = match self.client.query_one(&self.question, &[]).await {
            Ok(row) => row,
            Err(error) if error.code().is_some() && !self.client.is_closed() => {
                return Ok(Err(failed(error)));
            }
            Err(error) => return Err(error.into()),
        };
        if row.try_get(0)? {
            return Ok(Err(Error::ReadOnly));
        }
        Ok(match row.try_get::<_, Option<&str>>(1)? {
            Some(missing) => Err(Error::NotReady {
                detail: "The service lacks a right in the database.",
                cause: format!("readiness: its role lacks {missing}"),
            }),
            None => Ok(()),
        })
    }
}

/// Whether there is nobody to answer requests: the server is silent, gone, stopping or starting. One
/// that refuses or ends this connection for another reason may serve those that are open.
fn is_away(error: &ConnectError) -> bool {
    let ConnectError::Refused(error) = error else { return true };
    error.code().is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW)
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
        let readiness = Readiness::new(&options.unwrap(), Arc::default());
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
