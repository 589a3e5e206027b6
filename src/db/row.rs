//! Rows to typed structs, by position: reading by name would search the columns for every value.
//! The same list that declares a struct declares its columns, which a test compares with every
//! statement that returns them.

use std::error::Error as StdError;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::error::{Error, Result};
use crate::json::WriteJson;

/// A struct that is read from neighbouring columns of a row and may borrow from it.
pub trait FromRow<'r>: Sized {
    const COLUMNS: &'static [Column];

    /// Reads the columns from `first` on.
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
    i32 => Int4,
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

/// Reads one value; a column that does not fit is a mistake in a statement.
pub fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| Error::internal(format!("column {index}: {error}")))
}

/// Whether a row is a large one that has come without its long texts, as its column `large` says.
pub fn is_large(row: &Row, index: usize) -> Result<bool> {
    // The row that stands for an empty list is null all over.
    Ok(column::<Option<bool>>(row, index)?.unwrap_or(false))
}

/// Declares a row struct with its columns, in the order in which statements return them and JSON
/// shows them.
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

/// From 1970-01-01 to 2000-01-01, where PostgreSQL begins to count, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// A moment, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(jiff::Timestamp);

impl WriteJson for Timestamp {
    fn write_json(&self, out: &mut Vec<u8>) {
        self.0.write_json(out);
    }
}

impl<'r> FromSql<'r> for Timestamp {
    /// jiff's own does calendar arithmetic, which is noticeable at two timestamps a row.
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let microseconds = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH);
        Ok(Self(jiff::Timestamp::from_microsecond(microseconds)?))
    }

    fn accepts(sql_type: &Type) -> bool {
        <jiff::Timestamp as FromSql>::accepts(sql_type)
    }
}

/// A `json` column's text, byte for byte. PostgreSQL has seen to it that it is JSON.
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
