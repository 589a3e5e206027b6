//! What clients see of patients while everything around them fails is a history that one copy of
//! each, changed by one request after the other, could have had.
//!
//! A patient is a register: changes write values that are used once, reads return them. The list
//! of patients is a set, and each member of it a register that a create writes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::api::harness::processes::Frozen;
use crate::api::harness::{Cluster, Proxy, random};
use crate::history::{Action, Moment, Operation, UNKNOWN, check};
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

const REGISTERS: usize = 8;
const CLIENTS: usize = 12;
/// What a register holds at first.
const INITIAL: &str = "initial";
const PAUSE: Duration = Duration::from_millis(3);
/// The set stays small, because each read of it is one of each member.
const PAUSE_OF_SET: Duration = Duration::from_millis(80);

pub async fn registers(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let proxy = Proxy::to(cluster.socket());
    let service = Service::behind(&proxy, &cluster, &[]).await;
    let workload = Workload::start(&service).await;
    for _ in 0..form.pick(1, 8) {
        faults(&service, &cluster, &proxy).await;
    }
    workload.stop(&service).await
}

/// Each for a moment, with as long a time between them.
async fn faults(service: &Service, cluster: &Cluster, proxy: &Proxy) {
    let moment = Duration::from_millis(500);
    sleep(moment).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'healthcare'";
    service.sql().await.batch_execute(sql).await.unwrap();
    sleep(moment).await;
    proxy.reset();
    sleep(moment).await;
    proxy.delay(Duration::from_millis(5));
    sleep(moment).await;
    proxy.delay(Duration::ZERO);
    proxy.hold(true);
    sleep(moment).await;
    proxy.hold(false);
    sleep(moment).await;
    proxy.lead_to(None);
    sleep(moment).await;
    proxy.lead_to(Some(&cluster.socket()));
    sleep(moment).await;
    let frozen = Frozen::new(cluster.data());
    sleep(moment).await;
    drop(frozen);
    sleep(moment).await;
    cluster.kill();
    sleep(moment / 2).await;
    cluster.start_again();
    service.ready().await;
    sleep(moment).await;
}

pub async fn registers_of_a_service(form: Form) -> Report {
    let cluster = cluster(form, &[]).await;
    let mut service = Service::beside(&cluster, &[]).await;
    let workload = Workload::start(&service).await;
    for round in 0..form.pick(2, 30) {
        sleep(Duration::from_millis(300 + round * 37 % 400)).await;
        service.kill();
        service.begin();
        service.ready().await;
    }
    sleep(Duration::from_millis(300)).await;
    workload.stop(&service).await
}

/// Clients that write and read, on a thread of their own.
struct Workload {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<Seen>>,
}

struct Shared {
    address: SocketAddr,
    /// One user has the registers, another the set.
    tokens: [String; 2],
    ids: Vec<i64>,
    clock: AtomicU64,
    stopped: AtomicBool,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    registers: Vec<(usize, Operation<String>)>,
    creates: Vec<(String, Operation<bool>)>,
    lists: Vec<(Moment, Moment, HashSet<String>)>,
    /// The names that were sent, whatever became of them.
    names: Vec<String>,
}

/// What became of a request, and between which moments.
enum Asked {
    Done(Moment, Moment, Value),
    Unknown(Moment),
    NotDone,
}

