//! The message for an unknown field, with the name that was probably meant.

use std::borrow::Cow;

use super::input::Field;

/// The most unknown names of a body that are compared. A client with more of them has another
/// resource in mind.
const MAX_COMPARED: usize = 8;

/// A name that clients use for either of two fields. The client must choose.
const AMBIGUOUS: (&str, [&str; 2]) =
    ("emergency_contact", ["emergency_contact_name", "emergency_contact_phone"]);

/// Generates the messages for the unknown names of one body.
pub struct UnknownNames {
    fields: &'static [Field],
    compared: usize,
}

impl UnknownNames {
    pub fn of(fields: &'static [Field]) -> Self {
        Self { fields, compared: 0 }
    }

    /// The message for one name.
    pub fn message(&mut self, name: &str) -> Cow<'static, str> {
        const UNKNOWN: &str = "is not a known field";
        if self.compared < MAX_COMPARED {
            self.compared += 1;
            let (ambiguous, [one, other]) = AMBIGUOUS;
            if name == ambiguous && self.has(one) && self.has(other) {
                return format!("{UNKNOWN}; the nearest are {one} and {other}").into();
            }
            if let Some(nearest) = self.nearest(name) {
                return format!("{UNKNOWN}; the nearest is {nearest}").into();
            }
        }
        if self.has("metadata") {
            return format!("{UNKNOWN}; fields of your own go into metadata").into();
        }
        UNKNOWN.into()
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// The field with the smallest edit distance, of at most two and a third of its length. A
    /// transposition counts once; case and underscores do not count.
    fn nearest(&self, name: &str) -> Option<&'static str> {
        let folded = fold(name);
        let distance = |field: &Field| {
            let known = fold(field.name);
            let limit = (known.len() / 3).min(2);
            // The difference in length is a lower bound of the distance, so a long name is not
            // compared.
            if folded.len().abs_diff(known.len()) > limit {
                return None;
            }
            Some(strsim::osa_distance(&folded, &known)).filter(|distance| *distance <= limit)
        };
        let near = self.fields.iter().filter_map(|field| Some((distance(field)?, field.name)));
        near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
    }
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{doctor, mapping, patient, user};

    fn message(fields: &'static [Field], name: &str) -> String {
        UnknownNames::of(fields).message(name).into_owned()
    }

    #[test]
    fn a_field_is_named_only_if_it_is_near_and_never_by_another_name_of_it() {
        for (fields, name, nearest) in [
            (&patient::FIELDS[..], "alergies", Some("allergies")),
            (&patient::FIELDS, "phon", Some("phone")),
            (&patient::FIELDS, "nmae", Some("name")),
            (&patient::FIELDS, "Name", Some("name")),
            (&patient::FIELDS, "agee", Some("age")),
            (&patient::FIELDS, "dateOfBirth", Some("date_of_birth")),
            (&patient::FIELDS, "bloodgroup", Some("blood_group")),
            (&patient::FIELDS, "emergency_contact_nam", Some("emergency_contact_name")),
            (&doctor::FIELDS, "speciality", None),
            (&doctor::FIELDS, "specialisation", Some("specialization")),
            (&mapping::FIELDS, "patient_ids", Some("patient_id")),
            (&user::LOGIN_FIELDS, "pasword", Some("password")),
            (&user::REGISTER_FIELDS, "password_confirmation", None),
            // Near only to an alias.
            (&patient::FIELDS, "dobb", None),
            (&patient::FIELDS, "contacts", None),
            (&patient::FIELDS, "phone_numbers", None),
            // Not near.
            (&patient::FIELDS, "password", None),
            (&patient::FIELDS, "birth_date", None),
            (&patient::FIELDS, "role", None),
            (&patient::FIELDS, "", None),
            (&patient::FIELDS, "ag\u{e9}\u{e9}", None),
            (&user::REGISTER_FIELDS, "role", None),
        ] {
            let expected = match nearest {
                Some(nearest) => format!("is not a known field; the nearest is {nearest}"),
                None if fields.iter().any(|field| field.name == "metadata") => {
                    "is not a known field; fields of your own go into metadata".to_owned()
                }
                None => "is not a known field".to_owned(),
            };
            assert_eq!(message(fields, name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_that_could_be_two_fields_is_told_both() {
        let told = message(&patient::FIELDS, "emergency_contact");
        let both = ["emergency_contact_name", "emergency_contact_phone"];
        assert!(both.iter().all(|field| told.contains(field)), "{told}");
        assert!(!message(&doctor::FIELDS, "emergency_contact").contains("nearest"));
    }

    #[test]
    fn only_the_first_few_names_are_compared() {
        let mut names = UnknownNames::of(&patient::FIELDS);
        let near: Vec<bool> =
            (0..100).map(|_| names.message("alergies").contains("allergies")).collect();
        assert_eq!(near.iter().filter(|near| **near).count(), MAX_COMPARED);
    }
}
