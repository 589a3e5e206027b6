//! The meaning of PostgreSQL's errors for a client. Only SQLSTATE codes and constraint names are
//! used, because PostgreSQL's messages quote values.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::Sql;
use crate::error::{Error, FieldError};

/// What an error says about the connection it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The connection is still good.
    Keep,
    /// It is closed, or will be in a moment.
    Lost,
    /// Its prepared statements are outdated, as are those of the others: the schema changed.
    Outdated,
    /// The server is read-only, and there may be another by now.
    Doubted,
}

/// The error of a failed statement, and what to do with its connection.
pub fn map(statement: Sql, error: &tokio_postgres::Error) -> (Error, Aftermath) {
    let Some(db) = error.as_db_error() else {
        let cause = format!("{}: {error}", statement.file());
        return if is_disconnection(error) {
            (unanswered(statement, cause), Aftermath::Lost)
        } else {
            (Error::Internal { cause }, Aftermath::Keep)
        };
    };
    if let Some(error) = db.constraint().and_then(|name| violation(statement, db.code(), name)) {
        return (error, Aftermath::Keep);
    }
    if *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION {
        return (Error::ReadOnly, Aftermath::Doubted);
    }
    let cause = format!(
        "{}: SQLSTATE {}{}",
        statement.file(),
        db.code().code(),
        db.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default()
    );
    if *db.code() == SqlState::LOCK_NOT_AVAILABLE {
        // The context says which row is waited for; for the table itself there is none.
        return (Error::Locked { of_table: db.where_().is_none(), cause }, Aftermath::Keep);
    }
    if leaves_outcome_open(db) {
        return (unanswered(statement, cause), Aftermath::Lost);
    }
    let is_error = db.parsed_severity() == Some(Severity::Error);
    match unavailability(db.code()) {
        Some(aftermath) if is_error => (Error::DatabaseUnavailable { cause }, aftermath),
        // FATAL: the server closes the connection, and nothing was committed.
        Some(_) => (Error::DatabaseUnavailable { cause }, Aftermath::Lost),
        None if !is_error => (Error::Internal { cause }, Aftermath::Lost),
        None => (Error::Internal { cause }, Aftermath::Keep),
    }
}

/// The error of a statement that was sent and whose outcome is not known.
pub fn unanswered(statement: Sql, cause: String) -> Error {
    if statement.is_change() {
        Error::OutcomeUnknown { cause }
    } else {
        Error::DatabaseUnavailable { cause }
    }
}

/// Whether the statement may have been committed although there was an error. Usually there was no
/// commit before an error, because PostgreSQL reports one only while it can still roll back. But a
/// PANIC may concern a commit that is half on the disk, and with a connection exception a proxy
/// reports that it has lost the server.
fn leaves_outcome_open(error: &DbError) -> bool {
    error.parsed_severity() == Some(Severity::Panic) || error.code().code().starts_with("08")
}

/// Whether the connection failed, so that another may work. Other errors of the client library,
/// such as parameters that do not fit the statement or an unexpected second row, would only repeat.
fn is_disconnection(error: &tokio_postgres::Error) -> bool {
    let of_socket = |error: &io::Error| {
        // tokio-postgres reports encoding and decoding errors with these kinds.
        !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    };
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_closed() || source.is_some_and(of_socket)
}

/// The meaning of a violated constraint. A foreign key means one thing to the statement that adds a
/// reference and another to the one that deletes its target. PostgreSQL 18 reports RESTRICT as
/// 23001, earlier versions as 23503.
pub fn violation(statement: Sql, code: &SqlState, constraint: &str) -> Option<Error> {
    let referenced =
        matches!(*code, SqlState::FOREIGN_KEY_VIOLATION | SqlState::RESTRICT_VIOLATION);
    let deletes_doctor = matches!(statement, Sql::DoctorsDelete | Sql::DoctorsDeleteOnce);
    match constraint {
        "users_email_key" => Some(Error::EmailTaken),
        // Random ids collided: a retry draws another.
        "users_pkey" | "sessions_sid_key" => {
            let cause = format!("{}: {constraint}: drawn twice", statement.file());
            Some(Error::DatabaseUnavailable { cause })
        }
        "mappings_patient_id_doctor_id_key" => Some(Error::AlreadyAssigned),
        "mappings_patient_id_fkey" => Some(Error::PatientNotFound),
        "mappings_doctor_id_fkey" if referenced && deletes_doctor => Some(Error::DoctorAssigned),
        "mappings_doctor_id_fkey" => Some(Error::DoctorNotFound),
        // The token's user does not exist in this database.
        "patients_created_by_fkey"
        | "doctors_created_by_fkey"
        | "idempotency_keys_created_by_fkey"
        | "sessions_user_id_fkey" => Some(Error::InvalidToken),
        // The first request with this key ended after this one had begun.
        "idempotency_keys_pkey" => Some(Error::IdempotencyInProgress),
        _ if *code == SqlState::CHECK_VIOLATION => checked_field(constraint)
            .map(|field| Error::fields(vec![FieldError::new(field, "is out of range")])),
        _ => None,
    }
}

/// The field of a constraint called `<table>_<field>_check`.
fn checked_field(constraint: &str) -> Option<&str> {
    constraint.strip_suffix("_check")?.split_once('_').map(|(_, field)| field)
}

/// Whether the server is unavailable, rather than the statement wrong. All statements were prepared
/// on this connection, so each was right for the schema then.
fn unavailability(code: &SqlState) -> Option<Aftermath> {
    match *code {
        // The statement was prepared before the schema changed.
        SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME => {
            Some(Aftermath::Outdated)
        }
        // A right was revoked, or a table, column or unique index is missing, as while a backup is
        // restored. The same connection serves again once it is back.
        SqlState::INSUFFICIENT_PRIVILEGE
        | SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_COLUMN
        | SqlState::INVALID_COLUMN_REFERENCE
        | SqlState::QUERY_CANCELED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED => Some(Aftermath::Keep),
        _ => match code.code().get(..2) {
            // Connection exception; operator intervention: the server is stopping or starting, or
            // was told to end the connection.
            Some("08" | "57") => Some(Aftermath::Lost),
            // Insufficient resources; system error.
            Some("53" | "58") => Some(Aftermath::Keep),
            _ => None,
        },
    }
}
