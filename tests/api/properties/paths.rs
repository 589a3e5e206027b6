//! The path matcher agrees with a simple reference implementation.

use healthcare_backend::routes::{DocsFile, Route};
use proptest::prelude::*;
use proptest::sample::select;

use super::config;
use crate::access::table::TABLE;

type Make = fn(i64) -> Route;

/// Every path. `{id}` stands for an id.
const TEMPLATES: [(&str, Make); 25] = [
    ("/api", |_| Route::Index),
    ("/openapi.json", |_| Route::OpenApi),
    ("/docs", |_| Route::Docs),
    ("/docs/page.js", |_| Route::DocsFile(DocsFile::Script)),
    ("/docs/page.css", |_| Route::DocsFile(DocsFile::Style)),
    ("/docs/swagger-ui.js", |_| Route::DocsFile(DocsFile::SwaggerUiScript)),
    ("/docs/swagger-ui.css", |_| Route::DocsFile(DocsFile::SwaggerUiStyle)),
    ("/health/live", |_| Route::Live),
    ("/health/ready", |_| Route::Ready),
    ("/metrics", |_| Route::Metrics),
    ("/api/auth/register", |_| Route::Register),
    ("/api/auth/login", |_| Route::Login),
    ("/api/auth/refresh", |_| Route::Refresh),
    ("/api/auth/logout", |_| Route::Logout),
    ("/api/auth/password", |_| Route::Password),
    ("/api/auth/me", |_| Route::Me),
    ("/api/patients", |_| Route::Patients),
    ("/api/patients/export", |_| Route::PatientsExport),
    ("/api/patients/import", |_| Route::PatientsImport),
    ("/api/patients/{id}", Route::Patient),
    ("/api/doctors", |_| Route::Doctors),
    ("/api/doctors/{id}", Route::Doctor),
    ("/api/mappings", |_| Route::Mappings),
    ("/api/mappings/{id}", Route::Mapping),
    ("/api/mappings/patient/{id}", Route::PatientMappings),
];

/// Other paths of the same routes.
const OTHERS: [(&str, Make); 3] = [
    ("/", |_| Route::Index),
    ("/health", |_| Route::Ready),
    ("/api/auth/token/refresh", |_| Route::Refresh),
];

fn all() -> impl Iterator<Item = (&'static str, Make)> {
    TEMPLATES.into_iter().chain(OTHERS)
}

/// Compares the path with each template, segment by segment.
fn reference(path: &str) -> Option<Route> {
    let mut segments: Vec<&str> = path.split('/').collect();
    // A trailing slash.
    if segments.len() > 2 && segments.ends_with(&[""]) && !segments.ends_with(&["", ""]) {
        segments.pop();
    }
    all().find_map(|(template, make)| {
        let template: Vec<&str> = template.split('/').collect();
        if template.len() != segments.len() {
            return None;
        }
        let mut id = 0;
        for (expected, segment) in template.iter().zip(&segments) {
            if *expected == "{id}" {
                id = reference_id(segment)?;
            } else if expected != segment {
                return None;
            }
        }
        Some(make(id))
    })
}

/// An id is the decimal form of a positive number.
fn reference_id(segment: &str) -> Option<i64> {
    let id: i64 = segment.parse().ok()?;
    (id > 0 && id.to_string() == segment).then_some(id)
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec![
            "api", "health", "auth", "patients", "doctors", "mappings", "live", "ready",
            "register", "login", "me", "token", "refresh", "patient", "export", "import", "docs",
            "page.js",
        ]).prop_map(str::to_owned),
        3 => select(vec![
            "", "1", "0", "01", "+1", "-1", "1.0", "%31", "1%20", "1 ", "9223372036854775807",
            "9223372036854775808", "99999999999999999999", "\u{661}", "x", "API", "api%2Fpatients",
            ".", "..", "patients;", "patient", "{id}", "*",
        ]).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|id| id.to_string()),
        1 => "[ -~]{0,6}",
    ]
}

/// Paths of random segments, and valid paths with at most one small mistake.
fn path() -> impl Strategy<Value = String> {
    let made = (prop::collection::vec(segment(), 0..5), any::<(bool, bool)>()).prop_map(
        |(segments, (slash, end))| {
            let start = if slash { "/" } else { "" };
            format!("{start}{}{}", segments.join("/"), if end { "/" } else { "" })
        },
    );
    let near =
        (select(all().map(|(template, _)| template).collect::<Vec<_>>()), segment(), 0..8_usize)
            .prop_map(|(template, segment, mistake)| {
                let path = template.replace("{id}", &segment);
                match mistake {
                    0 => format!("{path}/"),
                    1 => format!("{path}//"),
                    2 => format!("/{path}"),
                    3 => format!("{path}/{segment}"),
                    4 => path.replacen('/', "//", 2),
                    5 => path[1..].to_owned(),
                    _ => path,
                }
            });
    prop_oneof![made, near]
}

#[test]
fn every_template_is_found_with_and_without_a_slash() {
    for (template, make) in all() {
        for id in [1, 10, i64::MAX] {
            let path = template.replace("{id}", &id.to_string());
            assert_eq!(Route::parse(&path), Some(make(id)), "{path}");
            // The slash of the root path is not a trailing one.
            let slash = (path != "/").then(|| make(id));
            assert_eq!(Route::parse(&format!("{path}/")), slash, "{path}/");
            assert_eq!(Route::parse(&format!("{path}//")), None, "{path}//");
        }
    }
    for (template, make) in TEMPLATES {
        assert_eq!(make(1).label(), template);
    }
    for row in TABLE {
        for path in [&[row.label], row.also].concat() {
            assert!(all().any(|(template, _)| template == path), "{path}");
        }
    }
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn the_matcher_agrees_with_the_reference(path in path()) {
        prop_assert_eq!(Route::parse(&path), reference(&path), "{}", path);
    }

    #[test]
    fn the_matcher_takes_any_text(path in any::<String>()) {
        prop_assert_eq!(Route::parse(&path), reference(&path));
    }
}
