//! A database that says nothing for a while, because it is stopped or the network is silent.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::harness::Proxy;
use crate::api::harness::processes::Frozen;
use crate::load::{Kind, Load, MIXED, Plan, Status};
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};

const ALL: &[Kind] =
    &[Kind::Create, Kind::Get, Kind::Page, Kind::Update, Kind::Delete, Kind::Doctors];
const HEALTH: &[Kind] = &[Kind::Live, Kind::Ready];
const SECOND: Duration = Duration::from_secs(1);

/// The most connections of a service with two workers and the default pool (see Sizing).
const CONNECTIONS: i64 = 39;
const WORKERS: (&str, &str) = ("WORKERS", "2");

enum Cause {
    Stopped,
    Network,
}

pub async fn stopped(form: Form) -> Report {
    silence(form, &Cause::Stopped).await
}

pub async fn network(form: Form) -> Report {
    silence(form, &Cause::Network).await
}

async fn silence(form: Form, cause: &Cause) -> Report {
    let cluster = cluster(form, &[]).await;
    let proxy = Proxy::to(cluster.socket());
    let service = match cause {
        Cause::Stopped => Service::beside(&cluster, &[WORKERS]).await,
        Cause::Network => Service::behind(&proxy, &cluster, &[WORKERS]).await,
    };
    let plan = Plan { clients: 16, kinds: MIXED, pause: Duration::from_millis(5) };
    let load = Load::start(service.address(), &service.users(4).await, plan);
    let plan = Plan { clients: 2, kinds: HEALTH, pause: Duration::from_millis(10) };
    let health = Load::start(service.address(), &service.users(1).await, plan);
    let usual = form.seconds(1, 3);
    sleep(SECOND).await;
    let begin = Instant::now();
    sleep(usual).await;

    let before = Instant::now();
    let frozen = match cause {
        Cause::Stopped => Some(Frozen::new(cluster.data())),
        Cause::Network => None,
    };
    proxy.hold(true);
    let silent = Instant::now();
    sleep(form.seconds(3, 10)).await;
    let heard = Instant::now();
    proxy.hold(false);
    drop(frozen);
    sleep(SECOND + usual).await;
    let after = Instant::now();
    sleep(SECOND).await;
    let (outcomes, health) = (load.stop(), health.stop());

    let mut report = Report::default();
    let slowest = outcomes.slowest(ALL, begin, heard);
    report.within("slowest answer", slowest, Duration::from_millis(2500));
    let slowest = outcomes.slowest(ALL, silent + SECOND, heard);
    report.within("from the second second on", slowest, Duration::from_millis(50));
    let refused = |status: &Status| matches!(status, Status::Unavailable(_));
    let told = health
        .events
        .iter()
        .find(|event| event.kind == Kind::Ready && event.sent > silent && refused(&event.status));
    let told = told.map_or(heard - silent, |event| event.sent + event.took - silent);
    report.within("readiness is 503 after", told, SECOND);
    let live = health.slowest(&[Kind::Live], silent, heard);
    report.within("slowest health check", live, Duration::from_millis(50));
    let usual_rate = outcomes.rate(begin, before);
    report.tell("successes a second", &format!("{usual_rate:.0}"));
    let rate = outcomes.rate(heard + SECOND, after);
    report.share("speed from one second after it on", rate / usual_rate, 0.9);
    let backends = service.backends().await;
    let bound = format!("at most {CONNECTIONS}");
    report.holds("database connections", &backends, &bound, backends <= CONNECTIONS);
    outcomes.judge(&service.sql().await, &mut report).await;
    report
}

#[tokio::test]
async fn every_request_is_answered_while_the_database_is_stopped() {
    stopped(Form::Short).await.assert();
}

#[tokio::test]
async fn every_request_is_answered_while_the_network_is_silent() {
    network(Form::Short).await.assert();
}
