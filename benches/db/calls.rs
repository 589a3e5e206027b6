//! How the service calls each statement, with values that match the rows of the fixture.

use healthcare_backend::auth::SessionId;
use healthcare_backend::auth::throttle::WINDOW_SECONDS;
use healthcare_backend::db::Sql;
use healthcare_backend::db::once::KEPT_SECONDS;
use healthcare_backend::models::input::{Field, read_new};
use healthcare_backend::models::{doctor, patient};
use serde_json::json;
use tokio_postgres::types::{Json, ToSql};

use crate::fixture::{ACCOUNTS, DOCTORS, EACH, PATIENT, PATIENTS, session_id};

const DOCTOR: &[u8] = br#"{"name":"Gregory House","specialization":"Nephrology",
    "email":"house@example.com","phone":"+1 555 0101","years_of_experience":20,
    "hospital":"Princeton-Plainsboro","bio":"Does not like to see patients."}"#;

/// In seconds: the idle timeout of a session, its lifetime, the grace period of a refresh token.
const IDLE: i32 = 7 * 86_400;
const LASTING: i32 = 30 * 86_400;
const GRACE: i32 = 10;
/// As long as `repeat('x', 60)`, the hash of every account.
const HASH: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
/// The rows that a page of 50 requests: one more shows whether there is a next page.
const PAGE: i64 = 51;
/// The batch size of reads and inserts: that of 64 connections on two workers.
const MERGED: usize = 32;
/// As long as a SHA-256.
const REQUEST_HASH: &[u8] = &[0; 32];
/// The owner of all rows that [`supply`] creates.
const SUPPLIED_TO: i64 = 1;

/// One call of a statement.
pub struct Call {
    pub parameters: Vec<Box<dyn ToSql + Sync>>,
    /// The number of rows returned: a call without effect would not be worth measuring.
    pub rows: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the service runs it on a shared connection.
    ShortRead,
    /// A call that changes nothing, at least here.
    Read,
    Write,
}

macro_rules! parameters {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as Box<dyn ToSql + Sync>),*] };
}

