//! Invented people. Whoever reads their names sees that there are no such people: nobody is called
//! Testerson, 555-01xx is no telephone number, and nobody can have an address at example.com
//! (RFC 2606).

use jiff::ToSpan;
use jiff::civil::{Date, date};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const FIRST: [&str; 24] = [
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Dorothy",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ida",
    "John",
    "Katherine",
    "Linus",
    "Margaret",
    "Niklaus",
    "Olga",
    "Peter",
    "Radia",
    "Sophie",
    "Tim",
    "Ursula",
    "Vint",
    "Whitfield",
    "Zoë",
];
const LAST: [&str; 20] = [
    "Testerson",
    "Sampleton",
    "Mockford",
    "Exampleby",
    "Placeholder",
    "Fakenham",
    "Dummyfield",
    "Specimen",
    "Fixture",
    "Loremipsum",
    "Stubbings",
    "Trialman",
    "Seedling",
    "Nonesuch",
    "Imaginary",
    "Madeup",
    "Pretendall",
    "Fictionova",
    "Demosthenova",
    "O'Nonexist",
];
const STREETS: [&str; 6] =
    ["Sample Street", "Test Lane", "Example Road", "Mock Avenue", "Demo Square", "Fixture Way"];
const TOWNS: [&str; 5] = ["Exampleville", "Testbury", "Samplestead", "Mockton", "Demoford"];
/// Written in the ways that clients write them.
const GENDERS: [&str; 6] = ["female", "male", "female", "male", "other", "unknown"];
const BLOOD_GROUPS: [&str; 8] = ["O+", "A+", "B+", "AB+", "O-", "A-", "B-", "AB-"];
const ALLERGIES: [&str; 6] =
    ["Penicillin", "Pollen", "Peanuts", "Latex", "House dust mites", "Bee stings"];
const HISTORIES: [&str; 6] = [
    "Appendectomy as a child.",
    "Hypertension, treated.",
    "Type 2 diabetes, well controlled.",
    "Fractured wrist, healed.",
    "Asthma since school.",
    "Migraine, a few times a year.",
];
const NOTES: [&str; 4] = [
    "Invented for a demonstration.",
    "Invented. Prefers appointments in the morning.",
    "Invented. Asks for an interpreter.",
    "Invented. Comes once a year.",
];
const SPECIALIZATIONS: [&str; 10] = [
    "Cardiology",
    "Dermatology",
    "Endocrinology",
    "General practice",
    "Neurology",
    "Oncology",
    "Ophthalmology",
    "Orthopaedics",
    "Paediatrics",
    "Psychiatry",
];
const QUALIFICATIONS: [&str; 4] = ["MD", "MBBS", "MD, PhD", "MBBS, MRCP"];
const HOSPITALS: [&str; 4] =
    ["Exampleville General", "Testbury Clinic", "Samplestead Hospital", "Mockton Health Centre"];

/// When the youngest were born, at the latest.
const TODAY: Date = date(2026, 1, 1);

pub struct Patient {
    pub name: String,
    pub age: i32,
    pub gender: &'static str,
    pub date_of_birth: Date,
    pub phone: String,
    pub email: String,
    pub address: String,
    pub blood_group: &'static str,
    pub allergies: Option<&'static str>,
    pub medical_history: Option<&'static str>,
    pub notes: Option<&'static str>,
    pub emergency_contact_name: String,
    pub emergency_contact_phone: String,
}

pub struct Doctor {
    pub name: String,
    pub specialization: &'static str,
    pub email: String,
    pub phone: String,
    pub license_number: String,
    pub years_of_experience: i32,
    pub qualification: &'static str,
    pub hospital: &'static str,
    pub address: String,
    pub bio: String,
}

/// Invents the same people for the same number.
pub struct Inventor(StdRng);

impl Inventor {
    pub fn new(number: u64) -> Self {
        Self(StdRng::seed_from_u64(number))
    }

    /// `number` makes the e-mail address unique.
    pub fn patient(&mut self, number: usize) -> Patient {
        let (first, last) = (self.one_of(&FIRST), self.one_of(&LAST));
        let date_of_birth = TODAY.saturating_sub(self.0.random_range(0..34_000).days());
        let age = i32::from(TODAY.year() - date_of_birth.year() - 1);
        Patient {
            name: format!("{first} {last}"),
            age: age.max(0),
            gender: self.one_of(&GENDERS),
            date_of_birth,
            phone: self.phone(),
            email: email(first, last, number),
            address: self.address(),
            blood_group: self.one_of(&BLOOD_GROUPS),
            allergies: self.sometimes(&ALLERGIES),
            medical_history: self.sometimes(&HISTORIES),
            notes: self.sometimes(&NOTES),
            emergency_contact_name: format!("{} {last}", self.one_of(&FIRST)),
            emergency_contact_phone: self.phone(),
        }
    }

    /// `number` makes the e-mail address and the licence unique.
    pub fn doctor(&mut self, number: usize) -> Doctor {
        let (first, last) = (self.one_of(&FIRST), self.one_of(&LAST));
        let specialization = self.one_of(&SPECIALIZATIONS);
        let hospital = self.one_of(&HOSPITALS);
        Doctor {
            name: format!("Dr. {first} {last}"),
            specialization,
            email: email(first, last, number),
            phone: self.phone(),
            license_number: format!("TEST-{number:06}"),
            years_of_experience: self.0.random_range(1..45),
            qualification: self.one_of(&QUALIFICATIONS),
            hospital,
            address: self.address(),
            bio: format!("Invented. {specialization} at {hospital}."),
        }
    }

    /// One of so many things.
    pub fn index(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.0).copied().unwrap_or_default()
    }

    /// One in three times.
    fn sometimes(&mut self, texts: &[&'static str]) -> Option<&'static str> {
        self.0.random_ratio(1, 3).then(|| self.one_of(texts))
    }

    /// The numbers that are kept free for films.
    fn phone(&mut self) -> String {
        format!("+1 {} 555-01{:02}", self.0.random_range(201..990), self.0.random_range(0..100))
    }

    fn address(&mut self) -> String {
        let number = self.0.random_range(1..200);
        format!("{number} {}, {}", self.one_of(&STREETS), self.one_of(&TOWNS))
    }
}

fn email(first: &str, last: &str, number: usize) -> String {
    let letters = |name: &str| name.replace(|c: char| !c.is_ascii_alphabetic(), "").to_lowercase();
    format!("{}.{}.{number}@example.com", letters(first), letters(last))
}
