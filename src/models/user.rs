//! A user: an account that logs in.

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

/// The roles that a user may have.
pub const ROLES: [&str; 2] = ["user", "admin"];

/// The fields of registering. Forms ask for the password twice, and some clients send both.
pub const REGISTER_FIELDS: [Field; 4] = [
    required("name", Rule::Name { max: 200 }),
    required("email", Rule::Email),
    required("password", Rule::NewPassword),
    optional("password_confirm", Rule::Repeats("password")).or(&["confirm_password", "password2"]),
];

/// The fields of logging in: any text, because the response must not tell which one is wrong.
pub const LOGIN_FIELDS: [Field; 2] =
    [required("email", Rule::Credential), required("password", Rule::Credential)];

/// The field of exchanging a refresh token.
pub const REFRESH_FIELDS: [Field; 1] =
    [required("refresh_token", Rule::Credential).or(&["refresh"])];

/// The fields of changing the password.
pub const PASSWORD_FIELDS: [Field; 2] =
    [required("current_password", Rule::Credential), required("new_password", Rule::NewPassword)];
