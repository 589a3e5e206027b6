//! Query strings.

use hyper::Method;
use serde_json::json;

use super::{Setting, refused_for};

/// List, query, and the parameters at fault.
const BAD: [(&str, &str, &[&str]); 54] = [
    ("patients", "x=1", &["x"]),
    ("patients", "limit", &["limit"]),
    ("patients", "limit=", &["limit"]),
    ("patients", "limit=0", &["limit"]),
    ("patients", "limit=1001", &["limit"]),
    ("patients", "limit=-1", &["limit"]),
    ("patients", "limit=+1", &["limit"]),
    ("patients", "limit=%2B1", &["limit"]),
    ("patients", "limit=01", &["limit"]),
    ("patients", "limit=1.0", &["limit"]),
    ("patients", "limit=1e2", &["limit"]),
    ("patients", "limit=abc", &["limit"]),
    ("patients", "limit=%201", &["limit"]),
    ("patients", "limit=9223372036854775808", &["limit"]),
    ("patients", "limit=99999999999999999999", &["limit"]),
    ("patients", "limit=%EF%BC%91", &["limit"]),
    ("patients", "limit=1&limit=1", &["limit"]),
    ("patients", "limit=1&limit=2&limit=3", &["limit"]),
    ("patients", "Limit=1", &["Limit"]),
    ("patients", "limit%20=1", &["limit "]),
    ("patients", "offset=1", &["offset"]),
    ("patients", "after=", &["after"]),
    ("patients", "after=-1", &["after"]),
    ("patients", "after=01", &["after"]),
    ("patients", "after=abc", &["after"]),
    ("patients", "after=1.0", &["after"]),
    ("patients", "after=9223372036854775808", &["after"]),
    ("patients", "after=1&after=2", &["after"]),
    ("patients", "gender=", &["gender"]),
    ("patients", "gender=man", &["gender"]),
    ("patients", "gender=f&gender=m", &["gender"]),
    ("patients", "search=a&search=a", &["search"]),
    ("patients", "search=a&%73earch=a", &["search"]),
    ("patients", "search=%00", &["search"]),
    ("patients", "search=%", &["search"]),
    ("patients", "search=%4", &["search"]),
    ("patients", "search=%zz", &["search"]),
    ("patients", "search=%4z", &["search"]),
    ("patients", "search=%+1", &["search"]),
    ("patients", "search=%ff", &["search"]),
    ("patients", "search=%c3%28", &["search"]),
    ("patients", "search=%ed%a0%80", &["search"]),
    ("patients", "%zz=1", &["%zz"]),
    ("patients", "specialization=x", &["specialization"]),
    (
        "patients",
        "limit=0&after=-1&gender=x&y=1&search=%zz",
        &["limit", "after", "gender", "y", "search"],
    ),
    ("doctors", "gender=f", &["gender"]),
    ("doctors", "limit=0&after=x&specialization=%ff", &["limit", "after", "specialization"]),
    ("doctors", "specialization=%00", &["specialization"]),
    ("doctors", "specialization=a&specialization=a", &["specialization"]),
    ("mappings", "patient_id=0&doctor_id=abc", &["patient_id", "doctor_id"]),
    ("mappings", "patient_id=&doctor_id=-1", &["patient_id", "doctor_id"]),
    ("mappings", "patient_id=1&patient_id=1", &["patient_id"]),
    ("mappings", "doctor_id=9223372036854775808", &["doctor_id"]),
    ("mappings", "search=x&limit=1001", &["search", "limit"]),
];

#[tokio::test]
async fn every_bad_parameter_is_named() {
    let setting = Setting::new().await;
    for (list, query, names) in BAD {
        let target = format!("/api/{list}?{query}");
        refused_for(&target, setting.user.get(&target).await, 400, "bad_query", names);
        let slashed = format!("/api/{list}/?{query}");
        refused_for(&slashed, setting.user.get(&slashed).await, 400, "bad_query", names);
        setting.user.send(Method::HEAD, &target, None).await.expect(400);
    }
}

#[tokio::test]
async fn the_doctors_of_a_patient_take_a_page_and_no_filter() {
    let setting = Setting::new().await;
    let path = format!("/api/mappings/{}", setting.patient);
    setting.user.get(&format!("{path}?limit=1&after=1")).await.expect(200);
    for (query, names) in [
        ("limit=0", &["limit"][..]),
        ("after=x", &["after"]),
        ("patient_id=1", &["patient_id"]),
        ("search=x&doctor_id=1", &["search", "doctor_id"]),
    ] {
        let target = format!("{path}?{query}");
        refused_for(&target, setting.user.get(&target).await, 400, "bad_query", names);
    }
}

#[tokio::test]
async fn what_is_just_inside_is_accepted() {
    let setting = Setting::new().await;
    for target in [
        "patients?",
        "patients?&",
        "patients?limit=1",
        "patients?limit=1000",
        "patients?limit=%31",
        "patients?after=0",
        "patients?after=9223372036854775807",
        "patients?after=9223372036854775807&limit=1000",
        "patients?gender=F",
        "patients?search=",
        "patients?search=%25_%5c'%22;--",
        "patients?search=%F0%9F%98%80",
        "patients?search=a+b%20c",
        "doctors?specialization=Cardiology&search=x&limit=5&after=5",
        "mappings?patient_id=9223372036854775807&doctor_id=1",
    ] {
        setting.user.get(&format!("/api/{target}")).await.expect(200);
    }
}

#[tokio::test]
async fn where_there_are_no_parameters_any_is_refused() {
    let setting = Setting::new().await;
    let Setting { patient, doctor, .. } = setting;
    let body = json!({"patient_id": patient, "doctor_id": doctor});
    let mapping = setting.user.post("/api/mappings", &body).await.expect(201).id();
    let mut targets = setting.readers();
    let without_body = [
        (Method::GET, "/health/live".to_owned()),
        (Method::GET, "/health/ready".to_owned()),
        (Method::GET, "/api/auth/me".to_owned()),
        (Method::GET, format!("/api/patients/{patient}")),
        (Method::DELETE, format!("/api/patients/{patient}")),
        (Method::GET, format!("/api/doctors/{doctor}")),
        (Method::DELETE, format!("/api/doctors/{doctor}")),
        (Method::DELETE, format!("/api/mappings/{mapping}")),
    ];
    targets.extend(without_body.map(|(method, path)| (method, path, String::new())));
    for (method, path, body) in targets {
        for (query, name) in [("limit=1", "limit"), ("x", "x"), ("=", ""), ("a=%zz", "a")] {
            let target = format!("{path}?{query}");
            let body = (!body.is_empty()).then(|| body.clone().into());
            let answer = setting.user.send(method.clone(), &target, body).await;
            let case = format!("{method} {target}");
            refused_for(&case, answer, 400, "bad_query", &[name]);
        }
    }
    // Nothing was deleted.
    assert_eq!(setting.user.get("/api/mappings").await.json()[0]["id"], mapping);
}

#[tokio::test]
async fn of_a_query_with_more_mistakes_a_hundred_are_named() {
    let setting = Setting::new().await;
    // The longest target has 8 KiB.
    let target = format!("/api/patients?limit=0&{}", "x&".repeat(4000));
    let answer = setting.user.get(&target).await.expect_error(400, "bad_query");
    let names = answer.bad_fields();
    assert_eq!((names.len(), names[0].as_str()), (100, "limit"), "{names:?}");
}
