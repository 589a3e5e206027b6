//! Batching: concurrent requests for the same kind of row share one statement, because most of the
//! cost of a short statement in PostgreSQL is per statement.
//!
//! There is no background task. While fewer statements are in flight than [`RoundTrip`] allows, a
//! request leads a batch of one and is sent immediately. Further requests queue; when a statement
//! completes, the first in the queue leads the next batch, made of everything queued. With two
//! workers and a database nearby, getting a patient went from 22,000 to 66,000 requests/s at 64
//! connections, and did not change at 1 and 8.
//!
//! The queue is bounded by time: what would hardly be served within its deadline is refused at once.
//! Users take turns in it.

mod queue;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use self::queue::FairQueue;
use super::RoundTrip;
use super::connection::STATEMENT_RESERVE;
use super::row::column;
use crate::deadline;
use crate::error::{Error, Result};
use crate::metrics::BatchMetrics;

/// How long a request may be queued before a statement takes it. It is ample: a request whose
/// deadline leaves less time has less.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// How often the queue is searched for what has waited for too long and whose turn is not near.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// The most that are released at a time: what a share of connections serves one by one before the
/// next are.
const MAX_RELEASED: usize = 16;

/// The outcome of [`Batcher::ask`].
pub enum BatchOutcome<I, O> {
    Answered(Result<O>),
    /// The statement under way is slow, so the input is handed back, to be asked for alone.
    Released(I),
    /// The leader of its batch was cancelled before there was an answer.
    Lost,
}

/// Batches inputs `I` that are each answered with an `O`.
pub struct Batcher<I, O> {
    shared: Arc<Shared<I, O>>,
    /// How long the statement under way may take beside the round trip before some of what is queued
    /// behind it is released, because another user's row may hold it up. None for reads, which no row
    /// does.
    slow_after: Option<Duration>,
}

struct Shared<I, O> {
    state: Mutex<State<I, O>>,
    /// The most requests that one statement serves, so that it stays short.
    max_batch: usize,
    /// Tells how many statements may be in flight.
    round_trip: Arc<RoundTrip>,
    metrics: Arc<BatchMetrics>,
}

struct State<I, O> {
    /// Statements in flight.
    in_flight: usize,
    pending: FairQueue<Pending<I, O>>,
    /// When a statement was last answered, or begun where none was under way.
    progress: Instant,
    swept_at: Instant,
    /// When some were last released, and how many have been since then or the progress.
    released_at: Instant,
    released: usize,
}

/// A queued request, which is told its answer or that it leads the next batch.
struct Pending<I, O> {
    input: I,
    end: Instant,
    notify: oneshot::Sender<Notice<I, O>>,
}

/// What a queued request is told. If its sender is dropped instead, its leader was cancelled.
enum Notice<I, O> {
    Answer(Result<O>),
    Lead(Batch<I, O>),
    Release(I),
}

/// The inputs of one statement. The first is the leader's own, the others are the followers' in
/// their order.
struct Batch<I, O> {
    inputs: Vec<I>,
    followers: Vec<oneshot::Sender<Notice<I, O>>>,
    _slot: Slot<I, O>,
}

impl<I, O> Batcher<I, O> {
    pub fn new(max_batch: usize, slow_after: Option<Duration>, round_trip: Arc<RoundTrip>) -> Self {
        let now = Instant::now();
        let state = State {
            in_flight: 0,
            pending: FairQueue::default(),
            progress: now,
            swept_at: now,
            released_at: now,
            released: 0,
        };
        let shared =
            Shared { state: Mutex::new(state), max_batch, round_trip, metrics: Arc::default() };
        Self { shared: Arc::new(shared), slow_after }
    }

    pub fn metrics(&self) -> &Arc<BatchMetrics> {
        &self.shared.metrics
    }

    /// Answers a user's `input`, in a batch where there are others. `run` gets the inputs of the
    /// batch and must return one answer for each, in the same order.
    pub async fn ask<F>(
        &self,
        user: i64,
        input: I,
        run: impl FnOnce(Vec<I>) -> F,
    ) -> BatchOutcome<I, O>
    where
        F: Future<Output = Vec<Result<O>>>,
    {
        let batch = match self.enter(user, input) {
            Role::Leader(batch) => batch,
            Role::Other(outcome) => return outcome,
            Role::Follower(notice) => match notice.await {
                Ok(Notice::Lead(batch)) => batch,
                Ok(Notice::Answer(answer)) => return BatchOutcome::Answered(answer),
                Ok(Notice::Release(input)) => return BatchOutcome::Released(input),
                Err(_) => return BatchOutcome::Lost,
            },
        };
        self.shared.metrics.sizes.record(batch.inputs.len() as u64);
        // Boxed, or each follower would have the space that its leader needs.
        let answers = self.watch(Box::pin(run(batch.inputs))).await;
        let mut answers = answers.into_iter();
        let own = answers.next();
        if let Some(Err(error)) = &own
            && self.is_shared(error)
        {
            self.shared.fail(error);
        }
        for (follower, answer) in batch.followers.into_iter().zip(answers) {
            let _ = follower.send(Notice::Answer(answer));
        }
        own.map_or(BatchOutcome::Lost, BatchOutcome::Answered)
    }

