//! `user add`: creates an account on the command line, also where registration is closed.

use std::fmt;
use std::io::{self, IsTerminal, Read};

use healthcare_backend::auth::password;
use healthcare_backend::db::{ConnectOptions, Sql};
use healthcare_backend::models::input::read_new;
use healthcare_backend::models::user::REGISTER_FIELDS;
use serde_json::json;

use super::statement::query_opt;
use crate::Failure;

/// The most bytes read from standard input, more than any password has.
const MAX_INPUT: u64 = 4096;

/// The arguments for a new account.
#[derive(clap::Args)]
pub struct NewUser {
    /// The e-mail address to log in with.
    email: String,
    /// The person's name; else what stands before the @.
    #[arg(long)]
    name: Option<String>,
    /// An admin, who may change every doctor.
    #[arg(long)]
    admin: bool,
}

/// What was typed in is wrong.
#[derive(Debug)]
pub struct WrongInput(pub String);

impl fmt::Display for WrongInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongInput {}

/// A valid account.
pub struct Account {
    name: String,
    email: String,
    password: String,
    role: &'static str,
}

impl NewUser {
    /// Asks for the password, and checks everything by the rules of registration.
    pub fn complete(&self) -> Result<Account, Failure> {
        let name = self.name.as_deref();
        let name = name.unwrap_or_else(|| self.email.split('@').next().unwrap_or_default());
        let password = read_password()?;
        check(name, &self.email, &password)?;
        let role = if self.admin { "admin" } else { "user" };
        Ok(Account { name: name.to_owned(), email: self.email.clone(), password, role })
    }
}

/// Checks an account by the rules of registration.
pub fn check(name: &str, email: &str, password: &str) -> Result<(), WrongInput> {
    let body = json!({"name": name, "email": email, "password": password}).to_string();
    let Err(error) = read_new(&REGISTER_FIELDS, body.as_bytes()) else { return Ok(()) };
    let wrong = error.errors().iter().map(|wrong| format!("{} {}", wrong.field, wrong.message));
    Err(WrongInput(wrong.collect::<Vec<_>>().join("; ")))
}

/// Reads it twice from the terminal without echo, or else as the one line of standard input.
pub fn read_password() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Again: ")? != password {
            return Err(WrongInput("the two passwords differ".into()).into());
        }
        return Ok(password);
    }
    let mut input = String::new();
    io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut input)
        .map_err(|_| WrongInput("standard input must hold the password in UTF-8".into()))?;
    let line = input.strip_suffix('\n').unwrap_or(&input);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        return Err(WrongInput("standard input must hold the password in one line".into()).into());
    }
    Ok(line.to_owned())
}

/// Stores an account, with a hash of this cost.
pub async fn add(
    database: &ConnectOptions,
    account: &Account,
    bcrypt_cost: u32,
) -> Result<(), Failure> {
    let hash = hash(&account.password, bcrypt_cost)?;
    let Account { name, email, role, .. } = account;
    let added = query_opt(database, Sql::UsersAdd, &[name, email, &hash, role]).await?;
    added.ok_or("there is an account with this e-mail address")?;
    println!("The user can log in now.");
    Ok(())
}

/// The hash of a password that was checked.
pub fn hash(password: &str, bcrypt_cost: u32) -> Result<String, Failure> {
    let hash = password::hash(password, bcrypt_cost);
    hash.map_err(|error| error.cause().unwrap_or("the password cannot be hashed").into())
}
