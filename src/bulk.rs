//! Many patients at once: the two formats of import and export, and the import of a stream of lines
//! into the database. Both work in constant memory. Nothing here knows HTTP, because the command
//! line imports files the same way.

pub mod csv;
pub mod export;
pub mod import;
pub mod ndjson;

use std::borrow::Cow;

use crate::error::{Error, FieldError};

/// The largest line, in bytes: as the body of a request for one patient.
pub const MAX_LINE: usize = 256 << 10;

/// How patients are written, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) under a line with the names of fields.
    Csv,
}

impl Format {
    /// The first is what those get who do not choose.
    pub const ALL: [Self; 2] = [Self::Ndjson, Self::Csv];

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }

    /// The content type of an export.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// The error if a body is declared as neither format.
pub fn no_format() -> Error {
    Error::UnsupportedMediaType("The body must be application/x-ndjson or text/csv, in UTF-8.")
}

/// One line of an import, with its number. A line in quotes of CSV may span several of a file; its
/// number is that of the first.
pub struct Line<'a> {
    pub number: u64,
    pub content: Content<'a>,
}

/// What a line holds.
pub enum Content<'a> {
    /// A patient as JSON, yet to be checked.
    Json(&'a [u8]),
    /// What is wrong with the line. An error without a field concerns all of it.
    Wrong(Vec<FieldError>),
}

impl Content<'_> {
    fn wrong(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Wrong(vec![FieldError::new("", message)])
    }

    fn too_long() -> Self {
        Self::wrong(format!("must have at most {MAX_LINE} bytes"))
    }
}
