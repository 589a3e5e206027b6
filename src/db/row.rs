//! Rows as typed structs, read by position: a lookup by name would search the columns for every
//! value. The declaration of a struct is also the declaration of its columns, which a test compares
//! with every statement that returns them.

use std::error::Error as StdError;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::error::{Error, Result};
use crate::json::WriteJson;

/// A struct that is read from consecutive columns of a row and may borrow from it.
pub trait FromRow<'r>: Sized {
    const COLUMNS: &'static [Column];

    /// Reads consecutive columns, starting with `first`.
    fn from_row(row: &'r Row, first: usize) -> Result<Self>;
}

/// What a struct expects of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub sql_type: SqlType,
    pub nullable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlType {
    Bool,
    Int4,
    Int8,
    Text,
    Date,
    Timestamptz,
    Json,
}

/// A Rust type that holds a column's value.
pub trait ColumnValue {
    const SQL_TYPE: SqlType;
    const NULLABLE: bool = false;
}

macro_rules! column_values {
    ($($rust:ty => $sql:ident,)*) => {
        $(impl ColumnValue for $rust { const SQL_TYPE: SqlType = SqlType::$sql; })*
    };
}

column_values! {
    bool => Bool,
    Integer => Int4,
    i64 => Int8,
    &str => Text,
    jiff::civil::Date => Date,
    Timestamp => Timestamptz,
    RawJson<'_> => Json,
}

impl<T: ColumnValue> ColumnValue for Option<T> {
    const SQL_TYPE: SqlType = T::SQL_TYPE;
    const NULLABLE: bool = true;
}

/// Reads one value. A type mismatch is a bug in a statement.
pub fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| Error::internal(format!("column {index}: {error}")))
}

/// Whether a row was returned without its long texts, as its column `large` says.
pub fn is_large(row: &Row, index: usize) -> Result<bool> {
    // The placeholder row of an empty list has only nulls.
    Ok(column::<Option<bool>>(row, index)?.unwrap_or(false))
}

/// Declares a row struct with its columns, in the order of the statements' columns and of the JSON
/// members.
macro_rules! row {
    (
        $(#[$meta:meta])*
        pub struct $name:ident<$lifetime:lifetime> {
            $($field:ident: $type:ty,)*
        }
    ) => {
        $crate::json::object! {
            $(#[$meta])*
            #[derive(Debug)]
            pub struct $name<$lifetime> {
                $(pub $field: $type,)*
            }
        }

        impl<$lifetime> $crate::db::row::FromRow<$lifetime> for $name<$lifetime> {
            const COLUMNS: &'static [$crate::db::row::Column] = &[
                $($crate::db::row::Column {
                    name: stringify!($field),
                    sql_type: <$type as $crate::db::row::ColumnValue>::SQL_TYPE,
                    nullable: <$type as $crate::db::row::ColumnValue>::NULLABLE,
                },)*
            ];

            fn from_row(
                row: &$lifetime tokio_postgres::Row,
                first: usize,
            ) -> $crate::error::Result<Self> {
                let mut columns = first..;
                let mut next = || columns.next().unwrap_or(usize::MAX);
                Ok(Self { $($field: $crate::db::row::column(row, next())?,)* })
            }
        }
    };
}
pub(crate) use row;

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// A point in time, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(jiff::Timestamp);

impl WriteJson for Timestamp {
    fn write_json(&self, out: &mut Vec<u8>) {
        self.0.write_json(out);
    }
}

/// A whole number, from a column of any integer type: a column may be widened beside a running
/// service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer(i64);

impl WriteJson for Integer {
    fn write_json(&self, out: &mut Vec<u8>) {
        self.0.write_json(out);
    }
}

impl<'r> FromSql<'r> for Integer {
    fn from_sql(sql_type: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(match *sql_type {
            Type::INT2 => i16::from_sql(sql_type, raw)?.into(),
            Type::INT4 => i32::from_sql(sql_type, raw)?.into(),
            _ => i64::from_sql(sql_type, raw)?,
        }))
    }

    fn accepts(sql_type: &Type) -> bool {
        [Type::INT2, Type::INT4, Type::INT8].contains(sql_type)
    }
}

impl<'r> FromSql<'r> for Timestamp {
    /// jiff's own implementation does calendar arithmetic, which is measurable at two timestamps a
    /// row.
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let microseconds = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH);
        Ok(Self(jiff::Timestamp::from_microsecond(microseconds)?))
    }

    fn accepts(sql_type: &Type) -> bool {
        <jiff::Timestamp as FromSql>::accepts(sql_type)
    }
}

/// The text of a `json` column as it is: PostgreSQL has validated it.
#[derive(Debug, Clone, Copy)]
pub struct RawJson<'r>(&'r str);

impl WriteJson for RawJson<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl<'r> FromSql<'r> for RawJson<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::JSON
    }
}