/// `number` is unique for each call: the id of a row that [`supply`] has created, or a counter. A
/// match over all statements, so that one without parameters does not compile.
#[expect(clippy::too_many_lines, reason = "one arm for each statement")]
pub fn call(sql: Sql, number: i64) -> Call {
    let account = number % ACCOUNTS + 1;
    let email = format!("user{account}@example.com");
    let client = "192.0.2.1";
    let patient = number % PATIENTS + 1;
    let owner = (patient - 1) / EACH + 1;
    let doctor = number % DOCTORS + 1;
    let notes = json!({"notes": format!("Seen {number} times.")});
    let bio = json!({"bio": format!("Has seen {number} patients.")});
    let (text, id, versions) = (None::<&str>, None::<i64>, None::<Vec<i64>>);
    match sql {
        Sql::ServerState => shared(1, parameters![]),

        Sql::UsersCreate => {
            let email = format!("new{number}@example.com");
            write(parameters!["Grace Hopper", email, HASH, IDLE, LASTING, new_session()])
        }
        Sql::UsersAdd => {
            let email = format!("added{number}@example.com");
            write(parameters!["Grace Hopper", email, HASH, "user"])
        }
        Sql::UsersGet => shared(1, parameters![account]),
        Sql::UsersLogin => pool(1, parameters![email]),
        Sql::UsersSetRole => write(parameters![email, "user"]),
        Sql::UsersPassword => pool(1, parameters![account]),
        Sql::UsersReplaceHash => write(parameters![account, HASH, HASH]),

        Sql::SessionsCreate => write(parameters![account, HASH, IDLE, LASTING, new_session()]),
        Sql::SessionsRefresh => write(parameters![session_id(number), SUPPLIED_TO, 0, GRACE, IDLE]),
        Sql::SessionsEnd => write(parameters![session_id(number), SUPPLIED_TO]),
        Sql::SessionsIsLive => shared(1, parameters![session_id(account), account]),
        Sql::SessionsEndOthers => write(parameters![account, session_id(account), HASH]),
        // These find nothing, which is the usual case.
        Sql::SessionsEnded => pool(0, parameters![jiff::Timestamp::now()]),
        Sql::SessionsSweep => pool(0, parameters![86_400]),

        Sql::LimitsLock => pool(1, parameters![1, email]),
        Sql::LoginsReserve => write(parameters![email, client, 10, 100, WINDOW_SECONDS, 100]),
        // This finds nothing, which costs the same.
        Sql::LoginsRelease => {
            let parameters = parameters![email, jiff::Timestamp::now()];
            Call { parameters, rows: 0, kind: Kind::Write }
        }
        Sql::LoginsSucceed => write(parameters![email, client, None::<jiff::Timestamp>]),
        Sql::LoginsSweep => pool(1, parameters![WINDOW_SECONDS]),

        Sql::RegistrationsAdmit => {
            write(parameters![format!("192.0.2.{number}"), 100, WINDOW_SECONDS])
        }
        // This finds nothing, which costs the same.
        Sql::RegistrationsRelease => {
            let parameters = parameters![client, jiff::Timestamp::now()];
            Call { parameters, rows: 0, kind: Kind::Write }
        }
        Sql::RegistrationsSweep => pool(0, parameters![WINDOW_SECONDS]),

        Sql::PatientsCreate => write(created(owner, &patient::FIELDS, PATIENT.as_bytes())),
        Sql::PatientsCreateMany => {
            let parameters = created_many(owner, &patient::FIELDS, PATIENT.as_bytes());
            Call { parameters, rows: MERGED, kind: Kind::Write }
        }
        Sql::PatientsGet => shared(1, parameters![owner, patient]),
        Sql::PatientsGetMany => {
            let patients: Vec<i64> =
                (1..).take(MERGED).map(|step| (number + step) % PATIENTS + 1).collect();
            let owners: Vec<i64> = patients.iter().map(|id| (id - 1) / EACH + 1).collect();
            shared(patients.len(), parameters![owners, patients])
        }
        Sql::PatientsGetWhole => pool(1, parameters![owner, patient]),
        Sql::PatientsFirst => shared(51, parameters![0_i64, PAGE, owner]),
        Sql::PatientsList => pool(51, parameters![0_i64, PAGE, owner, text, text]),
        Sql::PatientsPage => pool(1, parameters![0_i64, EACH, owner, text, text]),
        Sql::PatientsUpdate => write(parameters![owner, patient, Json(notes), versions]),
        Sql::PatientsDelete => write(parameters![SUPPLIED_TO, number, versions]),

        Sql::PatientsCreateOnce => {
            let mut parameters = created_many(owner, &patient::FIELDS, PATIENT.as_bytes());
            let keys: Vec<String> = (0..MERGED).map(|_| new_session().to_string()).collect();
            parameters.extend(parameters![keys, vec![REQUEST_HASH; MERGED]]);
            Call { parameters, rows: MERGED, kind: Kind::Write }
        }
        Sql::PatientsUpdateOnce => write(once(parameters![owner, patient, Json(notes), versions])),
        Sql::PatientsDeleteOnce => write(once(parameters![SUPPLIED_TO, number, versions])),

        Sql::DoctorsCreate => write(created(account, &doctor::FIELDS, DOCTOR)),
        Sql::DoctorsGet => shared(1, parameters![doctor]),
        Sql::DoctorsGetWhole => pool(1, parameters![doctor]),
        Sql::DoctorsFirst => shared(51, parameters![0_i64, PAGE]),
        Sql::DoctorsList => pool(51, parameters![0_i64, PAGE, text, text]),
        Sql::DoctorsPage => pool(1, parameters![0_i64, DOCTORS, text, text]),
        Sql::DoctorsUpdate => write(parameters![1_i64, doctor, Json(bio), versions]),
        Sql::DoctorsDelete => write(parameters![SUPPLIED_TO, number, versions]),

        Sql::DoctorsCreateOnce => write(once(created(account, &doctor::FIELDS, DOCTOR))),
        Sql::DoctorsUpdateOnce => write(once(parameters![1_i64, doctor, Json(bio), versions])),
        Sql::DoctorsDeleteOnce => write(once(parameters![SUPPLIED_TO, number, versions])),

        Sql::MappingsCreate => write(parameters![SUPPLIED_TO, number, doctor, "Once a year"]),
        Sql::MappingsFirst => shared(51, parameters![0_i64, PAGE, owner, id, id]),
        Sql::MappingsList => pool(51, parameters![0_i64, PAGE, owner, id, id]),
        Sql::MappingsPage => pool(1, parameters![0_i64, 2 * EACH, owner, id, id]),
        Sql::MappingsPageDoctors => pool(1, parameters![0_i64, 2_i64, owner, patient]),
        Sql::MappingsFirstDoctors => shared(3, parameters![0_i64, PAGE, owner, patient]),
        Sql::MappingsDoctors => pool(3, parameters![0_i64, PAGE, owner, patient]),
        Sql::MappingsDelete => write(parameters![SUPPLIED_TO, number]),
        Sql::MappingsCreateOnce => {
            write(once(parameters![SUPPLIED_TO, number, doctor, "Once a year"]))
        }
        Sql::MappingsDeleteOnce => write(once(parameters![SUPPLIED_TO, number])),

        // This finds nothing, which is the usual case.
        Sql::IdempotencyKeysGet => pool(0, once(parameters![owner])),
        Sql::IdempotencyKeysSweep => pool(0, parameters![KEPT_SECONDS]),

        // They run once for many rows, and are not prepared on the connections of this benchmark.
        Sql::ImportsCreate
        | Sql::ImportsCopy
        | Sql::ImportsInsert
        | Sql::UsersAny
        | Sql::DoctorsDrawIds
        | Sql::DoctorsCopy
        | Sql::PatientsDrawIds
        | Sql::PatientsCopy
        | Sql::MappingsCopy => panic!("{} is not measured", sql.file()),
    }
}

