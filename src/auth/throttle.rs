//! Failed logins, counted in the database by account and address.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};

/// How long a failed login counts, in seconds.
pub const WINDOW_SECONDS: i32 = 15 * 60;

/// How many failed logins within the window are let through; 0 is any number.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    /// To one account from one address.
    pub per_address: i32,
    /// To one account from everywhere, but for addresses that have logged in to it before.
    pub total: i32,
}

impl Throttle {
    /// [`Error::TooManyAttempts`] if the address must wait before it tries the account again.
    pub async fn check(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        if self.per_address == 0 && self.total == 0 {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 5] =
            [&email, &address, &self.per_address, &self.total, &WINDOW_SECONDS];
        let row = pool.query_opt(Sql::LoginsCheck, &parameters).await?;
        let wait: Option<i32> = row.map_or(Ok(None), |row| column(&row, 0))?;
        match wait.map(u32::try_from) {
            Some(Ok(seconds)) => Err(Error::TooManyAttempts { retry_after: seconds.max(1) }),
            _ => Ok(()),
        }
    }

    pub async fn failed(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        pool.query_opt(Sql::LoginsFail, &[&email, &address]).await.map(drop)
    }

    pub async fn succeeded(self, pool: &Pool, email: &str, address: &str) -> Result<()> {
        pool.query_opt(Sql::LoginsSucceed, &[&email, &address]).await.map(drop)
    }
}

/// Locks that the accounts and addresses share; more than passwords can be checked at once.
const TURNS: u16 = 1024;

/// One login at a time for an account and address: else those that run at once would all be let
/// through before the first of them has failed.
pub struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    pub async fn wait(&self, email: &str, address: &str) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        (email.to_lowercase(), address).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % u64::from(TURNS)).ok()?;
        Some(self.0.get(place)?.lock().await)
    }
}
