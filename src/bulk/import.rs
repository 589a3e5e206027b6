//! An import: lines are checked by the rules of single patients and staged as they come, and
//! inserted together when the last has come. One wrong line and nothing is inserted; then the rest
//! is only checked, to name what else is wrong.

use tokio_postgres::types::Type;

use super::csv::Records;
use super::ndjson::Lines;
use super::{Content, Format, Line};
use crate::db::connection::Parameter;
use crate::db::staging::Batch;
use crate::db::{ConnectOptions, Staging};
use crate::error::{Error, FieldError, MAX_FIELD_ERRORS, Result};
use crate::models::input::read_new;
use crate::models::patient::FIELDS;
use crate::models::rules::Value;

/// The most of a wrong name that an error repeats, in characters. A hundred errors must not take
/// more memory than the lines did.
const MAX_NAME: usize = 64;

/// An import that is under way.
pub struct Import {
    options: ConnectOptions,
    input: Input,
    /// None before the first line, and after the first that was wrong.
    staging: Option<Staging>,
    errors: Vec<FieldError>,
}

enum Input {
    Ndjson(Lines),
    Csv(Box<Records>),
}

impl Input {
    fn next<'a, 'i: 'a>(&'a mut self, part: &mut &'i [u8], ended: bool) -> Option<Line<'a>> {
        match self {
            Self::Ndjson(lines) => lines.next(part, ended),
            Self::Csv(records) => records.next(part, ended),
        }
    }
}

impl Import {
    pub fn new(format: Format, options: ConnectOptions) -> Self {
        let input = match format {
            Format::Ndjson => Input::Ndjson(Lines::default()),
            Format::Csv => Input::Csv(Box::default()),
        };
        Self { options, input, staging: None, errors: Vec::new() }
    }

    /// Checks and stages the next part of the input; `ended` says that it is the last. Wrong lines
    /// are reported at the end.
    pub async fn read(&mut self, mut part: &[u8], ended: bool) -> Result<()> {
        if self.errors.is_empty() && self.staging.is_none() {
            let types = FIELDS.iter().map(|field| field.rule.sql_type());
            let types = [Type::INT8].into_iter().chain(types).collect();
            self.staging = Some(Staging::open(&self.options, types).await?);
        }
        let mut batch = match &self.staging {
            Some(staging) => Some(staging.begin().await?),
            None => None,
        };
        while let Some(Line { number, content }) = self.input.next(&mut part, ended) {
            let checked = match content {
                Content::Json(json) => read_new(&FIELDS, json),
                Content::Wrong(errors) => Err(Error::fields(errors)),
            };
            match (checked, &mut batch) {
                (Ok(values), Some(batch)) => write(batch, number, &values).await?,
                (Ok(_), None) => {}
                (Err(error), _) => {
                    self.errors.extend(errors_of(number, error));
                    self.errors.truncate(MAX_FIELD_ERRORS);
                    (batch, self.staging) = (None, None);
                }
            }
        }
        match batch {
            Some(batch) => batch.finish().await,
            None => Ok(()),
        }
    }

    /// Inserts all lines as patients of this user, and returns their number. [`Error::Validation`]
    /// if any was wrong.
    pub async fn finish(mut self, user: i64) -> Result<u64> {
        if let Input::Csv(records) = &self.input
            && !records.has_header()
        {
            let message = "must name the fields in its cells";
            self.errors.push(FieldError::new(place(1, ""), message));
        }
        if !self.errors.is_empty() {
            return Err(wrong_lines(self.errors));
        }
        match self.staging {
            Some(staging) => staging.insert(user).await,
            None => Ok(0),
        }
    }
}

async fn write(batch: &mut Batch, number: u64, values: &[Value<'_>]) -> Result<()> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut parameters: Vec<Parameter<'_>> = vec![&number];
    parameters.extend(values.iter().map(|value| value as Parameter<'_>));
    batch.write(&parameters).await
}

/// The error of an import with wrong lines.
pub fn wrong_lines(errors: Vec<FieldError>) -> Error {
    Error::Validation { detail: "Some lines are wrong. Nothing was imported.", errors }
}

/// The errors of a line, each with the line's number before its field.
pub fn errors_of(number: u64, error: Error) -> Vec<FieldError> {
    let mut errors = match error {
        Error::Validation { errors, .. } => errors,
        _ => Vec::new(),
    };
    if errors.is_empty() {
        errors.push(FieldError::new("", "must be one JSON object in UTF-8"));
    }
    for error in &mut errors {
        error.field = place(number, &error.field);
    }
    errors
}

/// `line 17: age`, or `line 17` for what is wrong with all of it.
fn place(number: u64, field: &str) -> String {
    match field.char_indices().nth(MAX_NAME) {
        _ if field.is_empty() => format!("line {number}"),
        None => format!("line {number}: {field}"),
        Some((end, _)) => format!("line {number}: {}...", field.get(..end).unwrap_or_default()),
    }
}
