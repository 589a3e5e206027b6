//! A doctor: visible to every user, changed by its creator or an admin.

use super::input::{Field, optional, required};
use super::rules::{MAX_SEARCH, Rule};
use crate::db::Timestamp;
use crate::db::row::{Integer, RawJson, row};
use crate::http::query::{Accepts, Parameter};

/// The longest specialization, in characters.
const MAX_SPECIALIZATION: usize = 100;

row! {
    /// A row of `doctors`, and its JSON.
    pub struct Doctor<'r> {
        id: i64,
        name: &'r str,
        specialization: &'r str,
        email: Option<&'r str>,
        phone: Option<&'r str>,
        license_number: Option<&'r str>,
        years_of_experience: Option<Integer>,
        qualification: Option<&'r str>,
        hospital: Option<&'r str>,
        address: Option<&'r str>,
        bio: Option<&'r str>,
        metadata: RawJson<'r>,
        created_by: i64,
        version: i64,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

/// What a client may send, in the order of the parameters of `sql/doctors/create.sql`.
pub const FIELDS: [Field; 11] = [
    required("name", Rule::Name { max: 200 }),
    required("specialization", Rule::Name { max: MAX_SPECIALIZATION }).or(&["specialty"]),
    optional("email", Rule::Email),
    optional("phone", Rule::Phone).or(&["phone_number", "contact", "contact_number"]),
    optional("license_number", Rule::Text { max: 64 }),
    optional("years_of_experience", Rule::Integer { min: 0, max: 80 })
        .or(&["experience", "experience_years"]),
    optional("qualification", Rule::Text { max: 200 }),
    optional("hospital", Rule::Text { max: 200 }).or(&["hospital_name", "hospital_affiliation"]),
    optional("address", Rule::Text { max: 500 }),
    optional("bio", Rule::Text { max: 2000 }),
    optional("metadata", Rule::Metadata),
];

/// A filter of the list: a part of the name, e-mail or hospital.
pub const SEARCH: Parameter = Parameter::new("search", Accepts::Text { min: 0, max: MAX_SEARCH });
/// A filter of the list: the whole specialization.
pub const SPECIALIZATION: Parameter =
    Parameter::new("specialization", Accepts::Text { min: 1, max: MAX_SPECIALIZATION });
