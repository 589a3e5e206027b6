//! The rules for values of fields, and checked values.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::BytesMut;
use jiff::civil::{Date, date};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio_postgres::types::{IsNull, Json, ToSql, Type, to_sql_checked};

use super::members::{self, Flaw};
use crate::id::parse_id;

/// The longest e-mail address (RFC 5321 allows a path of 256 with its brackets).
pub const MAX_EMAIL: usize = 254;
pub const MAX_PHONE: usize = 32;
/// Characters allowed between the digits of a phone number.
pub const PHONE_MARKS: &[u8] = b" +-().x/#";
/// No living person was born earlier.
pub const EARLIEST_BIRTH: Date = date(1850, 1, 1);
/// The largest JSON text of `metadata`, in bytes.
pub const MAX_METADATA: usize = 8192;
/// bcrypt uses at most 72 bytes, including a terminating NUL.
pub const MAX_PASSWORD_BYTES: usize = 71;
pub const MIN_PASSWORD: usize = 8;

/// The longest text to search for, in characters.
pub const MAX_SEARCH: usize = 200;

pub const GENDERS: &[&str] = &["male", "female", "other", "unknown", "m", "f", "o"];
pub const BLOOD_GROUPS: &[&str] = &["A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"];

/// The rule of one field. Lengths count Unicode scalar values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Text that is not only white space.
    Name {
        max: usize,
    },
    Text {
        max: usize,
    },
    /// A whole number.
    Integer {
        min: i32,
        max: i32,
    },
    Gender,
    BloodGroup,
    BirthDate,
    Phone,
    Email,
    Metadata,
    /// A positive id, as a number or as a string of digits.
    Id,
    NewPassword,
    /// Any text, even an impossible one: the comparison decides.
    Credential,
    /// Must equal the field of this name in the same body.
    Repeats(&'static str),
}

/// A checked value: a parameter of a statement, or JSON in a patch.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Not sent.
    Absent,
    Null,
    Text(Cow<'a, str>),
    Integer(i32),
    Id(i64),
    Date(Date),
    Json(Cow<'a, RawValue>),
}

type Checked<'a> = Result<Value<'a>, Cow<'static, str>>;

impl Rule {
    /// Checks a value that is not null. The error says what is expected.
    pub fn check(self, raw: &RawValue) -> Checked<'_> {
        match self {
            Self::Name { max } => name(text(raw)?, max),
            Self::Text { max } => text_within(text(raw)?, 0, max),
            Self::Integer { min, max } => integer(raw, min, max),
            Self::Gender => gender(text(raw)?),
            Self::BloodGroup => blood_group(text(raw)?),
            Self::BirthDate => birth_date(&text(raw)?),
            Self::Phone => phone(text(raw)?),
            Self::Email => email(text(raw)?),
            Self::Metadata => metadata(raw),
            Self::Id => id(raw),
            Self::NewPassword => new_password(text(raw)?),
            Self::Credential => string(raw).map(Value::Text),
            // The other field may come later in the body.
            Self::Repeats(_) => Ok(Value::Json(Cow::Borrowed(raw))),
        }
    }

    /// The PostgreSQL type of the parameter that takes the value.
    pub fn sql_type(self) -> Type {
        match self {
            Self::Integer { .. } => Type::INT4,
            Self::Id => Type::INT8,
            Self::BirthDate => Type::DATE,
            Self::Metadata => Type::JSON,
            Self::Name { .. }
            | Self::Text { .. }
            | Self::Gender
            | Self::BloodGroup
            | Self::Phone
            | Self::Email
            | Self::NewPassword
            | Self::Credential
            | Self::Repeats(_) => Type::TEXT,
        }
    }

    /// The value of null: metadata is always an object.
    pub fn null(self) -> Value<'static> {
        match self {
            Self::Metadata => serde_json::from_str("{}").map_or(Value::Absent, Value::Json),
            Self::Name { .. }
            | Self::Text { .. }
            | Self::Integer { .. }
            | Self::Gender
            | Self::BloodGroup
            | Self::BirthDate
            | Self::Phone
            | Self::Email
            | Self::Id
            | Self::NewPassword
            | Self::Credential
            | Self::Repeats(_) => Value::Null,
        }
    }
}

fn string(raw: &RawValue) -> Result<Cow<'_, str>, Cow<'static, str>> {
    if !raw.get().starts_with('"') {
        return Err("must be a string".into());
    }
    members::text(raw).ok_or_else(|| "must be Unicode text".into())
}

/// A string that PostgreSQL can store as text.
fn text(raw: &RawValue) -> Result<Cow<'_, str>, Cow<'static, str>> {
    let text = string(raw)?;
    if text.contains('\0') {
        return Err("must not contain U+0000".into());
    }
    Ok(text)
}

