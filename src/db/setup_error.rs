//! Why the database cannot be used at start, and whether waiting may help.

use std::error::Error;
use std::fmt;
use std::io;

use tokio_postgres::error::SqlState;
use tokio_rustls::rustls;

use super::connect::ConnectError;

/// Why the database cannot be used, in one sentence for the operator.
#[derive(Debug)]
pub struct SetupError {
    message: String,
    obstacle: Obstacle,
}

/// What kind of obstacle it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Someone must change something: a password, a setting, the schema.
    Lasting,
    /// The server does not answer, or is read-only for now.
    Unavailable,
    /// Another transaction holds a lock that a migration needs.
    Locked,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SetupError {}

impl SetupError {
    /// An error that waiting does not resolve.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), obstacle: Obstacle::Lasting }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { message: message.into(), obstacle: Obstacle::Unavailable }
    }

    /// No host of the connection string accepted a connection.
    pub fn unreachable(error: &ConnectError) -> Self {
        const WHAT: &str = "the database cannot be reached";
        match error {
            ConnectError::Refused(error) => Self::because(WHAT, error),
            ConnectError::Lookup(cause) => Self::unavailable(format!("{WHAT}: {error}: {cause}")),
            ConnectError::Silent | ConnectError::AsAnother => {
                Self::unavailable(format!("{WHAT}: {error}"))
            }
        }
    }

    /// What failed, with the whole chain of causes.
    pub fn because(what: &str, error: &tokio_postgres::Error) -> Self {
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { message: message.replace('\n', " "), obstacle: obstacle(error) }
    }

    pub fn obstacle(&self) -> Obstacle {
        self.obstacle
    }
}

fn obstacle(error: &tokio_postgres::Error) -> Obstacle {
    let Some(code) = error.code() else {
        return if is_misconfigured(error) { Obstacle::Lasting } else { Obstacle::Unavailable };
    };
    match *code {
        SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED => Obstacle::Locked,
        SqlState::READ_ONLY_SQL_TRANSACTION => Obstacle::Unavailable,
        _ => match code.code().get(..2) {
            // Connection exception; insufficient resources; operator intervention; system error.
            Some("08" | "53" | "57" | "58") => Obstacle::Unavailable,
            _ => Obstacle::Lasting,
        },
    }
}

/// Whether an error of the client side is about the connection string or a certificate, rather than
/// about the network.
fn is_misconfigured(error: &tokio_postgres::Error) -> bool {
    let Some(source) = error.source() else { return false };
    match source.downcast_ref::<io::Error>() {
        // rustls wraps its own errors in io::Error.
        Some(error) => error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>),
        None => true,
    }
}
