//! `/api/auth`: register, log in, refresh, log out, show the user, change the password.

use std::net::IpAddr;
use std::time::Instant;

use hyper::StatusCode;

use crate::app::App;
use crate::auth::client_address::Source;
use crate::auth::password::{MAX_WAIT, Permit, Verdict};
use crate::auth::refresh::Generation;
use crate::auth::token::{Signed, unix_seconds};
use crate::auth::{AuthUser, SessionId};
use crate::config::{Config, Registration};
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{FromRow, Sql};
use crate::error::{Error, FieldError, Result};
use crate::http::response::{empty, json};
use crate::http::{Request, Response, body};
use crate::json::object;
use crate::models::input::read_new;
use crate::models::rules::Value;
use crate::models::user::{self, LOGIN_FIELDS, PASSWORD_FIELDS, REFRESH_FIELDS, REGISTER_FIELDS};
use crate::worker::Worker;

/// How long an exchanged refresh token still yields the same successor, so that a client that lost
/// the response is not logged out.
const GRACE_SECONDS: i32 = 10;
/// The most comparisons of a password with the stored hash: again if that was replaced meanwhile,
/// as the first login after an increase of the hash cost does.
const COMPARISONS: usize = 3;

object! {
    /// The response to registering, logging in or refreshing.
    struct Session<'r> {
        token: String,
        token_type: &'static str,
        /// Seconds.
        expires_in: u32,
        refresh_token: String,
        user: user::User<'r>,
    }
}

/// If registration is closed, that is the response whatever the body.
pub async fn register(worker: &Worker, peer: IpAddr, request: Request) -> Result<Response> {
    if worker.app.config.registration == Registration::Closed {
        return Err(Error::RegistrationClosed);
    }
    let client = client(worker, peer, &request);
    let (body, _lease) =
        body::read(request, body::AUTH_LIMIT, &worker.anyones_allowance(), 0).await?;
    let account = read_new(&REGISTER_FIELDS, &body)?;
    let permit = worker.app.passwords.try_acquire(Instant::now() + MAX_WAIT)?;
    let admission = worker.app.config.throttle.register(&worker.accounts, &client).await?;
    let created = create_account(worker, &permit, account).await;
    // An address that is taken counts, or it could be asked for without end.
    if let Err(error) = &created
        && !matches!(error, Error::EmailTaken | Error::OutcomeUnknown { .. })
    {
        // If this fails too, the registration counts.
        let _ = admission.release(&worker.accounts).await;
    }
    created
}

