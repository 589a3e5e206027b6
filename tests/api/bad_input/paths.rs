//! Ids in paths, and too long targets.

use hyper::Method;

use super::{Setting, refused};
use crate::harness::raw;

/// Segments in place of an id that are none: the path does not exist.
const NO_IDS: [&str; 22] = [
    "0",
    "00",
    "01",
    "-1",
    "-0",
    "+1",
    "1.0",
    "1.",
    "1e0",
    "0x1",
    "1_000",
    "abc",
    "1a",
    "%31",
    "1%20",
    "%201",
    "..",
    ".",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999",
    "%EF%BC%91",
];

/// An own id and a longer path, or an empty segment.
const NO_PATHS: [&str; 6] = ["{id}//", "{id}/x", "{id}/1", "/{id}", "/", "{id};v=1"];

#[tokio::test]
async fn what_is_no_id_is_no_path() {
    let setting = Setting::new().await;
    let body = || Some("{\"name\":\"N\"}".into());
    for list in ["patients", "doctors", "mappings"] {
        let id = if list == "doctors" { setting.doctor } else { setting.patient };
        let own = NO_PATHS.map(|path| path.replace("{id}", &id.to_string()));
        for id in NO_IDS.iter().copied().chain(own.iter().map(String::as_str)) {
            for path in [format!("/api/{list}/{id}"), format!("/api/{list}/{id}/")] {
                for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
                    let answer = setting.user.send(method.clone(), &path, body()).await;
                    refused(&format!("{method} {path}"), answer, 404, "not_found");
                }
                let answer = setting.server.anyone().get(&path).await;
                refused(&path, answer, 404, "not_found");
            }
        }
    }
}

#[tokio::test]
async fn the_largest_id_is_an_id() {
    let setting = Setting::new().await;
    let body = || Some("{\"name\":\"N\"}".into());
    for (list, code) in [("patients", "patient_not_found"), ("doctors", "doctor_not_found")] {
        for slash in ["", "/"] {
            let path = format!("/api/{list}/9223372036854775807{slash}");
            for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
                let answer = setting.user.send(method.clone(), &path, body()).await;
                refused(&format!("{method} {path}"), answer, 404, code);
            }
        }
    }
    let path = "/api/mappings/9223372036854775807";
    refused(path, setting.user.get(path).await, 404, "patient_not_found");
    refused(path, setting.user.delete(path).await, 404, "not_found");
}

#[tokio::test]
async fn a_target_may_have_8_kib() {
    let setting = Setting::new().await;
    for (path, longest) in [("/x", "not_found"), ("/api/patients?x=", "bad_query")] {
        let target = |length: usize| format!("{path}{}", "a".repeat(length - path.len()));
        let status = if longest == "not_found" { 404 } else { 400 };
        refused(path, setting.user.get(&target(8192)).await, status, longest);
        for length in [8193, 16_384, 65_000] {
            let case = format!("{path} of {length}");
            refused(&case, setting.user.get(&target(length)).await, 414, "uri_too_long");
            // Checked before anything else.
            let answer = setting.server.anyone().send(Method::TRACE, &target(length), None).await;
            refused(&case, answer, 414, "uri_too_long");
        }
    }
}

#[tokio::test]
async fn a_target_that_hyper_does_not_take_is_too_long_as_well() {
    let setting = Setting::new().await;
    for length in [70_000, 120_000] {
        let target = "a".repeat(length);
        let request = format!("GET /{target} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
        assert_eq!(answer.status, 414, "{answer:?}");
    }
}

#[tokio::test]
async fn a_target_that_is_no_target_is_a_bad_request_or_no_path() {
    let setting = Setting::new().await;
    for target in ["/api/patients/\u{ff11}", "/api/patients/1 2", "/api/patients/<1>", "x", "*", ""]
    {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
        // hyper decides which of the two.
        assert!([400, 404].contains(&answer.status), "{target}: {answer:?}");
    }
}
