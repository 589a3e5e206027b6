//! Aliases of fields, in requests only.

use serde_json::{Value, json};

use super::{DOCTOR, Kind, PATIENT};
use crate::harness::TestServer;

const ALIASES: [(&Kind, &str, &str); 11] = [
    (&PATIENT, "phone_number", "phone"),
    (&PATIENT, "contact", "phone"),
    (&PATIENT, "contact_number", "phone"),
    (&PATIENT, "dob", "date_of_birth"),
    (&DOCTOR, "phone_number", "phone"),
    (&DOCTOR, "contact", "phone"),
    (&DOCTOR, "specialty", "specialization"),
    (&DOCTOR, "experience", "years_of_experience"),
    (&DOCTOR, "experience_years", "years_of_experience"),
    (&DOCTOR, "hospital_name", "hospital"),
    (&DOCTOR, "hospital_affiliation", "hospital"),
];

#[tokio::test]
async fn an_alias_sets_the_field_it_stands_for() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (kind, alias, field) in ALIASES {
        let mut body = kind.full_fields();
        let value = body.remove(field).unwrap();
        body.insert(alias.into(), value.clone());
        let (target, created) = kind.create(&user, &Value::Object(body)).await;
        assert_eq!(created[field], value, "{alias}");
        assert_eq!(created.get(alias), None);

        let other = (kind.other)()[field].clone();
        let changed = user.patch(&target, &json!({ alias: other })).await.expect(200).json();
        assert_eq!(changed[field], other, "{alias}");
        assert_eq!(changed["version"], 2);
    }
}

#[tokio::test]
async fn a_field_given_twice_under_any_of_its_names_is_refused() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (kind, alias, field) in ALIASES {
        let (target, before) = kind.create(&user, &(kind.full)()).await;
        let value = &before[field];
        for (first, second) in [(field, alias), (alias, field), (alias, alias), (field, field)] {
            let body = format!("{{\"{first}\":{value},\"{second}\":{value}}}");
            let refused = user.send(hyper::Method::PATCH, &target, Some(body.into())).await;
            let refused = refused.expect_error(422, "validation_failed");
            assert_eq!(refused.bad_fields(), [second], "{first} and {second}");
        }
        assert_eq!(kind.read(&user, &target).await, before);
    }
}

#[tokio::test]
async fn an_error_names_the_field_as_it_was_sent() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (kind, alias, _) in ALIASES {
        let body = json!({ "address": 1, alias: [] });
        let refused = user.put(&kind.target(1), &body).await;
        let refused = refused.expect_error(422, "validation_failed");
        assert_eq!(refused.bad_fields(), ["address", alias]);
    }
}
