//! What the process takes part in: databases that it refuses, stops, and file descriptors.

use std::io::Write as _;
use std::process::Stdio;
use std::thread;

use futures_util::future::join_all;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::program::{Program, Workplace, database_url, with_database};
use crate::harness::socket::{read_head, read_to_end, request, send};
use crate::harness::{Lock, TestDb, free_port, until, wait_until};

fn live() -> String {
    request("GET", "/health/live", "", "")
}

/// A connection that has had a response.
async fn kept_open(program: &Program) -> TcpStream {
    let mut socket = send(program.address(), &live()).await;
    let head = read_head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    read_body(&mut socket, &head).await;
    socket
}

async fn read_body(socket: &mut TcpStream, head: &str) {
    let length = head.split_once("content-length: ").unwrap().1;
    let length = length.lines().next().unwrap().parse().unwrap();
    socket.read_exact(&mut vec![0; length]).await.unwrap();
}

#[tokio::test]
async fn what_is_sent_on_idle_connections_while_it_stops_is_answered() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let mut sockets = join_all((0..50).map(|_| kept_open(&program))).await;
    program.signal(Signal::TERM);
    program.says("stopping");
    for socket in &mut sockets {
        socket.write_all(live().as_bytes()).await.unwrap();
    }
    for mut socket in sockets {
        let last = read_to_end(&mut socket).await;
        assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close"), "{last}");
    }
    assert_eq!(program.wait().code, Some(0));
}

#[tokio::test]
async fn what_was_sent_on_new_connections_before_it_stops_is_answered() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let live = live();
    let sockets = join_all((0..200).map(|_| send(program.address(), &live))).await;
    program.signal(Signal::TERM);
    for mut socket in sockets {
        assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(program.wait().code, Some(0));
}

#[tokio::test]
async fn busy_clients_are_told_to_close_and_lose_no_answer() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let ada = program.client().registered("ada@example.com").await;
    let body = json!({"name": "Grace"}).to_string();
    let create = request("POST", "/api/patients", ada.token(), &body);
    let clients = (0..50).map(|number| {
        let (address, create) = (program.address(), create.clone());
        tokio::spawn(async move {
            let ask = if number % 2 == 0 { create } else { live() };
            let mut socket = TcpStream::connect(address).await.unwrap();
            let mut created = 0;
            loop {
                socket.write_all(ask.as_bytes()).await.unwrap();
                let head = read_head(&mut socket).await;
                assert!(head.starts_with("HTTP/1.1 20"), "{head}");
                created += usize::from(head.starts_with("HTTP/1.1 201"));
                if head.contains("connection: close") {
                    return created;
                }
                read_body(&mut socket, &head).await;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    ada.get("/api/patients?limit=1").await.expect(200);
    program.signal(Signal::TERM);
    let created: usize = join_all(clients).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(program.wait().code, Some(0));
    let rows = database.connect().await.query_one("SELECT count(*) FROM patients", &[]).await;
    assert_eq!(rows.unwrap().get::<_, i64>(0), i64::try_from(created).unwrap());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let database = TestDb::new().await;
    let url = database_url(&database.config_for_locks());
    let workplace = Workplace::new();
    let program = workplace.serve(&with_database(&url));
    let ada = program.client().registered("ada@example.com").await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let lock = Lock::patients(database.connect().await, &[id]).await;
    let target = format!("/api/patients/{id}");
    let change = request("PATCH", &target, ada.token(), &json!({"name": "Hopper"}).to_string());
    let mut running = send(program.address(), &change).await;
    lock.awaited_by(1).await;
    program.signal(Signal::TERM);
    program.says("stopping");
    program.signal(Signal::TERM);
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("at once"), "{ended:?}");
    // The end of its process ended the connection, without a response.
    assert!(running.read_u8().await.is_err());
    lock.release().await;
}

#[tokio::test]
async fn it_ends_also_if_nobody_reads_its_log() {
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let port = free_port();
    let (_unread, mut full) = std::io::pipe().unwrap();
    let [url, secret] = with_database(&url);
    let mut command = workplace.command(&[], &[url, secret, ("PORT", &port.to_string())]);
    command.stdin(Stdio::null()).stdout(full.try_clone().unwrap()).stderr(Stdio::null());
    let mut program = command.spawn().unwrap();
    drop(command);
    thread::spawn(move || while full.write_all(&[b'\n'; 4096]).is_ok() {});
    until("it serves", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    let status = wait_until("it ends", || program.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn more_clients_than_file_descriptors_are_refused_and_the_database_keeps_its_own() {
    let mut own = getrlimit(Resource::Nofile);
    own.current = own.maximum;
    setrlimit(Resource::Nofile, own).unwrap();
    let database = TestDb::new().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let [url, secret] = with_database(&url);
    let settings = [url, secret, ("WORKERS", "2"), ("POOL_SIZE", "8")];
    let program = Program::spawn(workplace.command_with_descriptors(256, &settings));
    program.says("the schema is up to date");
    let ada = program.client().registered("ada@example.com").await;
    let mut first = kept_open(&program).await;

    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        let mut socket = send(program.address(), &live()).await;
        let head = read_head(&mut socket).await;
        if head.starts_with("HTTP/1.1 200 ") {
            served.push(socket);
        } else {
            assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "), "{head}");
            refused += 1;
        }
    }
    assert!(served.len() > 100 && refused > 700, "{} served, {refused} refused", served.len());
    // The client that came first, and the connections to the database.
    let body = json!({"name": "Grace"}).to_string();
    for (method, target, body) in
        [("POST", "/api/patients", &*body), ("GET", "/api/patients", ""), ("GET", "/health", "")]
    {
        first.write_all(request(method, target, ada.token(), body).as_bytes()).await.unwrap();
        let head = read_head(&mut first).await;
        assert!(head.starts_with("HTTP/1.1 20"), "{target}: {head}");
        read_body(&mut first, &head).await;
    }
    let ended = program.stop();
    assert!(ended.stdout.contains("limit of open files"), "{ended:?}");
    assert!(!ended.stdout.contains("cannot be accepted"), "{ended:?}");
}

#[tokio::test]
async fn a_database_that_can_lose_acknowledged_writes_is_refused_unless_it_is_allowed() {
    let database = TestDb::empty().await;
    let url = database_url(&database.config());
    let workplace = Workplace::new();
    let [url, secret] = with_database(&url);
    for arguments in [&["serve"][..], &["migrate"], &["admin", "ada@example.com"]] {
        let ended = workplace.run(arguments, &[url, secret, ("ALLOW_UNSAFE_DATABASE", "")]);
        let line = ended.complaint(1);
        assert!(line.contains("fsync and full_page_writes = off"), "{ended:?}");
        assert!(line.contains("ALLOW_UNSAFE_DATABASE"), "{ended:?}");
    }
    let asynchronous = format!("{} options=-csynchronous_commit=off", url.1);
    let settings = [("DATABASE_URL", &*asynchronous), secret, ("ALLOW_UNSAFE_DATABASE", "")];
    let ended = workplace.run(&["migrate"], &settings);
    assert!(ended.complaint(1).contains("synchronous_commit"), "{ended:?}");
    assert_eq!(workplace.run(&["migrate"], &[url, secret]).code, Some(0));
}