async fn create_account(
    worker: &Worker,
    permit: &Permit<'_>,
    [name, email, password, _]: [Value<'_>; REGISTER_FIELDS.len()],
) -> Result<Response> {
    let hash = permit.hash(password.as_text().to_owned()).await?;
    let Config { session_idle_seconds: idle, session_max_seconds: max, .. } = worker.app.config;
    let session_id = SessionId::random()?;
    let parameters: [Parameter<'_>; 6] = [&name, &email, &hash, &idle, &max, &session_id];
    let asked = unix_seconds();
    let row = worker.accounts.query_opt(Sql::UsersCreate, &parameters).await?;
    let row = row.ok_or(Error::EmailTaken)?;
    let user = user::User::from_row(&row, 0)?;
    let first = Generation::first(session_id, user.id);
    let ends_at = end(asked, column(&row, user::User::COLUMNS.len())?);
    session(worker, StatusCode::CREATED, user, first, ends_at)
}

pub async fn login(worker: &Worker, peer: IpAddr, request: Request) -> Result<Response> {
    let App { passwords, login_locks, config, .. } = &*worker.app;
    let client = client(worker, peer, &request);
    let (body, _lease) =
        body::read(request, body::AUTH_LIMIT, &worker.anyones_allowance(), 0).await?;
    let [email, password] = read_new(&LOGIN_FIELDS, &body)?;
    // PostgreSQL's text cannot contain NUL, and an e-mail contains no space either.
    let (email, password) = (&*email.as_text().replace('\0', " "), password.as_text());
    let deadline = Instant::now() + MAX_WAIT;
    // The lock first, so that waiting for it takes no permit from other logins.
    let _lock = login_locks.acquire(email, &client.address, deadline).await?;
    let permit = passwords.try_acquire(deadline)?;
    let attempt = config.throttle.reserve(&worker.accounts, email, &client).await?;
    match begin_session(worker, &permit, email, password).await {
        Ok(Some(session)) => {
            // The session has begun, also if this fails. Then the attempt counts as failed.
            let _ = attempt.succeeded(&worker.accounts).await;
            Ok(session)
        }
        Ok(None) => Err(Error::InvalidCredentials),
        Err(error) => {
            // If this fails too, the attempt counts as failed.
            let _ = attempt.release(&worker.accounts).await;
            Err(error)
        }
    }
}

/// The response to a login; None if the e-mail or the password is wrong.
async fn begin_session(
    worker: &Worker,
    permit: &Permit<'_>,
    email: &str,
    password: &str,
) -> Result<Option<Response>> {
    for _ in 0..COMPARISONS {
        let row = worker.accounts.query_opt(Sql::UsersLogin, &[&email]).await?;
        let stored: Option<String> = match &row {
            Some(row) => Some(column(row, user::User::COLUMNS.len())?),
            None => None,
        };
        let verdict = permit.verify(password.to_owned(), stored.clone()).await?;
        let (Some(row), Some(stored), Verdict::Right { better_hash }) = (row, stored, verdict)
        else {
            worker.app.metrics.failed_logins.increment();
            return Ok(None);
        };
        let user = user::User::from_row(&row, 0)?;
        let accounts = worker.accounts.of(user.id);
        let hash = match better_hash {
            Some(better) => {
                accounts.query_opt(Sql::UsersReplaceHash, &[&user.id, &stored, &better]).await?;
                better
            }
            None => stored,
        };
        let Config { session_idle_seconds: idle, session_max_seconds: max, .. } =
            &worker.app.config;
        let session_id = SessionId::random()?;
        let parameters: [Parameter<'_>; 5] = [&user.id, &hash, idle, max, &session_id];
        let asked = unix_seconds();
        // Without a row, the stored hash was replaced meanwhile: by one of this password or of
        // another.
        if let Some(created) = accounts.query_opt(Sql::SessionsCreate, &parameters).await? {
            let first = Generation::first(session_id, user.id);
            let ends_at = end(asked, column(&created, 0)?);
            return session(worker, StatusCode::OK, user, first, ends_at).map(Some);
        }
    }
    Err(worker.app.passwords.overloaded())
}

pub async fn refresh(worker: &Worker, request: Request) -> Result<Response> {
    let (body, _lease) =
        body::read(request, body::AUTH_LIMIT, &worker.anyones_allowance(), 0).await?;
    let [token] = read_new(&REFRESH_FIELDS, &body)?;
    let spent =
        worker.app.refresh_keys.verify(token.as_text()).ok_or(Error::InvalidRefreshToken)?;
    let idle = worker.app.config.session_idle_seconds;
    let Generation { session_id, user_id, number } = &spent;
    let parameters: [Parameter<'_>; 5] = [session_id, user_id, number, &GRACE_SECONDS, &idle];
    let asked = unix_seconds();
    // Refreshes of one user are serialized in the database, so they run within the user's limit and
    // do not block other users here.
    let row = worker.accounts.of(*user_id).query_opt(Sql::SessionsRefresh, &parameters).await?;
    let row = row.ok_or(Error::InvalidRefreshToken)?;
    match column(&row, user::User::COLUMNS.len())? {
        "rotate" | "repeat" => {
            let user = user::User::from_row(&row, 0)?;
            let ends_at = end(asked, column(&row, user::User::COLUMNS.len() + 1)?);
            session(worker, StatusCode::OK, user, spent.successor(), ends_at)
        }
        "reuse" => {
            worker.app.ended_sessions.end([spent.session_id]);
            Err(Error::InvalidRefreshToken)
        }
        _ => Err(Error::InvalidRefreshToken),
    }
}

pub async fn logout(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    body::ignore(&request, body::AUTH_LIMIT)?;
    worker
        .accounts
        .of(user.id())
        .query_opt(Sql::SessionsEnd, &[&user.session_id(), &user.id()])
        .await?;
    worker.app.ended_sessions.end([user.session_id()]);
    Ok(empty(StatusCode::NO_CONTENT))
}

pub async fn me(worker: &Worker, user: AuthUser) -> Result<Response> {
    let row = worker.shared.accounts.query_opt(Sql::UsersGet, &[&user.id()]).await?;
    // The token is valid, but its user does not exist in this database.
    let row = row.ok_or(Error::InvalidToken)?;
    Ok(json(StatusCode::OK, &user::User::from_row(&row, 0)?))
}

/// A wrong current password counts as a failed login, so that a stolen token does not help to guess
/// it.
pub async fn change_password(
    worker: &Worker,
    user: AuthUser,
    peer: IpAddr,
    request: Request,
) -> Result<Response> {
    let App { passwords, login_locks, config, .. } = &*worker.app;
    let client = client(worker, peer, &request);
    let (body, _lease) = body::read(request, body::AUTH_LIMIT, &worker.allowance(user), 0).await?;
    let [current, new] = read_new(&PASSWORD_FIELDS, &body)?;
    let (email, _) = stored_password(worker, user.id()).await?;
    let deadline = Instant::now() + MAX_WAIT;
    let _lock = login_locks.acquire(&email, &client.address, deadline).await?;
    let permit = passwords.try_acquire(deadline)?;
    let attempt = config.throttle.reserve(&worker.accounts, &email, &client).await?;
    let changed = replace_password(worker, user, &permit, current.as_text(), new.as_text()).await;
    if matches!(changed, Ok(false)) {
        return Err(wrong_password());
    }
    // If this fails, the attempt counts as failed.
    let _ = attempt.release(&worker.accounts).await;
    changed.map(|_| empty(StatusCode::NO_CONTENT))
}

/// Replaces the password and ends the other sessions; false if the current one is another.
async fn replace_password(
    worker: &Worker,
    user: AuthUser,
    permit: &Permit<'_>,
    current: &str,
    new: &str,
) -> Result<bool> {
    let (id, session_id) = (user.id(), user.session_id());
    let accounts = worker.accounts.of(id);
    for _ in 0..COMPARISONS {
        // Read under the lock, because its previous holder may have changed it.
        let (_, stored) = stored_password(worker, id).await?;
        let replaced = permit.replace(current.to_owned(), stored.clone(), new.to_owned()).await?;
        let Some(hash) = replaced else {
            worker.app.metrics.failed_logins.increment();
            return Ok(false);
        };
        // The change waits for logins that have the user's row. Only a statement after it sees the
        // sessions that they have begun.
        let change: Vec<Parameter<'_>> = vec![&id, &stored, &hash];
        let change = [(Sql::UsersReplaceHash, change)];
        let others: [Parameter<'_>; 3] = [&id, &session_id, &hash];
        let row = accounts.query_opt_after(&change, Sql::SessionsEndOthers, &others).await?;
        // Without a row, the stored hash was replaced meanwhile: by one of this password or of
        // another.
        if let Some(row) = row {
            worker.app.ended_sessions.end(column::<Vec<SessionId>>(&row, 0)?);
            return Ok(true);
        }
    }
    Err(worker.app.passwords.overloaded())
}

/// The e-mail of an authenticated user, and the password hash.
async fn stored_password(worker: &Worker, user_id: i64) -> Result<(String, String)> {
    let row = worker.accounts.query_opt(Sql::UsersPassword, &[&user_id]).await?;
    let row = row.ok_or(Error::InvalidToken)?;
    Ok((column(&row, 0)?, column(&row, 1)?))
}

/// The client's address, for the limits.
fn client(worker: &Worker, peer: IpAddr, request: &Request) -> Source {
    let proxies = &worker.app.config.trusted_proxies;
    proxies.warn_if_ignored(peer, request.headers());
    proxies.source(peer, request.headers())
}

fn wrong_password() -> Error {
    Error::fields(vec![FieldError::new("current_password", "is not the current password")])
}

/// When a session ends, in Unix time, given the `seconds_left` when the database was asked.
fn end(asked: u64, seconds_left: i32) -> u64 {
    asked.saturating_add_signed(seconds_left.into())
}

fn session(
    worker: &Worker,
    status: StatusCode,
    user: user::User<'_>,
    generation: Generation,
    ends_at: u64,
) -> Result<Response> {
    let App { keys, refresh_keys, .. } = &*worker.app;
    let Signed { token, expires_in } = keys.sign(user.id, generation.session_id, ends_at)?;
    let session = Session {
        token,
        token_type: "Bearer",
        expires_in,
        refresh_token: refresh_keys.token(generation),
        user,
    };
    Ok(json(status, &session))
}