/// Creates $1 rows and returns their ids, for a statement that consumes one with each call.
pub fn supply(sql: Sql) -> Option<&'static str> {
    Some(match sql {
        Sql::SessionsRefresh | Sql::SessionsEnd => {
            // The session id of the fixture is also the number of its row.
            "WITH new AS (
                 SELECT nextval(pg_get_serial_sequence('sessions', 'id')) AS id
                 FROM generate_series(1, $1::bigint)
             )
             INSERT INTO sessions (id, sid, user_id, expires_at, idle_until)
             OVERRIDING SYSTEM VALUE
             SELECT
                 id, lpad(to_hex(id), 32, '0')::uuid, 1, now() + interval '30 days',
                 now() + interval '7 days'
             FROM new
             RETURNING id"
        }
        Sql::PatientsDelete
        | Sql::PatientsDeleteOnce
        | Sql::MappingsCreate
        | Sql::MappingsCreateOnce => {
            "INSERT INTO patients (created_by, name)
             SELECT 1, 'Grace Hopper' FROM generate_series(1, $1::bigint)
             RETURNING id"
        }
        Sql::DoctorsDelete | Sql::DoctorsDeleteOnce => {
            "INSERT INTO doctors (created_by, name, specialization)
             SELECT 1, 'Gregory House', 'Nephrology' FROM generate_series(1, $1::bigint)
             RETURNING id"
        }
        Sql::MappingsDelete | Sql::MappingsDeleteOnce => {
            "WITH new AS (
                 INSERT INTO patients (created_by, name)
                 SELECT 1, 'Grace Hopper' FROM generate_series(1, $1::bigint)
                 RETURNING id
             )
             INSERT INTO mappings (created_by, patient_id, doctor_id)
             SELECT 1, id, 1 FROM new
             RETURNING id"
        }
        _ => return None,
    })
}

/// The parameters of the same statement for a request with an idempotency key, a new one.
fn once(mut parameters: Vec<Box<dyn ToSql + Sync>>) -> Vec<Box<dyn ToSql + Sync>> {
    parameters.extend(parameters![new_session().to_string(), REQUEST_HASH]);
    parameters
}

fn new_session() -> SessionId {
    SessionId::random().unwrap()
}

fn shared(rows: usize, parameters: Vec<Box<dyn ToSql + Sync>>) -> Call {
    Call { parameters, rows, kind: Kind::ShortRead }
}

fn pool(rows: usize, parameters: Vec<Box<dyn ToSql + Sync>>) -> Call {
    Call { parameters, rows, kind: Kind::Read }
}

fn write(parameters: Vec<Box<dyn ToSql + Sync>>) -> Call {
    Call { parameters, rows: 1, kind: Kind::Write }
}

/// The user, then the fields of a body, parsed as the service does.
fn created<const N: usize>(
    user: i64,
    fields: &'static [Field; N],
    body: &'static [u8],
) -> Vec<Box<dyn ToSql + Sync>> {
    let mut parameters = parameters![user];
    let values = read_new(fields, body).unwrap();
    parameters.extend(values.into_iter().map(|value| Box::new(value) as Box<dyn ToSql + Sync>));
    parameters
}

/// A value, repeated.
fn created_many<const N: usize>(
    user: i64,
    fields: &'static [Field; N],
    body: &'static [u8],
) -> Vec<Box<dyn ToSql + Sync>> {
    let mut parameters = parameters![vec![user; MERGED]];
    let values = read_new(fields, body).unwrap().map(|value| vec![value; MERGED]);
    parameters.extend(values.into_iter().map(|values| Box::new(values) as Box<dyn ToSql + Sync>));
    parameters
}
