//! A patient: visible to and changed by its creator only.

use jiff::civil::Date;

use super::input::{Field, optional, required};
use super::rules::{GENDERS, MAX_SEARCH, Rule};
use crate::db::Timestamp;
use crate::db::row::{Integer, RawJson, row};
use crate::http::query::{Accepts, Parameter};

row! {
    /// A row of `patients`, and its JSON.
    pub struct Patient<'r> {
        id: i64,
        name: &'r str,
        age: Option<Integer>,
        gender: Option<&'r str>,
        date_of_birth: Option<Date>,
        phone: Option<&'r str>,
        email: Option<&'r str>,
        address: Option<&'r str>,
        blood_group: Option<&'r str>,
        allergies: Option<&'r str>,
        medical_history: Option<&'r str>,
        notes: Option<&'r str>,
        emergency_contact_name: Option<&'r str>,
        emergency_contact_phone: Option<&'r str>,
        metadata: RawJson<'r>,
        created_by: i64,
        version: i64,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

/// What a client may send, in the order of the parameters of `sql/patients/create.sql`.
pub const FIELDS: [Field; 14] = [
    required("name", Rule::Name { max: 200 }),
    optional("age", Rule::Integer { min: 0, max: 150 }),
    optional("gender", Rule::Gender),
    optional("date_of_birth", Rule::BirthDate).or(&["dob"]),
    optional("phone", Rule::Phone).or(&["phone_number", "contact", "contact_number"]),
    optional("email", Rule::Email),
    optional("address", Rule::Text { max: 500 }),
    optional("blood_group", Rule::BloodGroup),
    optional("allergies", Rule::Text { max: 5000 }),
    optional("medical_history", Rule::Text { max: 5000 }),
    optional("notes", Rule::Text { max: 5000 }),
    optional("emergency_contact_name", Rule::Name { max: 200 }),
    optional("emergency_contact_phone", Rule::Phone),
    optional("metadata", Rule::Metadata),
];

/// A filter of the list: a part of the name, e-mail or phone.
pub const SEARCH: Parameter = Parameter::new("search", Accepts::Text { min: 0, max: MAX_SEARCH });
/// A filter of the list.
pub const GENDER: Parameter = Parameter::new("gender", Accepts::Choice(GENDERS));
