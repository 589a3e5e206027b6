//! PostgreSQL: the pool and the shared connections, the statements, the mapping of rows and errors,
//! migrations, and the embedded server. Nothing here knows HTTP.

pub mod batch;
pub mod connect;
pub mod connect_options;
pub mod connection;
pub mod conninfo;
pub mod embedded;
pub mod errors;
pub mod insert;
pub mod lookup;
pub mod migrations;
pub mod once;
pub mod pool;
pub mod readiness;
pub mod round_trip;
pub mod row;
pub mod setup_error;
pub mod share;
pub mod shared_connection;
pub mod staging;
pub mod statements;
pub mod tls;
pub mod warm;

pub use connect_options::ConnectOptions;
pub use insert::{Inserted, Inserts, insert};
pub use lookup::PatientLookups;
pub use once::{IdempotencyKey, KeptAnswer};
pub use pool::Pool;
pub use readiness::Readiness;
pub use round_trip::RoundTrip;
pub use row::{FromRow, Timestamp};
pub use setup_error::SetupError;
pub use shared_connection::SharedConnection;
pub use staging::{Imports, Staging};
pub use statements::Sql;
pub use warm::{Warmth, keep_warm};
