//! The table of contents: which handler serves which route and method. Within a file the order is
//! create, list, get, update, delete.

mod auth;
mod bulk;
mod docs;
mod doctors;
mod health;
mod index;
mod list;
mod mappings;
mod metrics;
mod once;
mod patients;
mod resource;

use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::Pin;

use hyper::Method;

use crate::auth::AuthUser;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::routes::Route;
use crate::worker::Worker;

/// A running handler. Each is boxed at its own size: one future for all would be as large as the
/// largest, and be moved for every request.
type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// Serves routes that need no token.
pub fn public(worker: &Worker, route: Route, peer: IpAddr, request: Request) -> HandlerFuture<'_> {
    #[cfg(test)]
    panic_if_asked(&request);
    match (route, read_method(&request)) {
        (Route::Index, Method::GET) => Box::pin(ready(Ok(index::index(worker, &request)))),
        (Route::OpenApi, Method::GET) => Box::pin(ready(Ok(docs::document(&request)))),
        (Route::Docs, Method::GET) => Box::pin(ready(Ok(docs::page(&request)))),
        (Route::DocsFile(file), Method::GET) => Box::pin(ready(Ok(docs::file(file, &request)))),
        (Route::Live, Method::GET) => Box::pin(ready(Ok(health::live()))),
        (Route::Ready, Method::GET) => Box::pin(health::ready(worker)),
        (Route::Metrics, Method::GET) => Box::pin(metrics::metrics(worker)),
        (Route::Register, Method::POST) => Box::pin(auth::register(worker, peer, request)),
        (Route::Login, Method::POST) => Box::pin(auth::login(worker, peer, request)),
        (Route::Refresh, Method::POST) => Box::pin(auth::refresh(worker, request)),
        _ => Box::pin(ready(Err(no_handler(route, request.method())))),
    }
}

/// Serves routes that need a user.
pub fn private(
    worker: &Worker,
    route: Route,
    user: AuthUser,
    peer: IpAddr,
    request: Request,
) -> HandlerFuture<'_> {
    match (route, read_method(&request)) {
        (Route::Logout, Method::POST) => Box::pin(auth::logout(worker, user, request)),
        (Route::Password, Method::PUT) => {
            Box::pin(auth::change_password(worker, user, peer, request))
        }
        (Route::Me, Method::GET) => Box::pin(auth::me(worker, user)),

        (Route::Patients, Method::POST) => Box::pin(patients::create(worker, user, request)),
        (Route::Patients, Method::GET) => Box::pin(patients::list(worker, user, request)),
        (Route::PatientsExport, Method::GET) => Box::pin(bulk::export(worker, user, request)),
        (Route::PatientsImport, Method::POST) => Box::pin(bulk::import(worker, user, request)),
        (Route::Patient(id), Method::GET) => Box::pin(patients::get(worker, user, id, request)),
        (Route::Patient(id), Method::PUT | Method::PATCH) => {
            Box::pin(patients::update(worker, user, id, request))
        }
        (Route::Patient(id), Method::DELETE) => {
            Box::pin(patients::delete(worker, user, id, request))
        }

        (Route::Doctors, Method::POST) => Box::pin(doctors::create(worker, user, request)),
        (Route::Doctors, Method::GET) => Box::pin(doctors::list(worker, user, request)),
        (Route::Doctor(id), Method::GET) => Box::pin(doctors::get(worker, user, id, request)),
        (Route::Doctor(id), Method::PUT | Method::PATCH) => {
            Box::pin(doctors::update(worker, user, id, request))
        }
        (Route::Doctor(id), Method::DELETE) => Box::pin(doctors::delete(worker, user, id, request)),

        (Route::Mappings, Method::POST) => Box::pin(mappings::create(worker, user, request)),
        (Route::Mappings, Method::GET) => Box::pin(mappings::list(worker, user, request)),
        (Route::Mapping(patient_id) | Route::PatientMappings(patient_id), Method::GET) => {
            Box::pin(mappings::doctors(worker, user, patient_id, request))
        }
        (Route::Mapping(id), Method::DELETE) => {
            Box::pin(mappings::delete(worker, user, id, request))
        }

        _ => Box::pin(ready(Err(no_handler(route, request.method())))),
    }
}

/// A method that [`Route::allow`] lists without a handler, which is a bug.
fn no_handler(route: Route, method: &Method) -> Error {
    Error::internal(format!("no handler for {method} {}", route.label()))
}

/// For the server's unit test of panics.
#[cfg(test)]
fn panic_if_asked(request: &Request) {
    assert!(!request.headers().contains_key("x-panic"), "as asked");
}

/// `HEAD` is handled as `GET`; hyper omits the body.
fn read_method(request: &Request) -> Method {
    match *request.method() {
        Method::HEAD => Method::GET,
        ref method => method.clone(),
    }
}
