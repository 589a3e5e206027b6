//! What is killed comes back, with everything that was acknowledged.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::harness::processes;
use crate::load::{Kind, Load, MIXED, Outcomes, Plan, READS, Status, percentile};
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

const PLAN: Plan = Plan { clients: 8, kinds: MIXED, pause: Duration::from_millis(2) };
const READY: Duration = Duration::from_millis(300);
const UNAVAILABLE: Duration = Duration::from_millis(100);
const BACK: Duration = Duration::from_secs(1);

/// A moment of work, of another length each time.
async fn work(round: u64) {
    sleep(Duration::from_millis(50 + round * 37 % 200)).await;
}

fn tell_ready(report: &mut Report, what: &str, times: Vec<Duration>) {
    report.tell("times", &times.len());
    report.tell_time(&format!("{what}, median"), percentile(times.clone(), 0.5));
    report.within(what, times.into_iter().max().unwrap(), READY);
}

pub async fn service(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let mut service = Service::beside(&cluster, &[]).await;
    let load = Load::start(service.address(), &service.users(4).await, PLAN);
    let mut ready = Vec::new();
    for round in 0..form.pick(3, 100) {
        work(round).await;
        service.kill();
        let started = Instant::now();
        service.begin();
        service.ready().await;
        ready.push(started.elapsed());
    }
    let outcomes = load.stop();
    let mut report = Report::default();
    tell_ready(&mut report, "ready", ready);
    outcomes.judge_answered(&service.sql().await, &mut report).await;
    report
}

pub async fn service_and_postgres(form: Form) -> Report {
    let mut service = Service::embedded(&[]).await;
    let load = Load::start(service.address(), &service.users(4).await, PLAN);
    let (mut ready, mut recovery) = (Vec::new(), Vec::new());
    for round in 0..form.pick(2, 50) {
        work(round).await;
        let before = service.postmaster();
        service.kill();
        processes::kill(&service.data());
        let started = Instant::now();
        service.begin();
        let recovered = service.postgres_ready(&before).await;
        service.ready().await;
        ready.push(recovered.elapsed());
        recovery.push(recovered - started);
    }
    let outcomes = load.stop();
    let mut report = Report::default();
    report.tell_time("PostgreSQL's recovery, median", percentile(recovery, 0.5));
    tell_ready(&mut report, "ready after PostgreSQL", ready);
    outcomes.judge_answered(&service.sql().await, &mut report).await;
    report
}

pub async fn embedded(form: Form) -> Report {
    let service = Service::embedded(&[]).await;
    let users = service.users(4).await;
    let load = Load::start(service.address(), &users, PLAN);
    let (mut killed, mut started) = (Vec::new(), Vec::new());
    for round in 0..form.pick(2, 50) {
        work(round).await;
        let before = service.postmaster();
        killed.push(Instant::now());
        if round % 2 == 0 {
            processes::kill(&service.data());
        } else {
            let postmaster = rustix::process::Pid::from_raw(before.parse().unwrap()).unwrap();
            rustix::process::kill_process(postmaster, rustix::process::Signal::KILL).unwrap();
        }
        started.push(service.postgres_ready(&before).await - *killed.last().unwrap());
        served(&service, &users[0]).await;
    }
    let outcomes = load.stop();
    let mut report = Report::default();
    report.tell_time("PostgreSQL ready, median", percentile(started, 0.5));
    tell_back(&mut report, &outcomes, "back", &killed);
    outcomes.judge(&service.sql().await, &mut report).await;
    report
}

pub async fn postgres(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let users = service.users(4).await;
    let load = Load::start(service.address(), &users, PLAN);
    let mut started = Vec::new();
    for round in 0..form.pick(2, 50) {
        work(round).await;
        cluster.kill();
        sleep(Duration::from_millis(300)).await;
        cluster.start_again();
        started.push(Instant::now());
        served(&service, &users[0]).await;
    }
    let outcomes = load.stop();
    let mut report = Report::default();
    tell_back(&mut report, &outcomes, "back after PostgreSQL", &started);
    outcomes.judge(&service.sql().await, &mut report).await;
    report
}

/// Waits until changes are made again, and a moment longer for the clients.
async fn served(service: &Service, token: &str) {
    let (mut wire, body) = (Wire::to(service.address()), r#"{"name":"Probe"}"#);
    let create = request("POST", "/api/patients", token, body, None);
    let deadline = Instant::now() + Duration::from_secs(120);
    while !matches!(wire.ask(&create).await, Outcome::Answered(reply) if reply.status == 201) {
        assert!(Instant::now() < deadline, "no change is made");
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(400)).await;
}

fn tell_back(report: &mut Report, outcomes: &Outcomes, what: &str, since: &[Instant]) {
    let is_503 = |status: &Status| matches!(status, Status::Unavailable(_));
    let unavailable = outcomes.events.iter().filter(|event| is_503(&event.status));
    let slowest = unavailable.map(|event| event.took).max().unwrap_or_default();
    report.tell("times", &since.len());
    report.within("slowest 503", slowest, UNAVAILABLE);
    for (kinds, name) in [(READS, "reads"), (&[Kind::Create][..], "creates")] {
        let times = since.iter().map(|since| outcomes.first_success(kinds, *since) - *since);
        let times: Vec<_> = times.collect();
        let what = format!("{name} {what}");
        report.tell_time(&format!("{what}, median"), percentile(times.clone(), 0.5));
        report.within(&what, times.into_iter().max().unwrap(), BACK);
    }
}

pub async fn backends(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let plan = Plan { clients: 64, kinds: READS, pause: Duration::from_millis(5) };
    let load = Load::start(service.address(), &service.users(8).await, plan);
    let superuser = service.sql().await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'healthcare'";
    let mut terminated = 0;
    for _ in 0..form.pick(3, 30) {
        sleep(Duration::from_millis(1200)).await;
        terminated += superuser.query(sql, &[]).await.unwrap().len();
    }
    sleep(Duration::from_millis(500)).await;
    let outcomes = load.stop();
    let mut report = Report::default();
    report.tell("backends terminated", &terminated);
    let failed =
        outcomes.count(|event| READS.contains(&event.kind) && event.status != Status::Success);
    report.none("reads that failed", failed);
    outcomes.judge(&superuser, &mut report).await;
    report
}

#[tokio::test]
async fn nothing_is_lost_or_there_twice_when_the_service_is_killed() {
    service(Form::Short).await.assert();
}

#[tokio::test]
async fn nothing_is_lost_or_there_twice_when_service_and_database_are_killed() {
    service_and_postgres(Form::Short).await.assert();
}

#[tokio::test]
async fn every_request_is_answered_while_the_embedded_database_is_killed() {
    embedded(Form::Short).await.assert();
}

#[tokio::test]
async fn every_request_is_answered_while_the_database_is_killed() {
    postgres(Form::Short).await.assert();
}

#[tokio::test]
async fn no_read_fails_when_all_its_backends_are_terminated() {
    backends(Form::Short).await.assert();
}
