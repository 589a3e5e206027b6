//! Authentication: tokens, sessions, passwords, limits on failed logins, and [`AuthUser`], which
//! only a verified token can produce.

pub mod cache;
pub mod client_address;
pub mod guard;
pub mod login_locks;
pub mod password;
pub mod refresh;
pub mod session;
pub mod session_id;
pub mod throttle;
pub mod token;

pub use guard::AuthUser;
pub use session_id::SessionId;
