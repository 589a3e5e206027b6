//! Lists of rows that come, change and go while they are read: no page leaves a row out that is there
//! all along.

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use super::{List, MANY, fill_with_long_texts, ids, open};
use crate::harness::{Pause, TestServer};

/// A list of which the first part is read.
struct Begun {
    first: Bytes,
    rest: Incoming,
}

impl Begun {
    async fn read(response: Response<Incoming>) -> Self {
        let mut rest = response.into_body();
        let first = rest.frame().await.unwrap().unwrap().into_data().unwrap();
        Self { first, rest }
    }

    /// The elements, when all is read.
    async fn whole(self) -> Vec<Value> {
        let rest = self.rest.collect().await.unwrap().to_bytes();
        serde_json::from_slice(&[self.first, rest].concat()).unwrap()
    }
}

#[tokio::test]
async fn rows_that_are_deleted_while_a_list_is_read_leave_a_whole_array() {
    let server = TestServer::start().await;
    for query in ["", "?limit=1000"] {
        let user = server.user().await;
        let owner = user.user_id().await;
        fill_with_long_texts(&server, owner, MANY).await;
        let begun = Begun::read(open(&server, &user, &format!("/api/patients{query}")).await).await;
        let database = server.database().connect().await;
        let sql = "DELETE FROM patients WHERE created_by = $1";
        database.execute(sql, &[&owner]).await.unwrap();
        let read = begun.whole().await.len();
        let limit = if query.is_empty() { MANY } else { 1000 };
        assert!(read < usize::try_from(limit).unwrap(), "all {read} came before they were deleted");
    }
}

#[tokio::test]
async fn the_patient_of_a_list_may_go_while_it_is_read() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let rows = 4000;
    let path = List::DoctorsOfAPatient.fill(&server, &user, rows).await;
    let database = server.database().connect().await;
    let sql = "UPDATE doctors SET bio = repeat('b', 2000), metadata =
        ('{\"a\":\"' || repeat('m', 8000) || '\"}')::json";
    database.batch_execute(sql).await.unwrap();
    let begun = Begun::read(open(&server, &user, &path).await).await;
    let patient = path.replace("mappings", "patients");
    user.delete(&patient).await.expect(204);
    assert!(begun.whole().await.len() < usize::try_from(rows).unwrap());
    user.get(&path).await.expect_error(404, "patient_not_found");
}

#[tokio::test]
async fn rows_that_are_deleted_while_a_page_is_made_are_made_up_for_by_none_of_the_next() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let pause = Pause::at(server.database(), "patients").await;
    let path = List::Patients.fill(&server, &user, 300).await;
    let all = ids(&user.get(&path).await.expect(200));
    // The first rows are read before the deletion, and the others after it.
    pause.next().await;
    let target = format!("{path}?limit=200");
    let (page, ()) = tokio::join!(user.get(&target), async {
        pause.begun().await;
        let database = server.database().connect().await;
        let sql = "DELETE FROM kept_patients WHERE id = ANY ($1)";
        database.execute(sql, &[&&all[50..100]]).await.unwrap();
        pause.end().await;
    });
    assert_eq!(ids(&page), all[..200]);
    let next = page.next_page().unwrap();
    assert_eq!(next, format!("{target}&after={}", all[199]));
    assert_eq!(ids(&user.get(&next).await), all[200..]);
}

#[tokio::test]
async fn rows_that_come_into_a_page_while_it_is_read_push_none_out_of_it() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let owner = user.user_id().await;
    let database = server.database().connect().await;
    database.batch_execute("ALTER SEQUENCE patients_id_seq INCREMENT 3").await.unwrap();
    fill_with_long_texts(&server, owner, MANY).await;
    let rows = database.query("SELECT id FROM patients ORDER BY id", &[]).await.unwrap();
    let all: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let response = open(&server, &user, "/api/patients?limit=1000").await;
    let link = response.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.contains(&format!("after={}>", all[999])), "{link}");
    let begun = Begun::read(response).await;
    let sql = "INSERT INTO patients (id, created_by, name) OVERRIDING SYSTEM VALUE
               SELECT id + step, created_by, 'Late' FROM patients, generate_series(1, 2) AS step";
    database.batch_execute(sql).await.unwrap();
    let list = begun.whole().await;
    let read: Vec<i64> = list.iter().map(|patient| patient["id"].as_i64().unwrap()).collect();
    assert_eq!(read, all[..1000]);
}

#[tokio::test]
async fn rows_that_are_added_behind_a_last_page_do_not_lengthen_it() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let owner = user.user_id().await;
    fill_with_long_texts(&server, owner, 300).await;
    let response = open(&server, &user, "/api/patients?limit=301").await;
    assert_eq!(response.headers().get("link"), None);
    let begun = Begun::read(response).await;
    fill_with_long_texts(&server, owner, 30).await;
    assert_eq!(begun.whole().await.len(), 300);
}
