//! Who is asking: access tokens, passwords, and the user that only a verified token can make.

pub mod guard;
pub mod password;
pub mod token;

pub use guard::User;
