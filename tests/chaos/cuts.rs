//! Connections to the database that are cut in the middle of a create.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::api::harness::proxy::Cut;
use crate::api::harness::{Proxy, random};
use crate::ledger::{Ledger, Told};
use crate::load::Kind;
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

/// What the statements have in common that create patients, one or many.
const STATEMENT: &str = "INSERT INTO patients";
/// Bind, Execute and Sync there; `BindComplete`, a row for each patient, `CommandComplete` and
/// `ReadyForQuery` back.
const MESSAGES_OF_ONE: usize = 7;
/// More than a Bind of one patient and its answer have.
const BYTES_OF_ONE: usize = 900;

pub async fn without_keys(form: Form) -> Report {
    cuts(form, false).await
}

/// Each create is repeated with its key until it succeeds.
pub async fn with_keys(form: Form) -> Report {
    cuts(form, true).await
}

async fn cuts(form: Form, keys: bool) -> Report {
    let cluster = cluster(form, &[]).await;
    let proxy = Proxy::for_statement(cluster.socket(), STATEMENT);
    let service = Service::behind(&proxy, &cluster, &[("WORKERS", "2")]).await;
    let users = service.users(8).await;
    let mut alone = Client::new(&service, &users[0], keys);
    for turn in 0..form.pick(24, 500) {
        alone.create(&proxy, turn, 1).await;
    }
    let cut_alone = proxy.cuts();
    let clients = (0..32).map(async |number| {
        let mut client = Client::new(&service, &users[number % users.len()], keys);
        for turn in 0..form.pick(3, 16) {
            client.create(&proxy, number + 7 * turn, 8).await;
        }
        client
    });
    let batches = join_all(clients).await;
    let cut_in_batches = proxy.cuts() - cut_alone;

    let mut report = Report::default();
    report.tell("cut alone", &cut_alone);
    report.tell("cut in batches", &cut_in_batches);
    let enough = cut_alone > 0 && cut_in_batches > 0;
    report.holds("both were cut", if enough { "yes" } else { "no" }, "yes", enough);
    let (mut ledger, mut unknown) = (Ledger::default(), 0);
    for client in [alone].into_iter().chain(batches) {
        unknown += client.unknown;
        ledger.merge(client.ledger);
    }
    report.tell("of unknown outcome", &unknown);
    ledger.compare(&service.sql().await, &mut report).await;
    report
}

struct Client<'a> {
    wire: Wire,
    token: &'a str,
    keys: bool,
    ledger: Ledger,
    unknown: usize,
}

impl<'a> Client<'a> {
    fn new(service: &Service, token: &'a str, keys: bool) -> Self {
        let wire = Wire::to(service.address());
        Self { wire, token, keys, ledger: Ledger::default(), unknown: 0 }
    }

    /// Creates a patient while the exchange of the next statement is cut at a place that depends on
    /// the turn.
    async fn create(&mut self, proxy: &Proxy, turn: usize, patients: usize) {
        let task = self.ledger.next(Kind::Create, turn).unwrap();
        let key = self.keys.then(random);
        let request = request(task.method, &task.target, self.token, &task.body, key.as_deref());
        let deadline = Instant::now() + Duration::from_secs(60);
        proxy.cut(if turn % 4 == 3 {
            Cut::AfterBytes(turn * 61 % (BYTES_OF_ONE * patients))
        } else {
            Cut::AfterMessages(turn % (MESSAGES_OF_ONE + patients))
        });
        loop {
            let Outcome::Answered(reply) = self.wire.ask(&request).await else {
                panic!("no answer");
            };
            let told = match (reply.status, reply.code().as_str()) {
                (201, _) => Told::Done,
                (503, "outcome_unknown") => Told::Unknown,
                (503, _) | (409, "idempotency_in_progress") => Told::NotDone,
                (status, code) => panic!("{status} {code}"),
            };
            self.ledger.note(&task, told, &reply.body);
            self.unknown += usize::from(told == Told::Unknown);
            if !self.keys || told == Told::Done {
                return;
            }
            assert!(Instant::now() < deadline, "it never succeeds");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_create_whose_connection_is_cut_is_there_once_if_it_was_acknowledged() {
    without_keys(Form::Short).await.assert();
}

#[tokio::test]
async fn a_create_that_is_repeated_with_its_key_is_there_exactly_once() {
    with_keys(Form::Short).await.assert();
}
