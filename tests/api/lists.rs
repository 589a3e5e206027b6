//! Lists: pages, filters and streams. Large numbers of rows are inserted by SQL.

mod changes;
mod filters;
mod paging;
mod streaming;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Answer, Client, TestServer};

/// Far beyond the socket buffers between the service and a client.
pub const MANY: i64 = 1500;

/// The four lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Patients,
    Doctors,
    Mappings,
    DoctorsOfAPatient,
}

pub const LISTS: [List; 4] =
    [List::Patients, List::Doctors, List::Mappings, List::DoctorsOfAPatient];

impl List {
    /// Adds rows of this user to the list, and returns its path.
    pub async fn fill(self, server: &TestServer, user: &Client, rows: i64) -> String {
        let owner = user.user_id().await;
        let database = server.database().connect().await;
        if self == Self::Patients {
            let sql = "INSERT INTO patients (created_by, name)
                SELECT $1, 'Patient ' || n FROM generate_series(1, $2::bigint) AS n";
            database.execute(sql, &[&owner, &rows]).await.unwrap();
            return "/api/patients".into();
        }
        let sql = "INSERT INTO doctors (created_by, name, specialization)
            SELECT $1, 'Doctor ' || n, 'Surgery' FROM generate_series(1, $2::bigint) AS n
            RETURNING id";
        let doctors: Vec<i64> = database
            .query(sql, &[&owner, &rows])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        if self == Self::Doctors {
            return "/api/doctors".into();
        }
        let patient = user.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
        let sql = "INSERT INTO mappings (created_by, patient_id, doctor_id)
            SELECT $1, $2, doctor FROM unnest($3::bigint[]) AS doctor";
        database.execute(sql, &[&owner, &patient, &doctors]).await.unwrap();
        match self {
            Self::Mappings => "/api/mappings".into(),
            _ => format!("/api/mappings/{patient}"),
        }
    }
}

/// Patients with long texts, so that a list of them cannot be sent before it is read.
pub async fn fill_with_long_texts(server: &TestServer, owner: i64, rows: i64) {
    let sql = "INSERT INTO patients (created_by, name, notes, allergies, medical_history)
        SELECT $1, 'Patient ' || n, repeat('\u{1f600}', 5000), repeat('a', 5000), repeat('m', 5000)
        FROM generate_series(1, $2::bigint) AS n";
    let database = server.database().connect().await;
    database.execute(sql, &[&owner, &rows]).await.unwrap();
}

/// The ids of a list, which ascend.
#[track_caller]
pub fn ids(answer: &Answer) -> Vec<i64> {
    let ids: Vec<i64> =
        answer.json().as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted_by(|left, right| left < right), "{ids:?}");
    ids
}

/// One field of each element.
pub fn column(answer: &Answer, field: &str) -> Vec<Value> {
    answer.json().as_array().unwrap().iter().map(|item| item[field].clone()).collect()
}

/// The head of a response whose body is not read yet.
async fn open(server: &TestServer, client: &Client, target: &str) -> Response<Incoming> {
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(target)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", client.token()))
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}
