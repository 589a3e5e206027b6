//! Limits on failed logins and registrations, counted in the database by account and address.

use super::client_address::Source;
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};

/// How long a failed login counts, in seconds.
pub const WINDOW_SECONDS: i32 = 15 * 60;
/// How long a registration counts, in seconds.
pub const REGISTRATION_WINDOW_SECONDS: i32 = 60 * 60;

/// The limits within the windows; 0 is unlimited.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    /// Failed logins to one account from one address.
    pub per_address: i32,
    /// Failed logins to one account from all addresses, except those that have logged in to it
    /// before.
    pub total: i32,
    /// Failed logins to all accounts from one address.
    pub all_accounts: i32,
    /// Registrations from one address.
    pub registrations: i32,
}

impl Throttle {
    /// [`Error::TooManyAttempts`] if the client must wait before it tries the account again.
    pub async fn check(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        let all_accounts = client.limit(self.all_accounts);
        if (self.per_address, self.total, all_accounts) == (0, 0, 0) {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 6] = [
            &email,
            &client.address,
            &self.per_address,
            &self.total,
            &WINDOW_SECONDS,
            &all_accounts,
        ];
        let row = pool.query_opt(Sql::LoginsCheck, &parameters).await?;
        wait(row.map_or(Ok(None), |row| column(&row, 0))?)
    }

    pub async fn failed(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        pool.query_opt(Sql::LoginsFail, &[&email, &client.address]).await.map(drop)
    }

    pub async fn succeeded(self, pool: &Pool, email: &str, client: &Source) -> Result<()> {
        pool.query_opt(Sql::LoginsSucceed, &[&email, &client.address]).await.map(drop)
    }

    /// Records a registration, or [`Error::TooManyAttempts`] if the client must wait before the
    /// next.
    pub async fn register(self, pool: &Pool, client: &Source) -> Result<()> {
        let limit = client.limit(self.registrations);
        if limit == 0 {
            return Ok(());
        }
        let parameters: [Parameter<'_>; 3] =
            [&client.address, &limit, &REGISTRATION_WINDOW_SECONDS];
        let row = pool.query_opt(Sql::RegistrationsAdmit, &parameters).await?;
        wait(row.map_or(Ok(None), |row| column(&row, 0))?)
    }
}

/// Refuses if a statement returned a number of seconds to wait.
fn wait(seconds: Option<i32>) -> Result<()> {
    match seconds.map(u32::try_from) {
        Some(Ok(seconds)) => Err(Error::TooManyAttempts { retry_after: seconds.max(1) }),
        _ => Ok(()),
    }
}
