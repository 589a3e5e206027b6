//! Every write that clients made, what they were told of it, and whether the table agrees.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::api::harness::random;
use crate::load::Kind;
use crate::report::Report;

/// What a client was told of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Done,
    /// Surely not made.
    NotDone,
    Unknown,
}

/// A request of a client.
pub struct Task {
    pub kind: Kind,
    pub method: &'static str,
    pub target: String,
    pub body: String,
    /// The place of the patient that it concerns.
    at: usize,
    /// What it writes.
    notes: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Maybe,
    Absent,
}

struct Patient {
    /// Unique over all runs.
    name: String,
    id: Option<i64>,
    presence: Presence,
    /// What `notes` may be: what was acknowledged last, and each write of unknown outcome, which
    /// may be made at any later time.
    notes: String,
    unknown: Vec<String>,
}

/// The patients of some clients.
#[derive(Default)]
pub struct Ledger {
    patients: Vec<Patient>,
    /// How often what was read was not what had been acknowledged.
    misread: usize,
}

impl Ledger {
    /// The next request of a kind; None if it needs a patient and there is none.
    pub fn next(&mut self, kind: Kind, turn: usize) -> Option<Task> {
        let task = |method, target: String| Task {
            kind,
            method,
            target,
            body: String::new(),
            at: 0,
            notes: String::new(),
        };
        let (method, body, notes) = match kind {
            Kind::Live => return Some(task("GET", "/health/live".to_owned())),
            Kind::Ready => return Some(task("GET", "/health/ready".to_owned())),
            Kind::Page => return Some(task("GET", "/api/patients?limit=20".to_owned())),
            Kind::Doctors => return Some(task("GET", "/api/doctors?limit=20".to_owned())),
            Kind::Create => {
                let name = random();
                let notes = format!("{name} {}", "x".repeat(turn % 300));
                let body = json!({"name": name, "notes": notes}).to_string();
                let at = self.patients.len();
                self.patients.push(Patient {
                    name,
                    id: None,
                    presence: Presence::Maybe,
                    notes: notes.clone(),
                    unknown: Vec::new(),
                });
                let target = "/api/patients".to_owned();
                return Some(Task { kind, method: "POST", target, body, at, notes });
            }
            Kind::Get => ("GET", String::new(), String::new()),
            Kind::Update => {
                let notes = random();
                ("PATCH", json!({"notes": notes}).to_string(), notes)
            }
            Kind::Delete => ("DELETE", String::new(), String::new()),
        };
        // One of the newest, so that each is changed several times.
        let newest = self.patients.iter().enumerate().rev();
        let there = newest.filter(|(_, patient)| patient.presence == Presence::There);
        let (at, patient) = there.take(4).nth(turn % 4)?;
        let target = format!("/api/patients/{}", patient.id?);
        Some(Task { kind, method, target, body, at, notes })
    }

