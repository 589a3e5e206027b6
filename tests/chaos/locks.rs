//! Locks that somebody else holds in the database.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::harness::Lock;
use crate::load::{CREATES, Kind, Load, Outcomes, PATIENTS, Plan, Status};
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

const OTHERS: Duration = Duration::from_millis(50);

/// A pause, so that one client does not ask all the time.
fn plan(clients: usize, kinds: &'static [Kind]) -> Plan {
    Plan { clients, kinds, pause: Duration::from_millis(5) }
}

fn failures(outcomes: &Outcomes) -> usize {
    outcomes.count(|event| event.status != Status::Success)
}

pub async fn table(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let users = service.users(4).await;
    let patients = Load::start(service.address(), &users, plan(8, PATIENTS));
    let doctors = Load::start(service.address(), &users, plan(8, &[Kind::Doctors]));
    sleep(Duration::from_millis(500)).await;
    let lock = Lock::table(service.sql().await).await;
    let locked = Instant::now();
    sleep(form.seconds(2, 10)).await;
    let end = Instant::now();
    lock.release().await;
    sleep(Duration::from_millis(1500)).await;
    let (patients, doctors) = (patients.stop(), doctors.stop());

    let mut report = Report::default();
    let slowest = patients.slowest(PATIENTS, locked, end);
    report.within("slowest answer on patients", slowest, Duration::from_secs(1));
    let p99 = doctors.percentile(&[Kind::Doctors], locked, end, 0.99);
    report.within("p99 of doctors", p99, OTHERS);
    report.none("requests for doctors that failed", failures(&doctors));
    patients.judge(&service.sql().await, &mut report).await;
    report
}

pub async fn row(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let users = service.users(5).await;
    let body = serde_json::json!({"name": "Grace"});
    let ada = service.client().with_token(&users[0]);
    let id = ada.post("/api/patients", &body).await.expect(201).id();
    let others = Load::start(service.address(), &users[1..], plan(8, CREATES));
    sleep(Duration::from_millis(500)).await;
    let lock = Lock::patients(service.sql().await, &[id]).await;
    let locked = Instant::now();
    let target = format!("/api/patients/{id}");
    let update = request("PATCH", &target, &users[0], r#"{"age":1}"#, None);
    let updates = (0..64).map(|_| {
        let (mut wire, update) = (Wire::to(service.address()), update.clone());
        tokio::spawn(async move {
            loop {
                match wire.ask(&update).await {
                    Outcome::Answered(reply) if reply.status == 503 => {}
                    Outcome::Answered(reply) if reply.status == 200 => return,
                    other => panic!("{other:?}"),
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
    });
    let updates: Vec<_> = updates.collect();
    sleep(form.seconds(2, 10)).await;
    let end = Instant::now();
    lock.release().await;
    for update in updates {
        update.await.unwrap();
    }
    let others = others.stop();

    let mut report = Report::default();
    let p99 = others.percentile(CREATES, locked, end, 0.99);
    report.within("p99 of others' creates", p99, OTHERS);
    report.at_most("others' creates that failed", count(failures(&others)), 0.0);
    others.judge(&service.sql().await, &mut report).await;
    report
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many requests")]
fn count(count: usize) -> f64 {
    count as f64
}

#[tokio::test]
async fn doctors_are_served_while_the_table_of_patients_is_locked() {
    table(Form::Short).await.assert();
}

#[tokio::test]
async fn every_update_of_a_locked_row_is_made_when_it_is_free() {
    row(Form::Short).await.assert();
}
