//! More requests than can be served. Clients do not wait for answers before they send more (an open
//! loop), because real ones do not either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::load::percentile;
use crate::report::{Form, Report};
use crate::stage::{Service, cluster};
use crate::wire::{Outcome, Wire, request};

/// As many clients as the most is served at, depending on the machine.
const BUSY_CLIENTS: [usize; 2] = [64, 256];
const QUICK: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(1);

pub async fn open_loop(form: Form) -> Report {
    let mut own = getrlimit(Resource::Nofile);
    own.current = own.maximum;
    setrlimit(Resource::Nofile, own).unwrap();
    let cluster = cluster(form, &[]).await;
    let service = Service::beside(&cluster, &[]).await;
    let users = service.users(form.pick(8, 64)).await;
    let time = form.seconds(1, 10);
    let run = |clients, rate, time| {
        let (address, users) = (service.address(), users.clone());
        // On a thread of its own, so that the health checks do not wait for the load.
        thread::spawn(move || requests(address, &users, clients, rate, time))
    };
    // The most that it serves, by what is the most at the moment: a machine that others share is not
    // equally fast all the time.
    let peak = || {
        let rate = |clients| run(clients, None, time / 2).join().unwrap().rate(time / 2);
        BUSY_CLIENTS.map(rate).into_iter().fold(0.0, f64::max)
    };
    let mut report = Report::default();
    let mut before = peak();
    for clients in form.pick(&[64, 256][..], &[512, 2048, 8192]) {
        let load = run(*clients, Some(3.0 * before), time);
        let live = health(service.address(), &load).await;
        let seen = load.join().unwrap();
        let after = peak();
        let of = |what: &str| format!("{clients} connections: {what}");
        report.tell(&of("peaks before and after"), &format!("{before:.0}/s, {after:.0}/s"));
        report.tell(&of("requests a second"), &format!("{:.0}", seen.sent(time)));
        let share = seen.rate(time) / f64::midpoint(before, after);
        report.share(&of("share of the peak"), share, 0.9);
        report.tell(&of("refused"), &seen.refused.len());
        report.within(&of("p99 of refusals"), percentile(seen.refused, 0.99), QUICK);
        report.tell_time(&of("p99 of creates"), percentile(seen.created, 0.99));
        report.within(&of("p99 of live"), percentile(live, 0.99), QUICK);
        report.none(&of("other answers"), seen.other);
        before = after;
    }
    report
}

/// The times of answers.
#[derive(Default)]
struct Seen {
    created: Vec<Duration>,
    refused: Vec<Duration>,
    /// Answers but 201 and 503, and connections that broke.
    other: usize,
}

impl Seen {
    /// Creates a second.
    #[expect(clippy::cast_precision_loss, reason = "there are not that many requests")]
    fn rate(&self, time: Duration) -> f64 {
        self.created.len() as f64 / time.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "there are not that many requests")]
    fn sent(&self, time: Duration) -> f64 {
        (self.created.len() + self.refused.len()) as f64 / time.as_secs_f64()
    }
}

/// Creates patients on this many connections, at a rate if there is one, else as fast as it goes.
fn requests(
    address: SocketAddr,
    users: &[String],
    clients: usize,
    rate: Option<f64>,
    time: Duration,
) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let turns = Arc::new(Semaphore::new(0));
        let mut wires: Vec<_> = (0..clients).map(|_| Wire::to(address)).collect();
        // A few at a time, because this is not about a storm of new connections.
        for some in wires.chunks_mut(64) {
            for connected in join_all(some.iter_mut().map(Wire::connect)).await {
                assert!(connected);
            }
        }
        let until = Instant::now() + time;
        // Each a task of its own: within one they would share the little that one may do in a turn.
        let mut running = JoinSet::new();
        for (number, wire) in wires.into_iter().enumerate() {
            let body = format!(r#"{{"name":"Patient {number}"}}"#);
            let token = &users[number % users.len()];
            let create = request("POST", "/api/patients", token, &body, None);
            let turns = rate.is_some().then(|| Arc::clone(&turns));
            running.spawn(client(wire, create, turns, until));
        }
        pace(&turns, rate.unwrap_or_default(), clients, until).await;
        turns.add_permits(clients);
        let mut sum = Seen::default();
        for seen in running.join_all().await {
            sum.created.extend(seen.created);
            sum.refused.extend(seen.refused);
            sum.other += seen.other;
        }
        sum
    })
}

/// Creates a patient whenever it is its turn, if there are turns, until the end.
async fn client(
    mut wire: Wire,
    create: Vec<u8>,
    turns: Option<Arc<Semaphore>>,
    until: Instant,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        if let Some(turns) = &turns {
            turns.acquire().await.unwrap().forget();
        }
        let sent = Instant::now();
        if sent >= until {
            return seen;
        }
        let outcome = wire.ask(&create).await;
        if Instant::now() >= until {
            return seen;
        }
        match outcome {
            Outcome::Answered(reply) if reply.status == 201 => seen.created.push(sent.elapsed()),
            Outcome::Answered(reply) if reply.status == 503 => seen.refused.push(sent.elapsed()),
            _ => seen.other += 1,
        }
    }
}

/// Lets requests go at a rate. Those that find no connection free are not made up for.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there are not that many requests"
)]
async fn pace(turns: &Semaphore, rate: f64, clients: usize, until: Instant) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (started, mut given) = (Instant::now(), 0_usize);
    while Instant::now() < until {
        ticks.tick().await;
        let due = (started.elapsed().as_secs_f64() * rate) as usize;
        let room = clients.saturating_sub(turns.available_permits());
        turns.add_permits((due - given).min(room));
        given = due;
    }
}

/// Asks whether the process answers, on a connection of its own, until the load has ended.
async fn health(address: SocketAddr, load: &thread::JoinHandle<Seen>) -> Vec<Duration> {
    let mut wire = Wire::to(address);
    let live = request("GET", "/health/live", "", "", None);
    let mut times = Vec::new();
    while !load.is_finished() {
        let sent = Instant::now();
        let outcome = wire.ask(&live).await;
        assert!(matches!(&outcome, Outcome::Answered(reply) if reply.status == 200), "{outcome:?}");
        times.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times
}

#[tokio::test]
async fn what_is_too_much_is_refused_with_503() {
    open_loop(Form::Short).await.assert();
}
