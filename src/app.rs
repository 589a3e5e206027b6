//! What every request shares, and what the requests of one worker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::header::HeaderValue;
use tokio::sync::{Semaphore, SetOnce};
use tokio_util::task::TaskTracker;

use crate::auth::AuthUser;
use crate::auth::cache::TokenCache;
use crate::auth::login_locks::LoginLocks;
use crate::auth::password::Passwords;
use crate::auth::refresh::RefreshKeys;
use crate::auth::session::EndedSessions;
use crate::auth::token::Keys;
use crate::config::{Config, MAX_TOKEN_TTL};
use crate::db::{ConnectOptions, Inserts, PatientLookups, Pool, Readiness, SharedConnection, Sql};
use crate::error::{Error, Result};
use crate::http::budget::{Allowance, Budget, Holder};
use crate::models::rules::Value;
use crate::secret::Secret;

/// Database connections of what runs beside the requests: one sweeps, one watches the sessions.
const BACKGROUND_CONNECTIONS: usize = 2;
/// The database connection of [`Readiness`].
const READINESS_CONNECTIONS: usize = 1;
/// Database connections left over: one for migrations at start, one for the command line.
const SPARE_CONNECTIONS: usize = 2;

/// Heads of requests at once, in the whole process, that are larger than most. Each takes 128 KiB at most.
const LARGE_HEADS: usize = 32;

/// Shared by all workers.
pub struct App {
    pub keys: Keys,
    pub refresh_keys: RefreshKeys,
    pub ended_sessions: EndedSessions,
    pub passwords: Passwords,
    pub login_locks: LoginLocks,
    pub request_ids: RequestIds,
    pub readiness: Readiness,
    /// What is held for clients.
    pub budget: Arc<Budget>,
    /// Places for heads that hyper's first buffer does not hold.
    pub large_heads: Arc<Semaphore>,
    pub config: Config,
    /// Set once the database has the schema that the statements are made for.
    pub schema_is_ready: SetOnce<()>,
    database: ConnectOptions,
    stopping: AtomicBool,
}

impl App {
    /// Until [`use_database`](Self::use_database) nothing is asked of the database, and what needs it is
    /// unavailable. `secret` signs tokens; it and the database may be others than those that the settings name,
    /// which leave both to the embedded database.
    pub fn new(config: Config, database: ConnectOptions, secret: &Secret) -> Result<Self> {
        let previous = config.jwt_secret_previous.as_ref();
        Ok(Self {
            keys: Keys::new(secret, previous, config.token_ttl_seconds)?,
            refresh_keys: RefreshKeys::new(secret, previous),
            ended_sessions: EndedSessions::new(MAX_TOKEN_TTL),
            passwords: Passwords::start(config.bcrypt_cost)?,
            login_locks: LoginLocks::default(),
            request_ids: RequestIds::new()?,
            readiness: Readiness::new(&database),
            budget: Arc::default(),
            large_heads: Arc::new(Semaphore::new(LARGE_HEADS)),
            config,
            schema_is_ready: SetOnce::new(),
            database,
            stopping: AtomicBool::new(false),
        })
    }

    /// From here on the instance is not ready, and tells its clients to go elsewhere for the next
    /// request. It answers as before.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The database has the schema: requests may use it from now on.
    pub fn use_database(&self) {
        // It may have been said before.
        let _ = self.schema_is_ready.set(());
    }

    /// A connection of its own for what sweeps beside the requests.
    pub fn background_pool(&self) -> Result<Pool> {
        Pool::new(&self.database, 1)
    }
}

/// Connections that a process with these settings uses at most.
pub fn max_database_connections(workers: usize, pool_size: usize) -> usize {
    workers * (Shares::of(workers, pool_size).sum() + 1)
        + BACKGROUND_CONNECTIONS
        + READINESS_CONNECTIONS
        + SPARE_CONNECTIONS
}

