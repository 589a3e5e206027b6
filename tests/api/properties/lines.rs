//! What is exported can be imported, and exporting that gives the same bytes.

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{config, runtime};
use crate::export::export;
use crate::harness::TestServer;
use crate::import::{CSV, NDJSON, import};

/// Texts with what either format must quote.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z ]{1,12}",
        2 => "[a,\"\r\n\t\\\\{}' =\u{feff}é\u{2028}]{1,8}",
        1 => "[\u{1}-\u{10ffff}]{1,8}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("{text}x"))
}

fn metadata() -> impl Strategy<Value = Value> {
    let value = prop_oneof![text().prop_map(Value::from), any::<i32>().prop_map(Value::from)];
    prop::collection::btree_map(text(), value, 0..3).prop_map(|map| json!(map))
}

/// A patient with any of the fields.
fn patient() -> impl Strategy<Value = Value> {
    let first =
        (name(), of(0..=150_i32), of(select(vec!["male", "F", "unknown"])), of(1850..2020_i32));
    let second = (of("[0-9 +()./#x-]{1,32}"), of("[a-z.+]{1,9}@[a-z]{1,9}"), of(text()));
    let third = (of(select(vec!["A+", "O-"])), of(text()), of(text()), of(name()), of(metadata()));
    (first, second, third).prop_map(
        |(
            (name, age, gender, year),
            (phone, email, address),
            (blood, notes, history, contact, metadata),
        )| {
            json!({
                "name": name, "age": age, "gender": gender, "phone": phone, "email": email,
                "date_of_birth": year.map(|year| format!("{year}-02-28")), "address": address,
                "blood_group": blood, "notes": notes, "medical_history": history,
                "emergency_contact_name": contact, "metadata": metadata,
            })
        },
    )
}

#[test]
fn an_export_that_is_imported_is_exported_as_the_same_bytes() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    let patients = prop_oneof![4 => prop::collection::vec(patient(), 0..12),
        1 => prop::collection::vec(patient(), 95..240)];
    proptest!(config(32), |(patients in patients)| {
        runtime.block_on(async {
            let first = server.user().await;
            let lines: Vec<String> = patients.iter().map(Value::to_string).collect();
            let answer = import(&first, NDJSON, lines.join("\n")).await.expect(200);
            prop_assert_eq!(answer.json(), json!({"imported": patients.len()}));
            for media_type in [NDJSON, CSV] {
                let exported = export(&first, media_type).await;
                let second = server.user().await;
                import(&second, media_type, exported.clone()).await.expect(200);
                prop_assert_eq!(&export(&second, media_type).await, &exported);
                // Nothing is empty here, which is all that CSV could not tell from null.
                prop_assert_eq!(export(&second, NDJSON).await, export(&first, NDJSON).await);
            }
            Ok(())
        })?;
    });
}
