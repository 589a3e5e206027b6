//! Sessions that have ended, known without asking the database: what ends here is known at once, what
//! ends on another instance within a second.
//!
//! The set is only trusted while the database has lately been asked for what others have ended. It is
//! asked for what is new, unless the connection or the server is another than before: then for all.
//! That tells nothing of a session that the database has forgotten, because it was put back to an earlier
//! moment or rows were deleted; so the database is asked for each session that is used, every few seconds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::SessionId;
use super::throttle::{REGISTRATION_WINDOW_SECONDS, WINDOW_SECONDS};
use crate::db::connection::Connection;
use crate::db::row::column;
use crate::db::{Pool, SharedConnection, Sql};
use crate::error::{Error, Result};

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How far back it is asked beyond the time before: longer than a statement that ends a session can
/// take.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// By how much the clocks of two servers, or of a server and this machine, may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);
/// How long an answer is trusted.
const TRUSTED_FOR: Duration = Duration::from_secs(2);
/// An answer that takes longer is not trusted.
const SLOW_ANSWER: Duration = Duration::from_secs(2);
/// How long a session that was found in the database is taken to be there.
const FOUND_FOR: Duration = Duration::from_secs(10);
/// Sessions that are taken to be there at most, which is some 3 MiB; with one more all are asked for anew.
const MAX_FOUND: usize = 50_000;
/// How often what is long over is removed, here and in the database.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Live,
    Ended,
    /// The database must be asked.
    Unknown,
}

/// The sessions whose tokens may not have expired but are no longer good.
pub struct EndedSessions {
    noted: RwLock<Noted>,
    /// As long as a token can live, by any clock.
    keep: Duration,
    started: Instant,
    /// Milliseconds after the start up to which the set is complete enough to be trusted.
    trusted_until: AtomicU64,
}

/// What is known of sessions, and since when.
#[derive(Default)]
struct Noted {
    ended: HashMap<SessionId, Instant>,
    /// When the database was asked for each that it has, with its user.
    found: HashMap<(SessionId, i64), Instant>,
}

impl EndedSessions {
    pub fn new(token_ttl_seconds: u32) -> Self {
        Self {
            noted: RwLock::default(),
            keep: Duration::from_secs(u64::from(token_ttl_seconds)) + CLOCKS_DIFFER,
            started: Instant::now(),
            trusted_until: AtomicU64::new(0),
        }
    }

    pub fn standing(&self, session_id: SessionId, user_id: i64) -> Standing {
        let now = Instant::now();
        let noted = self.noted.read().unwrap_or_else(PoisonError::into_inner);
        if noted.ended.contains_key(&session_id) {
            return Standing::Ended;
        }
        let found = noted.found.get(&(session_id, user_id));
        let found = found.is_some_and(|asked| now.saturating_duration_since(*asked) < FOUND_FOR);
        if found && self.milliseconds(now) < self.trusted_until.load(Ordering::Acquire) {
            Standing::Live
        } else {
            Standing::Unknown
        }
    }

    /// Notes that the database has a session of a user that has not ended. `asked` is before it was asked.
    pub fn found(&self, session_id: SessionId, user_id: i64, asked: Instant) {
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        if noted.found.len() >= MAX_FOUND {
            noted.found.clear();
        }
        noted.found.insert((session_id, user_id), asked);
    }

    /// Notes that sessions have ended.
    pub fn end(&self, session_ids: impl IntoIterator<Item = SessionId>) {
        let now = Instant::now();
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        for id in session_ids {
            noted.ended.entry(id).or_insert(now);
        }
    }

    /// Seconds after its end for which a session's tokens matter.
    pub fn keep_seconds(&self) -> i32 {
        i32::try_from(self.keep.as_secs()).unwrap_or(i32::MAX)
    }

    /// Asks the database what has ended since it gave the `last` answer.
    async fn ask(&self, shared: &SharedConnection, last: Option<&Answer>) -> Result<Answer> {
        let asked = Instant::now();
        let answer = Answer::begin(shared).await?;
        let since = match last {
            // The earlier, should the server's clock have been put back.
            Some(last) if last.is_by_the_same_server(&answer) => {
                last.moment.min(answer.moment) - LOOK_BACK
            }
            _ => {
                self.forget_found();
                answer.moment - self.keep
            }
        };
        let rows = shared.query_on(&answer.connection, Sql::SessionsEnded, &[&since]).await?;
        let ids: Vec<SessionId> = rows.iter().map(|row| column(row, 0)).collect::<Result<_>>()?;
        self.end(ids);
        if asked.elapsed() > SLOW_ANSWER {
            // The question may have reached the database so late that it did not look back far enough.
            return Err(Error::DatabaseUnavailable { cause: "the answer came late".to_owned() });
        }
        let until = self.milliseconds(asked + TRUSTED_FOR);
        self.trusted_until.store(until, Ordering::Release);
        Ok(answer)
    }