    /// Takes down what became of a request.
    pub fn note(&mut self, task: &Task, told: Told, body: &[u8]) {
        let Some(patient) = self.patients.get_mut(task.at) else { return };
        match (task.kind, told) {
            (Kind::Create, Told::Done) => {
                let created: Value = serde_json::from_slice(body).unwrap();
                patient.id = created["id"].as_i64();
                patient.presence = Presence::There;
            }
            (Kind::Create | Kind::Delete, Told::Unknown) => patient.presence = Presence::Maybe,
            (Kind::Create, Told::NotDone) | (Kind::Delete, Told::Done) => {
                patient.presence = Presence::Absent;
            }
            (Kind::Update, Told::Done) => patient.notes.clone_from(&task.notes),
            (Kind::Update, Told::Unknown) => patient.unknown.push(task.notes.clone()),
            (Kind::Get, Told::Done) => {
                let read: Value = serde_json::from_slice(body).unwrap();
                let notes = read["notes"].as_str().unwrap_or_default();
                self.misread += usize::from(!patient.may_be(notes));
            }
            _ => {}
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.patients.extend(other.patients);
        self.misread += other.misread;
    }

    /// Compares all that was told with the table.
    pub async fn compare(&self, sql: &tokio_postgres::Client, report: &mut Report) {
        let sql = sql.query("SELECT name, id, coalesce(notes, '') FROM patients", &[]);
        let rows = sql.await.unwrap();
        let wrong = self.wrong(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))));
        report.tell("patients written", &self.patients.len());
        report.holds(
            "patients lost, there twice, refused and there, of another value",
            &wrong.map(|count| count.to_string()).join(", "),
            "0 each",
            wrong == [0; 4],
        );
    }

    /// How many patients were acknowledged and are lost, are there twice, were refused or deleted
    /// and are there, or have other notes than were acknowledged. Rows are names, ids and notes.
    fn wrong<'a>(&self, rows: impl Iterator<Item = (&'a str, i64, &'a str)>) -> [usize; 4] {
        let mut found: HashMap<&str, Vec<(i64, &str)>> = HashMap::new();
        for (name, id, notes) in rows {
            found.entry(name).or_default().push((id, notes));
        }
        let (mut lost, mut twice, mut refused, mut changed) = (0, 0, 0, self.misread);
        for patient in &self.patients {
            let rows = found.get(&*patient.name).map_or(&[][..], Vec::as_slice);
            let there = rows.iter().any(|(id, _)| patient.id.is_none_or(|own| own == *id));
            lost += usize::from(patient.presence == Presence::There && !there);
            twice += usize::from(rows.len() > 1);
            refused += usize::from(patient.presence == Presence::Absent && !rows.is_empty());
            changed += usize::from(rows.iter().any(|(_, notes)| !patient.may_be(notes)));
        }
        [lost, twice, refused, changed]
    }
}

impl Patient {
    fn may_be(&self, notes: &str) -> bool {
        self.notes == notes || self.unknown.iter().any(|unknown| unknown == notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of one create, with what was told of it, and the name and the notes.
    fn one(told: Told) -> (Ledger, String, String) {
        let mut ledger = Ledger::default();
        let task = ledger.next(Kind::Create, 0).unwrap();
        ledger.note(&task, told, br#"{"id": 1}"#);
        let name = ledger.patients[0].name.clone();
        (ledger, name, task.notes)
    }

    #[test]
    fn what_was_acknowledged_is_there_once_as_it_was_sent() {
        let (ledger, name, notes) = one(Told::Done);
        let row = (&*name, 1, &*notes);
        assert_eq!(ledger.wrong([row].into_iter()), [0, 0, 0, 0]);
        assert_eq!(ledger.wrong([].into_iter()), [1, 0, 0, 0]);
        assert_eq!(ledger.wrong([(&*name, 2, &*notes)].into_iter()), [1, 0, 0, 0]);
        assert_eq!(ledger.wrong([row, row].into_iter()), [0, 1, 0, 0]);
        assert_eq!(ledger.wrong([(&*name, 1, "other")].into_iter()), [0, 0, 0, 1]);
    }

    #[test]
    fn what_was_refused_is_not_there_and_what_is_unknown_may_be() {
        for (told, refused) in [(Told::NotDone, 1), (Told::Unknown, 0)] {
            let (ledger, name, notes) = one(told);
            assert_eq!(ledger.wrong([].into_iter()), [0, 0, 0, 0]);
            assert_eq!(ledger.wrong([(&*name, 1, &*notes)].into_iter()), [0, 0, refused, 0]);
        }
    }

    #[test]
    fn an_update_of_unknown_outcome_may_last_and_others_may_not_be_lost() {
        let (mut ledger, name, _) = one(Told::Done);
        let mut update = |told| {
            let task = ledger.next(Kind::Update, 0).unwrap();
            ledger.note(&task, told, b"");
            task.notes
        };
        let updates = [Told::Done, Told::Unknown, Told::Done, Told::NotDone].map(&mut update);
        let wrong = |notes: &String| ledger.wrong([(&*name, 1, &**notes)].into_iter())[3];
        assert_eq!(updates.each_ref().map(wrong), [1, 0, 0, 1]);
    }
}
