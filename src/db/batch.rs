//! Batching: concurrent requests for the same kind of row share one statement, because most of the
//! cost of a short statement in PostgreSQL is per statement.
//!
//! There is no background task. While fewer statements are in flight than [`RoundTrip`] allows, a
//! request leads a batch of one and is sent immediately. Further requests queue; when a statement
//! completes, the first in the queue leads the next batch, made of everything queued. With two
//! workers and a database nearby, getting a patient went from 22,000 to 66,000 requests/s at 64
//! connections, and did not change at 1 and 8.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::RoundTrip;
use super::row::column;
use crate::error::{Error, Result};
use crate::metrics::BatchMetrics;

/// The outcome of [`Batcher::ask`].
pub enum BatchOutcome<I, O> {
    Answered(Result<O>),
    /// It was still queued after the wait timeout, and is handed back to the caller.
    TimedOut(I),
    /// The leader of its batch was cancelled before there was an answer.
    Lost,
}

/// Batches inputs `I` that are each answered with an `O`.
pub struct Batcher<I, O> {
    shared: Arc<Shared<I, O>>,
    /// How long a request may be queued; None for no limit.
    wait_timeout: Option<Duration>,
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
    pending: VecDeque<Pending<I, O>>,
    /// The last ticket given to a queued request.
    tickets: u64,
}

/// A queued request, which is told its answer or that it leads the next batch.
struct Pending<I, O> {
    ticket: u64,
    input: I,
    notify: oneshot::Sender<Notice<I, O>>,
}

/// What a queued request is told. If its sender is dropped instead, its leader was cancelled.
enum Notice<I, O> {
    Answer(Result<O>),
    Lead(Batch<I, O>),
}

/// The inputs of one statement. The first is the leader's own, the others are the followers' in
/// their order.
struct Batch<I, O> {
    inputs: Vec<I>,
    followers: Vec<oneshot::Sender<Notice<I, O>>>,
    _slot: Slot<I, O>,
}

impl<I, O> Batcher<I, O> {
    pub fn new(
        max_batch: usize,
        wait_timeout: Option<Duration>,
        round_trip: Arc<RoundTrip>,
    ) -> Self {
        let state = State { in_flight: 0, pending: VecDeque::new(), tickets: 0 };
        let shared =
            Shared { state: Mutex::new(state), max_batch, round_trip, metrics: Arc::default() };
        Self { shared: Arc::new(shared), wait_timeout }
    }

    pub fn metrics(&self) -> &Arc<BatchMetrics> {
        &self.shared.metrics
    }

    /// Answers `input`, in a batch where there are others. `run` gets the inputs of the batch and
    /// must return one answer for each, in the same order.
    pub async fn ask<F>(&self, input: I, run: impl FnOnce(Vec<I>) -> F) -> BatchOutcome<I, O>
    where
        F: Future<Output = Vec<Result<O>>>,
    {
        let batch = match self.enter(input) {
            Role::Leader(batch) => batch,
            Role::Follower(ticket, notice) => match self.wait(ticket, notice).await {
                Ok(Notice::Lead(batch)) => batch,
                Ok(Notice::Answer(answer)) => return BatchOutcome::Answered(answer),
                Err(outcome) => return outcome,
            },
        };
        self.shared.metrics.sizes.record(batch.inputs.len() as u64);
        let mut answers = run(batch.inputs).await.into_iter();
        let own = answers.next();
        for (follower, answer) in batch.followers.into_iter().zip(answers) {
            let _ = follower.send(Notice::Answer(answer));
        }
        own.map_or(BatchOutcome::Lost, BatchOutcome::Answered)
    }

    fn enter(&self, input: I) -> Role<I, O> {
        let mut state = self.shared.lock();
        if state.in_flight < self.shared.round_trip.concurrency() {
            state.in_flight += 1;
            self.shared.metrics.in_flight.set(state.in_flight);
            return Role::Leader(Batch {
                inputs: vec![input],
                followers: Vec::new(),
                _slot: Slot(Arc::clone(&self.shared)),
            });
        }
        let (notify, notice) = oneshot::channel();
        state.tickets += 1;
        let ticket = state.tickets;
        state.pending.push_back(Pending { ticket, input, notify });
        self.shared.metrics.waits.increment();
        self.shared.metrics.waiting.set(state.pending.len());
        Role::Follower(ticket, notice)
    }

    /// Waits to be told, up to the timeout.
    async fn wait(
        &self,
        ticket: u64,
        mut notice: oneshot::Receiver<Notice<I, O>>,
    ) -> Result<Notice<I, O>, BatchOutcome<I, O>> {
        if let Some(wait_timeout) = self.wait_timeout {
            if let Ok(notice) = timeout(wait_timeout, &mut notice).await {
                return notice.map_err(|_| BatchOutcome::Lost);
            }
            // It may have become part of a batch at the last moment.
            if let Some(input) = self.shared.leave(ticket) {
                return Err(BatchOutcome::TimedOut(input));
            }
        }
        notice.await.map_err(|_| BatchOutcome::Lost)
    }
}

