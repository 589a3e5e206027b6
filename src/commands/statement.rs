//! A statement that a command runs, and how it says what went wrong.

use healthcare_backend::db::connection::{Parameter, Purpose};
use healthcare_backend::db::migrations::connect;
use healthcare_backend::db::{ConnectOptions, Sql, errors};
use healthcare_backend::error::Error;
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::Failure;

/// The only row of a statement, if there is one, on a connection of its own.
pub async fn query_opt(
    database: &ConnectOptions,
    sql: Sql,
    parameters: &[Parameter<'_>],
) -> Result<Option<Row>, Failure> {
    let client = connect(database).await?;
    let answer = client.query_opt(sql.text(), parameters);
    let error = match timeout(Purpose::Long.response_timeout(), answer).await {
        Ok(Ok(row)) => return Ok(row),
        Ok(Err(error)) => errors::map(sql, &error).0,
        Err(_) => errors::unanswered(sql, format!("{}: no answer", sql.file())),
    };
    Err(describe(&error))
}

/// What went wrong, with each wrong line of a file in one of its own.
pub fn describe(error: &Error) -> Failure {
    let summary = match (error, error.cause()) {
        (Error::OutcomeUnknown { .. }, Some(cause)) => {
            format!("{cause}: it may or may not have been done; look before you repeat it")
        }
        (_, Some(cause)) => cause.to_owned(),
        (_, None) => error.detail().into_owned(),
    };
    let wrong = error.errors().iter().map(|wrong| format!("{}: {}", wrong.field, wrong.message));
    [summary].into_iter().chain(wrong).collect::<Vec<_>>().join("\n").into()
}
