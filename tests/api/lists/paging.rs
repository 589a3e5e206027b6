//! `limit`, `after`, and the link to the next page.

use serde_json::json;

use super::{LISTS, List, column, ids};
use crate::harness::TestServer;

#[tokio::test]
async fn there_is_a_link_exactly_when_there_is_more() {
    let server = TestServer::start().await;
    for (rows, limits) in [
        (0, &[1, 1000][..]),
        (1, &[1, 2]),
        (5, &[1, 4, 5, 6]),
        (100, &[99, 100, 101]),
        (101, &[100, 101, 102]),
        (250, &[1, 99, 100, 101, 200, 249, 250, 251, 1000]),
        (1001, &[999, 1000]),
    ] {
        for list in LISTS {
            let user = server.user().await;
            let path = list.fill(&server, &user, rows).await;
            let all = ids(&user.get(&path).await.expect(200));
            // Doctors are visible to all users, so those of earlier rounds are listed too.
            let last_before = all[..all.len() - usize::try_from(rows).unwrap()].last();
            let after = last_before.copied().unwrap_or(0);
            let all = &all[all.len() - usize::try_from(rows).unwrap()..];
            for limit in limits {
                let what = format!("{list:?}: {limit} of {rows}");
                let target = format!("{path}?limit={limit}&after={after}");
                let page = user.get(&target).await.expect(200);
                let shown = all.len().min(*limit);
                assert_eq!(ids(&page), all[..shown], "{what}");
                let link = (shown < all.len()).then(|| {
                    let last = all[shown - 1];
                    format!("<{path}?limit={limit}&after={last}>; rel=\"next\"")
                });
                assert_eq!(page.header("link"), link.as_deref(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn links_lead_through_the_whole_list() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for list in LISTS {
        let path = list.fill(&server, &user, 260).await;
        let all = ids(&user.get(&path).await.expect(200));
        for limit in [7, 100, 101, 130] {
            let mut seen = Vec::new();
            let mut next = Some(format!("{path}?limit={limit}"));
            while let Some(target) = next {
                let page = user.get(&target).await.expect(200);
                let ids = ids(&page);
                assert!(!ids.is_empty(), "{target}");
                seen.extend(ids);
                next = page.next_page();
            }
            assert_eq!(seen, all, "{list:?} by {limit}");
        }
    }
}

#[tokio::test]
async fn after_works_with_and_without_a_limit() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for list in LISTS {
        let path = list.fill(&server, &user, 220).await;
        let all = ids(&user.get(&path).await.expect(200));
        let last = *all.last().unwrap();
        for (after, from) in
            [(0, 0), (all[0], 1), (all[99], 100), (all[all.len() - 2], all.len() - 1)]
        {
            let rest = user.get(&format!("{path}?after={after}")).await.expect(200);
            assert_eq!(ids(&rest), all[from..], "{list:?} after {after}");
            assert_eq!(rest.header("link"), None);
            let page = user.get(&format!("{path}?after={after}&limit=1")).await.expect(200);
            assert_eq!(ids(&page), all[from..=from]);
            assert_eq!(page.header("link").is_some(), from + 1 < all.len());
        }
        for after in [last, last + 1, i64::MAX] {
            for query in [format!("after={after}"), format!("limit=150&after={after}")] {
                let rest = user.get(&format!("{path}?{query}")).await.expect(200);
                assert_eq!(rest.body, "[]");
                assert_eq!(rest.header("link"), None);
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_was_deleted_still_marks_a_place() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let path = List::Patients.fill(&server, &user, 10).await;
    let all = ids(&user.get(&path).await.expect(200));
    for gone in [all[3], all[4], all[9]] {
        user.delete(&format!("{path}/{gone}")).await.expect(204);
    }
    let left: Vec<i64> = [0, 1, 2, 5, 6, 7, 8].map(|at| all[at]).to_vec();
    assert_eq!(ids(&user.get(&path).await), left);
    for (after, from) in [(all[2], 3), (all[3], 3), (all[4], 3), (all[5], 4), (all[9], 7)] {
        assert_eq!(ids(&user.get(&format!("{path}?after={after}")).await), left[from..]);
    }
    let page = user.get(&format!("{path}?limit=4")).await;
    assert_eq!(ids(&page), left[..4]);
    assert_eq!(page.next_page(), Some(format!("{path}?limit=4&after={}", all[5])));
    assert_eq!(user.get(&format!("{path}?limit=7")).await.header("link"), None);
}

#[tokio::test]
async fn the_path_of_a_link_has_no_slash_at_its_end() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for list in LISTS {
        let path = list.fill(&server, &user, 3).await;
        let page = user.get(&format!("{path}/?limit=2")).await.expect(200);
        let last = ids(&page)[1];
        assert_eq!(page.next_page(), Some(format!("{path}?limit=2&after={last}")));
    }
}

#[tokio::test]
async fn a_link_keeps_the_other_parameters() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let database = server.database().connect().await;
    let owner = user.user_id().await;
    let name = "a&b=c %+\u{e9}\"<>#?/\u{1f600}";
    let encoded = "a%26b%3Dc%20%25%2B%C3%A9%22%3C%3E%23%3F%2F%F0%9F%98%80";
    for rows in [3_i64, 260] {
        let sql = "INSERT INTO patients (created_by, name, gender)
            SELECT $1, $2::text || CASE WHEN n % 2 = 0 THEN '!' ELSE '' END, 'Female'
            FROM generate_series(1, $3::bigint) AS n";
        database.execute(sql, &[&owner, &name, &rows]).await.unwrap();
    }
    let query = format!("search={encoded}&gender=female");
    let all = ids(&user.get(&format!("/api/patients?{query}")).await.expect(200));
    assert_eq!(all.len(), 263);
    for limit in [100, 150] {
        let page = user.get(&format!("/api/patients?{query}&limit={limit}")).await.expect(200);
        let last = all[limit - 1];
        let target = format!("/api/patients?limit={limit}&after={last}&{query}");
        assert_eq!(page.next_page().as_deref(), Some(&*target));
        let next = user.get(&target).await.expect(200);
        assert_eq!(ids(&next), all[limit..(2 * limit).min(all.len())]);
        assert_eq!(next.header("link").is_some(), 2 * limit < all.len());
    }
}

#[tokio::test]
async fn a_link_keeps_the_filters_of_doctors_and_mappings() {
    let server = TestServer::start().await;
    let user = server.user().await;
    List::Doctors.fill(&server, &user, 3).await;
    let page = user.get("/api/doctors?specialization=SURGERY&search=doctor%20&limit=2").await;
    let last = ids(&page.clone().expect(200))[1];
    let target =
        format!("/api/doctors?limit=2&after={last}&search=doctor%20&specialization=SURGERY");
    assert_eq!(page.next_page().as_deref(), Some(&*target));
    assert_eq!(column(&user.get(&target).await.expect(200), "name"), ["Doctor 3"]);

    let path = List::DoctorsOfAPatient.fill(&server, &user, 3).await;
    let patient = path.rsplit('/').next().unwrap();
    List::Mappings.fill(&server, &user, 3).await;
    let page = user.get(&format!("/api/mappings?patient_id={patient}&limit=2")).await.expect(200);
    let last = ids(&page)[1];
    let target = format!("/api/mappings?limit=2&after={last}&patient_id={patient}");
    assert_eq!(page.next_page().as_deref(), Some(&*target));
    let rest = user.get(&target).await.expect(200);
    assert_eq!(ids(&rest).len(), 1);
    assert_eq!(rest.header("link"), None);
}

#[tokio::test]
async fn pages_of_the_mappings_of_a_patient_or_a_doctor_together_are_all_of_them() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let path = List::DoctorsOfAPatient.fill(&server, &user, 263).await;
    let patient = path.rsplit('/').next().unwrap();
    List::Patients.fill(&server, &user, 262).await;
    let database = server.database().connect().await;
    let sql = "INSERT INTO mappings (created_by, patient_id, doctor_id)
        SELECT created_by, id, (SELECT min(id) FROM doctors) FROM patients
        ON CONFLICT DO NOTHING";
    database.execute(sql, &[]).await.unwrap();
    let every = user.get("/api/mappings").await.expect(200);
    let doctor = every.json()[0]["doctor_id"].clone();
    let every = every.json();
    for (name, id) in
        [("patient_id", json!(patient.parse::<i64>().unwrap())), ("doctor_id", doctor)]
    {
        let theirs = every.as_array().unwrap().iter().filter(|mapping| mapping[name] == id);
        let all: Vec<i64> = theirs.map(|mapping| mapping["id"].as_i64().unwrap()).collect();
        assert_eq!(all.len(), 263);
        let path = format!("/api/mappings?{name}={id}");
        assert_eq!(ids(&user.get(&path).await.expect(200)), all);
        for limit in [1_usize, 100, 150, 262, 263, 264] {
            let page = user.get(&format!("{path}&limit={limit}")).await.expect(200);
            assert_eq!(ids(&page), all[..limit.min(all.len())]);
            assert_eq!(page.next_page().is_some(), limit < all.len());
            if let Some(next) = page.next_page() {
                let next = user.get(&next).await.expect(200);
                assert_eq!(ids(&next), all[limit..(2 * limit).min(all.len())]);
            }
        }
    }
}

#[tokio::test]
async fn a_limit_or_a_place_out_of_range_is_refused() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for list in LISTS {
        let path = list.fill(&server, &user, 1).await;
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=",
            "limit=1.0",
            "limit=01",
            "limit=+1",
            "limit=x",
            "limit=99999999999999999999",
            "limit=1&limit=1",
            "after=-1",
            "after=",
            "after=x",
            "after=01",
            "after=9223372036854775808",
            "after=1&after=2",
        ] {
            let refused = user.get(&format!("{path}?{query}")).await;
            let refused = refused.expect_error(400, "bad_query");
            assert_eq!(refused.bad_fields(), [query.split_once('=').unwrap().0], "{query}");
        }
        let refused = user.get(&format!("{path}?offset=1&limit=0&page=2&after=x")).await;
        let mut names = refused.expect_error(400, "bad_query").bad_fields();
        names.sort();
        assert_eq!(names, ["after", "limit", "offset", "page"]);
    }
}
