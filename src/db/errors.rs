//! What PostgreSQL's errors mean to a client, in one place. Only codes and names of constraints are
//! looked at: PostgreSQL's messages quote values.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use super::Sql;
use crate::error::{Error, FieldError};

/// How an error leaves the connection it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The connection is as good as before.
    Keep,
    /// What the connection knows of the server is out of date, and so is what its siblings know: a
    /// changed schema, a demoted, stopping or silent server.
    ReplaceAll,
}

/// The answer to a failed statement.
pub fn map(statement: Sql, error: &tokio_postgres::Error) -> (Error, Aftermath) {
    let Some(db) = error.as_db_error() else {
        let cause = format!("{}: {error}", statement.file());
        let error = if is_disconnection(error) {
            Error::DatabaseUnavailable { cause }
        } else {
            Error::Internal { cause }
        };
        return (error, Aftermath::Keep);
    };
    if let Some(error) = db.constraint().and_then(|name| violation(statement, db.code(), name)) {
        return (error, Aftermath::Keep);
    }
    if *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION {
        return (Error::ReadOnly, Aftermath::ReplaceAll);
    }
    let cause = format!(
        "{}: SQLSTATE {}{}",
        statement.file(),
        db.code().code(),
        db.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default()
    );
    if *db.code() == SqlState::LOCK_NOT_AVAILABLE {
        return (Error::Locked { cause }, Aftermath::Keep);
    }
    match unavailability(db.code()) {
        Some(aftermath) => (Error::DatabaseUnavailable { cause }, aftermath),
        None => (Error::Internal { cause }, Aftermath::Keep),
    }
}

/// Whether the connection failed, so that another may work. Everything else that does not come from
/// PostgreSQL, such as parameters that do not fit their statement or a row too many, would come again.
fn is_disconnection(error: &tokio_postgres::Error) -> bool {
    let of_socket = |error: &io::Error| {
        // With these, tokio-postgres says that it cannot encode or decode a message.
        !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    };
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_closed() || source.is_some_and(of_socket)
}

/// The meaning of a violated constraint. The same foreign key means one thing to the statement that
/// adds a reference and another to the one that removes its target. PostgreSQL 18 reports RESTRICT
/// as 23001, earlier versions as 23503.
pub fn violation(statement: Sql, code: &SqlState, constraint: &str) -> Option<Error> {
    let referenced =
        matches!(*code, SqlState::FOREIGN_KEY_VIOLATION | SqlState::RESTRICT_VIOLATION);
    match constraint {
        "users_email_key" => Some(Error::EmailTaken),
        // Ids that are drawn at random: another draw has another.
        "users_pkey" | "sessions_sid_key" => {
            let cause = format!("{}: {constraint}: drawn twice", statement.file());
            Some(Error::DatabaseUnavailable { cause })
        }
        "mappings_patient_id_doctor_id_key" => Some(Error::AlreadyAssigned),
        "mappings_patient_id_fkey" => Some(Error::PatientNotFound),
        "mappings_doctor_id_fkey" if referenced && statement == Sql::DoctorsDelete => {
            Some(Error::DoctorAssigned)
        }
        "mappings_doctor_id_fkey" => Some(Error::DoctorNotFound),
        // The token's user is not in this database.
        "patients_created_by_fkey" | "doctors_created_by_fkey" | "sessions_user_id_fkey" => {
            Some(Error::InvalidToken)
        }
        _ if *code == SqlState::CHECK_VIOLATION => checked_field(constraint)
            .map(|field| Error::fields(vec![FieldError::new(field, "is out of range")])),
        _ => None,
    }
}

/// The field of a constraint called `<table>_<field>_check`.
fn checked_field(constraint: &str) -> Option<&str> {
    constraint.strip_suffix("_check")?.split_once('_').map(|(_, field)| field)
}

/// Whether the server cannot serve now (rather than that the statement is wrong).
fn unavailability(code: &SqlState) -> Option<Aftermath> {
    match *code {
        // A statement prepared before the schema changed.
        SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME => {
            Some(Aftermath::ReplaceAll)
        }
        SqlState::QUERY_CANCELED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED => Some(Aftermath::Keep),
        _ => match code.code().get(..2) {
            // Operator intervention: the server stops or has just started.
            Some("57") => Some(Aftermath::ReplaceAll),
            // Connection failed; out of connections, memory or disk; the system failed.
            Some("08" | "53" | "58") => Some(Aftermath::Keep),
            _ => None,
        },
    }
}
