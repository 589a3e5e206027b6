//! `/api/auth`.

use super::{Answer, Content, NO_CONTENT, Operation, refused};
use crate::error::Error;
use crate::models::input::read_new;
use crate::models::user::{LOGIN_FIELDS, PASSWORD_FIELDS, REFRESH_FIELDS, REGISTER_FIELDS};
use crate::routes::Route;

const TOO_MANY: Error = Error::TooManyAttempts { retry_after: 60 };

pub fn operation(route: Route) -> Operation {
    const CREATED: &[Answer] =
        &[Answer::new(201, "A session of the new user.", Content::One("Session"))];
    const SESSION: &[Answer] = &[Answer::new(200, "A session.", Content::One("Session"))];
    const USER: &[Answer] = &[Answer::new(200, "The user.", Content::One("User"))];
    match route {
        Route::Register => Operation::new("register", "Make an account and log in", CREATED)
            .body("Registration", wrong_registration)
            .errors([Error::RegistrationClosed, Error::EmailTaken, TOO_MANY]),
        Route::Login => Operation::new("login", "Log in", SESSION)
            .body("Login", wrong_login)
            .errors([Error::InvalidCredentials, TOO_MANY]),
        Route::Refresh => Operation::new("refresh", "Exchange a refresh token", SESSION)
            .about(
                "The token is spent. For 10 seconds it still gives the same successor, so that a \
                 lost answer logs nobody out; after that its use ends the session.",
            )
            .body("Refresh", wrong_refresh)
            .errors([Error::InvalidRefreshToken]),
        Route::Logout => Operation::new("logout", "End the session", &[NO_CONTENT])
            .about("Its access and refresh tokens stop working at once."),
        Route::Password => Operation::new("changePassword", "Change the password", &[NO_CONTENT])
            .about("Every other session of the user ends.")
            .body("PasswordChange", wrong_password)
            .errors([TOO_MANY]),
        _ => Operation::new("getMe", "The user of the token", USER),
    }
}

fn wrong_registration() -> Error {
    let body = br#"{"name":" ","email":"ada","password":"correct horse","role":"admin"}"#;
    refused(read_new(&REGISTER_FIELDS, body))
}

fn wrong_login() -> Error {
    refused(read_new(&LOGIN_FIELDS, br#"{"email":"ada@example.com","pasword":"correct horse"}"#))
}

fn wrong_refresh() -> Error {
    refused(read_new(&REFRESH_FIELDS, b"{}"))
}

fn wrong_password() -> Error {
    let body = br#"{"current_password":"correct horse","new_password":"short"}"#;
    refused(read_new(&PASSWORD_FIELDS, body))
}
