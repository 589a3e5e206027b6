//! `GET /metrics`: what is counted, and where it is shown.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use healthcare_backend::routes::Route;
use hyper::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::program::{Workplace, database_url};
use crate::harness::raw::exchange;
use crate::harness::socket::{read_head, request, send};
use crate::harness::{Client, JWT_SECRET, Lock, TestDb, TestServer, free_port, random, until};

/// The samples by name and labels, as they are written.
struct Samples {
    text: String,
    values: HashMap<String, String>,
}

impl Samples {
    async fn of(client: &Client) -> Self {
        let answer = client.get("/metrics").await.expect(200);
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self { values: values.collect(), text }
    }

    /// A whole number of ours; 0 if it does not occur.
    fn get(&self, name: &str) -> u64 {
        let value = self.values.get(&format!("healthcare_{name}"));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Any number, which must occur.
    #[track_caller]
    fn known(&self, name: &str) -> f64 {
        let value = self.values.get(name);
        value.unwrap_or_else(|| panic!("no {name} in {}", self.text)).parse().unwrap()
    }

    /// All values of a label.
    fn labels(&self, label: &str) -> Vec<&str> {
        let pattern = format!("{label}=\"");
        let names = self.values.keys();
        names
            .filter_map(|name| name.split_once(&pattern)?.1.split_once('"'))
            .map(|(value, _)| value)
            .collect()
    }
}

fn requests(route: &str, method: &str, status: u16) -> String {
    format!("http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[tokio::test]
async fn requests_are_counted_over_all_workers() {
    let server = TestServer::start().await;
    // Both stay open, so that each worker has one. Answers to HEAD have no body to be read.
    let live = request("HEAD", "/health/live", "", "");
    let mut sockets = [send(server.address(), &live).await, send(server.address(), &live).await];
    for socket in &mut sockets {
        read_head(socket).await;
        for _ in 0..3 {
            let nowhere = request("HEAD", "/nowhere", "", "");
            socket.write_all(nowhere.as_bytes()).await.unwrap();
            read_head(socket).await;
        }
    }
    let samples = Samples::of(&server.anyone()).await;
    assert_eq!(samples.get(&requests("/health/live", "HEAD", 200)), 2, "{}", samples.text);
    assert_eq!(samples.get(&requests("-", "HEAD", 404)), 6);
    let latencies = "http_request_duration_seconds";
    assert_eq!(samples.get(&format!("{latencies}_count{{route=\"-\"}}")), 6);
    assert_eq!(samples.get(&format!("{latencies}_bucket{{route=\"-\",le=\"+Inf\"}}")), 6);
    assert!(samples.known(&format!("healthcare_{latencies}_sum{{route=\"-\"}}")) > 0.0);
    // The one that asks.
    assert_eq!(samples.get("http_requests_in_flight"), 1);
    assert_eq!(samples.get("connections_accepted_total"), 3);
    let connections = async |state: &str| {
        let samples = Samples::of(&server.anyone()).await;
        samples.get(&format!("connections{{state=\"{state}\"}}"))
    };
    until("one is answering", async || (connections("answering").await == 1).then_some(())).await;
    until("two are waiting", async || (connections("waiting").await == 2).then_some(())).await;
    drop(sockets);
    until("they are closed", async || (connections("waiting").await == 0).then_some(())).await;
}

#[tokio::test]
async fn no_label_is_of_a_clients_choosing() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let canary = format!("canary{}", random());
    let odd = user.with("user-agent", &canary).with("x-request-id", &canary);
    for target in [format!("/{canary}"), format!("/api/patients/{canary}")] {
        odd.get(&target).await.expect(404);
        odd.get(&format!("/api/patients?{canary}={canary}")).await.expect(400);
        let method = Method::from_bytes(canary.as_bytes()).unwrap();
        odd.send(method.clone(), &target, None).await.expect(404);
        odd.send(method, "/api/doctors", None).await.expect(405);
    }
    odd.get("/api/patients/4711").await.expect(404);
    odd.post("/api/patients", &json!({canary.clone(): canary})).await.expect(422);
    let samples = Samples::of(&server.anyone()).await;
    assert!(!samples.text.contains(&canary), "{}", samples.text);
    assert!(!samples.text.contains("4711"), "{}", samples.text);
    assert_eq!(samples.get(&requests("-", "OTHER", 404)), 2, "{}", samples.text);
    assert_eq!(samples.get(&requests("/api/doctors", "OTHER", 405)), 2);
    for label in samples.labels("route") {
        let path = label.replace("{id}", "1");
        assert!(label == "-" || Route::parse(&path).is_some_and(|route| route.label() == label));
    }
    for method in samples.labels("method") {
        assert!(["GET", "POST", "OTHER"].contains(&method), "{method}");
    }
}

#[tokio::test]
async fn what_a_process_takes_and_which_program_it_is_are_shown() {
    let server = TestServer::start().await;
    let samples = Samples::of(&server.anyone()).await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(samples.get(&format!("build_info{{version=\"{version}\"}}")), 1);
    for name in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(samples.known(name) > 0.0, "{name}");
    }
    let started = samples.known("process_start_time_seconds");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((0.0..86_400.0).contains(&(now - started)), "{started}");
}

#[tokio::test]
async fn accounts_and_the_database_are_counted() {
    let database = Arc::new(TestDb::new().await);
    let settings = [("WORKERS", "1"), ("POOL_SIZE", "8")];
    let server = TestServer::start_with(Arc::clone(&database), &settings).await;
    let user = server.user().await;
    let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
    let target = format!("/api/patients/{patient}");
    user.get(&target).await.expect(200);
    let email = user.get("/api/auth/me").await.expect(200).json()["email"].clone();
    let wrong = json!({"email": email, "password": "wrong"});
    server.anyone().post("/api/auth/login", &wrong).await.expect(401);
    let change = json!({"current_password": "wrong", "new_password": "long enough"});
    user.put("/api/auth/password", &change).await.expect(422);
    server.user().await.post("/api/auth/logout", &json!({})).await.expect(204);
    server.anyone().becomes_ready().await;

    let samples = Samples::of(&server.anyone()).await;
    for (name, expected) in [
        ("failed_logins_total", 2),
        ("ended_sessions", 1),
        ("password_hash_queue", 0),
        ("database_ready", 1),
        ("database_connection_failures_total", 0),
        ("database_connection_replacements_total", 0),
        ("database_shared_connections_opened_total", 4),
        ("database_shared_statements", 0),
        ("database_pool_size{share=\"writes\"}", 4),
        ("database_pool_size{share=\"lists\"}", 2),
        ("database_pool_in_use{share=\"writes\"}", 0),
        ("database_pool_wait_seconds_count{share=\"writes\"}", 0),
        ("database_batch_requests_bucket{batch=\"patients/get\",le=\"1\"}", 1),
        ("database_batch_requests_count{batch=\"patients/create\"}", 1),
        ("database_batch_statements{batch=\"patients/get\"}", 0),
        ("overload_refusals_total{what=\"request\"}", 0),
    ] {
        assert!(samples.values.contains_key(&format!("healthcare_{name}")), "{name}");
        assert_eq!(samples.get(name), expected, "{name} in {}", samples.text);
    }
    assert!(samples.get("database_connections_opened_total") >= 2);
    assert!(samples.get("password_hash_queue_limit") > 1);

    // One row has one connection of a share of four, and the other changes wait.
    let locks = TestServer::start_at(database.config_for_locks(), Arc::clone(&database), &settings);
    let busy = locks.await;
    let user = Client::new(busy.address()).with_token(user.token());
    let lock = Lock::patients(database.connect().await, &[patient]).await;
    let changes: Vec<_> = (0..4)
        .map(|age| {
            let (user, target) = (user.clone(), target.clone());
            tokio::spawn(async move { user.patch(&target, &json!({"age": age})).await })
        })
        .collect();
    lock.awaited_by(1).await;
    until("three wait for a connection", async || {
        let samples = Samples::of(&busy.anyone()).await;
        (samples.get("database_pool_waiting{share=\"writes\"}") == 3
            && samples.get("database_pool_in_use{share=\"writes\"}") == 1
            && samples.get("http_requests_in_flight") == 5)
            .then_some(())
    })
    .await;
    lock.release().await;
    for change in changes {
        change.await.unwrap();
    }
    let samples = Samples::of(&busy.anyone()).await;
    assert_eq!(samples.get("database_pool_wait_seconds_count{share=\"writes\"}"), 3);
    assert_eq!(samples.get("database_pool_waiting{share=\"writes\"}"), 0);
}

#[tokio::test]
async fn what_is_for_operators_is_on_their_address_alone_if_they_name_one() {
    let address = format!("127.0.0.1:{}", free_port());
    let database = Arc::new(TestDb::new().await);
    let settings = [("METRICS_ADDR", address.as_str()), ("MAX_CONNECTIONS", "2")];
    let server = TestServer::start_with(database, &settings).await;
    let operators = Client::new(address.parse().unwrap());
    for path in ["/metrics", "/metrics/", "/health", "/health/live", "/health/ready"] {
        let answer = until("the connection before is closed", async || {
            let answer = server.anyone().get(path).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        answer.expect_error(404, "not_found");
        operators.get(path).await.expect(200);
        operators.send(Method::HEAD, path, None).await.expect(200);
    }
    operators.post("/metrics", &json!({})).await.expect_error(405, "method_not_allowed");
    for path in ["/", "/api", "/api/patients", "/api/auth/login"] {
        // Raw, because the description of the API is that of the other address.
        let get = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = exchange(address.parse().unwrap(), get.as_bytes()).await;
        answer.expect_error(404, "not_found");
    }
    let links = server.anyone().get("/").await.expect(200).json()["links"].clone();
    assert_eq!((&links["health"], &links["metrics"]), (&json!(null), &json!(null)));

    // They are answered however many clients there are.
    let half = "GET / HTTP/1.1\r\nhost: x\r\n";
    let mut held = Vec::new();
    until("a client is refused", async || {
        // Beyond two, because the first may have been refused for the request before it.
        held.push(send(server.address(), half).await);
        (server.anyone().get("/").await.status == 503).then_some(())
    })
    .await;
    let samples = Samples::of(&operators).await;
    assert!(samples.get("overload_refusals_total{what=\"connection\"}") >= 1);
    assert_eq!(samples.get("connections_limit"), 2);
}

#[tokio::test]
async fn an_address_for_metrics_that_is_taken_is_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    let workplace = Workplace::new();
    let settings =
        [("DATABASE_URL", url.as_str()), ("JWT_SECRET", secret), ("METRICS_ADDR", &address)];
    let ended = workplace.run(&["serve"], &settings);
    let complaint = ended.complaint(1);
    assert!(complaint.contains("METRICS_ADDR") && complaint.contains(&address), "{complaint}");
}

#[tokio::test]
async fn the_metrics_take_no_query_and_no_body_is_large() {
    let server = TestServer::start().await;
    server.anyone().get("/metrics?name=x").await.expect_error(400, "bad_query");
    let body = Some(Bytes::from("{}"));
    server.anyone().send(Method::PUT, "/metrics", body).await.expect(405);
}
