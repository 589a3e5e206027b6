//! `/api/auth`: register, log in, refresh, log out, who am I, change the password.

use std::net::IpAddr;

use hyper::StatusCode;

use crate::app::{App, Worker};
use crate::auth::User;
use crate::auth::password::Verdict;
use crate::auth::refresh::Generation;
use crate::auth::throttle::counted;
use crate::config::Config;
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{FromRow, Sql};
use crate::error::{Error, FieldError, Result};
use crate::http::query::Query;
use crate::http::response::{empty, json};
use crate::http::{Request, Response, body};
use crate::json::object;
use crate::models::input::read_new;
use crate::models::user::{self, LOGIN_FIELDS, PASSWORD_FIELDS, REFRESH_FIELDS, REGISTER_FIELDS};

/// How long a refresh token that was exchanged still yields the same successor, so that a client
/// whose answer was lost is not logged out.
const GRACE_SECONDS: i32 = 10;

object! {
    /// What a user gets for registering, logging in or refreshing.
    struct Session<'r> {
        token: String,
        token_type: &'static str,
        /// Seconds.
        expires_in: u32,
        refresh_token: String,
        user: user::User<'r>,
    }
}

pub async fn register(worker: &Worker, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [name, email, password] = read_new(&REGISTER_FIELDS, &body)?;
    let place = worker.app.passwords.reserve()?;
    let hash = place.hash(password.as_text().to_owned()).await?;
    let Config { session_idle_seconds: idle, session_max_seconds: max, .. } = worker.app.config;
    let parameters: [Parameter<'_>; 5] = [&name, &email, &hash, &idle, &max];
    let row = worker.pool.query_opt(Sql::UsersCreate, &parameters).await?;
    let row = row.ok_or(Error::EmailTaken)?;
    let user = user::User::from_row(&row, 0)?;
    let first = Generation::first(column(&row, user::User::COLUMNS.len())?);
    session(worker, StatusCode::CREATED, user, first)
}

pub async fn login(worker: &Worker, peer: IpAddr, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let throttle = worker.app.config.throttle;
    let address = address(worker, peer, &request);
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [email, password] = read_new(&LOGIN_FIELDS, &body)?;
    // PostgreSQL's text holds no NUL; no address holds a space either.
    let (email, password) = (&*email.as_text().replace('\0', " "), password.as_text());
    let place = worker.app.passwords.reserve()?;
    let _turn = worker.app.login_turns.wait(email, &address).await;
    throttle.check(&worker.pool, email, &address).await?;
    let row = worker.pool.query_opt(Sql::UsersLogin, &[&email]).await?;
    let stored: Option<String> = match &row {
        Some(row) => Some(column(row, user::User::COLUMNS.len())?),
        None => None,
    };
    let verdict = place.verify(password.to_owned(), stored.clone()).await?;
    let (Some(row), Some(stored), Verdict::Right { better_hash }) = (row, stored, verdict) else {
        throttle.failed(&worker.pool, email, &address).await?;
        return Err(Error::InvalidCredentials);
    };
    let user = user::User::from_row(&row, 0)?;
    let hash = match better_hash {
        Some(better) => {
            worker.pool.query_opt(Sql::UsersRehash, &[&user.id, &stored, &better]).await?;
            better
        }
        None => stored,
    };
    let Config { session_idle_seconds: idle, session_max_seconds: max, .. } = &worker.app.config;
    let parameters: [Parameter<'_>; 4] = [&user.id, &hash, idle, max];
    let created = worker.pool.query_opt(Sql::SessionsCreate, &parameters).await?;
    // The password was changed while this one was checked.
    let created = created.ok_or(Error::InvalidCredentials)?;
    throttle.succeeded(&worker.pool, email, &address).await?;
    session(worker, StatusCode::OK, user, Generation::first(column(&created, 0)?))
}

pub async fn refresh(worker: &Worker, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [token] = read_new(&REFRESH_FIELDS, &body)?;
    let spent =
        worker.app.refresh_keys.verify(token.as_text()).ok_or(Error::InvalidRefreshToken)?;
    let idle = worker.app.config.session_idle_seconds;
    let parameters: [Parameter<'_>; 4] = [&spent.session_id, &spent.number, &GRACE_SECONDS, &idle];
    // They wait for each other in the database, so that they must not wait in front of others here.
    let pool = worker.pool.of(spent.session_id);
    let row = pool.query_opt(Sql::SessionsRefresh, &parameters).await?;
    let row = row.ok_or(Error::InvalidRefreshToken)?;
    match column(&row, user::User::COLUMNS.len())? {
        "rotate" | "repeat" => {
            let user = user::User::from_row(&row, 0)?;
            session(worker, StatusCode::OK, user, spent.successor())
        }
        "reuse" => {
            worker.app.ended_sessions.end([spent.session_id]);
            Err(Error::InvalidRefreshToken)
        }
        _ => Err(Error::InvalidRefreshToken),
    }
}

pub async fn logout(worker: &Worker, user: User, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    body::ignore(&request, body::AUTH_LIMIT)?;
    worker.pool.query_opt(Sql::SessionsEnd, &[&user.session_id(), &user.id()]).await?;
    worker.app.ended_sessions.end([user.session_id()]);
    Ok(empty(StatusCode::NO_CONTENT))
}

pub async fn me(worker: &Worker, user: User, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let row = worker.lane.query_opt(Sql::UsersGet, &[&user.id()]).await?;
    // The token is ours, but its user is not in this database.
    let row = row.ok_or(Error::InvalidToken)?;
    Ok(json(StatusCode::OK, &user::User::from_row(&row, 0)?))
}

/// A wrong current password counts as a failed login: a stolen token must not help to guess it.
pub async fn change_password(
    worker: &Worker,
    user: User,
    peer: IpAddr,
    request: Request,
) -> Result<Response> {
    Query::none(request.uri().query())?;
    let throttle = worker.app.config.throttle;
    let address = address(worker, peer, &request);
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [current, new] = read_new(&PASSWORD_FIELDS, &body)?;
    let place = worker.app.passwords.reserve()?;
    let row = worker.pool.query_opt(Sql::UsersPassword, &[&user.id()]).await?;
    let row = row.ok_or(Error::InvalidToken)?;
    let (email, stored): (&str, String) = (column(&row, 0)?, column(&row, 1)?);
    let _turn = worker.app.login_turns.wait(email, &address).await;
    throttle.check(&worker.pool, email, &address).await?;
    let (current, new) = (current.as_text().to_owned(), new.as_text().to_owned());
    let Some(hash) = place.replace(current, stored.clone(), new).await? else {
        throttle.failed(&worker.pool, email, &address).await?;
        return Err(wrong_password());
    };
    let (id, session_id) = (user.id(), user.session_id());
    let parameters: [Parameter<'_>; 4] = [&id, &stored, &hash, &session_id];
    let row = worker.pool.query_opt(Sql::UsersChangePassword, &parameters).await?;
    let ended: Vec<i64> = column(&row.ok_or_else(wrong_password)?, 0)?;
    worker.app.ended_sessions.end(ended);
    // A login that began its session while the statement ran is not in what the statement saw.
    let late = worker.pool.query(Sql::SessionsEndOthers, &[&id, &session_id]).await?;
    let late: Vec<i64> = late.iter().map(|row| column(row, 0)).collect::<Result<_>>()?;
    worker.app.ended_sessions.end(late);
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What failed logins from where a request comes from are counted by.
fn address(worker: &Worker, peer: IpAddr, request: &Request) -> String {
    counted(worker.app.config.trusted_proxies.client(peer, request.headers()))
}

fn wrong_password() -> Error {
    Error::fields(vec![FieldError::new("current_password", "is not the current password")])
}

fn session(
    worker: &Worker,
    status: StatusCode,
    user: user::User<'_>,
    generation: Generation,
) -> Result<Response> {
    let App { keys, refresh_keys, .. } = &*worker.app;
    let session = Session {
        token: keys.sign(user.id, generation.session_id)?,
        token_type: "Bearer",
        expires_in: keys.ttl_seconds(),
        refresh_token: refresh_keys.token(generation),
        user,
    };
    Ok(json(status, &session))
}
