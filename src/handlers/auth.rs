//! `/api/auth`: register, log in, who am I.

use hyper::StatusCode;
use serde::Serialize;
use tokio_postgres::Row;

use crate::app::Worker;
use crate::auth::User;
use crate::db::row::column;
use crate::db::{FromRow, Sql};
use crate::error::{Error, Result};
use crate::http::body;
use crate::http::query::Query;
use crate::http::response::json;
use crate::http::{Request, Response};
use crate::models::input::read_new;
use crate::models::user::{self, LOGIN_FIELDS, REGISTER_FIELDS};

/// What a user gets for registering or logging in.
#[derive(Serialize)]
struct Session<'r> {
    token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u32,
    user: user::User<'r>,
}

pub async fn register(worker: &Worker, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [name, email, password] = read_new(&REGISTER_FIELDS, &body)?;
    let place = worker.app.passwords.reserve()?;
    let hash = place.hash(password.as_text().to_owned()).await?;
    let row = worker.pool.query_opt(Sql::UsersCreate, &[&name, &email, &hash]).await?;
    session(worker, StatusCode::CREATED, &row.ok_or(Error::EmailTaken)?)
}

pub async fn login(worker: &Worker, request: Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let body = body::read(request, body::AUTH_LIMIT).await?;
    let [email, password] = read_new(&LOGIN_FIELDS, &body)?;
    let place = worker.app.passwords.reserve()?;
    // PostgreSQL's text holds no NUL, and so does no address.
    let row = if email.as_text().contains('\0') {
        None
    } else {
        worker.pool.query_opt(Sql::UsersLogin, &[&email]).await?
    };
    let stored = match &row {
        Some(row) => Some(column(row, user::User::COLUMNS.len())?),
        None => None,
    };
    let right = place.verify(password.as_text().to_owned(), stored).await?;
    match row {
        Some(row) if right => session(worker, StatusCode::OK, &row),
        _ => Err(Error::InvalidCredentials),
    }
}

pub async fn me(worker: &Worker, user: User, request: &Request) -> Result<Response> {
    Query::none(request.uri().query())?;
    let row = worker.pool.query_opt(Sql::UsersGet, &[&user.id()]).await?;
    // The token is ours, but its user is not in this database.
    let row = row.ok_or(Error::InvalidToken)?;
    json(StatusCode::OK, &user::User::from_row(&row, 0)?)
}

fn session(worker: &Worker, status: StatusCode, row: &Row) -> Result<Response> {
    let user = user::User::from_row(row, 0)?;
    let id = worker.app.request_ids.next();
    let token = worker.app.keys.sign(user.id, &id)?;
    let expires_in = worker.app.keys.ttl_seconds();
    json(status, &Session { token, token_type: "Bearer", expires_in, user })
}
