//! HTTP for the handlers: reading and checking bodies and queries, building responses.

pub mod accept;
pub mod body;
pub mod budget;
pub mod cors;
pub mod etag;
pub mod head;
pub mod idempotency;
pub mod problem;
pub mod query;
pub mod response;
pub mod trace;
pub mod upload;

pub type Request = hyper::Request<hyper::body::Incoming>;
pub type Response = hyper::Response<response::Body>;
