//! Limits on failed logins and registrations, counted in the database by account and address.

use jiff::Timestamp;

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

/// The kinds of locks under which attempts are counted, so that concurrent ones count each other, on
/// all instances. That of the e-mail is taken before that of the address, so that none wait in a
/// circle.
const EMAIL_LOCK: i32 = 1;
const ADDRESS_LOCK: i32 = 2;
const REGISTRATIONS_LOCK: i32 = 3;

/// An attempt to log in, reserved before the password is compared: unless it is released, it counts
/// as failed.
pub struct Attempt<'a> {
    email: &'a str,
    client: &'a Source,
    /// None if there are no limits.
    reserved_at: Option<Timestamp>,
}

/// A registration that counts, unless it is released.
pub struct Admission<'a> {
    client: &'a Source,
    /// None if there is no limit.
    admitted_at: Option<Timestamp>,
}

impl Throttle {
    /// [`Error::TooManyAttempts`] if the client must wait before it tries the account again.
    pub async fn reserve<'a>(
        self,
        pool: &Pool,
        email: &'a str,
        client: &'a Source,
    ) -> Result<Attempt<'a>> {
        let all_accounts = client.limit(self.all_accounts);
        if (self.per_address, self.total, all_accounts) == (0, 0, 0) {
            return Ok(Attempt { email, client, reserved_at: None });
        }
        let parameters: [Parameter<'_>; 6] = [
            &email,
            &client.address,
            &self.per_address,
            &self.total,
            &WINDOW_SECONDS,
            &all_accounts,
        ];
        let mut locks: Vec<(Sql, Vec<Parameter<'_>>)> =
            vec![(Sql::LimitsLock, vec![&EMAIL_LOCK, &email])];
        if all_accounts > 0 {
            locks.push((Sql::LimitsLock, vec![&ADDRESS_LOCK, &client.address]));
        }
        let row = pool.query_opt_after(&locks, Sql::LoginsReserve, &parameters).await?;
        let row = row.ok_or_else(|| Error::internal("an aggregate returned no row"))?;
        wait(column(&row, 0)?)?;
        Ok(Attempt { email, client, reserved_at: column(&row, 1)? })
    }

    /// Counts a registration, or [`Error::TooManyAttempts`] if the client must wait before the
    /// next.
    pub async fn register<'a>(self, pool: &Pool, client: &'a Source) -> Result<Admission<'a>> {
        let limit = client.limit(self.registrations);
        if limit == 0 {
            return Ok(Admission { client, admitted_at: None });
        }
        let parameters: [Parameter<'_>; 3] =
            [&client.address, &limit, &REGISTRATION_WINDOW_SECONDS];
        let lock: Vec<Parameter<'_>> = vec![&REGISTRATIONS_LOCK, &client.address];
        let lock = [(Sql::LimitsLock, lock)];
        let row = pool.query_opt_after(&lock, Sql::RegistrationsAdmit, &parameters).await?;
        let row = row.ok_or_else(|| Error::internal("an admission returned no row"))?;
        wait(column(&row, 0)?)?;
        Ok(Admission { client, admitted_at: column(&row, 1)? })
    }
}

impl Admission<'_> {
    /// Taken back, because nobody was registered, and it was not the client's fault.
    pub async fn release(self, pool: &Pool) -> Result<()> {
        let Some(admitted_at) = self.admitted_at else { return Ok(()) };
        let parameters: [Parameter<'_>; 2] = [&self.client.address, &admitted_at];
        pool.query_opt(Sql::RegistrationsRelease, &parameters).await.map(drop)
    }
}

impl Attempt<'_> {
    /// Released, because the password was right or was not compared to the end.
    pub async fn release(self, pool: &Pool) -> Result<()> {
        let Some(reserved_at) = self.reserved_at else { return Ok(()) };
        pool.query_opt(Sql::LoginsRelease, &[&self.email, &reserved_at]).await.map(drop)
    }

    /// Released, and the address may from now on try this account despite failures from others.
    pub async fn succeeded(self, pool: &Pool) -> Result<()> {
        let parameters: [Parameter<'_>; 3] = [&self.email, &self.client.address, &self.reserved_at];
        pool.query_opt(Sql::LoginsSucceed, &parameters).await.map(drop)
    }
}

/// Refuses if a statement returned a number of seconds to wait.
fn wait(seconds: Option<i32>) -> Result<()> {
    match seconds.map(u32::try_from) {
        Some(Ok(seconds)) => Err(Error::TooManyAttempts { retry_after: seconds.max(1) }),
        _ => Ok(()),
    }
}
