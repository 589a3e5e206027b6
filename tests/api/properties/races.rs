//! Concurrent changes: none is lost, and of those with the same condition one succeeds.

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::TestServer;
use crate::resources::{KINDS, object};

const ROUNDS: usize = 30;

#[tokio::test]
async fn updates_of_different_fields_at_the_same_time_all_last() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, created) = kind.create(&user, &(kind.full)()).await;
        let mut version = created["version"].as_i64().unwrap();
        for round in 0..ROUNDS {
            let values = if round % 2 == 0 { (kind.other)() } else { (kind.full)() };
            let changes: Vec<Value> = object(values.clone())
                .into_iter()
                .map(|(name, value)| json!({ name: value }))
                .collect();
            let updates = changes.iter().map(|change| user.patch(&target, change));
            let mut versions = Vec::new();
            for answer in join_all(updates).await {
                versions.push(answer.expect(200).json()["version"].as_i64().unwrap());
            }
            versions.sort_unstable();
            let count = i64::try_from(changes.len()).unwrap();
            assert_eq!(versions, (version + 1..=version + count).collect::<Vec<_>>());
            version += count;

            let left = user.get(&target).await.expect(200).json();
            for (name, value) in object(values) {
                assert_eq!(left[&name], value, "{name} in round {round}");
            }
            assert_eq!(left["version"], version);
        }
    }
}

#[tokio::test]
async fn two_updates_of_different_fields_both_last() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &(kind.full)()).await;
        for round in 0..ROUNDS {
            let address = json!({"address": format!("Address {round}")});
            let email = json!({"email": format!("round-{round}@example.com")});
            let (first, second) =
                tokio::join!(user.patch(&target, &address), user.put(&target, &email));
            let versions = [first.expect(200).json(), second.expect(200).json()];
            assert_ne!(versions[0]["version"], versions[1]["version"]);
            let left = user.get(&target).await.expect(200).json();
            assert_eq!(left["address"], address["address"]);
            assert_eq!(left["email"], email["email"]);
        }
    }
}

#[tokio::test]
async fn of_racing_updates_with_one_if_match_one_wins() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        let (target, _) = kind.create(&user, &kind.minimal()).await;
        for version in 1..=10 {
            let client = user.with("if-match", &format!("\"{version}\""));
            let bodies: Vec<Value> =
                (0..8).map(|n| json!({"address": format!("{version} by {n}")})).collect();
            let answers = join_all(bodies.iter().map(|body| client.patch(&target, body))).await;
            let (won, lost): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answer| answer.status == 200);
            assert_eq!(won.len(), 1);
            for answer in lost {
                answer.expect_error(412, "precondition_failed");
            }
            let left = user.get(&target).await.expect(200).json();
            assert_eq!(won[0].json(), left);
            assert_eq!(left["version"], version + 1);
        }
    }
}

#[tokio::test]
async fn of_racing_deletions_one_wins() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for kind in KINDS {
        for condition in [None, Some("\"1\""), Some("*")] {
            let (target, _) = kind.create(&user, &kind.minimal()).await;
            let client = condition.map_or(user.clone(), |tag| user.with("if-match", tag));
            let answers = join_all((0..8).map(|_| client.delete(&target))).await;
            let (won, lost): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answer| answer.status == 204);
            assert_eq!(won.len(), 1);
            for answer in lost {
                answer.expect_error(404, kind.not_found);
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_and_an_update_that_name_one_version_cannot_both_happen() {
    let server = TestServer::start().await;
    let user = server.user().await.with("if-match", "\"1\"");
    for kind in KINDS {
        for _ in 0..ROUNDS {
            let (target, _) = kind.create(&user, &kind.minimal()).await;
            let change = Some(json!({"address": "x"}).to_string().into());
            let (deleted, updated) =
                tokio::join!(user.delete(&target), user.send(Method::PATCH, &target, change));
            match (deleted.status.as_u16(), updated.status.as_u16()) {
                (204, 404) => drop(user.get(&target).await.expect_error(404, kind.not_found)),
                (412, 200) => drop(user.get(&target).await.expect(200)),
                _ => panic!("{deleted:?} {updated:?}"),
            }
        }
    }
}
