//! A mixed load that remembers all it was told, on a thread of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::ledger::{Ledger, Told};
use crate::report::Report;
use crate::wire::{Outcome, Wire, request};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Get,
    Page,
    Update,
    Delete,
    Doctors,
    Live,
    Ready,
}

/// Of everything, more reads than writes.
pub const MIXED: &[Kind] = &[
    Kind::Create,
    Kind::Get,
    Kind::Get,
    Kind::Page,
    Kind::Update,
    Kind::Get,
    Kind::Doctors,
    Kind::Create,
    Kind::Get,
    Kind::Update,
    Kind::Page,
    Kind::Delete,
];
pub const READS: &[Kind] = &[Kind::Get, Kind::Get, Kind::Get, Kind::Page];
pub const CREATES: &[Kind] = &[Kind::Create];
pub const PATIENTS: &[Kind] = &[Kind::Create, Kind::Get, Kind::Update, Kind::Get, Kind::Page];

/// What became of one request.
pub struct Event {
    pub kind: Kind,
    pub sent: Instant,
    pub took: Duration,
    pub status: Status,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    /// 503 with this code.
    Unavailable(String),
    /// An answer that no fault excuses.
    Wrong(String),
    /// The connection ended without a whole answer.
    Broken,
    NotSent,
}

/// How clients ask.
#[derive(Clone, Copy)]
pub struct Plan {
    pub clients: usize,
    pub kinds: &'static [Kind],
    /// Between an answer and the next request, so that answers are not late only because all
    /// processors are busy.
    pub pause: Duration,
}

pub struct Load {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Outcomes>,
}

/// What a load was told.
#[derive(Default)]
pub struct Outcomes {
    pub events: Vec<Event>,
    pub ledger: Ledger,
}

impl Load {
    /// Clients of these users, each with a connection and patients of its own.
    pub fn start(address: SocketAddr, users: &[String], plan: Plan) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, users) = (Arc::clone(&stopped), users.to_vec());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let clients = (0..plan.clients).map(|number| {
                    let token = users[number % users.len()].clone();
                    let wire = Wire::to(address);
                    run(wire, token, number, plan, &stop)
                });
                let mut outcomes = Outcomes::default();
                for (events, ledger) in join_all(clients).await {
                    outcomes.merge(Outcomes { events, ledger });
                }
                outcomes.events.sort_by_key(|event| event.sent);
                outcomes
            })
        });
        Self { stopped, thread }
    }

    /// Ends after the requests that are under way.
    pub fn stop(self) -> Outcomes {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn run(
    mut wire: Wire,
    token: String,
    number: usize,
    plan: Plan,
    stopped: &AtomicBool,
) -> (Vec<Event>, Ledger) {
    let (mut events, mut ledger) = (Vec::new(), Ledger::default());
    for turn in number.. {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let kind = plan.kinds[turn % plan.kinds.len()];
        // Without a patient there must be one first.
        let task = ledger.next(kind, turn).or_else(|| ledger.next(Kind::Create, turn));
        let task = task.unwrap();
        let bytes = request(task.method, &task.target, &token, &task.body, None);
        let sent = Instant::now();
        let outcome = wire.ask(&bytes).await;
        let took = sent.elapsed();
        let not_sent = matches!(outcome, Outcome::NotSent);
        let status = judge(&outcome);
        let told = match &status {
            Status::Success => Told::Done,
            Status::Wrong(_) | Status::NotSent => Told::NotDone,
            Status::Unavailable(code) if code != "outcome_unknown" => Told::NotDone,
            Status::Unavailable(_) | Status::Broken => Told::Unknown,
        };
        let body = match &outcome {
            Outcome::Answered(reply) => &reply.body[..],
            _ => &[],
        };
        ledger.note(&task, told, body);
        events.push(Event { kind: task.kind, sent, took, status });
        sleep(if not_sent { Duration::from_millis(5) } else { plan.pause }).await;
    }
    (events, ledger)
}

fn judge(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::NotSent => Status::NotSent,
        Outcome::Broken(_) => Status::Broken,
        Outcome::Answered(reply) if (200..300).contains(&reply.status) => Status::Success,
        Outcome::Answered(reply) if reply.status == 503 => Status::Unavailable(reply.code()),
        Outcome::Answered(reply) => Status::Wrong(format!("{} {}", reply.status, reply.code())),
    }
}

