//! The set of ended sessions, checked without a query: it has sessions that end on this instance at
//! once, and those that end on others within a second.
//!
//! The set is only trusted while it was refreshed recently. A refresh asks for sessions that ended
//! since the last one, or for all of them if the connection or the server has changed. That does
//! not cover sessions that the database has lost, because it was restored to an earlier moment or
//! rows were deleted, so each session in use is also confirmed by a query every few seconds.

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
use crate::db::once::KEPT_SECONDS;
use crate::db::row::column;
use crate::db::{Pool, SharedConnection, Sql};
use crate::error::{Error, Result};

/// How often the database is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How far each poll reaches back before the last one: longer than a statement that ends a session
/// can run.
const OVERLAP: Duration = Duration::from_secs(10);
/// The most that the clocks of two servers, or of a server and this machine, may differ.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(3600);
/// How long the set is trusted after a poll.
const TRUSTED_FOR: Duration = Duration::from_secs(2);
/// A poll that takes longer is not trusted.
const MAX_POLL_TIME: Duration = Duration::from_secs(2);
/// How long a session counts as confirmed after it was found in the database.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);
/// The most confirmed sessions, some 3 MiB; one more clears them all.
const MAX_CONFIRMED: usize = 50_000;
/// How often expired entries are removed, here and in the database.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The state of a session as far as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Live,
    Ended,
    /// Only the database knows.
    Unknown,
}

/// Sessions that have ended, for as long as their access tokens could be valid.
pub struct EndedSessions {
    known: RwLock<KnownSessions>,
    /// The longest life of a token, with clock skew.
    keep: Duration,
    started: Instant,
    /// Until when the set is complete enough to be trusted, in milliseconds since `started`.
    trusted_until: AtomicU64,
}

/// Known sessions, and since when they are known.
#[derive(Default)]
struct KnownSessions {
    ended: HashMap<SessionId, Instant>,
    /// When each session, with its user, was last found in the database.
    confirmed: HashMap<(SessionId, i64), Instant>,
}

impl EndedSessions {
    pub fn new(token_ttl_seconds: u32) -> Self {
        Self {
            known: RwLock::default(),
            keep: Duration::from_secs(u64::from(token_ttl_seconds)) + MAX_CLOCK_SKEW,
            started: Instant::now(),
            trusted_until: AtomicU64::new(0),
        }
    }

    pub fn standing(&self, session_id: SessionId, user_id: i64) -> Standing {
        let now = Instant::now();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.ended.contains_key(&session_id) {
            return Standing::Ended;
        }
        let confirmed = known.confirmed.get(&(session_id, user_id));
        let confirmed =
            confirmed.is_some_and(|asked| now.saturating_duration_since(*asked) < CONFIRMED_FOR);
        if confirmed && self.milliseconds(now) < self.trusted_until.load(Ordering::Acquire) {
            Standing::Live
        } else {
            Standing::Unknown
        }
    }

