//! Patients as lines: the fields that a client may send, so that an export can be imported again.
//! Importing it and exporting that gives the same bytes.

use jiff::civil::Date;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::csv::writer::write_record;
use crate::db::row::{RawJson, column};
use crate::error::{Error, Result};
use crate::json::WriteJson;
use crate::models::input::Field;
use crate::models::patient::FIELDS;

/// The value of one field.
enum Value<'r> {
    Text(Option<&'r str>),
    Integer(Option<i32>),
    Date(Option<Date>),
    Json(RawJson<'r>),
}

/// The values of a row of patients, whose columns are the id and then the fields.
fn values(row: &Row) -> impl Iterator<Item = Result<(&'static Field, Value<'_>)>> {
    FIELDS.iter().zip(1..).map(|(field, at)| {
        let value = match field.rule.sql_type() {
            Type::TEXT => Value::Text(column(row, at)?),
            Type::INT4 => Value::Integer(column(row, at)?),
            Type::DATE => Value::Date(column(row, at)?),
            Type::JSON => Value::Json(column(row, at)?),
            _ => return Err(Error::internal("a field of a type that is not exported")),
        };
        Ok((field, value))
    })
}

/// Appends a patient as an object with all fields, and returns its id.
pub fn write_ndjson(row: &Row, out: &mut Vec<u8>) -> Result<Option<i64>> {
    let mut before = b'{';
    for value in values(row) {
        let (field, value) = value?;
        out.push(before);
        before = b',';
        field.name.write_json(out);
        out.push(b':');
        let start = out.len();
        value.write_json(out);
        if matches!(value, Value::Json(_)) {
            // Ends of lines can only stand between the members.
            let written = out.iter_mut().skip(start);
            written.filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        }
    }
    out.extend_from_slice(b"}\n");
    column(row, 0).map(Some)
}

/// Appends a patient as a record with a cell for each field, and returns its id.
pub fn write_csv(row: &Row, out: &mut Vec<u8>) -> Result<Option<i64>> {
    let cells: Vec<_> = values(row)
        .map(|value| value.map(|(_, value)| value.into_cell()))
        .collect::<Result<_>>()?;
    write_record(cells.iter().map(Vec::as_slice), out);
    column(row, 0).map(Some)
}

/// The line before the records.
pub fn csv_header() -> Vec<u8> {
    let mut out = Vec::new();
    write_record(FIELDS.iter().map(|field| field.name.as_bytes()), &mut out);
    out
}

impl WriteJson for Value<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(value) => value.write_json(out),
            Self::Integer(value) => value.write_json(out),
            Self::Date(value) => value.write_json(out),
            Self::Json(value) => value.write_json(out),
        }
    }
}

impl Value<'_> {
    /// Empty for null.
    fn into_cell(self) -> Vec<u8> {
        let mut cell = Vec::new();
        match self {
            Self::Text(value) => cell.extend_from_slice(value.unwrap_or_default().as_bytes()),
            Self::Integer(Some(value)) => value.write_json(&mut cell),
            Self::Date(Some(value)) => cell.extend_from_slice(value.to_string().as_bytes()),
            Self::Integer(None) | Self::Date(None) => {}
            Self::Json(value) => value.write_json(&mut cell),
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::FromRow;
    use crate::models::patient::Patient;

    #[test]
    fn the_fields_are_the_columns_behind_the_id() {
        let columns = Patient::COLUMNS.iter().skip(1).zip(&FIELDS);
        assert!(columns.clone().all(|(column, field)| column.name == field.name));
        assert_eq!(columns.len(), FIELDS.len());
    }
}
