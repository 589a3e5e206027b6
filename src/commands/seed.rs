//! `seed`: fills a database with invented people, in one transaction.

mod invent;

use std::pin::pin;

use clap::value_parser;
use deadpool_postgres::Transaction;
use healthcare_backend::db::{ConnectOptions, Sql, staging};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use self::invent::Inventor;
use super::progress::Progress;
use super::user::{self, WrongInput};
use crate::Failure;

/// Every so many rows the progress is shown.
const STEP: usize = 1000;

/// What to invent.
#[derive(clap::Args)]
pub struct SeedArguments {
    /// How many users. They are user1@example.com, user2@example.com, ...
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=10_000))]
    users: u32,
    /// How many patients, shared out to the users.
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(0..=1_000_000))]
    patients: u32,
    /// How many doctors. Half of the patients get one or two of them.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(0..=100_000))]
    doctors: u32,
    /// Add to a database that has users already.
    #[arg(long)]
    add: bool,
    /// Another number gives other people; the same one gives the same.
    #[arg(long, default_value_t = 1)]
    random_seed: u64,
}

/// Fills the database. All users have the same password.
pub async fn run(
    database: &ConnectOptions,
    arguments: &SeedArguments,
    password: &str,
    bcrypt_cost: u32,
) -> Result<(), Failure> {
    let mut client = staging::connect(database)
        .await
        .map_err(|error| error.cause().unwrap_or("the database cannot be reached").to_owned())?;
    let transaction = client.transaction().await?;
    let found: bool = transaction.query_one(Sql::UsersAny.text(), &[]).await?.get(0);
    if found && !arguments.add {
        return Err("the database has users; --add adds invented ones to them".into());
    }
    let [wanted_patients, wanted_doctors] = [arguments.patients, arguments.doctors].map(i64::from);
    let mut seed = Seed {
        inventor: Inventor::new(arguments.random_seed),
        users: users(&transaction, arguments.users, &user::hash(password, bcrypt_cost)?).await?,
        patients: ids(&transaction, Sql::PatientsDrawIds, wanted_patients).await?,
        doctors: ids(&transaction, Sql::DoctorsDrawIds, wanted_doctors).await?,
        progress: Progress::rows(u64::from(arguments.patients) + u64::from(arguments.doctors)),
        transaction,
    };
    seed.copy_doctors().await?;
    seed.copy_patients().await?;
    let mappings = seed.copy_mappings().await?;
    let Seed { users, patients, doctors, progress, transaction, .. } = seed;
    transaction.commit().await?;
    let (users, patients, doctors) = (users.len(), patients.len(), doctors.len());
    let rows = users + patients + doctors + mappings;
    println!(
        "{users} users, {patients} patients, {doctors} doctors and {mappings} mappings {}.",
        progress.finish(rows as u64)
    );
    Ok(())
}

/// Checks the password by the rules of registration.
pub fn check_password(password: &str) -> Result<(), WrongInput> {
    user::check("User 1", "user1@example.com", password)
}

/// The next users whose e-mail addresses are free.
async fn users(transaction: &Transaction<'_>, count: u32, hash: &str) -> Result<Vec<i64>, Failure> {
    let add = transaction.prepare(Sql::UsersAdd.text()).await?;
    let mut ids = Vec::new();
    for number in 1_u64.. {
        if ids.len() as u64 == u64::from(count) {
            break;
        }
        let (name, email) = (format!("User {number}"), format!("user{number}@example.com"));
        let added = transaction.query_opt(&add, &[&name, &email, &hash, &"user"]).await?;
        ids.extend(added.map(|row| row.get::<_, i64>(0)));
    }
    Ok(ids)
}

async fn ids(transaction: &Transaction<'_>, sql: Sql, count: i64) -> Result<Vec<i64>, Failure> {
    let rows = transaction.query(sql.text(), &[&count]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What is being added.
struct Seed<'t> {
    transaction: Transaction<'t>,
    inventor: Inventor,
    progress: Progress,
    users: Vec<i64>,
    patients: Vec<i64>,
    doctors: Vec<i64>,
}

impl Seed<'_> {
    async fn copy_doctors(&mut self) -> Result<(), Failure> {
        const TYPES: [Type; 12] = [
            Type::INT8,
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::INT4,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
        ];
        let mut rows = pin!(self.copy(Sql::DoctorsCopy, &TYPES).await?);
        for (at, id) in self.doctors.iter().enumerate() {
            let d = self.inventor.doctor(at + 1);
            let creator = owner(&self.users, at);
            rows.as_mut()
                .write(&[
                    id,
                    &creator,
                    &d.name,
                    &d.specialization,
                    &d.email,
                    &d.phone,
                    &d.license_number,
                    &d.years_of_experience,
                    &d.qualification,
                    &d.hospital,
                    &d.address,
                    &d.bio,
                ])
                .await?;
            self.show(at);
        }
        rows.finish().await?;
        Ok(())
    }

    async fn copy_patients(&mut self) -> Result<(), Failure> {
        const TYPES: [Type; 15] = [
            Type::INT8,
            Type::INT8,
            Type::TEXT,
            Type::INT4,
            Type::TEXT,
            Type::DATE,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
        ];
        let mut rows = pin!(self.copy(Sql::PatientsCopy, &TYPES).await?);
        for (at, id) in self.patients.iter().enumerate() {
            let p = self.inventor.patient(at + 1);
            let owner = owner(&self.users, at);
            rows.as_mut()
                .write(&[
                    id,
                    &owner,
                    &p.name,
                    &p.age,
                    &p.gender,
                    &p.date_of_birth,
                    &p.phone,
                    &p.email,
                    &p.address,
                    &p.blood_group,
                    &p.allergies,
                    &p.medical_history,
                    &p.notes,
                    &p.emergency_contact_name,
                    &p.emergency_contact_phone,
                ])
                .await?;
            self.show(at);
        }
        rows.finish().await?;
        Ok(())
    }

    /// Returns their number.
    async fn copy_mappings(&mut self) -> Result<usize, Failure> {
        const TYPES: [Type; 4] = [Type::INT8, Type::INT8, Type::INT8, Type::TEXT];
        let mut rows = pin!(self.copy(Sql::MappingsCopy, &TYPES).await?);
        let mut count = 0;
        for (at, patient) in self.patients.iter().enumerate() {
            let owner = owner(&self.users, at);
            let first = self.inventor.index(self.doctors.len());
            // Neighbours, so that they differ, unless there is only one.
            let doctors = self
                .doctors
                .iter()
                .cycle()
                .skip(first)
                .take(doctors_of(at).min(self.doctors.len()));
            for doctor in doctors {
                rows.as_mut().write(&[&owner, patient, doctor, &"Invented."]).await?;
                count += 1;
            }
        }
        rows.finish().await?;
        Ok(count)
    }

    async fn copy(&self, sql: Sql, types: &[Type]) -> Result<BinaryCopyInWriter, Failure> {
        let sink = self.transaction.copy_in(sql.text()).await?;
        Ok(BinaryCopyInWriter::new(sink, types))
    }

    fn show(&self, at: usize) {
        if at.is_multiple_of(STEP) {
            self.progress.add(STEP as u64);
        }
    }
}

/// How many doctors a patient has: most of the time of a seed goes into assigning them.
fn doctors_of(at: usize) -> usize {
    match at % 10 {
        0 => 2,
        2 | 4 | 6 | 8 => 1,
        _ => 0,
    }
}

/// Users take turns.
fn owner(users: &[i64], at: usize) -> i64 {
    users.get(at % users.len().max(1)).copied().unwrap_or_default()
}
