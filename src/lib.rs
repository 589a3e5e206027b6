//! A healthcare backend: people register and log in, keep records of patients and doctors, and
//! assign doctors to patients, over a REST API on PostgreSQL.
//!
//! # The reading order
//!
//! The modules in the order in which a request meets them.
//!
//! - [`server`] has the threads and the sockets. One acceptor hands each connection to the worker
//!   with the fewest. When the service stops, it lets what runs come to its end.
//! - [`worker`] is what the requests of one thread share, above all its database connections; [`app`] is
//!   what all threads share.
//! - [`service`] is one request's life: its id, its route, who may come in, its handler, an error
//!   turned into an answer, its line in the log. What is wrong with any request, whatever its route, is
//!   refused there.
//! - [`routes`] is the URL space. A path becomes a [`Route`](routes::Route), which knows its name,
//!   its methods and who may use it.
//! - [`auth`] tells who is asking. Only a verified token makes an [`AuthUser`](auth::AuthUser), and every
//!   handler of something private takes one.
//! - [`handlers`] has one file a resource, and is itself the table of contents: which function answers
//!   which route and method. A handler reads the request, asks the database and writes the answer.
//! - [`http`] is what the handlers use of HTTP: bodies, queries, entity tags, answers, problems, and the
//!   budget of what is held for clients.
//! - [`models`] says for each resource which columns it is read from, which fields a client may send
//!   and what is right for each.
//! - [`db`] is PostgreSQL: the shared connection for short reads and the pool for the rest, in parts; the
//!   statements under `sql/`, rows, errors, migrations, and the embedded server.
//!
//! Beside the way stand [`config`] (the settings), [`error`] (every way to fail, with its code), [`json`]
//! (how answers are written), [`id`] and [`secret`]. `src/main.rs`, with `src/commands/` and
//! `src/log.rs`, is the program: it reads the command line and uses the rest as a library.
//!
//! # The layers
//!
//! A module uses only modules of lines below its own, which a test proves by this very list.
//!
//! 1. [`server`]
//! 2. [`service`]
//! 3. [`handlers`]
//! 4. [`worker`]
//! 5. [`app`]
//! 6. [`config`]
//! 7. [`auth`]
//! 8. [`routes`], [`http`], [`models`]
//! 9. [`db`]
//! 10. [`error`], [`json`], [`id`], [`secret`]
//!
//! # What always holds
//!
//! - The owner is part of the SQL. What is not yours and what is not there are the same empty result.
//! - The ids that tokens rest on, of users and sessions, are drawn at random: a database that is put back
//!   to an earlier moment hands out the numbers of its sequences again.
//! - A change to a patient, doctor or mapping is one statement, and so one transaction: it is done or
//!   not. Creations may share one; a login, and a list of more than 100 rows, take several.
//! - A write that has started runs to its end, whether or not its client waits.
//! - No wait is without a timeout, and no input without a bound.
//! - What all users share is only used for what is short. Of the rest, a user has a part.
//! - What is held for clients is bounded in bytes, for each of them and for all.
//! - What a client sent, and what a row holds, is never logged: not in an error's cause either.

pub mod app;
pub mod auth;
pub mod config;
pub mod db;
pub mod error;
pub mod handlers;
pub mod http;
pub mod id;
pub mod json;
pub mod models;
pub mod routes;
pub mod secret;
pub mod server;
pub mod service;
pub mod worker;
