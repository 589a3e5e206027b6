//! The deadline of a request. It is handed down beside the call, by a task-local, so that each wait
//! takes what is left of it and no signature has to carry it. What runs outside of a request (the
//! rest of a streamed list, the background) has none, and only the limit of each wait.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

struct Deadline {
    limit: Duration,
    end: Cell<Instant>,
}

tokio::task_local! {
    static DEADLINE: Deadline;
}

/// Runs a request that has this long to answer.
pub async fn run<F: Future>(limit: Duration, request: F) -> F::Output {
    let end = Cell::new(Instant::now() + limit);
    DEADLINE.scope(Deadline { limit, end }, request).await
}

/// Starts the time anew, once a body has been read: how long a client takes to send it is not the
/// service's time.
pub fn restart() {
    let _ = DEADLINE.try_with(|deadline| deadline.end.set(Instant::now() + deadline.limit));
}

/// The end of a wait that takes `most` at most, and `reserve` less than what is left.
pub fn within(most: Duration, reserve: Duration) -> Instant {
    let now = Instant::now();
    let end = DEADLINE.try_with(|deadline| deadline.end.get());
    end.map_or(now + most, |end| end.checked_sub(reserve).unwrap_or(now).min(now + most))
}

/// Whether the time of this request is over.
pub fn is_over() -> bool {
    DEADLINE.try_with(|deadline| deadline.end.get() <= Instant::now()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_wait_takes_what_is_left_until_the_time_starts_anew() {
        let left = |most, reserve| within(most, reserve) - Instant::now();
        run(2 * SECOND, async {
            assert_eq!(left(SECOND, Duration::ZERO), SECOND);
            assert_eq!(left(5 * SECOND, SECOND / 2), SECOND * 3 / 2);
            advance(SECOND * 3 / 2).await;
            assert!(!is_over());
            assert_eq!(left(SECOND, Duration::ZERO), SECOND / 2);
            assert_eq!(left(SECOND, SECOND), Duration::ZERO);
            advance(SECOND / 2).await;
            assert!(is_over());
            restart();
            assert_eq!(left(5 * SECOND, Duration::ZERO), 2 * SECOND);
        })
        .await;
        restart();
        assert_eq!(left(5 * SECOND, SECOND), 5 * SECOND);
    }
}
