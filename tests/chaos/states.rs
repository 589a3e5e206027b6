//! States of the database in which it can do less than usual.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::api::harness::random;
use crate::load::{CREATES, Kind, Load, MIXED, Plan, READS, Status};
use crate::report::{Form, Report};
use crate::stage::{Service, cluster, connect};

const SECOND: Duration = Duration::from_secs(1);

fn plan(clients: usize, kinds: &'static [Kind]) -> Plan {
    Plan { clients, kinds, pause: Duration::from_millis(10) }
}

pub async fn read_only(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let users = service.users(4).await;
    let reads = Load::start(service.address(), &users, plan(8, READS));
    let writes = Load::start(service.address(), &users, plan(4, CREATES));
    sleep(SECOND).await;
    let superuser = service.sql().await;
    let switch = async |value: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        superuser.batch_execute(&sql).await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    switch("on").await;
    let begin = Instant::now();
    sleep(form.seconds(2, 5)).await;
    let end = Instant::now();
    switch("off").await;
    sleep(2 * SECOND).await;
    let (mut reads, writes) = (reads.stop(), writes.stop());

    let mut report = Report::default();
    let p99 = reads.percentile(&[Kind::Get, Kind::Page], begin, end, 0.99);
    report.within("p99 of reads", p99, Duration::from_millis(10));
    let read_only = Status::Unavailable("read_only".to_owned());
    let refused = writes.count(|event| event.status == read_only);
    report.holds("creates refused as read_only", &refused, "some", refused > 0);
    report.within("creates succeed after", writes.first_success(CREATES, end) - end, SECOND);
    let failed = |event: &crate::load::Event| event.status != Status::Success;
    report.none(
        "reads that failed",
        reads.count(|event| event.kind != Kind::Create && failed(event)),
    );
    reads.merge(writes);
    reads.judge(&superuser, &mut report).await;
    report
}

pub async fn connections_taken(form: Form) -> Report {
    let cluster = cluster(form, &["-c", "max_connections=60"]).await;
    let service = Service::beside(&cluster, &[]).await;
    let load = Load::start(service.address(), &service.users(4).await, plan(8, MIXED));
    sleep(SECOND).await;
    let superuser = service.sql().await;
    let config = cluster.config("postgres", "postgres");
    let mut taken = Vec::new();
    loop {
        if let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await {
            tokio::spawn(connection);
            taken.push(client);
            continue;
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE usename = 'healthcare'";
        if superuser.query(sql, &[]).await.unwrap().is_empty() {
            break;
        }
    }
    let begin = Instant::now();
    sleep(form.seconds(2, 5)).await;
    let end = Instant::now();
    drop(taken);
    sleep(3 * SECOND).await;
    let outcomes = load.stop();

    let mut report = Report::default();
    let slowest = outcomes.slowest(MIXED, begin, end);
    report.within("slowest answer", slowest, Duration::from_millis(2500));
    for (kinds, name) in [(READS, "reads"), (CREATES, "creates")] {
        let back = outcomes.first_success(kinds, end) - end;
        report.within(&format!("{name} succeed after"), back, SECOND);
    }
    let unavailable = |status: &Status| matches!(status, Status::Unavailable(_));
    let refused = outcomes.count(|event| unavailable(&event.status));
    report.holds("requests refused", &refused, "some", refused > 0);
    outcomes.judge(&connect(&cluster.config("postgres", "healthcare")).await, &mut report).await;
    report
}

/// In the long form only, because mounting a disk that is small enough needs root.
pub async fn disk_full(form: Form) -> Report {
    let mut report = Report::default();
    let Some(disk) = SmallDisk::mount() else {
        report.holds("not run", "a small disk cannot be mounted", "root", false);
        return report;
    };
    let data = disk.0.join("data");
    let service = Service::embedded(&[("DATA_DIR", data.to_str().unwrap())]).await;
    let load = Load::start(service.address(), &service.users(4).await, plan(8, MIXED));
    sleep(SECOND).await;
    disk.fill();
    let full = Instant::now();
    sleep(form.seconds(3, 20)).await;
    let end = Instant::now();
    disk.free();
    sleep(4 * SECOND).await;
    let outcomes = load.stop();

    let slowest = outcomes.slowest(MIXED, full, end);
    report.within("slowest answer", slowest, Duration::from_millis(2500));
    let back = outcomes.first_success(CREATES, end) - end;
    report.within("creates succeed after", back, SECOND);
    let unavailable = |status: &Status| matches!(status, Status::Unavailable(_));
    let refused = outcomes.count(|event| unavailable(&event.status));
    report.holds("requests refused", &refused, "some", refused > 0);
    outcomes.judge(&service.sql().await, &mut report).await;
    drop(service);
    report
}

/// A disk in memory, which is unmounted with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("healthcare-disk-{}", random()));
        fs::create_dir(&folder).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=192m,mode=755", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(&folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        fs::remove_dir(&folder).unwrap();
        None
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        let ballast = self.0.join("ballast");
        fs::remove_file(ballast).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn reads_go_on_and_changes_are_refused_while_the_database_is_read_only() {
    read_only(Form::Short).await.assert();
}

#[tokio::test]
async fn the_service_is_back_when_connections_are_free_that_others_had_taken() {
    connections_taken(Form::Short).await.assert();
}
