//! The schemas of bodies: those that clients send from the fields of the models, those that the
//! service answers from the columns of the rows.

use serde_json::{Map, Value, json};

use super::errors;
use super::rules::{column, field, id, listed, rule};
use crate::db::FromRow;
use crate::db::row::Column;
use crate::error::MAX_FIELD_ERRORS;
use crate::models::doctor::{self, Doctor};
use crate::models::input::{Field, SERVER_FIELDS};
use crate::models::mapping::{self, AssignmentRow};
use crate::models::patient::{self, Patient};
use crate::models::user::{
    LOGIN_FIELDS, PASSWORD_FIELDS, REFRESH_FIELDS, REGISTER_FIELDS, ROLES, User,
};

/// All schemas, by their names.
pub fn all() -> Value {
    json!({
        "Registration": input(&REGISTER_FIELDS, true),
        "Login": input(&LOGIN_FIELDS, true),
        "Refresh": input(&REFRESH_FIELDS, true),
        "PasswordChange": input(&PASSWORD_FIELDS, true),
        "Session": session(),
        "User": user(),
        "NewPatient": with_server_fields(input(&patient::FIELDS, true)),
        "Imported": object([("imported", json!({"type": "integer", "minimum": 0}))]),
        "PatientChange": with_server_fields(input(&patient::FIELDS, false)),
        "Patient": row(Patient::COLUMNS, &patient::FIELDS),
        "NewDoctor": with_server_fields(input(&doctor::FIELDS, true)),
        "DoctorChange": with_server_fields(input(&doctor::FIELDS, false)),
        "Doctor": row(Doctor::COLUMNS, &doctor::FIELDS),
        "NewMapping": input(&mapping::FIELDS, true),
        "Mapping": mapping(),
        "AssignedDoctor": assigned_doctor(),
        "Index": object([
            ("name", json!({"type": "string"})),
            ("version", json!({"type": "string"})),
            ("links", json!({
                "type": "object",
                "additionalProperties": {"type": "string", "format": "uri-reference"},
            })),
        ]),
        "Health": object([("status", json!({"type": "string", "const": "ok"}))]),
        "Problem": problem(),
        "FieldError": object([
            (
                "field",
                json!({
                    "type": "string",
                    "description": "The name that was sent; in an import after its line.",
                }),
            ),
            ("message", json!({"type": "string", "description": "What is expected."})),
        ]),
        "ErrorCode": error_code(),
    })
}

pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object that always has all of its members.
fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let properties: Map<String, Value> =
        members.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A body, which must be complete, or may have any of the fields.
fn input(fields: &[Field], complete: bool) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|f| (f.name.to_owned(), field(f))).collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| complete && field.required).map(|f| f.name).collect();
    let mut schema = json!({"type": "object"});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema["properties"] = properties.into();
    schema["additionalProperties"] = false.into();
    schema
}

/// A body that may be a resource as it was read.
fn with_server_fields(mut schema: Value) -> Value {
    for name in SERVER_FIELDS {
        schema["properties"][name] = json!({"description": "Set by the server; ignored here."});
    }
    schema
}

fn columns<'a>(
    columns: &'a [Column],
    fields: &'a [Field],
) -> impl Iterator<Item = (&'a str, Value)> {
    columns.iter().map(|c| (c.name, column(c, fields)))
}

fn row(row: &[Column], fields: &[Field]) -> Value {
    object(columns(row, fields))
}

fn user() -> Value {
    let mut schema = row(User::COLUMNS, &REGISTER_FIELDS);
    schema["properties"]["role"]["enum"] = json!(ROLES);
    schema["properties"]["role"]["description"] =
        format!("{}: an admin may change every doctor.", listed(&ROLES)).into();
    schema
}

fn session() -> Value {
    object([
        (
            "token",
            json!({
                "type": "string",
                "description": "A JWT for `Authorization: Bearer <token>`.",
            }),
        ),
        ("token_type", json!({"type": "string", "const": "Bearer"})),
        (
            "expires_in",
            json!({
                "type": "integer",
                "minimum": 0,
                "description": "Seconds until the token ends; no later than its session.",
            }),
        ),
        (
            "refresh_token",
            json!({"type": "string", "description": "For one exchange for a new session."}),
        ),
        ("user", reference("User")),
    ])
}

fn mapping() -> Value {
    let name = || ("name", rule_of("name", &patient::FIELDS));
    let specialization = ("specialization", rule_of("specialization", &doctor::FIELDS));
    let names = [
        ("patient", object([("id", id()), name()])),
        ("doctor", object([("id", id()), name(), specialization])),
    ];
    object(columns(AssignmentRow::COLUMNS, &mapping::FIELDS).chain(names))
}

fn assigned_doctor() -> Value {
    let doctor = ("doctor", reference("Doctor"));
    object(columns(AssignmentRow::COLUMNS, &mapping::FIELDS).chain([doctor]))
}

/// What a required text of this name is shown as.
fn rule_of(name: &str, fields: &[Field]) -> Value {
    let field = fields.iter().find(|field| field.name == name);
    field.map_or(Value::Bool(true), |field| rule(field.rule))
}

fn problem() -> Value {
    let mut schema = object([
        ("type", json!({"type": "string", "const": "about:blank"})),
        ("title", json!({"type": "string", "description": "The status in words."})),
        ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
        ("code", reference("ErrorCode")),
        ("detail", json!({"type": "string", "description": "One sentence for people."})),
        ("request_id", json!({"type": "string", "description": "The same as `x-request-id`."})),
        (
            "errors",
            json!({
                "type": "array",
                "maxItems": MAX_FIELD_ERRORS,
                "items": reference("FieldError"),
                "description": "The fields or parameters at fault; empty if there are none.",
            }),
        ),
    ]);
    schema["properties"]["trace_id"] = json!({
        "type": "string",
        "pattern": "^[0-9a-f]{32}$",
        "description": "That of `traceparent`; absent if there was none.",
    });
    schema
}

fn error_code() -> Value {
    let mut codes: Vec<&str> = Vec::new();
    for error in errors::all() {
        let (_, code) = error.status_and_code();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    json!({"type": "string", "enum": codes, "description": "Stable; programs may rely on it."})
}
