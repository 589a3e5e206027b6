//! The CPU-bound parts of a request, without sockets and without a database.
//!
//! Run with `cargo bench --bench micro`. On 2 cores of an Intel Xeon, 2026-11-22: a route 18 to 46
//! ns, a token verified 4.9 us and cached 0.18 us, the body of a patient 1.1 us, an error response
//! 0.43 us.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::Criterion;
use healthcare_backend::auth::SessionId;
use healthcare_backend::auth::cache::TokenCache;
use healthcare_backend::auth::token::Keys;
use healthcare_backend::error::{Error, FieldError};
use healthcare_backend::http::problem;
use healthcare_backend::http::query::{Query, next_page};
use healthcare_backend::metrics::RequestMetrics;
use healthcare_backend::models::input::read_new;
use healthcare_backend::models::patient::FIELDS;
use healthcare_backend::routes::Route;
use healthcare_backend::secret::Secret;
use hyper::header::HeaderValue;

const PATIENT: &[u8] = br#"{"name":"Grace Hopper","age":36,"gender":"female","phone":"+1 555 0100",
    "email":"grace@example.com","address":"1 Main Street","blood_group":"O+","allergies":"none",
    "notes":"Prefers mornings.","metadata":{"room":12}}"#;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routes(&mut criterion);
    tokens(&mut criterion);
    bodies(&mut criterion);
    answers(&mut criterion);
    metrics(&mut criterion);
    criterion.final_summary();
}

fn routes(criterion: &mut Criterion) {
    for (name, path) in [
        ("route, first", "/health/live"),
        ("route, last", "/api/mappings/123456789"),
        ("route, none", "/api/nothing/like/this"),
    ] {
        criterion.bench_function(name, |bencher| bencher.iter(|| Route::parse(black_box(path))));
    }
    criterion.bench_function("query, page", |bencher| {
        bencher.iter(|| {
            let mut query = Query::parse(black_box(Some("limit=50&after=123456")));
            let page = query.page();
            (page, query.finish().is_ok())
        });
    });
    criterion.bench_function("query, link to the next page", |bencher| {
        bencher.iter(|| next_page("/api/patients", 50, black_box(123_456), &[]));
    });
}

fn tokens(criterion: &mut Criterion) {
    let keys = Keys::new(&Secret::new("s".repeat(32)).unwrap(), None, 3600).unwrap();
    let token = keys.sign(1, SessionId::random().unwrap(), u64::MAX).unwrap().token;
    let cache = TokenCache::default();
    cache.verify(&keys, &token).unwrap();
    criterion.bench_function("token, verified", |bencher| {
        bencher.iter(|| keys.verify(black_box(&token)));
    });
    criterion.bench_function("token, known", |bencher| {
        bencher.iter(|| cache.verify(&keys, black_box(&token)));
    });
}

fn bodies(criterion: &mut Criterion) {
    criterion.bench_function("body, a patient", |bencher| {
        bencher.iter(|| read_new(&FIELDS, black_box(PATIENT)).is_ok());
    });
}

fn answers(criterion: &mut Criterion) {
    let errors = vec![FieldError::new("age", "must be between 0 and 150")];
    let error = Error::fields(errors);
    let id = HeaderValue::from_static("0123456789abcdef");
    criterion.bench_function("answer, an error", |bencher| {
        bencher.iter(|| problem::response(black_box(&error), &id, None));
    });
}

fn metrics(criterion: &mut Criterion) {
    let requests = RequestMetrics::default();
    // As many as there usually are, the slowest to be found.
    for route in ["/api", "/health/live", "/health/ready", "/metrics", "/api/auth/me"] {
        requests.record(route, "GET", 200, 1);
    }
    criterion.bench_function("metrics, a request", |bencher| {
        bencher.iter(|| requests.record("/api/patients/{id}", "GET", 200, black_box(70)));
    });
}
