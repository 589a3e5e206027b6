//! Reads a JSON body by a list of fields: every wrong field is reported at once, by the name that
//! was sent, and valid values are returned in the order of the list.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::members::{self, Members};
use super::nearest::UnknownNames;
use super::rules::{Rule, Value};
use crate::error::{Error, FieldError, MAX_FIELD_ERRORS, Result};

/// Fields that the server sets. They are accepted and ignored, so that a client can send a resource
/// back as it was read.
pub const SERVER_FIELDS: [&str; 5] = ["id", "created_by", "created_at", "updated_at", "version"];

/// One field that a client may send.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// Other names under which clients send it.
    pub aliases: &'static [&'static str],
    pub required: bool,
    pub rule: Rule,
}

pub const fn required(name: &'static str, rule: Rule) -> Field {
    Field { name, aliases: &[], required: true, rule }
}

pub const fn optional(name: &'static str, rule: Rule) -> Field {
    Field { name, aliases: &[], required: false, rule }
}

impl Field {
    /// The same field, which clients may also send under other names.
    #[must_use]
    pub const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// Reads a body that must have every required field.
pub fn read_new<'a, const N: usize>(
    fields: &'static [Field; N],
    body: &'a [u8],
) -> Result<[Value<'a>; N]> {
    read(fields, body, true)
}

/// Reads a body that may have any of the fields; null clears an optional one.
pub fn read_patch<'a, const N: usize>(
    fields: &'static [Field; N],
    body: &'a [u8],
) -> Result<Patch<'a, N>> {
    Ok(Patch { fields, values: read(fields, body, false)? })
}

fn read<'a, const N: usize>(
    fields: &'static [Field; N],
    body: &'a [u8],
    complete: bool,
) -> Result<[Value<'a>; N]> {
    debug_assert!(names_are_distinct(fields), "a field has the name of another");
    let Members(members) = Members::parse(body)?;
    let mut values = [const { Value::Absent }; N];
    let mut names = Names::of(fields);
    let mut errors = Vec::new();
    for (name, raw) in &members {
        if errors.len() == MAX_FIELD_ERRORS {
            break;
        }
        let field = match names.take(name) {
            Ok(Some(at)) => fields.get(at).zip(values.get_mut(at)),
            Ok(None) => None,
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let Some((field, value)) = field else { continue };
        match check(field, raw) {
            Ok(checked) => *value = checked,
            Err(message) => errors.push(FieldError::new(&**name, message)),
        }
    }
    errors.extend(unlike(fields, &values, &names.given));
    if complete {
        errors.extend(names.missing());
    }
    errors.truncate(MAX_FIELD_ERRORS);
    if errors.is_empty() { Ok(values) } else { Err(Error::fields(errors)) }
}

/// The names under which fields were sent so far.
pub struct Names<'n, const N: usize> {
    fields: &'static [Field; N],
    given: [Option<&'n str>; N],
    server_given: [bool; SERVER_FIELDS.len()],
    unknown: UnknownNames,
}

impl<'n, const N: usize> Names<'n, N> {
    pub fn of(fields: &'static [Field; N]) -> Self {
        let unknown = UnknownNames::of(fields);
        Self { fields, given: [None; N], server_given: [false; SERVER_FIELDS.len()], unknown }
    }

    /// The index of the field with this name; None for one that the server sets. An error if the
    /// name is unknown, or stands for a field that was sent already.
    pub fn take(&mut self, name: &'n str) -> Result<Option<usize>, FieldError> {
        let slot = self
            .fields
            .iter()
            .zip(&mut self.given)
            .enumerate()
            .find(|(_, (f, _))| f.is_called(name));
        let Some((at, (field, given))) = slot else {
            let mut server = SERVER_FIELDS.iter().zip(&mut self.server_given);
            return match server.find(|(f, _)| **f == name) {
                Some((_, given)) if !*given => {
                    *given = true;
                    Ok(None)
                }
                Some(_) => Err(FieldError::new(name, "is given twice")),
                None => Err(FieldError::new(name, self.unknown.message(name))),
            };
        };
        if given.replace(name).is_some() {
            return Err(twice(name, field.name));
        }
        Ok(Some(at))
    }

    /// The required fields that were not sent.
    pub fn missing(&self) -> impl Iterator<Item = FieldError> {
        let missing = self.fields.iter().zip(&self.given);
        let missing = missing.filter(|(field, name)| field.required && name.is_none());
        missing.map(|(field, _)| FieldError::new(field.name, "is required"))
    }
}

/// Whether no name or alias stands for two fields, of which the later could never be sent.
fn names_are_distinct(fields: &[Field]) -> bool {
    let own = fields.iter().flat_map(|field| field.aliases.iter().chain([&field.name]));
    let names: Vec<&str> = own.chain(&SERVER_FIELDS).copied().collect();
    names.iter().enumerate().all(|(at, name)| !names.iter().skip(at + 1).any(|other| other == name))
}

/// The fields that must equal another one but do not. Nothing is reported if the other one is wrong
/// itself.
fn unlike<'f>(
    fields: &'static [Field],
    values: &'f [Value<'_>],
    given: &'f [Option<&str>],
) -> impl Iterator<Item = FieldError> {
    fields.iter().zip(values).zip(given).filter_map(move |((field, value), name)| {
        let (Rule::Repeats(other), Some(name)) = (field.rule, name) else { return None };
        let original = fields.iter().zip(values).find(|(field, _)| field.name == other);
        let Some((_, Value::Text(original))) = original else { return None };
        let same = match value {
            Value::Json(raw) => members::text(raw).is_some_and(|text| text == *original),
            _ => false,
        };
        (!same).then(|| FieldError::new(*name, format!("must equal {other}")))
    })
}

