//! A sequence of updates yields what merging the objects yields.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::{config, runtime};
use crate::harness::TestServer;
use crate::resources::{DOCTOR, Kind, PATIENT, SERVER_FIELDS, object};

type Patch = Map<String, Value>;

/// Values of one field, few enough that an update often changes nothing.
fn value(kind: &Kind, name: &str) -> impl Strategy<Value = Value> + use<> {
    let mut values = vec![kind.full_fields()[name].clone(), (kind.other)()[name].clone()];
    if !kind.required.contains(&name) {
        values.push(Value::Null);
    }
    select(values)
}

/// Any of the fields, each with any of its values.
fn patch(kind: &'static Kind) -> impl Strategy<Value = Patch> {
    let names: Vec<String> = kind.full_fields().keys().cloned().collect();
    let count = names.len();
    subsequence(names, 0..=count).prop_flat_map(move |names| {
        let values: Vec<_> = names.iter().map(|name| value(kind, name)).collect();
        (Just(names), values).prop_map(|(names, values)| names.into_iter().zip(values).collect())
    })
}

/// The fields after the patch.
fn overlay(model: &mut Patch, patch: &Patch) -> bool {
    let before = model.clone();
    for (name, value) in patch {
        let cleared_metadata = name == "metadata" && value.is_null();
        let value = if cleared_metadata { json!({}) } else { value.clone() };
        model.insert(name.clone(), value);
    }
    *model != before
}

fn updates_equal_the_model(kind: &'static Kind) {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    let user = runtime.block_on(server.user());
    let updates = prop::collection::vec((patch(kind), any::<bool>()), 1..12);
    proptest!(config(32), |(first in patch(kind), updates in updates)| {
        runtime.block_on(async {
            let first: Patch = object(kind.minimal()).into_iter().chain(first).collect();
            let (target, created) = kind.create(&user, &Value::Object(first.clone())).await;
            let absent = kind.full_fields().into_iter().map(|(name, _)| (name, Value::Null));
            let mut model: Patch = absent.collect();
            model.insert("metadata".into(), json!({}));
            overlay(&mut model, &first);
            let mut version = 1;
            let mut updated_at = created["updated_at"].clone();
            for (patch, whole) in updates {
                let changed = overlay(&mut model, &patch);
                version += i64::from(changed);
                let body = Value::Object(patch);
                let answer = if whole {
                    user.put(&target, &body).await
                } else {
                    user.patch(&target, &body).await
                };
                let mut fields = object(answer.expect(200).json());
                prop_assert_eq!(&fields["version"], &json!(version));
                prop_assert_eq!(fields["updated_at"] != updated_at, changed);
                updated_at = fields["updated_at"].clone();
                fields.retain(|name, _| !SERVER_FIELDS.contains(&name.as_str()));
                prop_assert_eq!(&fields, &model);
            }
            Ok(())
        })?;
    });
}

#[test]
fn updates_of_a_patient_equal_the_model() {
    updates_equal_the_model(&PATIENT);
}

#[test]
fn updates_of_a_doctor_equal_the_model() {
    updates_equal_the_model(&DOCTOR);
}