enum Role<I, O> {
    Leader(Batch<I, O>),
    Follower(u64, oneshot::Receiver<Notice<I, O>>),
}

impl<I, O> Shared<I, O> {
    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an input out of the queue, unless it is part of a batch already.
    fn leave(&self, ticket: u64) -> Option<I> {
        let mut state = self.lock();
        let at = state.pending.iter().position(|pending| pending.ticket == ticket)?;
        let left = state.pending.remove(at).map(|pending| pending.input);
        self.metrics.waiting.set(state.pending.len());
        left
    }
}

/// The right to have one statement in flight. On drop, also when its leader is cancelled, it passes
/// to the head of the queue.
struct Slot<I, O>(Arc<Shared<I, O>>);

impl<I, O> Drop for Slot<I, O> {
    fn drop(&mut self) {
        Self::hand_over(&self.0);
    }
}

impl<I, O> Slot<I, O> {
    /// Makes the head of the queue the leader of a batch of all that is queued.
    fn hand_over(shared: &Arc<Shared<I, O>>) {
        let mut state = shared.lock();
        // Cancelled requests leave the queue here.
        state.pending.retain(|pending| !pending.notify.is_closed());
        let too_many = state.in_flight > shared.round_trip.concurrency();
        let leader = if too_many { None } else { state.pending.pop_front() };
        let Some(leader) = leader else {
            state.in_flight -= 1;
            shared.metrics.in_flight.set(state.in_flight);
            shared.metrics.waiting.set(state.pending.len());
            return;
        };
        let count = state.pending.len().min(shared.max_batch - 1);
        let followers = state.pending.drain(..count).map(|pending| (pending.input, pending.notify));
        let (mut inputs, mut notifiers) = (vec![leader.input], Vec::new());
        for (input, notify) in followers {
            inputs.push(input);
            notifiers.push(notify);
        }
        shared.metrics.waiting.set(state.pending.len());
        drop(state);
        let slot = Self(Arc::clone(shared));
        // If the new leader was cancelled just now, the batch is dropped here and the slot passes
        // on.
        let _ =
            leader.notify.send(Notice::Lead(Batch { inputs, followers: notifiers, _slot: slot }));
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::cell::RefCell;

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;

    #[track_caller]
    fn answered(outcome: BatchOutcome<u64, u64>) -> u64 {
        let BatchOutcome::Answered(answer) = outcome else { panic!("not answered") };
        answer.unwrap()
    }

    /// Asks for the numbers below `requests` concurrently, and returns the batches that were sent.
    async fn batches(requests: u64, round_trip: Duration) -> Vec<Vec<u64>> {
        let round_trips = Arc::new(RoundTrip::default());
        round_trips.record(round_trip);
        let batcher = Batcher::new(4, None, round_trips);
        let sent = RefCell::new(Vec::new());
        let ask = |number| {
            batcher.ask(number, async |numbers: Vec<u64>| {
                sent.borrow_mut().push(numbers.clone());
                sleep(round_trip).await;
                numbers.into_iter().map(|number| Ok(10 * number)).collect()
            })
        };
        let answers = join_all((0..requests).map(ask)).await;
        for (number, answer) in (0..).zip(answers) {
            assert_eq!(answered(answer), 10 * number);
        }
        sent.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_arrive_while_a_near_database_works_are_batched() {
        let sent = batches(7, Duration::from_micros(100)).await;
        assert_eq!(sent, [vec![0], vec![1, 2, 3, 4], vec![5, 6]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_database_has_several_statements_under_way() {
        let sent = batches(7, Duration::from_millis(1)).await;
        assert_eq!(sent, [vec![0], vec![1], vec![2], vec![3], vec![4], vec![5, 6]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_leader_hands_the_lead_to_the_next() {
        let batcher = Batcher::new(4, None, Arc::default());
        let run = async |numbers: Vec<u64>| {
            sleep(Duration::from_secs(1)).await;
            numbers.into_iter().map(Ok).collect::<Vec<_>>()
        };
        let mut first = Box::pin(batcher.ask(1, run));
        let mut second = Box::pin(batcher.ask(2, run));
        assert!(timeout(Duration::from_millis(1), &mut first).await.is_err());
        assert!(timeout(Duration::from_millis(1), &mut second).await.is_err());
        drop(first);
        assert_eq!(answered(second.await), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_times_out_in_the_queue_gets_its_input_back() {
        let batcher = Batcher::new(4, Some(Duration::from_millis(100)), Arc::default());
        let run = async |numbers: Vec<u64>| {
            sleep(Duration::from_secs(5)).await;
            numbers.into_iter().map(Ok).collect::<Vec<_>>()
        };
        let (slow, timed_out) = tokio::join!(batcher.ask(5, run), batcher.ask(1, run));
        assert!(matches!(timed_out, BatchOutcome::TimedOut(1)));
        assert_eq!(answered(slow), 5);
    }
}
