//! What the requests of one worker share: its database connections, each kind of work in a share of its own.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::auth::AuthUser;
use crate::auth::cache::TokenCache;
use crate::config::Config;
use crate::db::{Inserts, PatientLookups, Pool, SharedConnection, Sql};
use crate::error::Result;
use crate::http::budget::{Allowance, Holder};
use crate::models::rules::Value;

/// Database connections of what runs beside the requests: one sweeps, one watches the sessions.
const BACKGROUND_CONNECTIONS: usize = 2;
/// The database connection of [`Readiness`](crate::db::Readiness).
const READINESS_CONNECTIONS: usize = 1;
/// Database connections left over: one for migrations at start, one for the command line.
const SPARE_CONNECTIONS: usize = 2;

/// Made once for each thread that serves requests.
pub struct Worker {
    pub app: Arc<App>,
    /// For accounts and their sessions. The next three are other shares of the same connections.
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
        let sizes = Shares::of(workers, pool_size);
        let pool = app.pool(sizes.sum())?;
        let shared = Arc::new(SharedConnection::new(pool.clone()));
        let writes = pool.share(sizes.writes);
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
            searches: pool.share(sizes.searches),
            lists: pool.share(sizes.lists),
            accounts: pool.share(sizes.accounts),
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

/// Connections that a process with these settings uses at most.
pub fn max_database_connections(workers: usize, pool_size: usize) -> usize {
    workers * (Shares::of(workers, pool_size).sum() + 1)
        + BACKGROUND_CONNECTIONS
        + READINESS_CONNECTIONS
        + SPARE_CONNECTIONS
}

/// How many of a worker's pooled connections are for what, so that nothing of it can keep the rest from
/// running. Each share has one at least.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_shared_out_whole_and_everything_has_a_part() {
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
