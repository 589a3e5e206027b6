//! Clients that leave, are busy during a stop, or are too many.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ledger::{Ledger, Told};
use crate::load::{Kind, Load, Outcomes, Plan, READS, Status, percentile};
use crate::report::{Form, Report, duration};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

/// The most database connections of a service with two workers and the default pool (see Sizing).
const CONNECTIONS: usize = 39;
const WORKERS: (&str, &str) = ("WORKERS", "2");

pub async fn leave(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[WORKERS]).await;
    let users = service.users(8).await;
    let before = speed(&service, &users, form).await;
    let descriptors = service.descriptors();
    let count = form.pick(320, 5_000);
    let (mut ledger, mut memory) = (Ledger::default(), Vec::new());
    // Twice, because what the first ones need may stay for the next.
    for _ in 0..2 {
        let leaving = (0..64).map(|number| {
            let token = &users[number % users.len()];
            leave_often(service.address(), token, count / 64)
        });
        for other in join_all(leaving).await {
            ledger.merge(other);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while service.descriptors() > descriptors + CONNECTIONS && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        memory.push(service.resident_kib());
    }
    let after = speed(&service, &users, form).await;

    let mut report = Report::default();
    report.tell("reads a second", &format!("{before:.0}"));
    report.share("speed after it", after / before, 0.95);
    // Those that the database's connections may take came on top.
    let left = service.descriptors().saturating_sub(descriptors + CONNECTIONS);
    report.none("descriptors that are left behind", left);
    let backends = usize::try_from(service.backends().await).unwrap();
    let bound = format!("at most {CONNECTIONS}");
    report.holds("database connections", &backends, &bound, backends <= CONNECTIONS);
    report.tell("memory, KiB", &format!("{memory:?}"));
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let grown = memory[1] as f64 / memory[0] as f64;
    report.at_most("growth of memory by the second half of them", grown, 1.1);
    ledger.compare(&service.sql().await, &mut report).await;
    report
}

async fn leave_often(address: SocketAddr, token: &str, times: usize) -> Ledger {
    let mut ledger = Ledger::default();
    for turn in 0..times {
        let task = ledger.next(Kind::Create, turn).unwrap();
        let bytes = request(task.method, &task.target, token, &task.body, None);
        let told = send_some_and_leave(address, &bytes).await;
        ledger.note(&task, told, &[]);
    }
    ledger
}

/// Sends a random part of a request, or all of it, and leaves with or without a goodbye.
async fn send_some_and_leave(address: SocketAddr, bytes: &[u8]) -> Told {
    let random = getrandom::u32().unwrap() as usize;
    // Every second client sends all of it.
    let whole = random.is_multiple_of(2);
    let sent = if whole { bytes.len() } else { (random >> 1) % bytes.len() };
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&bytes[..sent]).await.unwrap();
    let pause = Duration::from_micros((random >> 8) as u64 % 5000);
    if (random >> 5).is_multiple_of(2) {
        sleep(pause).await;
    } else {
        // Part of the answer, if there is one.
        let _ = tokio::time::timeout(pause, socket.read(&mut [0; 20])).await;
    }
    if (random >> 6).is_multiple_of(2) {
        socket.set_zero_linger().unwrap();
    }
    if whole { Told::Unknown } else { Told::NotDone }
}

/// The best of several rates of reads, because other processes can only make it slower.
async fn speed(service: &Service, users: &[String], form: Form) -> f64 {
    let plan = Plan { clients: 16, kinds: READS, pause: Duration::ZERO };
    let load = Load::start(service.address(), users, plan);
    let window = Duration::from_millis(500);
    sleep(window).await;
    let start = Instant::now();
    let windows = form.pick(1, 12);
    sleep(window * windows).await;
    let outcomes = load.stop();
    let rates = (0..windows).map(|at| {
        let from = start + window * at;
        outcomes.rate(from, from + window)
    });
    rates.fold(0.0, f64::max)
}

pub async fn stop(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let mut service = Service::beside(&cluster, &[]).await;
    let users = service.users(8).await;
    let (mut early, mut late, mut ends) = (0, 0, Vec::new());
    let mut all = Outcomes::default();
    let rounds = form.pick(2, 20);
    for round in 0..rounds {
        let plan = Plan { clients: 100, kinds: BUSY, pause: Duration::ZERO };
        let load = Load::start(service.address(), &users, plan);
        sleep(Duration::from_millis(300 + 17 * round)).await;
        let address = service.address();
        let closed = thread::spawn(move || closed(address));
        let started = Instant::now();
        service.terminate();
        service.ended();
        ends.push(started.elapsed());
        let closed = closed.join().unwrap();
        let outcomes = load.stop();
        let broken = |event: &&crate::load::Event| event.status == Status::Broken;
        for event in outcomes.events.iter().filter(broken) {
            *(if event.sent < closed { &mut early } else { &mut late }) += 1;
        }
        all.merge(outcomes);
        if round + 1 < rounds {
            service.begin();
            service.ready().await;
        }
    }
    let mut report = Report::default();
    report.tell("stops", &rounds);
    report.none("sent before the listener closed and not answered", early);
    report.none("sent later and not answered", late);
    report.tell_time("exit, median", percentile(ends.clone(), 0.5));
    let slowest = ends.into_iter().max().unwrap();
    let bound = Duration::from_secs(10);
    report.holds("exit", &duration(slowest), "within 10 s", slowest < bound);
    all.judge_answered(
        &crate::stage::connect(&cluster.config("postgres", "healthcare")).await,
        &mut report,
    )
    .await;
    report
}

