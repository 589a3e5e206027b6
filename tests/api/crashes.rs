//! Crashes with the embedded database: whatever dies, acknowledged writes survive.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use healthcare_backend::db::embedded::programs::Programs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::processes::{self, processes_in};
use crate::harness::program::{Program, Workplace};
use crate::harness::{Client, until, wait_until};

/// The postmaster, from PostgreSQL's pid file.
fn postmaster(data: &Path) -> Pid {
    let notes = fs::read_to_string(data.join("cluster/postmaster.pid")).unwrap();
    Pid::from_raw(notes.lines().next().unwrap().parse().unwrap()).unwrap()
}

/// A user with a patient, and the patient as it was acknowledged.
async fn begin(program: &Program) -> (Client, Vec<Value>) {
    let ada = program.client().registered("ada@example.com").await;
    let mut acknowledged = Vec::new();
    write(&ada, &mut acknowledged).await;
    (ada, acknowledged)
}

/// Creates another patient.
async fn write(client: &Client, acknowledged: &mut Vec<Value>) {
    let patient = json!({"name": format!("Patient {}", acknowledged.len())});
    acknowledged.push(client.post("/api/patients", &patient).await.expect(201).json());
}

/// Everything acknowledged is readable with the token from before.
async fn check(program: &Program, ada: &Client, acknowledged: &[Value]) {
    let ada = program.client().with_token(ada.token());
    let list = ada.get("/api/patients").await.expect(200).json();
    assert_eq!(list.as_array().unwrap(), acknowledged);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_service_and_database_die_together() {
    let workplace = Workplace::new();
    let mut program = workplace.serve(&[]);
    let (ada, mut acknowledged) = begin(&program).await;
    for _ in 0..2 {
        write(&program.client().with_token(ada.token()), &mut acknowledged).await;
        program.kill();
        processes::kill(&workplace.data().join("cluster"));
        program = workplace.serve(&[]);
        check(&program, &ada, &acknowledged).await;
    }
    program.stop();
}

#[tokio::test]
async fn an_orphan_of_a_service_that_died_is_stopped_and_started_anew() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    program.kill();
    let orphan = postmaster(&workplace.data());
    assert!(processes_in(&workplace.data().join("cluster")).contains(&orphan), "it lives on");

    let program = workplace.serve(&[]);
    check(&program, &ada, &acknowledged).await;
    assert_ne!(postmaster(&workplace.data()), orphan);
    assert!(!processes_in(&workplace.data().join("cluster")).contains(&orphan));
    program.stop();
    assert_eq!(processes_in(&workplace.data().join("cluster")), []);
}

#[tokio::test]
async fn a_command_uses_the_data_of_a_service_that_died() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    program.kill();
    let ended = workplace.run(&["admin", "ada@example.com"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(processes_in(&workplace.data().join("cluster")), [], "the orphan was stopped too");
    let program = workplace.serve(&[]);
    check(&program, &ada, &acknowledged).await;
    program.stop();
}

#[tokio::test]
async fn a_database_that_dies_alone_is_started_again_by_the_service() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let (ada, mut acknowledged) = begin(&program).await;
    for all in [false, true, false] {
        let dead = postmaster(&workplace.data());
        if all {
            processes::kill(&workplace.data().join("cluster"));
        } else {
            kill_process(dead, Signal::KILL).unwrap();
        }
        until("the service answers again", async || {
            let answer = ada.get("/api/patients").await;
            assert!([200, 503].contains(&answer.status.as_u16()), "{answer:?}");
            (answer.status == 200 && postmaster_is_new(&workplace.data(), dead)).then_some(())
        })
        .await;
        check(&program, &ada, &acknowledged).await;
        write(&ada, &mut acknowledged).await;
    }
    let ended = program.stop();
    assert!(ended.stdout.contains("starting it again"), "{ended:?}");
    assert_eq!(processes_in(&workplace.data().join("cluster")), []);
}

