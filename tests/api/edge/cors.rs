//! Cross-origin resource sharing.

use std::sync::Arc;

use serde_json::json;

use crate::harness::raw::{RawAnswer, exchange};
use crate::harness::{TestDb, TestServer};

const LISTED: [&str; 2] = ["https://app.example.com", "http://localhost:3000"];
const NOT_LISTED: [&str; 9] = [
    "https://evil.example",
    "null",
    "*",
    "http://app.example.com",
    "https://app.example.com:443",
    "https://app.example.com.evil.example",
    "https://app.example.com/",
    "https://APP.example.com",
    "https://app.example.com, https://evil.example",
];
/// The headers that a page may send and read, in lower case and sorted.
const MAY_SEND: [&str; 6] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-request-id",
];
const MAY_SEE: [&str; 8] = [
    "allow",
    "etag",
    "idempotency-replayed",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];
const PREFLIGHT: &str = "access-control-request-method: PUT\r\n\
    access-control-request-headers: authorization,content-type\r\n";

async fn server(origins: &str) -> TestServer {
    let database = Arc::new(TestDb::new().await);
    TestServer::start_with(database, &[("CORS_ORIGINS", origins)]).await
}

async fn ask(server: &TestServer, line: &str, origin: &str, more: &str) -> RawAnswer {
    let origin = if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{origin}{more}\r\n");
    exchange(server.address(), request.as_bytes()).await
}

fn names(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list.split(", ").collect();
    names.sort_unstable();
    names
}

/// The headers that are about origins, without `Vary`.
fn about_origins(answer: &RawAnswer) -> Vec<&'static str> {
    let all = [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-expose-headers",
        "access-control-max-age",
        "access-control-allow-private-network",
    ];
    all.into_iter().filter(|name| answer.header(name).is_some()).collect()
}

const LINES: [(&str, u16); 6] = [
    ("GET /health/live", 200),
    ("GET /api/patients", 401),
    ("GET /nowhere", 404),
    ("PUT /api/patients", 405),
    ("POST /api/auth/login", 415),
    ("GET /health/live?access_token=x", 400),
];

#[tokio::test]
async fn without_a_list_no_answer_speaks_of_origins() {
    let server = server("").await;
    for origin in LISTED.iter().chain(&NOT_LISTED) {
        for (line, status) in LINES.iter().chain(&[("OPTIONS /api/patients", 204)]) {
            for more in ["", PREFLIGHT] {
                let answer = ask(&server, line, origin, more).await;
                assert_eq!(answer.status, *status, "{answer:?}");
                assert_eq!(about_origins(&answer), [""; 0], "{answer:?}");
                assert_eq!(answer.header("vary"), None, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_listed_origin_may_read_every_answer_also_errors() {
    let server = server(&LISTED.join(",")).await;
    for origin in LISTED {
        for (line, status) in LINES {
            let answer = ask(&server, line, origin, "").await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            assert_eq!(names(answer.header("access-control-expose-headers").unwrap()), MAY_SEE);
            assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
            assert_eq!(about_origins(&answer).len(), 2, "{answer:?}");
        }
    }
    // Responses without an allowed origin are otherwise unchanged.
    let login = json!({"email": "nobody@example.com", "password": "x"});
    server.anyone().post("/api/auth/login", &login).await.expect(401);
}

#[tokio::test]
async fn an_origin_that_is_not_listed_gets_nothing_and_caches_know() {
    let server = server(&LISTED.join(", ")).await;
    for origin in NOT_LISTED.iter().chain(&[""]) {
        for (line, status) in LINES.iter().chain(&[("OPTIONS /api/patients", 204)]) {
            for more in ["", PREFLIGHT] {
                let answer = ask(&server, line, origin, more).await;
                assert_eq!(answer.status, *status, "{answer:?}");
                assert_eq!(about_origins(&answer), [""; 0], "{answer:?}");
                assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_preflight_is_told_exactly_what_works() {
    let server = server(&LISTED.join(",")).await;
    for (path, allow) in [
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/api/auth/login", "POST, OPTIONS"),
        ("/api/auth/password", "PUT, OPTIONS"),
        ("/api/patients", "GET, HEAD, POST, OPTIONS"),
        ("/api/patients/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/api/doctors/1/", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/api/mappings/1", "GET, HEAD, DELETE, OPTIONS"),
    ] {
        // No token: a browser sends none here.
        let answer = ask(&server, &format!("OPTIONS {path}"), LISTED[0], PREFLIGHT).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED[0]));
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(answer.header("access-control-allow-methods"), Some(allow));
        assert_eq!(names(answer.header("access-control-allow-headers").unwrap()), MAY_SEND);
        let seconds: u32 = answer.header("access-control-max-age").unwrap().parse().unwrap();
        assert!((1..=7200).contains(&seconds), "{answer:?}");
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    // Without the preflight header it is an ordinary response.
    let answer = ask(&server, "OPTIONS /api/patients", LISTED[0], "").await;
    assert_eq!(about_origins(&answer).len(), 2, "{answer:?}");
    let answer = ask(&server, "OPTIONS /nowhere", LISTED[0], PREFLIGHT).await;
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (404, None));
}