/// How many of a worker's pooled connections are for what, so that nothing of it can keep the rest from
/// running. Each part has one at least.
struct Shares {
    writes: usize,
    lists: usize,
    searches: usize,
    accounts: usize,
}

impl Shares {
    fn of(workers: usize, pool_size: usize) -> Self {
        let size = pool_size.div_ceil(workers);
        let (quarter, eighth) = ((size / 4).max(1), (size / 8).max(1));
        let writes = size.saturating_sub(quarter + 2 * eighth).max(1);
        Self { writes, lists: quarter, searches: eighth, accounts: eighth }
    }

    fn sum(&self) -> usize {
        self.writes + self.lists + self.searches + self.accounts
    }
}

/// Shared by the requests of one worker thread.
pub struct Worker {
    pub app: Arc<App>,
    /// For accounts and their sessions. The next three are other parts of the same connections.
    pub accounts: Pool,
    /// For changes of patients, doctors and mappings.
    pub writes: Pool,
    /// For what may look at many rows to find a few.
    pub searches: Pool,
    /// For what is too large for the shared connection.
    pub lists: Pool,
    /// For short reads.
    pub shared: Arc<SharedConnection>,
    pub patient_lookups: PatientLookups,
    pub patient_inserts: Inserts<Value<'static>>,
    pub tokens: TokenCache,
    /// What must end before the worker may.
    pub tasks: TaskTracker,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Result<Self> {
        let Config { workers, pool_size, .. } = app.config;
        let shares = Shares::of(workers, pool_size);
        let pool = Pool::new(&app.database, shares.sum())?;
        let shared = Arc::new(SharedConnection::new(pool.clone()));
        let writes = pool.share(shares.writes);
        Ok(Self {
            app,
            patient_lookups: PatientLookups::new(Arc::clone(&shared)),
            patient_inserts: Inserts::new(
                writes.clone(),
                Sql::PatientsCreate,
                Sql::PatientsCreateMany,
                shared.round_trip(),
            ),
            shared,
            writes,
            searches: pool.share(shares.searches),
            lists: pool.share(shares.lists),
            accounts: pool.share(shares.accounts),
            tokens: TokenCache::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// What may be held for a user.
    pub fn allowance(&self, user: AuthUser) -> Allowance {
        self.app.budget.allowance(Holder::User(user.id()))
    }

    /// What may be held for all who have not shown who they are.
    pub fn anyones_allowance(&self) -> Allowance {
        self.app.budget.allowance(Holder::Anyone)
    }
}

/// Names requests that bring no id: random for each process, counted within it.
pub struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Result<Self> {
        let process = getrandom::u64()
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        Ok(Self { process, count: AtomicU64::new(0) })
    }

    /// The request's `own` id, if it brings one, or else a new one.
    pub fn next(&self, own: Option<&HeaderValue>) -> HeaderValue {
        let new = || hexadecimal(self.process, self.count.fetch_add(1, Ordering::Relaxed));
        own.cloned().unwrap_or_else(new)
    }
}

/// 32 digits.
fn hexadecimal(high: u64, low: u64) -> HeaderValue {
    let number = u128::from(high) << 64 | u128::from(low);
    let digits: [u8; 32] = std::array::from_fn(|at| {
        let digit = number >> (124 - 4 * at) & 0xF;
        b"0123456789abcdef".get(digit as usize).copied().unwrap_or_default()
    });
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_divided_whole_and_every_use_has_a_share() {
        for size in 1..=100 {
            let shares = Shares::of(1, size);
            assert_eq!(shares.sum(), size.max(4));
            let Shares { writes, lists, searches, accounts } = shares;
            assert!([writes, lists, searches, accounts].iter().all(|share| *share > 0), "{size}");
        }
        // Two workers with 16 connections and a shared connection each, and what runs beside the requests.
        assert_eq!(max_database_connections(2, 32), 2 * (16 + 1) + 2 + 1 + 2);
    }
}
