#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::time::Instant;

use super::*;

/// All the bytes, and what one holder may have of them.
const TOTAL: usize = BODIES;
const USER: usize = TOTAL / (SHARE + 1);

fn free(budget: &Arc<Budget>) -> usize {
    budget.accounts().free
}

#[tokio::test(start_paused = true)]
async fn small_bodies_are_not_counted() {
    let budget = Arc::new(Budget::default());
    let allowance = budget.allowance(Holder::Anyone);
    let mut lease = allowance.lease(SMALL).await.unwrap();
    assert!(allowance.extend(&mut lease, SMALL));
    assert_eq!(free(&budget), TOTAL);
    assert!(allowance.lease(ANYONE + 1).await.is_err(), "more than allowed");
}

#[tokio::test]
async fn bytes_are_counted_until_the_last_copy_is_dropped() {
    let budget = Arc::new(Budget::default());
    let lease = budget.allowance(Holder::User(1)).lease(100_000).await.unwrap();
    assert_eq!(free(&budget), TOTAL - 100_000);
    let bytes = lease.keep(vec![b'x'; 60_000].into());
    assert_eq!((bytes.len(), free(&budget)), (60_000, TOTAL - 60_000));
    let copy = bytes.slice(10..20);
    drop(bytes);
    assert_eq!(free(&budget), TOTAL - 60_000);
    drop(copy);
    assert_eq!(free(&budget), TOTAL);
    let lease = budget.allowance(Holder::User(1)).lease(100_000).await.unwrap();
    drop(lease.keep(Bytes::from_static(b"small")));
    assert_eq!(free(&budget), TOTAL);
}

#[tokio::test]
async fn a_lease_grows_only_while_there_is_room() {
    let budget = Arc::new(Budget::default());
    let allowance = budget.allowance(Holder::User(1));
    let mut lease = Lease::default();
    assert!(allowance.extend(&mut lease, USER));
    assert_eq!(free(&budget), TOTAL - USER);
    assert!(!allowance.extend(&mut lease, USER + 1));
    assert!(allowance.cover(&mut lease, USER).is_ok());
    lease.shrink(10_000);
    assert_eq!(free(&budget), TOTAL - 10_000);
    drop(lease);
    assert_eq!(free(&budget), TOTAL);
}

#[tokio::test(start_paused = true)]
async fn a_holder_waits_for_its_own_allowance_and_no_other_waits_for_it() {
    let budget = Arc::new(Budget::default());
    let [ada, eve] = [1, 2].map(|id| budget.allowance(Holder::User(id)));
    let all = ada.lease(USER).await.unwrap();
    let started = Instant::now();
    assert!(matches!(ada.lease(SMALL + 1).await, Err(Error::Overloaded { .. })));
    assert_eq!(started.elapsed(), WAIT_TIMEOUT);
    eve.lease(BASE).await.unwrap();
    assert_eq!(started.elapsed(), WAIT_TIMEOUT);
    let waiting = tokio::spawn(async move { ada.lease(USER).await });
    tokio::task::yield_now().await;
    drop(all);
    waiting.await.unwrap().unwrap();
    assert_eq!(free(&budget), TOTAL);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_holder_is_bounded_and_the_rest_is_refused_at_once() {
    let budget = Arc::new(Budget::default());
    let allowance = budget.allowance(Holder::User(1));
    let _all = allowance.lease(USER).await.unwrap();
    let started = Instant::now();
    let waiting: Vec<_> = (0..MAX_WAITING_PER_HOLDER)
        .map(|_| {
            let allowance = allowance.clone();
            tokio::spawn(async move { allowance.lease(USER).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(allowance.lease(USER).await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    // The next chunk of a response that has started is not refused at once.
    assert!(allowance.next_lease(3 * WAIT_TIMEOUT, USER).await.is_err());
    assert_eq!(started.elapsed(), 3 * WAIT_TIMEOUT);
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn holders_who_take_all_they_can_leave_room_for_the_next() {
    for (holders, room) in [(1, BASE), (4, BASE), (20, BASE), (25, 16 << 10)] {
        let budget = Arc::new(Budget::default());
        // Each takes what it can before the next one comes.
        let leases: Vec<Lease> = (0..holders)
            .map(|id| {
                let (allowance, mut lease) = (budget.allowance(Holder::User(id)), Lease::default());
                let mut bytes = SMALL;
                while allowance.extend(&mut lease, bytes + 1) {
                    bytes += SMALL;
                }
                lease
            })
            .collect();
        let next = budget.allowance(Holder::User(-1));
        assert!(next.extend(&mut Lease::default(), room), "{holders}: {}", free(&budget));
        drop(leases);
        assert_eq!(free(&budget), TOTAL);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_others_have_is_woken_when_they_release_it() {
    let budget = Arc::new(Budget::default());
    let [ada, eve] = [1, 2].map(|id| budget.allowance(Holder::User(id)));
    let held = ada.lease(USER).await.unwrap();
    let waiting = tokio::spawn(async move { eve.lease(USER).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let started = Instant::now();
    drop(held);
    waiting.await.unwrap().unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_holder_get_room_in_their_order() {
    let budget = Arc::new(Budget::default());
    let allowance = budget.allowance(Holder::User(1));
    let held = allowance.lease(USER - 2 * SMALL).await.unwrap();
    let large = tokio::spawn({
        let allowance = allowance.clone();
        async move { allowance.lease(USER).await }
    });
    tokio::task::yield_now().await;
    let small = tokio::spawn(async move { allowance.lease(SMALL + 1).await });
    tokio::task::yield_now().await;
    assert!(!small.is_finished(), "there is room, but another was first");
    drop(held);
    drop(large.await.unwrap().unwrap());
    small.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn accounts_that_nobody_uses_are_forgotten() {
    let budget = Arc::new(Budget::default());
    let held = budget.allowance(Holder::User(-1)).lease(USER).await.unwrap();
    for id in 0..10 * i64::try_from(PRUNE_AT).unwrap() {
        budget.allowance(Holder::User(id)).lease(SMALL + 1).await.unwrap();
    }
    assert!(budget.accounts().holders.len() <= PRUNE_AT);
    assert!(budget.allowance(Holder::User(-1)).lease(SMALL + 1).await.is_err());
    drop(held);
}
