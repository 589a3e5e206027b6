//! A healthcare backend: people register and log in, keep records of patients and doctors, and
//! assign doctors to patients, over a REST API on PostgreSQL.
//!
//! # The reading order
//!
//! The modules in the order in which a request meets them.
//!
//! - [`server`] has the threads and the sockets. One acceptor passes each connection to the worker
//!   with the fewest. When the service stops, it drains in-flight requests.
//! - [`worker`] is what the requests of one thread share, above all its database connections;
//!   [`app`] is what all threads share.
//! - [`service`] is the life of a request: its id, its route, access, its handler, the response to
//!   an error, its log entry. Errors that do not depend on the route are found there.
//! - [`routes`] is the URL space. A path becomes a [`Route`](routes::Route), which has a name,
//!   methods and an access rule.
//! - [`auth`] is authentication. Only a verified token yields an [`AuthUser`](auth::AuthUser), and
//!   every handler of a private route takes one.
//! - [`handlers`] has one file per resource, and is itself the table of contents: which function
//!   serves which route and method. A handler reads the request, queries the database and builds
//!   the response.
//! - [`http`] is what the handlers use of HTTP: bodies, queries, entity tags, responses, problems,
//!   and the budget of the bytes held for clients.
//! - [`bulk`] has the two formats of import and export, and imports a stream of lines.
//! - [`models`] has for each resource its row, the fields that a client may send, and their rules.
//! - [`openapi`] describes all of it to clients, from the routes, fields, rules and errors that the
//!   service uses.
//! - [`db`] is PostgreSQL: the shared connection for short reads and the shares of a pool for the
//!   rest, both warm before requests come; the statements under `sql/`, rows, errors, migrations,
//!   and the embedded server.
//!
//! Used throughout are [`config`] (the settings), [`error`] (every way to fail, with its code),
//! [`json`] (serialization), [`metrics`] (what is counted), [`deadline`] (of a request, handed
//! down), [`id`] and [`secret`]. `src/main.rs`, with `src/commands/` and `src/log.rs`, is the
//! program: it parses the command line and uses the rest as a library.
//!
//! # The layers
//!
//! A module uses only modules of lines below its own. A test checks this against this very list.
//!
//! 1. [`server`]
//! 2. [`service`]
//! 3. [`handlers`]
//! 4. [`worker`]
//! 5. [`app`]
//! 6. [`config`]
//! 7. [`auth`], [`openapi`]
//! 8. [`bulk`], [`routes`]
//! 9. [`models`]
//! 10. [`http`]
//! 11. [`db`]
//! 12. [`error`], [`json`], [`id`], [`metrics`], [`secret`], [`deadline`]
//!
//! # What always holds
//!
//! - The owner is part of the SQL. Another user's row and a row that does not exist yield the same
//!   empty result.
//! - The ids in tokens, of users and sessions, are random: a database that is restored to an
//!   earlier moment draws the same sequence numbers again.
//! - A change to a patient, doctor or mapping is one statement, and so one transaction. Creations
//!   may be batched in one; a login, and a list of more than 100 rows, take several.
//! - A write that has started runs to its end, whether or not its client waits.
//! - The answer to a request with an `Idempotency-Key` is kept by the statement that has its effect.
//! - A request has one deadline, and each wait inside it takes what is left. Every input has a bound.
//! - What all users share is used for short work only. Of everything else, each user has a limited
//!   share.
//! - Memory held for clients is bounded in bytes, for each user and in total.
//! - What a client sent and what a row contains is never logged, not even in the cause of an error.

pub mod app;
pub mod auth;
pub mod bulk;
pub mod config;
pub mod db;
pub mod deadline;
pub mod error;
pub mod handlers;
pub mod http;
pub mod id;
pub mod json;
pub mod metrics;
pub mod models;
pub mod openapi;
pub mod routes;
pub mod secret;
pub mod server;
pub mod service;
pub mod worker;
