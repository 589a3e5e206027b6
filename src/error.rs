//! Every way a request can fail, with the status and the stable code of its response.

use std::borrow::Cow;

use hyper::StatusCode;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most wrong fields or parameters that are named in one response.
pub const MAX_FIELD_ERRORS: usize = 100;

/// What is wrong with one field of a body or one parameter of a query, by the name that was sent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    pub field: String,
    pub message: Cow<'static, str>,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A failed request. The data of a variant is for the response, except the causes of
/// [`DatabaseUnavailable`](Error::DatabaseUnavailable), [`NotReady`](Error::NotReady),
/// [`OutcomeUnknown`](Error::OutcomeUnknown), [`Locked`](Error::Locked) and
/// [`Internal`](Error::Internal), which are for the log alone. Causes never contain what a client
/// sent or what a row holds.
#[derive(Debug, Clone)]
pub enum Error {
    BadRequest(&'static str),
    BadQuery(Vec<FieldError>),
    MalformedJson {
        detail: Cow<'static, str>,
    },
    Unauthorized,
    InvalidToken,
    InvalidCredentials,
    InvalidRefreshToken,
    Forbidden,
    /// Accounts are only created on the command line.
    RegistrationClosed,
    /// No such path.
    NotFound,
    MappingNotFound,
    PatientNotFound,
    DoctorNotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    RequestTimeout,
    EmailTaken,
    AlreadyAssigned,
    DoctorAssigned,
    /// The first request with this idempotency key is still running.
    IdempotencyInProgress,
    PreconditionFailed,
    BodyTooLarge {
        limit: usize,
    },
    UriTooLong {
        limit: usize,
    },
    HeadersTooLarge {
        limit: usize,
    },
    UnsupportedMediaType(&'static str),
    Validation {
        detail: &'static str,
        errors: Vec<FieldError>,
    },
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// Too many wrong passwords or registrations.
    TooManyAttempts {
        retry_after: u32,
    },
    /// This instance has as much work as it can finish in time.
    Overloaded {
        retry_after: u32,
    },
    /// This instance is about to stop. Only readiness says so; requests are still answered.
    Stopping,
    /// The database cannot be used right now, and nothing was changed.
    DatabaseUnavailable {
        cause: String,
    },
    /// What this instance needs of the database is not there, so nothing was tried.
    NotReady {
        detail: &'static str,
        cause: String,
    },
    /// A change was sent to the database, which did not say whether it was made.
    OutcomeUnknown {
        cause: String,
    },
    /// A row that the request needs stayed locked.
    Locked {
        /// Or the whole table, for all who use it.
        of_table: bool,
        cause: String,
    },
    /// The database is read-only: a standby, or a server that is being moved.
    ReadOnly,
    Internal {
        cause: String,
    },
}

impl Error {
    /// Wrong fields of a body.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self::Validation { detail: "Some fields are missing, unknown or out of range.", errors }
    }

    /// A bug: no request should be able to cause it.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Internal { cause: cause.into() }
    }