    /// Forgets which sessions were found, because it may be another database.
    fn forget_found(&self) {
        self.noted.write().unwrap_or_else(PoisonError::into_inner).found.clear();
    }

    fn forget_expired(&self) {
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        noted.ended.retain(|_, noted| noted.elapsed() < self.keep);
        noted.found.retain(|_, asked| asked.elapsed() < FOUND_FOR);
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Who has told what has ended, and up to when.
struct Answer {
    connection: Arc<Connection>,
    /// Which server it was: a connection can outlive a standby's promotion, and through a proxy another
    /// server.
    server: String,
    /// By the server's clock.
    moment: Timestamp,
}

impl Answer {
    async fn begin(shared: &SharedConnection) -> Result<Self> {
        let connection = shared.connection().await?;
        let rows = shared.query_on(&connection, Sql::ServerState, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::internal("the server's state has no row"))?;
        Ok(Self { server: column(row, 0)?, moment: column(row, 1)?, connection })
    }

    fn is_by_the_same_server(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.connection, &next.connection) && self.server == next.server
    }
}

/// Keeps the set up to date for as long as it is polled. Nobody else may use the shared connection.
pub async fn watch(ended: &EndedSessions, shared: &SharedConnection) -> Infallible {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Answer> = None;
    loop {
        ticks.tick().await;
        match ended.ask(shared, last.as_ref()).await {
            Ok(answer) => last = Some(answer),
            Err(error) => {
                let cause = error.cause().unwrap_or_default();
                tracing::warn!(cause, "cannot ask which sessions have ended");
            }
        }
    }
}

/// Removes what no longer matters, here and in the database, for as long as it is polled.
pub async fn sweep(ended: &EndedSessions, pool: &Pool) -> Infallible {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        ended.forget_expired();
        if let Err(error) = sweep_database(ended, pool).await {
            let cause = error.cause().unwrap_or_default();
            tracing::warn!(cause, "cannot remove what is over");
        }
    }
}

async fn sweep_database(ended: &EndedSessions, pool: &Pool) -> Result<()> {
    while !pool.query(Sql::SessionsSweep, &[&ended.keep_seconds()]).await?.is_empty() {}
    while !pool.query(Sql::RegistrationsSweep, &[&REGISTRATION_WINDOW_SECONDS]).await?.is_empty() {}
    loop {
        let row = pool.query_opt(Sql::LoginsSweep, &[&WINDOW_SECONDS]).await?;
        let removed: i64 = row.map_or(Ok(0), |row| column(&row, 0))?;
        if removed == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Trusted for as long as a test takes.
    fn sessions() -> EndedSessions {
        let sessions = EndedSessions::new(3600);
        sessions.trusted_until.store(u64::MAX, Ordering::Release);
        sessions
    }

    #[test]
    fn only_a_session_that_was_lately_found_is_live_without_asking() {
        let sessions = sessions();
        let id = SessionId::random().unwrap();
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.found(id, 1, Instant::now());
        assert_eq!(sessions.standing(id, 1), Standing::Live);
        assert_eq!(sessions.standing(id, 2), Standing::Unknown);
        assert_eq!(sessions.standing(SessionId::random().unwrap(), 1), Standing::Unknown);
        sessions.found(id, 1, Instant::now().checked_sub(FOUND_FOR).unwrap());
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.found(id, 1, Instant::now());
        sessions.forget_found();
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.found(id, 1, Instant::now());
        sessions.trusted_until.store(0, Ordering::Release);
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
    }

    #[test]
    fn a_session_that_has_ended_is_never_live_again() {
        let sessions = sessions();
        let id = SessionId::random().unwrap();
        sessions.end([id]);
        sessions.found(id, 1, Instant::now());
        sessions.forget_expired();
        assert_eq!(sessions.standing(id, 1), Standing::Ended);
    }

    #[test]
    fn sessions_that_were_found_take_bounded_memory() {
        let sessions = sessions();
        for number in 0..=MAX_FOUND {
            let id = SessionId::from_bytes((number as u128).to_be_bytes());
            sessions.found(id, 1, Instant::now());
        }
        let noted = sessions.noted.read().unwrap();
        assert_eq!(noted.found.len(), 1);
        // As much as the comment on the limit says.
        let entry = size_of::<((SessionId, i64), Instant)>() + 1;
        assert!(noted.found.capacity() * entry <= 4 << 20);
    }
}
