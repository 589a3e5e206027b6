//! A client's socket with the time limits that hyper does not have, and an end that loses no answer.
//!
//! The limits cost a request next to nothing: one timer lives as long as the connection and is only
//! moved when it would be late.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How long a new connection may say nothing.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a head may take after its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may read nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long bytes that a client still sends are read and dropped after the last answer. Without it
/// the system would reset the connection, and the client might never see that answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Head and body of an answer of up to this many bytes together are copied, so that one `send` writes
/// them: 3% more requests to `/health/live` than with `writev`.
const SMALL_ANSWER: usize = 2048;

/// What the socket must know of the requests on it.
#[derive(Debug)]
pub struct Phase {
    answering: AtomicBool,
    begun: AtomicU64,
    opened: Instant,
    /// Milliseconds after `opened` at which the last answer ended.
    ended: AtomicU64,
}

impl Phase {
    pub fn new() -> Self {
        Self {
            answering: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            opened: Instant::now(),
            ended: AtomicU64::new(0),
        }
    }

    /// The head of a request is whole.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Its answer is written, or given up.
    pub fn end(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended.store(elapsed, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
    }
}

/// What is waited for between two requests.
enum Waiting {
    FirstByte,
    /// The rest of a head, whose first bytes have just come.
    NewHead,
    /// The rest of a head.
    Head,
    NextRequest,
}

pub struct Socket<S = TcpStream> {
    stream: S,
    phase: Arc<Phase>,
    /// How many requests had begun when the present wait did.
    begun: u64,
    waiting: Waiting,
    since: Instant,
    timer: Pin<Box<Sleep>>,
    /// Runs while a client does not read.
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    pub fn new(stream: S, phase: Arc<Phase>) -> Self {
        Self {
            stream,
            phase,
            begun: 0,
            waiting: Waiting::FirstByte,
            since: Instant::now(),
            timer: Box::pin(sleep(FIRST_BYTE_TIMEOUT)),
            stalled: None,
            lingering: None,
        }
    }

    /// Notices that a request was answered since the last look.
    fn begin_wait(&mut self) {
        let begun = self.phase.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.waiting = Waiting::NextRequest;
            let ended = Duration::from_millis(self.phase.ended.load(Ordering::Relaxed));
            self.since = self.phase.opened + ended;
        }
    }

    /// Fails when the wait has taken too long, and otherwise wakes the task when it will have.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Most heads come whole, and then nobody needs to know when they began.
        if matches!(self.waiting, Waiting::NewHead) {
            self.waiting = Waiting::Head;
            self.since = Instant::now();
        }
        let limit = match self.waiting {
            Waiting::FirstByte => FIRST_BYTE_TIMEOUT,
            Waiting::NewHead | Waiting::Head => HEAD_TIMEOUT,
            Waiting::NextRequest => IDLE_TIMEOUT,
        };
        let deadline = self.since + limit;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(deadline);
        }
        Ok(())
    }

    /// Watches over a write: one that cannot go on for too long fails.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut socket.stream).poll_read(cx, buffer);
        // A body has limits of its own. hyper reads again when the answer has ended.
        if socket.phase.answering.load(Ordering::Relaxed) {
            return read;
        }
        socket.begin_wait();
        match read {
            Poll::Pending => socket.poll_wait(cx)?,
            Poll::Ready(_) if buffer.filled().len() > before => {
                if !matches!(socket.waiting, Waiting::Head) {
                    socket.waiting = Waiting::NewHead;
                }
            }
            Poll::Ready(_) => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Writes a small answer in one piece; None if it is not small.
    fn write_small(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        let [head, body] = slices else { return None };
        let length = head.len() + body.len();
        if length > SMALL_ANSWER {
            return None;
        }
        let mut whole = [0; SMALL_ANSWER];
        whole.get_mut(..head.len())?.copy_from_slice(head);
        whole.get_mut(head.len()..length)?.copy_from_slice(body);
        Some(Pin::new(&mut self.stream).poll_write(cx, whole.get(..length)?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = self.write_small(cx, slices) {
            return self.watch_write(cx, written);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, flushed)
    }

    /// Tells the client that nothing more comes, and reads what it still sends until it closes too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        if socket.lingering.is_none() {
            let shut = Pin::new(&mut socket.stream).poll_shutdown(cx);
            ready!(socket.watch_write(cx, shut))?;
        }
        let lingering = socket.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER_TIMEOUT)));
        let mut ignored = [0; 4096];
        while lingering.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(Pin::new(&mut socket.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_has_five_seconds_however_its_bytes_come() {
        let (mut client, server) = duplex(64);
        let mut socket = Socket::new(server, Arc::new(Phase::new()));
        let reading = tokio::spawn(async move {
            loop {
                if let Err(error) = socket.read_exact(&mut [0]).await {
                    return error.kind();
                }
            }
        });
        let started = Instant::now();
        while !reading.is_finished() {
            let _ = client.write_all(b"x").await;
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(reading.await.unwrap(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() <= Duration::from_secs(7), "{:?}", started.elapsed());
    }
}
