//! Writes that have their effect once for an idempotency key: the statements `*_once`, which keep
//! their answer together with their effect.
//!
//! Only an answer to an effect is kept. A request that was refused has changed nothing, and is
//! judged anew when it comes again.

use std::fmt;

use tokio_postgres::Row;

use super::row::{RawJson, column};
use crate::error::{Error, Result};

/// How long an answer is kept, in seconds.
pub const KEPT_SECONDS: i32 = 24 * 60 * 60;

/// An idempotency key, and the request that it was sent with. Keys of different users have nothing
/// to do with each other.
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of all that makes it the same request.
    pub request_hash: Vec<u8>,
}

/// The answer to a request with a key. The database renders the JSON of the resource when the
/// request has its effect, and it is the same each time.
pub struct KeptAnswer {
    /// Whether an earlier request had the effect.
    pub replayed: bool,
    row: Row,
}

impl fmt::Debug for IdempotencyKey {
    /// The key is text of the client's choosing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey")
    }
}

impl KeptAnswer {
    /// Whether a row of a statement `*_once` refuses the request for what it would change, not for
    /// its key.
    pub fn is_refusal(row: &Row) -> Result<bool> {
        Ok(!matches!(column(row, 0)?, "done" | "replayed" | "reused" | "in_progress"))
    }

    /// Reads the first columns of a row of a statement `*_once`. `missing` is the error if what it
    /// should change is not there.
    pub fn from_row(row: Row, missing: Error) -> Result<Self> {
        match column(&row, 0)? {
            "done" => Ok(Self { replayed: false, row }),
            "replayed" => Ok(Self { replayed: true, row }),
            "reused" => Err(Error::IdempotencyKeyReused),
            "in_progress" => Err(Error::IdempotencyInProgress),
            "missing" => Err(missing),
            "forbidden" => Err(Error::Forbidden),
            "stale" => Err(Error::PreconditionFailed),
            "patient_missing" => Err(Error::PatientNotFound),
            "doctor_missing" => Err(Error::DoctorNotFound),
            "assigned" => Err(Error::AlreadyAssigned),
            verdict => Err(Error::internal(format!("the verdict {verdict}"))),
        }
    }

    /// The id of the resource that was created or changed.
    pub fn id(&self) -> Result<i64> {
        column(&self.row, 1)
    }

    /// Its version; None if it has none.
    pub fn version(&self) -> Result<Option<i64>> {
        column(&self.row, 2)
    }

    /// Its JSON.
    pub fn json(&self) -> Result<RawJson<'_>> {
        column(&self.row, 3)
    }
}