    fn enter(&self, user: i64, input: I) -> Role<I, O> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if state.in_flight < self.shared.round_trip.concurrency() {
            state.in_flight += 1;
            self.shared.metrics.in_flight.set(state.in_flight);
            if state.in_flight == 1 {
                state.progress = now;
            }
            return Role::Leader(Batch {
                inputs: vec![input],
                followers: Vec::new(),
                _slot: Slot { shared: Arc::clone(&self.shared) },
            });
        }
        let is_slow = self.slow_after().is_some_and(|after| now >= state.progress + after);
        if is_slow && state.released < MAX_RELEASED {
            state.released += 1;
            return Role::Other(BatchOutcome::Released(input));
        }
        let end = deadline::within(QUEUE_WAIT, STATEMENT_RESERVE);
        // It would wait for as long as the first has, and longer if the pace slows down: half of its
        // time is kept for that.
        let wait = state.pending.waiting_since(user).map_or(Duration::ZERO, |since| now - since);
        if wait > (end - now) / 2 {
            return Role::Other(BatchOutcome::Answered(Err(overloaded())));
        }
        let (notify, notice) = oneshot::channel();
        state.pending.push(user, Pending { input, end, notify }, now);
        self.shared.metrics.waits.increment();
        self.shared.metrics.waiting.set(state.pending.len());
        Role::Follower(notice)
    }

    /// Waits for the answers to a statement. While it is slow, some that are queued behind it are
    /// released now and then, and not all at once: one by one they cost more than together, and it
    /// may just be the disk that is slow.
    async fn watch<A>(&self, mut answers: impl Future<Output = A> + Unpin) -> A {
        let Some(slow_after) = self.slow_after() else { return answers.await };
        loop {
            if let Ok(answers) = timeout(slow_after, &mut answers).await {
                return answers;
            }
            self.shared.release(slow_after);
        }
    }

    /// Whether what is queued behind a statement that failed so would wait for the same in vain.
    fn is_shared(&self, error: &Error) -> bool {
        match error {
            Error::Locked { of_table, .. } => *of_table,
            // A read was tried twice; a leader may just have had no time left.
            Error::DatabaseUnavailable { .. } => self.slow_after.is_none() && !deadline::is_over(),
            _ => false,
        }
    }

    fn slow_after(&self) -> Option<Duration> {
        self.slow_after.map(|after| after + self.shared.round_trip.shortest())
    }
}

fn overloaded() -> Error {
    Error::Overloaded { retry_after: 1 }
}

enum Role<I, O> {
    Leader(Batch<I, O>),
    Follower(oneshot::Receiver<Notice<I, O>>),
    /// It is not queued.
    Other(BatchOutcome<I, O>),
}

impl<I, O> State<I, O> {
    /// Takes the next out of the queue. Those that were cancelled or waited for too long are found
    /// here, or now and then in all of the queue. With a timer for each of 4,000, and a look at all of
    /// them after every statement, 5,900 instead of 22,700 new patients a second were made at 8,192
    /// connections.
    fn next(&mut self, now: Instant) -> Option<Pending<I, O>> {
        let check = |pending: Pending<I, O>| {
            if pending.end <= now {
                let _ = pending.notify.send(Notice::Answer(Err(overloaded())));
                return None;
            }
            (!pending.notify.is_closed()).then_some(pending)
        };
        if now >= self.swept_at + SWEEP_EVERY {
            self.swept_at = now;
            self.pending.sweep(check);
        }
        self.pending.pop(now, check)
    }
}

impl<I, O> Shared<I, O> {
    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait of all that are queued.
    fn fail(&self, error: &Error) {
        let all = self.lock().pending.take_all();
        for pending in all {
            let _ = pending.notify.send(Notice::Answer(Err(error.clone())));
        }
        self.metrics.waiting.set(0);
    }

    /// Hands some inputs back, if no statement was answered and none handed back for this time.
    fn release(&self, slow_after: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        if now < state.progress.max(state.released_at) + slow_after {
            return;
        }
        state.released_at = now;
        state.released = 0;
        while state.released < MAX_RELEASED
            && let Some(Pending { input, notify, .. }) = state.next(now)
        {
            state.released += 1;
            let _ = notify.send(Notice::Release(input));
        }
        self.metrics.waiting.set(state.pending.len());
    }
}

/// The right to have one statement in flight. On drop, also when its leader is cancelled, it passes
/// to the head of the queue.
struct Slot<I, O> {
    shared: Arc<Shared<I, O>>,
}

impl<I, O> Drop for Slot<I, O> {
    /// Makes the head of the queue the leader of a batch of all that is queued.
    fn drop(&mut self) {
        let shared = &self.shared;
        let now = Instant::now();
        let mut state = shared.lock();
        state.progress = now;
        state.released = 0;
        let too_many = state.in_flight > shared.round_trip.concurrency();
        let leader = if too_many { None } else { state.next(now) };
        let Some(leader) = leader else {
            state.in_flight -= 1;
            shared.metrics.in_flight.set(state.in_flight);
            shared.metrics.waiting.set(state.pending.len());
            return;
        };
        let (mut inputs, mut followers) = (vec![leader.input], Vec::new());
        while inputs.len() < shared.max_batch
            && let Some(follower) = state.next(now)
        {
            inputs.push(follower.input);
            followers.push(follower.notify);
        }
        shared.metrics.waiting.set(state.pending.len());
        drop(state);
        let slot = Self { shared: Arc::clone(shared) };
        // If the new leader was cancelled just now, the batch is dropped here and the slot passes
        // on.
        let _ = leader.notify.send(Notice::Lead(Batch { inputs, followers, _slot: slot }));
    }
}

/// Puts rows in the order of their last column, an ordinal from 1 on.
pub fn in_order(rows: Vec<Row>, count: usize) -> Result<Vec<Option<Row>>> {
    let mut found: Vec<Option<Row>> = (0..count).map(|_| None).collect();
    for row in rows {
        let ordinal: i64 = column(&row, row.len().saturating_sub(1))?;
        let target = usize::try_from(ordinal - 1).ok().and_then(|at| found.get_mut(at));
        *target.ok_or_else(|| Error::internal("a row without an ordinal"))? = Some(row);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