impl Shared {
    fn now(&self) -> Moment {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn ask(&self, wire: &mut Wire, user: usize, request: (&str, &str, &str)) -> Asked {
        let (method, target, body) = request;
        let bytes = self::request(method, target, &self.tokens[user], body, None);
        let call = self.now();
        let outcome = wire.ask(&bytes).await;
        let answer = self.now();
        match outcome {
            Outcome::Answered(reply) if (200..300).contains(&reply.status) => {
                Asked::Done(call, answer, serde_json::from_slice(&reply.body).unwrap())
            }
            Outcome::Answered(reply) if reply.status != 503 => panic!("{reply:?}"),
            Outcome::Answered(reply) if reply.code() != "outcome_unknown" => Asked::NotDone,
            Outcome::Answered(_) | Outcome::Broken(_) => Asked::Unknown(call),
            Outcome::NotSent => {
                sleep(Duration::from_millis(5)).await;
                Asked::NotDone
            }
        }
    }

    /// Writes and reads registers.
    async fn use_registers(&self, number: usize) -> Seen {
        let (mut wire, mut seen) = (Wire::to(self.address), Seen::default());
        for turn in number.. {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let register = turn * 5 % REGISTERS;
            let target = format!("/api/patients/{}", self.ids[register]);
            if turn % 2 == 0 {
                let value = random();
                let body = json!({"notes": value}).to_string();
                let written = self.ask(&mut wire, 0, ("PATCH", &target, &body)).await;
                let (call, answer) = match written {
                    Asked::Done(call, answer, _) => (call, answer),
                    Asked::Unknown(call) => (call, UNKNOWN),
                    Asked::NotDone => continue,
                };
                let action = Action::Write(value);
                seen.registers.push((register, Operation { call, answer, action }));
            } else if let Asked::Done(call, answer, patient) =
                self.ask(&mut wire, 0, ("GET", &target, "")).await
            {
                let action = Action::Read(patient["notes"].as_str().unwrap().to_owned());
                seen.registers.push((register, Operation { call, answer, action }));
            }
            sleep(PAUSE).await;
        }
        seen
    }

    /// Adds to the set and reads all of it.
    async fn use_set(&self) -> Seen {
        let (mut wire, mut seen) = (Wire::to(self.address), Seen::default());
        while !self.stopped.load(Ordering::Relaxed) {
            let name = random();
            let body = json!({"name": name}).to_string();
            let created = self.ask(&mut wire, 1, ("POST", "/api/patients", &body)).await;
            seen.names.push(name.clone());
            let times = match created {
                Asked::Done(call, answer, _) => Some((call, answer)),
                Asked::Unknown(call) => Some((call, UNKNOWN)),
                Asked::NotDone => None,
            };
            if let Some((call, answer)) = times {
                let action = Action::Write(true);
                seen.creates.push((name, Operation { call, answer, action }));
            }
            let list = self.ask(&mut wire, 1, ("GET", "/api/patients", "")).await;
            if let Asked::Done(call, answer, list) = list {
                let names = list.as_array().unwrap().iter();
                let names: Vec<_> =
                    names.map(|patient| patient["name"].as_str().unwrap().to_owned()).collect();
                let distinct: HashSet<_> = names.iter().cloned().collect();
                assert_eq!(names.len(), distinct.len(), "a patient is in a list twice");
                seen.lists.push((call, answer, distinct));
            }
            sleep(PAUSE_OF_SET).await;
        }
        seen
    }
}

impl Workload {
    async fn start(service: &Service) -> Self {
        let tokens: [String; 2] = service.users(2).await.try_into().unwrap();
        let client = service.client().with_token(&tokens[0]);
        let mut ids = Vec::new();
        for _ in 0..REGISTERS {
            let patient = json!({"name": "Register", "notes": INITIAL});
            ids.push(client.post("/api/patients", &patient).await.expect(201).id());
        }
        let (clock, stopped) = (AtomicU64::new(1), AtomicBool::new(false));
        let shared = Shared { address: service.address(), tokens, ids, clock, stopped };
        let shared = Arc::new(shared);
        let used = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let registers = join_all((0..CLIENTS).map(|number| used.use_registers(number)));
                let sets = join_all((0..3).map(|_| used.use_set()));
                let (registers, sets) = tokio::join!(registers, sets);
                registers.into_iter().chain(sets).collect()
            })
        });
        Self { shared, thread }
    }

    /// Ends the workload, reads the table as its last reader, and checks each history.
    async fn stop(self, service: &Service) -> Report {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        let mut histories: Vec<Vec<_>> = (0..REGISTERS).map(|_| Vec::new()).collect();
        let (mut members, mut lists) = (HashMap::new(), Vec::new());
        for seen in seen {
            for (register, operation) in seen.registers {
                histories[register].push(operation);
            }
            for name in seen.names {
                members.entry(name).or_insert_with(Vec::new);
            }
            for (name, create) in seen.creates {
                members.get_mut(&name).unwrap().push(create);
            }
            lists.extend(seen.lists);
        }
        let call = self.shared.now();
        let sql = service.sql().await;
        let rows = sql.query("SELECT id, name, notes FROM patients", &[]).await.unwrap();
        let answer = self.shared.now();
        for row in &rows {
            let register = self.shared.ids.iter().position(|id| *id == row.get::<_, i64>(0));
            if let Some(register) = register {
                let action = Action::Read(row.get(2));
                histories[register].push(Operation { call, answer, action });
            }
        }
        lists.push((call, answer, rows.iter().map(|row| row.get(1)).collect()));
        for (name, member) in &mut members {
            for (call, answer, names) in &lists {
                let action = Action::Read(names.contains(name));
                member.push(Operation { call: *call, answer: *answer, action });
            }
        }
        report(&histories, &members, lists.len())
    }
}

fn report(
    registers: &[Vec<Operation<String>>],
    members: &HashMap<String, Vec<Operation<bool>>>,
    lists: usize,
) -> Report {
    let operations = || registers.iter().flatten();
    let unknown = operations().filter(|operation| operation.answer == UNKNOWN).count();
    let is_read = |operation: &&Operation<_>| matches!(operation.action, Action::Read(_));
    let reads = operations().filter(is_read).count();
    let mut wrong = Vec::new();
    for history in registers {
        wrong.extend(check(&INITIAL.to_owned(), history).err());
    }
    let lone = wrong.len();
    for history in members.values() {
        wrong.extend(check(&false, history).err());
    }
    let mut report = Report::default();
    report.tell("writes", &(operations().count() - reads));
    report.tell("of unknown outcome", &unknown);
    report.tell("reads", &reads);
    report.tell("creates, and reads of the whole list", &format!("{}, {lists}", members.len()));
    report.none("patients whose history cannot have been", lone);
    report.none("members of the list whose history cannot have been", wrong.len() - lone);
    if let Some(first) = wrong.first() {
        report.tell("the first of these", &first);
    }
    report
}

#[tokio::test]
async fn what_clients_see_while_the_database_fails_is_linearizable() {
    registers(Form::Short).await.assert();
}

#[tokio::test]
async fn what_clients_see_while_the_service_is_killed_is_linearizable() {
    registers_of_a_service(Form::Short).await.assert();
}