const BUSY: &[Kind] = &[Kind::Create, Kind::Get, Kind::Live, Kind::Update, Kind::Page];

/// When nobody listened any more. Blocks.
fn closed(address: SocketAddr) -> Instant {
    loop {
        let tried = Instant::now();
        if BlockingStream::connect(address).is_err() {
            return tried;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

pub async fn stop_beside_new_clients(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let mut service = Service::beside(&cluster, &[]).await;
    let (mut answered, mut lost) = (0, 0);
    let rounds = form.pick(3, 50);
    for round in 0..rounds {
        let address = service.address();
        let clients = [(); 8].map(|()| thread::spawn(move || connect_until_refused(address)));
        sleep(Duration::from_millis(100)).await;
        service.terminate();
        service.ended();
        for outcome in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            *(if outcome.is_ok() { &mut answered } else { &mut lost }) += 1;
        }
        if round + 1 < rounds {
            service.begin();
            service.ready().await;
        }
    }
    let mut report = Report::default();
    report.tell("stops", &rounds);
    report.holds("connections whose request was answered", &answered, "some", answered > 0);
    report.none("connections that were reset, or not answered", lost);
    report
}

/// What became of each request of a client that connects for each of them, until it is refused.
/// Blocks.
fn connect_until_refused(address: SocketAddr) -> Vec<io::Result<()>> {
    let ask = || {
        let mut socket = BlockingStream::connect(address)?;
        socket.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    };
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    std::iter::repeat_with(ask)
        .take_while(|outcome| !outcome.as_ref().is_err_and(refused))
        .collect()
}

pub async fn few_descriptors(form: Form) -> Report {
    let mut own = getrlimit(Resource::Nofile);
    own.current = own.maximum;
    setrlimit(Resource::Nofile, own).unwrap();
    let cluster = cluster(form, &[]).await;
    let settings = [WORKERS, ("POOL_SIZE", "8")];
    let service = Service::limited(256, &cluster, &settings).await;
    let mut asked = Vec::new();
    for _ in 0..form.pick(300, 1000) / 50 {
        asked.extend(join_all((0..50).map(|_| ask(&service))).await);
    }
    let ticks = service.processor_ticks();
    sleep(Duration::from_secs(2)).await;
    let ticks = service.processor_ticks() - ticks;
    for _ in 0..50 {
        asked.push(ask(&service).await);
    }
    let ended = |end: End| asked.iter().filter(|asked| asked.end == end).count();
    let mut report = Report::default();
    let (served, refused) = (ended(End::Served), ended(End::Refused));
    report.holds("clients served", &served, "at least 100", served >= 100);
    report.holds("clients refused with 503", &refused, "some", refused > 0);
    report.tell("clients whose connection was closed", &ended(End::Closed));
    let longest = asked.iter().map(|asked| asked.waited).max().unwrap();
    report.within("longest wait of a new client", longest, Duration::from_millis(200));
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let share = ticks as f64 / 200.0;
    report.at_most("share of a processor while nothing is asked", share, 0.05);
    report
}

/// A new client, which stays.
struct NewClient {
    _wire: Wire,
    end: End,
    /// Until it was served, refused or closed.
    waited: Duration,
}

#[derive(PartialEq)]
enum End {
    Served,
    Refused,
    Closed,
}

async fn ask(service: &Service) -> NewClient {
    let mut wire = Wire::to(service.address());
    let started = Instant::now();
    let end = match wire.ask(&request("GET", "/health/live", "", "", None)).await {
        Outcome::Answered(reply) if reply.status == 200 => End::Served,
        Outcome::Answered(reply) if reply.status == 503 => End::Refused,
        Outcome::Broken(_) => End::Closed,
        other => panic!("{other:?}"),
    };
    NewClient { _wire: wire, end, waited: started.elapsed() }
}

#[tokio::test]
async fn what_clients_send_who_leave_is_whole_or_absent() {
    leave(Form::Short).await.assert();
}

#[tokio::test]
async fn busy_clients_lose_no_answer_when_it_stops() {
    stop(Form::Short).await.assert();
}

#[tokio::test]
async fn whoever_can_connect_when_it_stops_is_answered() {
    stop_beside_new_clients(Form::Short).await.assert();
}

#[tokio::test]
async fn every_client_is_served_or_refused_with_few_descriptors() {
    few_descriptors(Form::Short).await.assert();
}