#[tokio::test]
async fn a_backend_that_hangs_when_the_postmaster_dies_does_not_keep_the_database_down() {
    let workplace = Workplace::new();
    let mut program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    for service_dies in [false, true] {
        let (dead, cluster) = (postmaster(&workplace.data()), workplace.data().join("cluster"));
        let hangs = processes_in(&cluster).into_iter().find(|pid| *pid != dead).unwrap();
        kill_process(hangs, Signal::STOP).unwrap();
        kill_process(dead, Signal::KILL).unwrap();
        if service_dies {
            program.kill();
            program = workplace.serve(&[]);
        }
        until("the service is back", async || {
            let answer = program.client().get("/health/ready").await;
            (answer.status == 200 && postmaster_is_new(&workplace.data(), dead)).then_some(())
        })
        .await;
        assert!(!processes_in(&cluster).contains(&hangs));
        check(&program, &ada, &acknowledged).await;
    }
    program.stop();
}

/// Whether another postmaster reports that it is ready.
fn postmaster_is_new(data: &Path, dead: Pid) -> bool {
    let notes = fs::read_to_string(data.join("cluster/postmaster.pid")).unwrap_or_default();
    let pid = notes.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
    pid.is_some_and(|pid| pid != dead)
}

#[tokio::test]
async fn what_a_crash_left_of_an_unfinished_cluster_is_cleaned_up() {
    let workplace = Workplace::new();
    let unfinished = workplace.data().join("cluster.new");
    fs::create_dir_all(unfinished.join("base")).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    check(&program, &ada, &acknowledged).await;
    assert!(!unfinished.exists());
    program.stop();
}

#[tokio::test]
async fn a_start_succeeds_at_once_after_a_crash_in_the_middle_of_the_first() {
    let workplace = Workplace::new();
    let program = Program::spawn(workplace.command(&[], &[]));
    being_made(&workplace);
    program.kill();
    let program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    check(&program, &ada, &acknowledged).await;
    program.stop();
}

#[tokio::test]
async fn a_stop_in_the_middle_of_the_first_start_leaves_nothing_that_runs() {
    let workplace = Workplace::new();
    let program = Program::spawn(workplace.command(&[], &[]));
    being_made(&workplace);
    assert_eq!(program.stop().stderr, "");
    assert_eq!(processes_in(&workplace.data().join("cluster")), []);
    let program = workplace.serve(&[]);
    program.client().get("/health/ready").await.expect(200);
    program.stop();
}

/// Waits until `initdb` runs.
fn being_made(workplace: &Workplace) {
    wait_until("the cluster is being made", || {
        let folders = fs::read_dir(workplace.data()).into_iter().flatten().flatten();
        let mut clusters = folders
            .map(|folder| folder.path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("cluster"));
        clusters.any(|cluster| cluster.join("PG_VERSION").exists()).then_some(())
    });
}

#[tokio::test]
async fn stale_notes_with_the_id_of_a_living_process_do_not_stop_a_start() {
    let workplace = Workplace::new();
    let program = workplace.serve(&[]);
    let (ada, acknowledged) = begin(&program).await;
    program.kill();
    processes::kill(&workplace.data().join("cluster"));
    // After a reboot, any process may have the recorded id. PostgreSQL only considers those of its
    // own user.
    let mut other = Command::new("sleep");
    other.arg("600").current_dir(workplace.path());
    if let Some(user) = Programs::find(None, None).unwrap().user() {
        other.uid(user.uid).gid(user.gid);
    }
    let mut other = other.spawn().unwrap();
    for note in ["cluster/postmaster.pid", "run/.s.PGSQL.5432.lock"] {
        let file = workplace.data().join(note);
        let notes = fs::read_to_string(&file).unwrap();
        let (_, rest) = notes.split_once('\n').unwrap();
        fs::write(&file, format!("{}\n{rest}", other.id())).unwrap();
    }

    let program = workplace.serve(&[]);
    check(&program, &ada, &acknowledged).await;
    program.stop();
    assert!(other.try_wait().unwrap().is_none(), "a stranger was stopped");
    other.kill().unwrap();
    other.wait().unwrap();
}