    /// Confirms that the database has a live session of this user. `asked` is the time before the
    /// query.
    pub fn confirm(&self, session_id: SessionId, user_id: i64, asked: Instant) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.confirmed.len() >= MAX_CONFIRMED {
            known.confirmed.clear();
        }
        known.confirmed.insert((session_id, user_id), asked);
    }

    /// Adds ended sessions.
    pub fn end(&self, session_ids: impl IntoIterator<Item = SessionId>) {
        let now = Instant::now();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for id in session_ids {
            known.ended.entry(id).or_insert(now);
        }
    }

    /// How many ended sessions are known.
    pub fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).ended.len()
    }

    /// How long an ended session is kept, in seconds.
    pub fn keep_seconds(&self) -> i32 {
        i32::try_from(self.keep.as_secs()).unwrap_or(i32::MAX)
    }

    /// Asks the database which sessions have ended since the `last` answer.
    async fn poll(&self, shared: &SharedConnection, last: Option<&Answer>) -> Result<Answer> {
        let asked = Instant::now();
        let answer = Answer::begin(shared).await?;
        let since = match last {
            // The earlier one, in case the server's clock was set back.
            Some(last) if last.is_by_the_same_server(&answer) => {
                last.moment.min(answer.moment) - OVERLAP
            }
            _ => {
                self.forget_confirmed();
                answer.moment - self.keep
            }
        };
        let rows = shared.query_on(&answer.connection, Sql::SessionsEnded, &[&since]).await?;
        let ids: Vec<SessionId> = rows.iter().map(|row| column(row, 0)).collect::<Result<_>>()?;
        self.end(ids);
        if asked.elapsed() > MAX_POLL_TIME {
            // The query may have run so late that it did not reach back far enough.
            return Err(Error::DatabaseUnavailable { cause: "the answer came late".to_owned() });
        }
        let until = self.milliseconds(asked + TRUSTED_FOR);
        self.trusted_until.store(until, Ordering::Release);
        Ok(answer)
    }

    /// Confirmations do not hold for another database.
    fn forget_confirmed(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).confirmed.clear();
    }

    fn forget_expired(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.ended.retain(|_, at| at.elapsed() < self.keep);
        known.confirmed.retain(|_, asked| asked.elapsed() < CONFIRMED_FOR);
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The source of an answer, and the time up to which it is complete.
struct Answer {
    connection: Arc<Connection>,
    /// The server's identity: a connection can survive a standby's promotion, and a proxy can
    /// switch to another server.
    server: String,
    /// On the server's clock.
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

/// Keeps the set up to date; never returns. The shared connection must have no other user, so that
/// a new one is noticed.
pub async fn watch(ended: &EndedSessions, shared: &SharedConnection) -> Infallible {
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Answer> = None;
    loop {
        ticks.tick().await;
        match ended.poll(shared, last.as_ref()).await {
            Ok(answer) => last = Some(answer),
            Err(error) => {
                let (code, cause) = (error.status_and_code().1, error.cause());
                tracing::warn!(code, cause, "cannot ask which sessions have ended");
            }
        }
    }
}

/// Removes expired entries, here and in the database; never returns.
pub async fn sweep(ended: &EndedSessions, pool: &Pool) -> Infallible {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        ended.forget_expired();
        if let Err(error) = sweep_database(ended, pool).await {
            let (code, cause) = (error.status_and_code().1, error.cause());
            tracing::warn!(code, cause, "cannot remove what is over");
        }
    }
}

async fn sweep_database(ended: &EndedSessions, pool: &Pool) -> Result<()> {
    while !pool.query(Sql::SessionsSweep, &[&ended.keep_seconds()]).await?.is_empty() {}
    while !pool.query(Sql::RegistrationsSweep, &[&REGISTRATION_WINDOW_SECONDS]).await?.is_empty() {}
    while !pool.query(Sql::IdempotencyKeysSweep, &[&KEPT_SECONDS]).await?.is_empty() {}
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

    /// A set that stays trusted during a test.
    fn sessions() -> EndedSessions {
        let sessions = EndedSessions::new(3600);
        sessions.trusted_until.store(u64::MAX, Ordering::Release);
        sessions
    }

    #[test]
    fn only_a_recently_confirmed_session_is_live_without_a_lookup() {
        let sessions = sessions();
        let id = SessionId::random().unwrap();
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.confirm(id, 1, Instant::now());
        assert_eq!(sessions.standing(id, 1), Standing::Live);
        assert_eq!(sessions.standing(id, 2), Standing::Unknown);
        assert_eq!(sessions.standing(SessionId::random().unwrap(), 1), Standing::Unknown);
        sessions.confirm(id, 1, Instant::now().checked_sub(CONFIRMED_FOR).unwrap());
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.confirm(id, 1, Instant::now());
        sessions.forget_confirmed();
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
        sessions.confirm(id, 1, Instant::now());
        sessions.trusted_until.store(0, Ordering::Release);
        assert_eq!(sessions.standing(id, 1), Standing::Unknown);
    }

    #[test]
    fn a_session_that_has_ended_is_never_live_again() {
        let sessions = sessions();
        let id = SessionId::random().unwrap();
        sessions.end([id]);
        sessions.confirm(id, 1, Instant::now());
        sessions.forget_expired();
        assert_eq!(sessions.standing(id, 1), Standing::Ended);
    }

    #[test]
    fn confirmed_sessions_take_bounded_memory() {
        let sessions = sessions();
        for number in 0..=MAX_CONFIRMED {
            let id = SessionId::from_bytes((number as u128).to_be_bytes());
            sessions.confirm(id, 1, Instant::now());
        }
        let known = sessions.known.read().unwrap();
        assert_eq!(known.confirmed.len(), 1);
        // The bound that the comment on the limit gives.
        let entry = size_of::<((SessionId, i64), Instant)>() + 1;
        assert!(known.confirmed.capacity() * entry <= 4 << 20);
    }
}
