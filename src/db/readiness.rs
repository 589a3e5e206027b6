//! Whether the database answers and can be written, asked on a connection of its own: however busy the
//! pools are, a load balancer learns about the database and not about them.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::Address;
use super::connect::ConnectError;
use super::connection::bounded;
use crate::error::{Error, Result};

/// How long an answer is passed on to others that ask.
const REMEMBERED_FOR: Duration = Duration::from_millis(500);
/// How long the database may take, a new connection included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a request waits while others ask: one of them may give up, and the next asks anew.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// True if nothing can be written here: the server is a standby, or told to be read-only.
const QUESTION: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// Asks at most one question at a time; whoever comes meanwhile gets the same answer.
pub struct Readiness {
    address: Address,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    /// Dropped after an answer that was not good: another server may be at the address by now.
    connection: Option<Client>,
    answer: Option<(Instant, Result<()>)>,
}

impl Readiness {
    /// The connection is made when it is first needed.
    pub fn new(address: &Address) -> Self {
        Self { address: bounded(address), latest: Mutex::default() }
    }

    /// [`Error::DatabaseUnavailable`] or [`Error::ReadOnly`] unless rows can be written, as of half a second ago at most.
    pub async fn check(&self) -> Result<()> {
        let latest = timeout(WAIT_TIMEOUT, self.latest.lock()).await;
        let mut latest = latest.map_err(|_| unavailable("no answer"))?;
        if let Some((at, answer)) = &latest.answer
            && at.elapsed() < REMEMBERED_FOR
        {
            return answer.clone();
        }
        let connection = latest.connection.take().filter(|connection| !connection.is_closed());
        let asked = timeout(ANSWER_TIMEOUT, self.ask(connection)).await;
        let answer = match asked.unwrap_or_else(|_| Err(unavailable("no answer"))) {
            Ok(connection) => {
                latest.connection = Some(connection);
                Ok(())
            }
            Err(error) => Err(error),
        };
        latest.answer = Some((Instant::now(), answer.clone()));
        answer
    }

    /// Asks on the connection, or on a new one, and hands it back after a good answer.
    async fn ask(&self, connection: Option<Client>) -> Result<Client> {
        let connection = match connection {
            Some(connection) => connection,
            None => self.address.connect_soon().await.map_err(|error| unreachable(&error))?.0,
        };
        let row = connection.query_one(QUESTION, &[]).await.map_err(|error| failed(&error))?;
        if row.try_get(0).map_err(|error| failed(&error))? {
            return Err(Error::ReadOnly);
        }
        Ok(connection)
    }
}

fn failed(error: &tokio_postgres::Error) -> Error {
    // The message may quote names; the code does not.
    match error.code() {
        Some(code) => unavailable(&format!("SQLSTATE {}", code.code())),
        None => unavailable(&error.to_string()),
    }
}

fn unreachable(error: &ConnectError) -> Error {
    match error.as_db_error() {
        Some(db) => unavailable(&format!("SQLSTATE {}", db.code().code())),
        None => unavailable(&error.to_string()),
    }
}

fn unavailable(cause: &str) -> Error {
    Error::DatabaseUnavailable { cause: format!("readiness: {cause}") }
}
