//! The table of contents: which handler answers which route and method. Within a file the order is
//! create, list, get, update, delete.

mod auth;
mod doctors;
mod health;
mod list;
mod mappings;
mod patients;
mod resource;

use std::net::IpAddr;

use hyper::Method;

use crate::app::Worker;
use crate::auth::User;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::routes::Route;

/// Routes that need no token.
pub async fn public(
    worker: &Worker,
    route: Route,
    peer: IpAddr,
    request: Request,
) -> Result<Response> {
    #[cfg(test)]
    panic_if_asked(&request);
    match (route, read_method(&request)) {
        (Route::Live, Method::GET) => health::live(&request),
        (Route::Ready, Method::GET) => health::ready(worker, &request).await,
        (Route::Register, Method::POST) => auth::register(worker, request).await,
        (Route::Login, Method::POST) => auth::login(worker, peer, request).await,
        (Route::Refresh, Method::POST) => auth::refresh(worker, request).await,
        _ => Err(Error::MethodNotAllowed { allow: route.allow() }),
    }
}

/// Routes for a user.
pub async fn private(
    worker: &Worker,
    route: Route,
    user: User,
    peer: IpAddr,
    request: Request,
) -> Result<Response> {
    match (route, read_method(&request)) {
        (Route::Logout, Method::POST) => auth::logout(worker, user, &request).await,
        (Route::Password, Method::PUT) => auth::change_password(worker, user, peer, request).await,
        (Route::Me, Method::GET) => auth::me(worker, user, &request).await,

        (Route::Patients, Method::POST) => patients::create(worker, user, request).await,
        (Route::Patients, Method::GET) => patients::list(worker, user, &request).await,
        (Route::Patient(id), Method::GET) => patients::get(worker, user, id, &request).await,
        (Route::Patient(id), Method::PUT | Method::PATCH) => {
            patients::update(worker, user, id, request).await
        }
        (Route::Patient(id), Method::DELETE) => patients::delete(worker, user, id, &request).await,

        (Route::Doctors, Method::POST) => doctors::create(worker, user, request).await,
        (Route::Doctors, Method::GET) => doctors::list(worker, &request).await,
        (Route::Doctor(id), Method::GET) => doctors::get(worker, id, &request).await,
        (Route::Doctor(id), Method::PUT | Method::PATCH) => {
            doctors::update(worker, user, id, request).await
        }
        (Route::Doctor(id), Method::DELETE) => doctors::delete(worker, user, id, &request).await,

        (Route::Mappings, Method::POST) => mappings::create(worker, user, request).await,
        (Route::Mappings, Method::GET) => mappings::list(worker, user, &request).await,
        (Route::Mapping(patient_id), Method::GET) => {
            mappings::doctors(worker, user, patient_id, &request).await
        }
        (Route::Mapping(id), Method::DELETE) => mappings::delete(worker, user, id, &request).await,

        _ => Err(Error::MethodNotAllowed { allow: route.allow() }),
    }
}

/// For the unit test of the server that shows what becomes of a panic.
#[cfg(test)]
fn panic_if_asked(request: &Request) {
    assert!(!request.headers().contains_key("x-panic"), "as asked");
}

/// `HEAD` is answered as `GET`; the connection leaves the body out.
fn read_method(request: &Request) -> Method {
    match *request.method() {
        Method::HEAD => Method::GET,
        ref method => method.clone(),
    }
}
