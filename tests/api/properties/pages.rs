//! Pages of any size, concatenated, are the list.

use proptest::prelude::*;
use serde_json::json;

use super::{config, runtime};
use crate::harness::{Client, TestServer, random};
use crate::lists::{LISTS, List, column, ids};

/// Follows the links from the first page to the last.
async fn pages(client: &Client, first: String) -> Vec<Vec<i64>> {
    let mut pages = Vec::new();
    let mut next = Some(first);
    while let Some(target) = next {
        let page = client.get(&target).await.expect(200);
        pages.push(ids(&page));
        next = page.next_page();
    }
    pages
}

/// Every page but the last is full, the last one is not empty, and together they are the list.
fn check(pages: &[Vec<i64>], limit: usize, all: &[i64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(pages.concat(), all);
    prop_assert_eq!(pages.len(), all.len().div_ceil(limit).max(1));
    for page in &pages[..pages.len() - 1] {
        prop_assert_eq!(page.len(), limit);
    }
    Ok(())
}

/// A number of rows, and a page size that yields not too many pages.
fn rows_and_limit() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![0..12_usize, 95..106_usize, 0..420_usize].prop_flat_map(|rows| {
        let least = (rows / 12).max(1);
        let any_limit = least..=1000;
        let near = least..=(rows + 2).max(least);
        (Just(rows), prop_oneof![any_limit, near])
    })
}

#[test]
fn pages_reach_every_row_exactly_once() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    let list = prop::sample::select(LISTS.to_vec());
    proptest!(config(32), |(list in list, (rows, limit) in rows_and_limit())| {
        runtime.block_on(async {
            if list == List::Doctors {
                let database = server.database().connect().await;
                database.batch_execute("TRUNCATE doctors CASCADE").await.unwrap();
            }
            let user = server.user().await;
            let path = list.fill(&server, &user, i64::try_from(rows).unwrap()).await;
            let all = ids(&user.get(&path).await.expect(200));
            prop_assert_eq!(all.len(), rows);
            check(&pages(&user, format!("{path}?limit={limit}")).await, limit, &all)
        })?;
    });
}

#[test]
fn pages_reach_every_row_that_matches_exactly_once() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    let cases = (rows_and_limit(), 1..6_i64, 0..3_i64);
    proptest!(config(32), |(((rows, limit), every, deleted) in cases)| {
        runtime.block_on(async {
            let user = server.user().await;
            let owner = user.user_id().await;
            let database = server.database().connect().await;
            let mark = random();
            let rows = i64::try_from(rows).unwrap();
            let name = |n: i64| if n % every == 0 { mark.to_uppercase() } else { "other".into() };
            let names: Vec<String> = (0..rows).map(name).collect();
            let sql = "INSERT INTO patients (created_by, name, gender)
                SELECT $1, name, CASE WHEN at % 2 = 0 THEN 'F' ELSE 'Male' END
                FROM unnest($2::text[]) WITH ORDINALITY AS row (name, at)";
            database.execute(sql, &[&owner, &names]).await.unwrap();
            let sql = "DELETE FROM patients WHERE created_by = $1 AND id % 5 < $2";
            database.execute(sql, &[&owner, &deleted]).await.unwrap();
            for (filter, sql) in [
                (format!("search={mark}"), "name = upper($2)"),
                (format!("gender=f&search={mark}"), "name = upper($2) AND gender = 'F'"),
                ("gender=MALE".into(), "gender = 'Male' AND $2::text IS NOT NULL"),
            ] {
                let sql = format!("SELECT id FROM patients WHERE created_by = $1 AND {sql} ORDER BY id");
                let matching = database.query(&sql, &[&owner, &mark]).await.unwrap();
                let matching: Vec<i64> = matching.iter().map(|row| row.get(0)).collect();
                let all = user.get(&format!("/api/patients?{filter}")).await.expect(200);
                prop_assert_eq!(ids(&all), matching.clone());
                let first = format!("/api/patients?{filter}&limit={limit}");
                check(&pages(&user, first).await, limit, &matching)?;
            }
            Ok(())
        })?;
    });
}

/// Rows of every size in any order: how many characters of which kind each field has.
fn sizes() -> impl Strategy<Value = Vec<(i32, &'static str)>> {
    let size = prop_oneof![6 => 0..200_i32, 1 => 300..1200_i32, 1 => 4000..=5000_i32];
    let text = prop::sample::select(vec!["a", "\"", "\u{1}", "\u{1f600}"]);
    prop_oneof![
        prop::collection::vec((size.clone(), text.clone()), 0..30),
        prop::collection::vec((size, text), 90..160)
    ]
}

#[test]
fn pages_of_small_and_large_rows_are_the_list_byte_for_byte() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    let limit = prop_oneof![1..12_usize, 20..120_usize, Just(1000)];
    proptest!(config(24), |(sizes in sizes(), limit in limit)| {
        runtime.block_on(async {
            let user = server.user().await;
            let owner = user.user_id().await;
            let database = server.database().connect().await;
            let texts: Vec<String> =
                sizes.iter().map(|(size, text)| text.repeat(usize::try_from(*size).unwrap())).collect();
            let sql = "INSERT INTO patients (created_by, name, notes, allergies, medical_history)
                SELECT $1, 'P', text, CASE WHEN at % 2 = 0 THEN text END, text
                FROM unnest($2::text[]) WITH ORDINALITY AS row (text, at) RETURNING id";
            let made = database.query(sql, &[&owner, &texts]).await.unwrap();
            let made: Vec<i64> = made.iter().map(|row| row.get(0)).collect();
            for filter in ["", "search=P&"] {
                let all = user.get(&format!("/api/patients?{filter}after=0")).await.expect(200);
                prop_assert_eq!(ids(&all), made.clone());
                let notes = column(&all, "notes");
                prop_assert!(notes.iter().map(|note| note.as_str().unwrap()).eq(&texts));
                let mut parts = Vec::new();
                let mut next = Some(format!("/api/patients?{filter}limit={limit}"));
                while let Some(target) = next {
                    let page = user.get(&target).await.expect(200);
                    next = page.next_page();
                    prop_assert!(next.is_none() || ids(&page).len() == limit);
                    parts.push(page.body.slice(1..page.body.len() - 1));
                }
                prop_assert_eq!(parts.len(), made.len().div_ceil(limit).max(1));
                prop_assert!(parts.join(&b',') == all.body[1..all.body.len() - 1]);
            }
            Ok(())
        })?;
    });
}

#[test]
fn rows_added_while_paging_do_not_disturb_the_pages_before_them() {
    let runtime = runtime();
    let server = runtime.block_on(TestServer::start());
    proptest!(config(16), |(rows in 1..40_i64, limit in 1..12_usize)| {
        runtime.block_on(async {
            let user = server.user().await;
            let path = List::Patients.fill(&server, &user, rows).await;
            let mut expected = ids(&user.get(&path).await.expect(200));
            let mut seen = Vec::new();
            let mut next = Some(format!("{path}?limit={limit}"));
            while let Some(target) = next {
                let page = user.get(&target).await.expect(200);
                next = page.next_page();
                if next.is_some() && expected.len() < 60 {
                    let added = user.post(&path, &json!({"name": "Late"})).await.expect(201);
                    expected.push(added.id());
                }
                seen.extend(ids(&page));
            }
            prop_assert_eq!(seen, expected);
            Ok(())
        })?;
    });
}