impl Outcomes {
    /// What must hold under every fault: each request is a success or 503, and what was
    /// acknowledged is in the table.
    pub async fn judge(&self, sql: &tokio_postgres::Client, report: &mut Report) {
        let mut wrong = self.wrong();
        let broken = self.count(|event| event.status == Status::Broken);
        if broken > 0 {
            wrong.insert("no answer".to_owned(), broken);
        }
        self.report(&wrong, report);
        self.ledger.compare(sql, report).await;
    }

    /// As [`judge`](Self::judge), where the service is killed and may leave requests unanswered.
    pub async fn judge_answered(&self, sql: &tokio_postgres::Client, report: &mut Report) {
        self.report(&self.wrong(), report);
        self.ledger.compare(sql, report).await;
    }

    fn report(&self, wrong: &BTreeMap<String, usize>, report: &mut Report) {
        report.tell("requests", &self.events.len());
        let figure = if wrong.is_empty() { "none".to_owned() } else { format!("{wrong:?}") };
        report.holds("answers but success and 503", &figure, "none", wrong.is_empty());
    }

    /// The slowest answer to the requests of these kinds that were sent from one moment to another.
    pub fn slowest(&self, kinds: &[Kind], from: Instant, to: Instant) -> Duration {
        self.answers(kinds, from, to).max().unwrap_or_default()
    }

    /// The time within which a share of the answers came.
    pub fn percentile(&self, kinds: &[Kind], from: Instant, to: Instant, share: f64) -> Duration {
        percentile(self.answers(kinds, from, to).collect(), share)
    }

    fn answers(
        &self,
        kinds: &[Kind],
        from: Instant,
        to: Instant,
    ) -> impl Iterator<Item = Duration> {
        let asked =
            move |event: &&Event| kinds.contains(&event.kind) && (from..to).contains(&event.sent);
        let answered = |event: &&Event| event.status != Status::NotSent;
        self.events.iter().filter(asked).filter(answered).map(|event| event.took)
    }

    /// Successes each second of a time.
    pub fn rate(&self, from: Instant, to: Instant) -> f64 {
        let ended = |event: &&Event| (from..to).contains(&(event.sent + event.took));
        let successes = self.events.iter().filter(|event| event.status == Status::Success);
        #[expect(clippy::cast_precision_loss, reason = "there are not that many requests")]
        let count = successes.filter(ended).count() as f64;
        count / (to - from).as_secs_f64()
    }

    pub fn merge(&mut self, other: Self) {
        self.events.extend(other.events);
        self.ledger.merge(other.ledger);
    }

    pub fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| is(event)).count()
    }

    /// The answers that no fault excuses, each with its number.
    fn wrong(&self) -> BTreeMap<String, usize> {
        let mut wrong = BTreeMap::new();
        for event in &self.events {
            if let Status::Wrong(text) = &event.status {
                *wrong.entry(format!("{:?} {text}", event.kind)).or_default() += 1;
            }
        }
        wrong
    }

    /// When the first answer came that was a success and sent after a moment; much later if none
    /// did.
    pub fn first_success(&self, kinds: &[Kind], after: Instant) -> Instant {
        let success = |event: &&Event| {
            event.sent >= after && event.status == Status::Success && kinds.contains(&event.kind)
        };
        let ends = self.events.iter().filter(success).map(|event| event.sent + event.took);
        ends.min().unwrap_or(after + Duration::from_secs(3600))
    }
}

/// The time within which a share of all came.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there are not that many requests"
)]
pub fn percentile(mut all: Vec<Duration>, share: f64) -> Duration {
    all.sort_unstable();
    let at = ((all.len() as f64) * share).ceil() as usize;
    all.get(at.saturating_sub(1)).copied().unwrap_or_default()
}