fn check<'a>(field: &Field, raw: &'a RawValue) -> Result<Value<'a>, Cow<'static, str>> {
    match raw.get() {
        "null" if field.required => Err("must not be null".into()),
        "null" => Ok(field.rule.null()),
        _ => field.rule.check(raw),
    }
}

fn twice(name: &str, field: &str) -> FieldError {
    let message = if name == field {
        "is given twice".to_owned()
    } else {
        format!("is given twice: it is another name of {field}")
    };
    FieldError::new(name, message)
}

/// The fields that were sent, rebuilt from checked values. Its JSON is what the UPDATE statements
/// merge into a row.
#[derive(Debug)]
pub struct Patch<'a, const N: usize> {
    fields: &'static [Field; N],
    values: [Value<'a>; N],
}

impl<const N: usize> Serialize for Patch<'_, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in self.fields.iter().zip(&self.values) {
            if !value.is_absent() {
                map.serialize_entry(field.name, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const FIELDS: [Field; 3] = [
        required("name", Rule::Name { max: 3 }),
        optional("phone", Rule::Phone).or(&["contact", "phone_number"]),
        optional("metadata", Rule::Metadata),
    ];

    fn refused(body: &str, complete: bool) -> Vec<(String, String)> {
        match read(&FIELDS, body.as_bytes(), complete) {
            Err(Error::Validation { errors, .. }) => {
                errors.into_iter().map(|error| (error.field, error.message.into_owned())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_bad_field_is_named_at_once_by_the_name_that_was_sent() {
        let errors = refused(r#"{"contact":"?","nmae":"x","metadata":[],"id":1,"id":2}"#, true);
        let names: Vec<&str> = errors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["contact", "nmae", "metadata", "id", "name"]);
        assert!(errors[1].1.ends_with("the nearest is name"), "{errors:?}");
    }

    #[test]
    fn a_field_given_twice_under_any_of_its_names_is_refused() {
        let errors = refused(r#"{"phone":"1","name":"x","phone_number":"1","name":"x"}"#, true);
        let names: Vec<&str> = errors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["phone_number", "name"]);
    }

    #[test]
    fn a_name_stands_for_one_field() {
        assert!(names_are_distinct(&FIELDS));
        for taken in ["name", "contact", "version"] {
            let [first, second, _] = FIELDS;
            assert!(
                !names_are_distinct(&[first, second, optional(taken, Rule::Gender)]),
                "{taken}"
            );
        }
    }

    #[test]
    fn null_clears_what_is_optional_and_only_that() {
        let body = br#"{"phone":null,"metadata":null}"#;
        let patch = read_patch(&FIELDS, body).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"phone":null,"metadata":{}}"#);
        assert_eq!(refused(r#"{"name":null}"#, false)[0].0, "name");
    }

    #[test]
    fn the_number_of_errors_is_bounded() {
        let body = format!("{{{}}}", vec![r#""x":1"#; 1000].join(","));
        assert_eq!(refused(&body, true).len(), MAX_FIELD_ERRORS);
    }
}