    /// The status, and the stable code that clients may rely on.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::BadQuery(_) => (StatusCode::BAD_REQUEST, "bad_query"),
            Self::MalformedJson { .. } => (StatusCode::BAD_REQUEST, "malformed_json"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::InvalidCredentials | Self::InvalidRefreshToken => {
                (StatusCode::UNAUTHORIZED, "invalid_credentials")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::NotFound | Self::MappingNotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::PatientNotFound => (StatusCode::NOT_FOUND, "patient_not_found"),
            Self::DoctorNotFound => (StatusCode::NOT_FOUND, "doctor_not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Self::AlreadyAssigned => (StatusCode::CONFLICT, "already_assigned"),
            Self::DoctorAssigned => (StatusCode::CONFLICT, "doctor_assigned"),
            Self::IdempotencyInProgress => (StatusCode::CONFLICT, "idempotency_in_progress"),
            Self::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::UriTooLong { .. } => (StatusCode::URI_TOO_LONG, "uri_too_long"),
            Self::HeadersTooLarge { .. } => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large")
            }
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::Validation { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "validation_failed"),
            Self::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            Self::TooManyAttempts { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::Overloaded { .. } | Self::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
            }
            Self::DatabaseUnavailable { .. } | Self::NotReady { .. } | Self::Locked { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable")
            }
            Self::OutcomeUnknown { .. } => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
            Self::ReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "read_only"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// One sentence for a person. It may change; programs use the code.
    pub fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::BadRequest(detail)
            | Self::UnsupportedMediaType(detail)
            | Self::Validation { detail, .. }
            | Self::NotReady { detail, .. } => detail,
            Self::BadQuery(_) => "Some query parameters are unknown, repeated or out of range.",
            Self::MalformedJson { detail } => return detail.clone(),
            Self::Unauthorized => "This needs an access token: Authorization: Bearer <token>.",
            Self::InvalidToken => "The access token is not valid or no longer valid.",
            Self::InvalidCredentials => "The e-mail address or the password is wrong.",
            Self::InvalidRefreshToken => "The refresh token is not valid or no longer valid.",
            Self::Forbidden => "Only the user who created this, or an admin, may change it.",
            Self::RegistrationClosed => {
                "Nobody can register here. Whoever runs this service makes the accounts."
            }
            Self::NotFound => "There is nothing at this path.",
            Self::MappingNotFound => "You have no mapping with this id.",
            Self::PatientNotFound => "You have no patient with this id.",
            Self::DoctorNotFound => "There is no doctor with this id.",
            Self::MethodNotAllowed { allow } => {
                return format!("This path answers to {allow}.").into();
            }
            Self::RequestTimeout => "The body of the request did not come in time.",
            Self::EmailTaken => "There is an account with this e-mail address.",
            Self::AlreadyAssigned => "This doctor is assigned to this patient already.",
            Self::DoctorAssigned => "This doctor is assigned to a patient and cannot be deleted.",
            Self::IdempotencyInProgress => {
                "The first request with this Idempotency-Key is still running. Repeat it soon."
            }
            Self::PreconditionFailed => "If-Match names another version; nothing was changed.",
            Self::BodyTooLarge { limit } => {
                return format!("The body may have {limit} bytes at most.").into();
            }
            Self::UriTooLong { limit } => {
                return format!("The request target may have {limit} bytes at most.").into();
            }
            Self::HeadersTooLarge { limit } => {
                return format!("The headers may have {limit} bytes together at most.").into();
            }
            Self::IdempotencyKeyReused => {
                "This Idempotency-Key was sent with another request. Nothing was changed."
            }
            Self::TooManyAttempts { .. } => {
                "There were too many attempts. Try again after the time in Retry-After."
            }
            Self::Overloaded { .. } => "There is too much to do right now. Try again soon.",
            Self::Stopping => "This instance is stopping. Another will answer.",
            Self::DatabaseUnavailable { .. } => {
                "The database is not available right now. Nothing was changed."
            }
            Self::OutcomeUnknown { .. } => {
                "The change may or may not have been made. Repeat the request with the same \
                 Idempotency-Key; without one, look first."
            }
            Self::Locked { .. } => {
                "Others were changing the same for too long. Nothing was changed."
            }
            Self::ReadOnly => "The database takes no changes right now. Nothing was changed.",
            Self::Internal { .. } => "Something went wrong here. The log has the request id.",
        })
    }

    /// The fields or parameters at fault; empty if there are none.
    pub fn errors(&self) -> &[FieldError] {
        match self {
            Self::BadQuery(errors) | Self::Validation { errors, .. } => errors,
            _ => &[],
        }
    }

    /// The cause, for the log only.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::DatabaseUnavailable { cause }
            | Self::NotReady { cause, .. }
            | Self::OutcomeUnknown { cause }
            | Self::Locked { cause, .. }
            | Self::Internal { cause } => Some(cause),
            _ => None,
        }
    }

    /// Seconds after which a retry makes sense.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Overloaded { retry_after } | Self::TooManyAttempts { retry_after } => {
                Some(*retry_after)
            }
            Self::DatabaseUnavailable { .. }
            | Self::NotReady { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Locked { .. }
            | Self::ReadOnly
            | Self::IdempotencyInProgress
            | Self::Stopping => Some(1),
            _ => None,
        }
    }

    /// Whether part of the request may be unread, or its end is unknown, so that the connection
    /// cannot be reused.
    pub fn closes_connection(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::BodyTooLarge { .. } | Self::RequestTimeout)
    }
}
