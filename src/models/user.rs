//! A user: somebody who logs in.

use super::input::{Field, optional, required};
use super::rules::Rule;
use crate::db::Timestamp;
use crate::db::row::row;

row! {
    /// A row of `users` without its password, and its JSON.
    pub struct User<'r> {
        id: i64,
        name: &'r str,
        email: &'r str,
        role: &'r str,
        created_at: Timestamp,
    }
}

/// What registering takes. Forms ask for the password twice, and some clients send both.
pub const REGISTER_FIELDS: [Field; 4] = [
    required("name", Rule::Name { max: 200 }),
    required("email", Rule::Email),
    required("password", Rule::NewPassword),
    optional("password_confirm", Rule::Repeats("password")).or(&["confirm_password", "password2"]),
];

/// What logging in takes: anything, because what is wrong is not said.
pub const LOGIN_FIELDS: [Field; 2] =
    [required("email", Rule::Credential), required("password", Rule::Credential)];

/// What exchanging a refresh token takes.
pub const REFRESH_FIELDS: [Field; 1] =
    [required("refresh_token", Rule::Credential).or(&["refresh"])];

/// What changing the password takes.
pub const PASSWORD_FIELDS: [Field; 2] =
    [required("current_password", Rule::Credential), required("new_password", Rule::NewPassword)];
