//! The errors, each with a value to show and the case in which it is the answer.

use serde_json::{Value, json};

use crate::error::Error;
use crate::http::query::Query;
use crate::http::{body, head, problem};

/// The id of the request in examples.
const REQUEST_ID: &str = "710bd1f180ec3e2d0000000000000005";

/// Lists every variant of [`Error`] once: a variant that is missing does not compile.
macro_rules! errors {
    ($($pattern:pat => $value:expr, $when:literal;)*) => {
        /// Every error.
        pub fn all() -> Vec<Error> {
            vec![$($value,)*]
        }

        /// The case in which it is the answer, as the end of a sentence.
        pub fn when(error: &Error) -> &'static str {
            match error {
                $($pattern => $when,)*
            }
        }
    };
}

errors! {
    Error::BadRequest(_) => Error::BadRequest("There must be one Host header."),
        "HTTP that could be understood in two ways, or a body that ends early";
    Error::BadQuery(_) => bad_query(),
        "a query parameter that is unknown, repeated, out of range or badly encoded";
    Error::MalformedJson { .. } => Error::MalformedJson { detail: "The body is empty.".into() },
        "a body that is not one JSON value";
    Error::Unauthorized => Error::Unauthorized,
        "no access token";
    Error::InvalidToken => Error::InvalidToken,
        "an access token that is not valid, or no longer";
    Error::InvalidCredentials => Error::InvalidCredentials,
        "a wrong e-mail address or password; which of them is not told";
    Error::InvalidRefreshToken => Error::InvalidRefreshToken,
        "a refresh token that is not valid, or no longer";
    Error::Forbidden => Error::Forbidden,
        "another user has created it, and you are no admin";
    Error::RegistrationClosed => Error::RegistrationClosed,
        "accounts are only made by whoever runs this service";
    Error::NotFound => Error::NotFound,
        "no such path";
    Error::MappingNotFound => Error::MappingNotFound,
        "no such mapping, or not of your patients";
    Error::PatientNotFound => Error::PatientNotFound,
        "no such patient, or not yours";
    Error::DoctorNotFound => Error::DoctorNotFound,
        "no such doctor";
    Error::MethodNotAllowed { .. } => Error::MethodNotAllowed { allow: "GET, HEAD, OPTIONS" },
        "the path has other methods than this, which `Allow` lists";
    Error::RequestTimeout => Error::RequestTimeout,
        "the body did not come in time";
    Error::EmailTaken => Error::EmailTaken,
        "there is an account with this e-mail address, compared without case";
    Error::AlreadyAssigned => Error::AlreadyAssigned,
        "this doctor is assigned to this patient already";
    Error::DoctorAssigned => Error::DoctorAssigned,
        "the doctor is assigned to a patient of anybody's";
    Error::IdempotencyInProgress => Error::IdempotencyInProgress,
        "the first request with this `Idempotency-Key` is still running";
    Error::PreconditionFailed => Error::PreconditionFailed,
        "`If-Match` names another version; nothing was changed";
    Error::BodyTooLarge { .. } => Error::BodyTooLarge { limit: body::LIMIT },
        "a body over the limit; the connection is closed";
    Error::UriTooLong { .. } => Error::UriTooLong { limit: head::MAX_TARGET },
        "a request target over the limit";
    Error::HeadersTooLarge { .. } => {
            Error::HeadersTooLarge { limit: head::MAX_HEADERS }
        },
        "headers over the limit";
    Error::UnsupportedMediaType(_) => body::not_json(),
        "a body that is not declared as one of the media types in UTF-8, or is compressed";
    Error::Validation { .. } => Error::fields(Vec::new()),
        "fields that are missing, unknown, given twice, of the wrong type or out of range";
    Error::IdempotencyKeyReused => Error::IdempotencyKeyReused,
        "the `Idempotency-Key` came with another request before; nothing was changed";
    Error::TooManyAttempts { .. } => Error::TooManyAttempts { retry_after: 60 },
        "too many wrong passwords, or registrations";
    Error::Overloaded { .. } => Error::Overloaded { retry_after: 1 },
        "there is more to do than can be done in time; nothing was changed";
    Error::Stopping => Error::Stopping,
        "this instance is about to stop";
    Error::DatabaseUnavailable { .. } => Error::DatabaseUnavailable { cause: String::new() },
        "the database did not answer in time; nothing was changed";
    Error::NotReady { .. } => Error::NotReady { detail: "", cause: String::new() },
        "this instance has not reached its database since it started; nothing was changed";
    Error::OutcomeUnknown { .. } => Error::OutcomeUnknown { cause: String::new() },
        "the change may have been made: repeat it with the same `Idempotency-Key`";
    Error::Locked { .. } => Error::Locked { of_table: false, cause: String::new() },
        "others were changing the same for too long; nothing was changed";
    Error::ReadOnly => Error::ReadOnly,
        "the database takes no changes; nothing was changed";
    Error::Internal { .. } => Error::internal(String::new()),
        "a defect of the service";
}

fn bad_query() -> Error {
    Query::none(Some("limt=10")).err().unwrap_or(Error::BadQuery(Vec::new()))
}

/// The name of the variant, with what distinguishes its example from others of the same variant.
pub fn name(error: &Error) -> String {
    let debug = format!("{error:?}");
    let variant = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    match error {
        Error::BodyTooLarge { limit } => format!("{variant}{limit}"),
        Error::UnsupportedMediaType(_) if error.detail() != body::not_json().detail() => {
            format!("{variant}Lines")
        }
        _ => variant.to_owned(),
    }
}

/// The body of the answer, as the service writes it.
pub fn example(error: &Error) -> Value {
    serde_json::from_slice(&problem::json(error, REQUEST_ID, None)).unwrap_or_else(|_| json!({}))
}
