//! Rules of fields, columns of rows and parameters as JSON Schema (draft 2020-12).

use serde_json::{Value, json};

use crate::db::row::{Column, SqlType};
use crate::http::query::{Accepts, MAX_LIMIT};
use crate::models::input::Field;
use crate::models::rules::{
    BLOOD_GROUPS, EARLIEST_BIRTH, GENDERS, MAX_EMAIL, MAX_METADATA, MAX_PASSWORD_BYTES, MAX_PHONE,
    MIN_PASSWORD, PHONE_MARKS, Rule,
};

/// JavaScript reads integers exactly up to here.
const MAX_ID: i64 = (1 << 53) - 1;
/// PostgreSQL's text cannot contain U+0000.
const NO_NUL: &str = r"^[^\u0000]*$";
/// The same, with a character that is not white space (Unicode's `White_Space`).
const NOT_BLANK: &str = r"^[^\u0000]*[^\u0000\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000]*$";
/// WHATWG HTML, section 4.10.5.1.5.
const EMAIL: &str = r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$";
const TIMESTAMP: &str = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$";

/// What a field takes that is not null.
pub fn rule(rule: Rule) -> Value {
    match rule {
        Rule::Name { max } => {
            let mut schema = text(1, max, NOT_BLANK);
            schema["description"] = "Not only white space.".into();
            schema
        }
        Rule::Text { max } => text(0, max, NO_NUL),
        Rule::Integer { min, max } => {
            json!({"type": "integer", "minimum": min, "maximum": max})
        }
        Rule::Gender => json!({
            "type": "string",
            "pattern": in_any_case(GENDERS),
            "description": format!("One of {}, in any case; kept as sent.", listed(GENDERS)),
        }),
        Rule::BloodGroup => json!({"type": "string", "enum": BLOOD_GROUPS}),
        Rule::BirthDate => json!({
            "type": "string",
            "format": "date",
            "description": format!("From {EARLIEST_BIRTH} to tomorrow in UTC."),
        }),
        Rule::Phone => {
            let marks = String::from_utf8_lossy(PHONE_MARKS).replace('-', r"\-");
            text(1, MAX_PHONE, &format!("^[0-9{marks}]*$"))
        }
        // Not the format `email`, which is RFC 5321's.
        Rule::Email => text(1, MAX_EMAIL, EMAIL),
        Rule::Metadata => json!({
            "type": "object",
            "additionalProperties": true,
            "description": format!(
                "Fields of your own: any JSON without U+0000, at most {MAX_METADATA} bytes of \
                 text. Kept byte for byte, and replaced as a whole."
            ),
        }),
        Rule::Id => json!({
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": i64::MAX,
            "pattern": "^[1-9][0-9]{0,17}$",
            "description": "An id; a string of its digits is understood too.",
        }),
        Rule::NewPassword => json!({
            "type": "string",
            "format": "password",
            "minLength": MIN_PASSWORD,
            "maxLength": MAX_PASSWORD_BYTES,
            "description": format!(
                "At least {MIN_PASSWORD} characters, at most {MAX_PASSWORD_BYTES} bytes of UTF-8, \
                 without U+0000."
            ),
        }),
        Rule::Credential => json!({"type": "string"}),
        Rule::Repeats(other) => {
            json!({"type": "string", "description": format!("Must equal `{other}`.")})
        }
    }
}

fn text(min: usize, max: usize, pattern: &str) -> Value {
    let mut schema = json!({"type": "string"});
    if min > 0 {
        schema["minLength"] = min.into();
    }
    schema["maxLength"] = max.into();
    schema["pattern"] = pattern.into();
    schema
}

/// What a client may send in a field.
pub fn field(field: &Field) -> Value {
    let mut schema = rule(field.rule);
    if !field.required {
        allow_null(&mut schema);
    }
    if !field.aliases.is_empty() {
        let aliases = format!("Also understood as {}.", listed(field.aliases));
        let description = match schema["description"].as_str() {
            Some(description) => format!("{description} {aliases}"),
            None => aliases,
        };
        schema["description"] = description.into();
    }
    schema
}

/// What the service shows of a column, which clients set by one of the fields or not at all.
pub fn column(column: &Column, fields: &[Field]) -> Value {
    let mut schema = match fields.iter().find(|field| field.name == column.name) {
        // A mapping's ids are sent as numbers or texts, but shown as numbers.
        Some(field) if field.rule != Rule::Id => rule(field.rule),
        _ => sql_type(column.sql_type),
    };
    if column.nullable {
        allow_null(&mut schema);
    }
    schema
}

fn sql_type(sql_type: SqlType) -> Value {
    match sql_type {
        SqlType::Bool => json!({"type": "boolean"}),
        SqlType::Int4 => json!({"type": "integer"}),
        SqlType::Int8 => id(),
        SqlType::Text => json!({"type": "string"}),
        SqlType::Date => json!({"type": "string", "format": "date"}),
        SqlType::Timestamptz => {
            json!({"type": "string", "format": "date-time", "pattern": TIMESTAMP})
        }
        SqlType::Json => json!({"type": "object"}),
    }
}

/// An id, or a version.
pub fn id() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID})
}

/// An id to look for, which may be one that no row has.
pub fn any_id(minimum: i64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": minimum, "maximum": i64::MAX})
}

/// What a query parameter takes.
pub fn parameter(accepts: Accepts) -> Value {
    match accepts {
        Accepts::Limit => json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
        Accepts::After => any_id(0),
        Accepts::Id => any_id(1),
        Accepts::Text { min, max } => text(min, max, NO_NUL),
        Accepts::Choice(words) => json!({"type": "string", "pattern": in_any_case(words)}),
    }
}

fn allow_null(schema: &mut Value) {
    schema["type"] = json!([schema["type"].take(), "null"]);
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

/// A regular expression for words in any case, which JSON Schema has no flag for.
fn in_any_case(words: &[&str]) -> String {
    let either = |c: char| format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase());
    let words = words.iter().map(|word| word.chars().map(either).collect());
    format!("^(?:{})$", words.collect::<Vec<String>>().join("|"))
}

/// The words as code.
pub fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