fn text_within(text: Cow<'_, str>, min: usize, max: usize) -> Checked<'_> {
    // A text has at most as many characters as bytes, so most need no counting.
    let surely = text.len() <= max && min <= 1 && text.len() >= min;
    if surely || (min..=max).contains(&text.chars().count()) {
        return Ok(Value::Text(text));
    }
    Err(format!("must have {min} to {max} characters").into())
}

fn name(text: Cow<'_, str>, max: usize) -> Checked<'_> {
    if text.chars().all(char::is_whitespace) {
        return Err("must not be blank".into());
    }
    text_within(text, 1, max)
}

fn gender(text: Cow<'_, str>) -> Checked<'_> {
    if GENDERS.iter().any(|gender| gender.eq_ignore_ascii_case(&text)) {
        return Ok(Value::Text(text));
    }
    Err(format!("must be one of {}", GENDERS.join(", ")).into())
}

fn blood_group(text: Cow<'_, str>) -> Checked<'_> {
    if BLOOD_GROUPS.contains(&&*text) {
        return Ok(Value::Text(text));
    }
    Err(format!("must be one of {}", BLOOD_GROUPS.join(", ")).into())
}

fn new_password(text: Cow<'_, str>) -> Checked<'_> {
    if text.len() <= MAX_PASSWORD_BYTES && text.chars().count() >= MIN_PASSWORD {
        return Ok(Value::Text(text));
    }
    let message = format!(
        "must have at least {MIN_PASSWORD} characters and at most {MAX_PASSWORD_BYTES} bytes"
    );
    Err(message.into())
}

fn integer(raw: &RawValue, min: i32, max: i32) -> Checked<'_> {
    let digits = raw.get().trim_start_matches('-');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("must be a whole number, written without quotes, point or exponent".into());
    }
    match raw.get().parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => Err(format!("must be between {min} and {max}").into()),
    }
}

fn id(raw: &RawValue) -> Checked<'_> {
    let digits = members::text(raw).unwrap_or(Cow::Borrowed(raw.get()));
    parse_id(&digits).map(Value::Id).ok_or_else(|| "must be an id: a positive whole number".into())
}

fn metadata(raw: &RawValue) -> Checked<'_> {
    if !raw.get().starts_with('{') {
        return Err("must be an object".into());
    }
    if raw.get().len() > MAX_METADATA {
        return Err(format!("must have at most {MAX_METADATA} bytes of text").into());
    }
    match members::flaw(raw) {
        None => Ok(Value::Json(Cow::Borrowed(raw))),
        Some(Flaw::Nul) => Err("must not contain U+0000".into()),
        Some(Flaw::LoneSurrogate) => Err("must be Unicode text".into()),
    }
}

fn birth_date(text: &str) -> Checked<'static> {
    // In some time zones it is tomorrow already.
    let latest = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().tomorrow();
    match iso_date(text) {
        Some(born) if born >= EARLIEST_BIRTH && latest.is_ok_and(|latest| born <= latest) => {
            Ok(Value::Date(born))
        }
        _ => {
            let message =
                format!("must be a date as YYYY-MM-DD, from {EARLIEST_BIRTH} to tomorrow (UTC)");
            Err(message.into())
        }
    }
}

/// A date that is written as `YYYY-MM-DD` and in no other way.
fn iso_date(text: &str) -> Option<Date> {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let (year, month, day) = (text.get(0..4)?, text.get(5..7)?, text.get(8..10)?);
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok();
    date.filter(|_| shaped)
}

fn phone(text: Cow<'_, str>) -> Checked<'_> {
    let known = |byte: u8| byte.is_ascii_digit() || PHONE_MARKS.contains(&byte);
    if (1..=MAX_PHONE).contains(&text.len()) && text.bytes().all(known) {
        return Ok(Value::Text(text));
    }
    Err(format!("must have 1 to {MAX_PHONE} digits, spaces and + - ( ) . / # x").into())
}

fn email(text: Cow<'_, str>) -> Checked<'_> {
    if text.len() <= MAX_EMAIL && is_email(&text) {
        return Ok(Value::Text(text));
    }
    Err(format!("must be an e-mail address of at most {MAX_EMAIL} characters").into())
}

/// WHATWG HTML, section 4.10.5.1.5: the addresses that browsers accept.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let local_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty() && local.bytes().all(local_byte) && domain.split('.').all(label)
}

impl Value<'_> {
    /// The same value, without borrowing from the body.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Absent => Value::Absent,
            Self::Null => Value::Null,
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Integer(number) => Value::Integer(number),
            Self::Id(id) => Value::Id(id),
            Self::Date(date) => Value::Date(date),
            Self::Json(json) => Value::Json(Cow::Owned(json.into_owned())),
        }
    }

    /// The text; empty for other kinds of value.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_unit(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i32(*number),
            Self::Id(id) => serializer.serialize_i64(*id),
            Self::Date(date) => serializer.collect_str(date),
            Self::Json(json) => json.serialize(serializer),
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        sql_type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Absent | Self::Null => Ok(IsNull::Yes),
            Self::Text(text) => text.as_ref().to_sql_checked(sql_type, out),
            // A column may be widened beside a running service.
            Self::Integer(number) => match *sql_type {
                Type::INT8 => i64::from(*number).to_sql_checked(sql_type, out),
                Type::INT2 => i16::try_from(*number)?.to_sql_checked(sql_type, out),
                _ => number.to_sql_checked(sql_type, out),
            },
            Self::Id(id) => id.to_sql_checked(sql_type, out),
            Self::Date(date) => date.to_sql_checked(sql_type, out),
            Self::Json(json) => Json(json.as_ref()).to_sql_checked(sql_type, out),
        }
    }

    /// Each kind of value checks the type itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
