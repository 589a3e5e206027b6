//! What the requests of one worker share: above all its database connections, divided into a share
//! for each kind of work.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::app::{App, IMPORTS};
use crate::auth::AuthUser;
use crate::auth::cache::TokenCache;
use crate::config::Config;
use crate::db::connection::Purpose;
use crate::db::insert::InsertStatements;
use crate::db::share::{TURN_WAIT, WRITE_TURN_WAIT};
use crate::db::{Inserts, PatientLookups, Pool, SharedConnection, Sql};
use crate::error::Result;
use crate::http::budget::{Allowance, Holder};
use crate::metrics::{ConnectionMetrics, RequestMetrics, WorkerMetrics};
use crate::models::rules::Value;

/// Database connections of background tasks: one sweeps, one polls for ended sessions.
const BACKGROUND_CONNECTIONS: usize = 2;
/// The database connection of [`Readiness`](crate::db::Readiness).
const READINESS_CONNECTIONS: usize = 1;
/// Spare database connections: one for migrations at start, one for the command line.
const SPARE_CONNECTIONS: usize = 2;

/// The connections for short reads of a worker, one for each table: what is pipelined behind a
/// statement that waits for a lock on its table waits too.
pub struct SharedConnections {
    /// Of users and sessions.
    pub accounts: SharedConnection,
    pub patients: Arc<SharedConnection>,
    pub doctors: SharedConnection,
    /// Of mappings, with their patients and doctors.
    pub mappings: SharedConnection,
}

impl SharedConnections {
    const COUNT: usize = 4;

    fn new(app: &App) -> Self {
        let of = |statements| app.shared_connection(Purpose::Short(statements));
        Self {
            accounts: of(&[Sql::SessionsIsLive, Sql::UsersGet]),
            patients: Arc::new(of(&[Sql::PatientsGet, Sql::PatientsGetMany, Sql::PatientsFirst])),
            doctors: of(&[Sql::DoctorsGet, Sql::DoctorsFirst]),
            mappings: of(&[Sql::MappingsFirst, Sql::MappingsFirstDoctors]),
        }
    }

    /// The one for a statement, by the table that it is about.
    pub fn of(&self, sql: Sql) -> &SharedConnection {
        match sql.noun() {
            "patients" => &self.patients,
            "doctors" => &self.doctors,
            "mappings" => &self.mappings,
            _ => &self.accounts,
        }
    }

    pub fn all(&self) -> [&SharedConnection; Self::COUNT] {
        [&self.accounts, &self.patients, &self.doctors, &self.mappings]
    }
}

/// Created once for each thread that serves requests.
pub struct Worker {
    pub app: Arc<App>,
    /// For accounts and their sessions: a share of the same pool as the next.
    pub accounts: Pool,
    /// For changes of patients, doctors and mappings.
    pub writes: Pool,
    /// For queries that may scan many rows to find a few: a share of the same pool as the next,
    /// whose statements may take longer.
    pub searches: Pool,
    /// For results that are too large for a shared connection.
    pub lists: Pool,
    /// For short reads.
    pub shared: SharedConnections,
    pub patient_lookups: PatientLookups,
    pub patient_inserts: Inserts<Value<'static>>,
    pub tokens: TokenCache,
    pub metrics: Arc<WorkerMetrics>,
    /// Tasks that must end before the worker stops.
    pub tasks: TaskTracker,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Result<Self> {
        let Config { workers, pool_size, .. } = app.config;
        let sizes = Shares::of(workers, pool_size);
        let usual = app.pool(Purpose::Usual, sizes.writes + sizes.accounts)?;
        let long = app.pool(Purpose::Long, sizes.lists + sizes.searches)?;
        let shared = SharedConnections::new(&app);
        let writes = usual.share(sizes.writes, WRITE_TURN_WAIT);
        let accounts = usual.share(sizes.accounts, TURN_WAIT);
        let searches = long.share(sizes.searches, TURN_WAIT);
        let lists = long.share(sizes.lists, TURN_WAIT);
        let patient_lookups = PatientLookups::new(Arc::clone(&shared.patients));
        let patient_inserts = Inserts::new(
            writes.clone(),
            InsertStatements {
                one: Sql::PatientsCreate,
                many: Sql::PatientsCreateMany,
                once: Sql::PatientsCreateOnce,
            },
            shared.patients.round_trip(),
        );
        let metrics = Arc::new(WorkerMetrics {
            requests: RequestMetrics::default(),
            connections: ConnectionMetrics::default(),
            shares: vec![
                ("writes", Arc::clone(writes.metrics())),
                ("lists", Arc::clone(lists.metrics())),
                ("searches", Arc::clone(searches.metrics())),
                ("accounts", Arc::clone(accounts.metrics())),
            ],
            shared_connections: shared.all().map(|shared| Arc::clone(shared.metrics())).into(),
            batches: vec![
                ("patients/get", Arc::clone(patient_lookups.metrics())),
                ("patients/create", Arc::clone(patient_inserts.metrics())),
            ],
        });
        app.metrics.add_worker(Arc::clone(&metrics));
        Ok(Self {
            app,
            accounts,
            writes,
            searches,
            lists,
            shared,
            patient_lookups,
            patient_inserts,
            tokens: TokenCache::default(),
            metrics,
            tasks: TaskTracker::new(),
        })
    }

    /// The bytes that may be held for a user.
    pub fn allowance(&self, user: AuthUser) -> Allowance {
        self.app.budget.allowance(Holder::User(user.id()))
    }

    /// The bytes that may be held for all requests without a token.
    pub fn anyones_allowance(&self) -> Allowance {
        self.app.budget.allowance(Holder::Anyone)
    }
}

/// The most database connections of a process with these settings.
pub fn max_database_connections(workers: usize, pool_size: usize) -> usize {
    workers * (Shares::of(workers, pool_size).sum() + SharedConnections::COUNT)
        + BACKGROUND_CONNECTIONS
        + READINESS_CONNECTIONS
        + IMPORTS
        + SPARE_CONNECTIONS
}

/// The sizes of the shares of a worker's pool, so that no kind of work can starve another. Each has
/// at least one connection.
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
    fn a_pool_is_divided_whole_and_every_use_has_a_share() {
        for size in 1..=100 {
            let shares = Shares::of(1, size);
            assert_eq!(shares.sum(), size.max(4));
            let Shares { writes, lists, searches, accounts } = shares;
            assert!([writes, lists, searches, accounts].iter().all(|share| *share > 0), "{size}");
        }
        // Two workers with 16 pooled and four shared connections each, the background tasks, and the
        // imports.
        assert_eq!(max_database_connections(2, 32), 2 * (16 + 4) + 2 + 1 + 4 + 2);
    }
}
