//! A future that runs to its end, also when the one who waits for it goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::panicking;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// When this is dropped before its end, the future goes on in a task. To spawn each from the start
/// would cost another wake-up of each.
pub struct ToEnd<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F: Future<Output: Send> + Send + 'static> ToEnd<F> {
    pub fn new(tasks: &TaskTracker, future: F) -> Self {
        Self { future: Some(Box::pin(future)), tasks: tasks.clone() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for ToEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(future.as_mut().poll(cx));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for ToEnd<F> {
    fn drop(&mut self) {
        // One that has panicked has ended, too.
        if !panicking()
            && let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current())
        {
            self.tasks.spawn_on(future, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_before_its_end_goes_on_in_a_task() {
        let tasks = TaskTracker::new();
        let (send, ended) = oneshot::channel();
        let write = ToEnd::new(&tasks, async {
            sleep(Duration::from_secs(2)).await;
            send.send(()).unwrap();
        });
        assert!(timeout(Duration::from_secs(1), write).await.is_err());
        assert_eq!(tasks.len(), 1);
        ended.await.unwrap();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_has_ended_leaves_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(ToEnd::new(&tasks, async { 1 }).await, 1);
        assert!(tasks.is_empty());
    }
}
