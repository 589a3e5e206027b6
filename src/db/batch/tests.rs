#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::iter;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::*;

const USER: i64 = 1;

#[track_caller]
fn answered(outcome: BatchOutcome<u64, u64>) -> u64 {
    let BatchOutcome::Answered(answer) = outcome else { panic!("not answered") };
    answer.unwrap()
}

/// Answers each number with itself after so many milliseconds.
async fn answer_after(milliseconds: u64, numbers: Vec<u64>) -> Vec<Result<u64>> {
    sleep(Duration::from_millis(milliseconds)).await;
    numbers.into_iter().map(Ok).collect()
}

/// Asks for the numbers below `requests` concurrently, and returns the batches that were sent.
async fn batches(requests: u64, round_trip: Duration) -> Vec<Vec<u64>> {
    let round_trips = Arc::new(RoundTrip::default());
    round_trips.record(round_trip);
    let batcher = Batcher::new(4, None, round_trips);
    let sent = RefCell::new(Vec::new());
    let ask = |number| {
        batcher.ask(USER, number, async |numbers: Vec<u64>| {
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
    let run = |numbers| answer_after(1000, numbers);
    let mut first = Box::pin(batcher.ask(USER, 1, run));
    let mut second = Box::pin(batcher.ask(USER, 2, run));
    assert!(timeout(Duration::from_millis(1), &mut first).await.is_err());
    assert!(timeout(Duration::from_millis(1), &mut second).await.is_err());
    drop(first);
    assert_eq!(answered(second.await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_leaves_no_batch_while_statements_are_answered() {
    let slow_after = Duration::from_millis(100);
    let batcher = Batcher::new(4, Some(slow_after), Arc::default());
    let sent = RefCell::new(Vec::new());
    let run = async |numbers: Vec<u64>| {
        sent.borrow_mut().push(numbers.len());
        sleep(Duration::from_millis(90)).await;
        numbers.into_iter().map(Ok).collect::<Vec<_>>()
    };
    let answers = join_all((0..33).map(|number| batcher.ask(USER, number, run))).await;
    for (number, answer) in (0..).zip(answers) {
        assert_eq!(answered(answer), number);
    }
    assert_eq!(sent.into_inner(), [1, 4, 4, 4, 4, 4, 4, 4, 4]);
}

/// Asks for each of the numbers from 1 on so many milliseconds after a statement has begun that
/// takes `took`, as all others do: which were refused, and which were released, each with how long
/// that took.
async fn left(
    batcher: &Batcher<u64, u64>,
    took: u64,
    after: &[u64],
) -> (Vec<(u64, u128)>, Vec<(u64, u128)>) {
    let run = |numbers| answer_after(took, numbers);
    let asking = (0..).zip([0].iter().chain(after)).map(async |(number, after)| {
        sleep(Duration::from_millis(*after)).await;
        let asked = Instant::now();
        (number, batcher.ask(USER, number, run).await, asked.elapsed().as_millis())
    });
    let (mut refused, mut released) = (Vec::new(), Vec::new());
    for (number, outcome, waited) in join_all(asking).await {
        match outcome {
            BatchOutcome::Answered(Err(Error::Overloaded { .. })) => {
                refused.push((number, waited));
            }
            BatchOutcome::Released(input) => {
                assert_eq!(input, number);
                released.push((number, waited));
            }
            outcome => assert_eq!(answered(outcome), number),
        }
    }
    (refused, released)
}

#[tokio::test(start_paused = true)]
async fn what_would_be_served_too_late_is_refused_at_once() {
    let batcher = Batcher::new(1, Some(Duration::from_secs(9)), Arc::default());
    // The first in the queue has waited for 0.49 s, and then for more than half of what there is.
    let (refused, _) = left(&batcher, 600, &[1, 490, 510, 590]).await;
    assert_eq!(refused, [(3, 0), (4, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_user_with_many_requests_waits_for_these_and_another_does_not() {
    let batcher = Batcher::new(4, Some(Duration::from_secs(9)), Arc::default());
    let run = |numbers| answer_after(50, numbers);
    let crowd = join_all((0..60).map(|number| batcher.ask(USER, number, run)));
    let other = async {
        let mut waits = Vec::new();
        for number in 100..103 {
            sleep(Duration::from_millis(10)).await;
            let asked = Instant::now();
            assert_eq!(answered(batcher.ask(2, number, run).await), number);
            waits.push(asked.elapsed().as_millis());
        }
        waits
    };
    let (crowd, waits) = tokio::join!(crowd, other);
    // The rest of the statement under way, and the next.
    assert_eq!(waits, [90, 90, 90]);
    for (number, answer) in (0..).zip(crowd) {
        assert_eq!(answered(answer), number);
    }
}

#[tokio::test(start_paused = true)]
async fn what_many_others_leave_no_time_for_is_refused_when_its_time_is_over() {
    let batcher = Batcher::new(4, Some(Duration::from_secs(9)), Arc::default());
    let run = |numbers| answer_after(20, numbers);
    // A round of 150 users takes three quarters of a second.
    let asking = (0..900).map(async |number| {
        sleep(Duration::from_millis(450 * (number / 150))).await;
        let asked = Instant::now();
        let user = USER + i64::try_from(number % 150).unwrap();
        (batcher.ask(user, number, run).await, asked.elapsed().as_millis())
    });
    let mut refused = Vec::new();
    for (outcome, waited) in join_all(asking).await {
        if matches!(outcome, BatchOutcome::Answered(Err(Error::Overloaded { .. }))) {
            refused.push(waited);
        }
    }
    // Most at once.
    assert!(refused.contains(&0));
    assert!(refused.iter().any(|waited| *waited >= 1000));
    assert!(refused.iter().all(|waited| *waited <= 1120), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_too_long_is_refused() {
    let batcher = Batcher::new(1, Some(Duration::from_secs(9)), Arc::default());
    let (refused, _) = left(&batcher, 700, &[10, 20]).await;
    assert_eq!(refused, [(2, 1380)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_behind_a_read_that_waited_in_vain_fails_with_it() {
    let batcher = Batcher::new(1, None, Arc::default());
    let run = async |numbers: Vec<u64>| {
        sleep(Duration::from_millis(400)).await;
        numbers
            .into_iter()
            .map(|_| Err(Error::Locked { of_table: true, cause: String::new() }))
            .collect()
    };
    let started = Instant::now();
    for outcome in join_all((0..9).map(|number| batcher.ask(USER, number, run))).await {
        let outcome: BatchOutcome<u64, u64> = outcome;
        assert!(matches!(outcome, BatchOutcome::Answered(Err(Error::Locked { .. }))));
    }
    assert_eq!(started.elapsed().as_millis(), 400);
}

#[tokio::test(start_paused = true)]
async fn behind_a_slow_statement_a_few_are_released_at_a_time() {
    let batcher = Batcher::new(2, Some(Duration::from_millis(100)), Arc::default());
    let after: Vec<u64> = iter::repeat_n(1, 2 * MAX_RELEASED + 1).chain([310]).collect();
    let (refused, released) = left(&batcher, 450, &after).await;
    assert_eq!(refused, []);
    // The last finds the statement slow, and one only released so far.
    let waited: Vec<u128> = released.into_iter().map(|(_, waited)| waited).collect();
    let expected = [&[99; MAX_RELEASED][..], &[199; MAX_RELEASED], &[299, 0]].concat();
    assert_eq!(waited, expected);
}

#[tokio::test(start_paused = true)]
async fn several_slow_statements_release_no_more_than_one() {
    let far = Arc::new(RoundTrip::default());
    far.record(Duration::from_millis(50));
    let batcher = Batcher::new(2, Some(Duration::from_millis(100)), Arc::clone(&far));
    let after = vec![1; far.concurrency() + 2 * MAX_RELEASED];
    let (refused, released) = left(&batcher, 260, &after).await;
    assert_eq!(refused, []);
    // One is slow when it takes 100 ms more than the round trip.
    let waited: Vec<u128> = released.into_iter().map(|(_, waited)| waited).collect();
    assert_eq!(waited, [149; MAX_RELEASED]);
}
