//! Other names under which clients send some fields. They work on input only.

const ALIASES: &[(&str, &str)] = &[
    ("phone_number", "phone"),
    ("contact", "phone"),
    ("contact_number", "phone"),
    ("dob", "date_of_birth"),
    ("specialty", "specialization"),
    ("experience", "years_of_experience"),
    ("experience_years", "years_of_experience"),
    ("hospital_name", "hospital"),
    ("hospital_affiliation", "hospital"),
    ("patient", "patient_id"),
    ("patientId", "patient_id"),
    ("doctor", "doctor_id"),
    ("doctorId", "doctor_id"),
    ("refresh", "refresh_token"),
    ("confirm_password", "password_confirm"),
    ("password2", "password_confirm"),
];

/// The field that a name stands for: its own unless it is an alias.
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, field)| field)
}
