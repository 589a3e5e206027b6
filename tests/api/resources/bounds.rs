//! Values on both sides of each field's bounds.

use jiff::ToSpan;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{DOCTOR, Kind, PATIENT};
use crate::harness::{Client, TestServer};

/// A field, what it takes, and what it refuses.
type Edges = (&'static str, Vec<Value>, Vec<Value>);

/// Texts of `min` to `max` characters, whatever their size in bytes.
fn text(name: &'static str, min: usize, max: usize) -> Edges {
    let of = |length: usize| json!("\u{1f600}".repeat(length));
    let mut refused =
        vec![of(max + 1), json!("a\0b"), json!(1), json!(["a"]), json!({}), json!(true)];
    if min > 0 {
        refused.extend([json!(""), json!(" \t\n\u{a0}\u{3000}")]);
    }
    (name, vec![of(min), of(max), json!("a".repeat(max))], refused)
}

fn whole(name: &'static str, max: i64) -> Edges {
    let refused = [json!(-1), json!(max + 1), json!(1.0), json!("1"), json!(true), json!([1])];
    (name, vec![json!(0), json!(max)], [&refused[..], &[json!(i64::MAX), json!(1e3)]].concat())
}

fn phone(name: &'static str) -> Edges {
    let refused = ["", "a", "1X", "1,2", "1_2", "١", "1\n", "\u{a0}", "1".repeat(33).as_str()]
        .map(Value::from);
    let taken = ["1", "+ - ( ) . / # x 0123456789", "1".repeat(32).as_str()].map(Value::from);
    (name, taken.to_vec(), [&refused[..], &[json!(112)]].concat())
}

fn email() -> Edges {
    let longest = format!("{}@{}.{}.example", "a".repeat(118), "b".repeat(63), "c".repeat(63));
    assert_eq!(longest.len(), 254);
    let too_long = format!("a{longest}");
    let label = format!("a@{}.example", "b".repeat(64));
    let refused = [
        "",
        "a",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b..c",
        "a@.b",
        "a@b.",
        "a@-b",
        "a@b-",
        "a@b_c",
        "é@b",
        "a@é",
        "<a@b>",
        "a,b@c",
        "a@[1.2.3.4]",
        " a@b",
        "a@b\n",
        &label,
        &too_long,
    ]
    .map(Value::from);
    let taken = ["a@b", "A.!#$%&'*+/=?^_`{|}~-z@x-y.Z9", ".a..@b", &longest].map(Value::from);
    ("email", taken.to_vec(), [&refused[..], &[json!(1)]].concat())
}

fn date_of_birth() -> Edges {
    // The dates keep a distance from midnight: yesterday and the day after tomorrow are on the same
    // side whenever the test runs.
    let today = jiff::Timestamp::now().to_zoned(TimeZone::UTC).date();
    let refused = [
        (today + 3.days()).to_string(),
        "1849-12-31".into(),
        "2001-02-29".into(),
        "2000-13-01".into(),
        "2000-00-10".into(),
        "2000-01-00".into(),
        "2000-1-1".into(),
        "20000101".into(),
        "2000-01-01T00:00:00Z".into(),
        " 2000-01-01".into(),
        "01-01-2000".into(),
        "+2000-01-1".into(),
        String::new(),
    ]
    .map(Value::from);
    let taken = ["1850-01-01".into(), "2000-02-29".into(), (today + 1.day()).to_string()];
    let refused = [&refused[..], &[json!(20_000_101)]].concat();
    ("date_of_birth", taken.map(Value::from).to_vec(), refused)
}

fn words(name: &'static str, taken: &[&str], refused: &[&str]) -> Edges {
    let values = |words: &[&str]| words.iter().copied().map(Value::from).collect();
    (name, values(taken), values(refused))
}

async fn check(kind: &Kind, client: &Client, (name, taken, refused): Edges) {
    let (target, _) = kind.create(client, &(kind.full)()).await;
    for value in taken {
        let mut body = kind.full_fields();
        body.insert(name.into(), value.clone());
        let (_, created) = kind.create(client, &Value::Object(body)).await;
        assert_eq!(created[name], value);
        let changed = client.patch(&target, &json!({ name: value })).await.expect(200).json();
        assert_eq!(changed[name], value);
    }
    let before = kind.read(client, &target).await;
    for value in refused {
        let mut body = kind.full_fields();
        body.insert(name.into(), value.clone());
        for answer in [
            client.post(kind.path, &Value::Object(body)).await,
            client.patch(&target, &json!({ name: value })).await,
        ] {
            assert_eq!(answer.status, 422, "{name} {value}: {answer:?}");
            let answer = answer.expect_error(422, "validation_failed");
            assert_eq!(answer.bad_fields(), [name], "{value}");
        }
    }
    assert_eq!(kind.read(client, &target).await, before);
}

#[tokio::test]
async fn a_patients_fields_end_where_the_contract_says() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for edges in [
        text("name", 1, 200),
        whole("age", 150),
        words(
            "gender",
            &["male", "female", "other", "unknown", "m", "f", "o", "MALE", "FeMale", "M", "O"],
            &["", "man", "male ", "x", "ｍ", "ma\0le"],
        ),
        date_of_birth(),
        phone("phone"),
        email(),
        text("address", 0, 500),
        words(
            "blood_group",
            &["A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"],
            &["", "a+", "A", "0+", "C+", "A+ ", "A\u{2212}"],
        ),
        text("allergies", 0, 5000),
        text("medical_history", 0, 5000),
        text("notes", 0, 5000),
        text("emergency_contact_name", 1, 200),
        phone("emergency_contact_phone"),
    ] {
        check(&PATIENT, &user, edges).await;
    }
}

#[tokio::test]
async fn a_doctors_fields_end_where_the_contract_says() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for edges in [
        text("name", 1, 200),
        text("specialization", 1, 100),
        email(),
        phone("phone"),
        text("license_number", 0, 64),
        whole("years_of_experience", 80),
        text("qualification", 0, 200),
        text("hospital", 0, 200),
        text("address", 0, 500),
        text("bio", 0, 2000),
    ] {
        check(&DOCTOR, &user, edges).await;
    }
}
