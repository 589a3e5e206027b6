//! A client's socket with the timeouts that hyper lacks, and a lingering close.
//!
//! The timeouts cost a request almost nothing: one timer lives as long as the connection and is
//! only reset when it would fire late.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::phase::Phase;
use crate::error::Result;
use crate::http::budget::{Allowance, Lease};

/// The timeout of the first byte on a new connection.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of a head after its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The keep-alive timeout between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take to read [`MIN_WRITTEN`] bytes, or what is left of fewer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The bytes after which [`WRITE_TIMEOUT`] starts again: about a kilobyte a second. If every byte
/// restarted it, a client could make a response last for ever.
const MIN_WRITTEN: usize = 32 << 10;
/// How long input is still read and discarded after the last response. Otherwise the system would
/// reset the connection, and the client might never see that response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most bytes of one read. hyper doubles its initial buffer of 8 KiB whenever a read fills it,
/// and keeps it for the life of the connection. A head beyond this size needs a lease.
const MAX_READ: usize = (8 << 10) - 1;
/// The most that hyper's buffer may grow to for a large head, in bytes.
pub const LARGE_HEAD: usize = 128 << 10;
/// The end of most heads.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Head and body of a response up to this size together are copied, in bytes, so that one `send`
/// writes them: 3% more requests to `/health/live` than with `writev`.
const SMALL_ANSWER: usize = 2048;

/// What the socket expects while no request is in progress.
enum Expecting {
    FirstByte,
    /// The rest of a head whose first bytes have just arrived.
    NewHead,
    /// The rest of a head.
    Head,
    NextRequest,
}

/// The room for heads beyond [`MAX_READ`].
enum LargeHead {
    None,
    Waiting(Pin<Box<dyn Future<Output = Result<Lease>> + Send>>),
    /// Kept to the end of the connection, as hyper keeps its buffer.
    Leased(#[expect(dead_code, reason = "dropping it releases the room")] Lease),
}

/// A client that does not read what is written.
struct Stall {
    timer: Pin<Box<Sleep>>,
    /// Bytes written since the timer was started.
    written: usize,
}

pub struct Socket<S = TcpStream> {
    stream: Take<S>,
    phase: Arc<Phase>,
    large_heads: Allowance,
    large_head: LargeHead,
    /// Bytes that have been read and come first in the next read.
    held_back: Vec<u8>,
    /// The number of requests that had begun when the current wait started.
    begun: u64,
    /// Bytes read since.
    read: usize,
    expecting: Expecting,
    since: Instant,
    timer: Pin<Box<Sleep>>,
    stall: Option<Stall>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead> Socket<S> {
    /// Large heads take their room from the allowance of the client's network.
    pub fn new(stream: S, phase: Arc<Phase>, large_heads: Allowance) -> Self {
        Self {
            stream: stream.take(MAX_READ as u64),
            phase,
            large_heads,
            large_head: LargeHead::None,
            held_back: Vec::new(),
            begun: 0,
            read: 0,
            expecting: Expecting::FirstByte,
            since: Instant::now(),
            timer: Box::pin(sleep(FIRST_BYTE_TIMEOUT)),
            stall: None,
            lingering: None,
        }
    }

    /// Starts a new wait if a request was handled since the last call.
    fn begin_wait(&mut self) {
        let begun = self.phase.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.read = 0;
            self.expecting = Expecting::NextRequest;
            let ended = Duration::from_millis(self.phase.ended.load(Ordering::Relaxed));
            self.since = self.phase.opened + ended;
        }
    }

    /// Fails if the wait has timed out, and otherwise schedules a wake-up for when it will.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Most heads arrive whole, and their start need not be timed.
        if matches!(self.expecting, Expecting::NewHead) {
            self.expecting = Expecting::Head;
            self.since = Instant::now();
        }
        let limit = match self.expecting {
            Expecting::FirstByte => FIRST_BYTE_TIMEOUT,
            Expecting::NewHead | Expecting::Head => HEAD_TIMEOUT,
            Expecting::NextRequest => IDLE_TIMEOUT,
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

    /// Waits for room if the head may exceed [`MAX_READ`], and fails if there is none.
    fn poll_large_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin_wait();
        if self.read < MAX_READ {
            return Poll::Ready(Ok(()));
        }
        if matches!(self.large_head, LargeHead::None) {
            let allowance = self.large_heads.clone();
            let lease = async move { allowance.lease(LARGE_HEAD).await };
            self.large_head = LargeHead::Waiting(Box::pin(lease));
        }
        let LargeHead::Waiting(lease) = &mut self.large_head else { return Poll::Ready(Ok(())) };
        let Poll::Ready(lease) = lease.as_mut().poll(cx) else {
            self.poll_wait(cx)?;
            return Poll::Pending;
        };
        if let Ok(lease) = lease {
            self.large_head = LargeHead::Leased(lease);
            self.phase.large_head.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        // Within a response that is not written yet, there is no place for another.
        self.phase.refused.store(self.stall.is_none(), Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()))
    }

    /// Keeps the start of a head that follows complete ones for the next read: to read on behind
    /// it, hyper would double its buffer. Only where the read was cut off, or it would cost every
    /// body that comes with its head another read.
    fn hold_back(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.len() != MAX_READ {
            return;
        }
        let Some(end) = read.windows(HEAD_END.len()).rposition(|end| end == HEAD_END) else {
            return;
        };
        let end = end + HEAD_END.len();
        self.held_back = read.get(end..).unwrap_or_default().to_vec();
        buffer.set_filled(before + end);
    }

    /// Times a write out if the client reads too slowly.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => ready!(self.poll_stall(cx))?,
            Poll::Ready(Ok(bytes)) => {
                if let Some(stall) = &mut self.stall {
                    stall.written += bytes;
                }
                self.stall.take_if(|stall| stall.written >= MIN_WRITTEN);
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// The same for a flush or the end. hyper flushes when it has written all that it has.
    fn watch_flush(
        &mut self,
        cx: &mut Context<'_>,
        flushed: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if flushed.is_pending() {
            return self.poll_stall(cx);
        }
        self.stall = None;
        flushed
    }

    /// Pending until the client's time is up, and then an error.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stall = self
            .stall
            .get_or_insert_with(|| Stall { timer: Box::pin(sleep(WRITE_TIMEOUT)), written: 0 });
        ready!(stall.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Socket<S> {
    /// Reads what was held back and what else is there, at most [`MAX_READ`] bytes together.
    fn poll_read_on(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut held_back = std::mem::take(&mut self.held_back);
        self.stream.set_limit((MAX_READ - held_back.len()) as u64);
        if held_back.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let fitting = held_back.len().min(buffer.remaining());
        buffer.put_slice(held_back.get(..fitting).unwrap_or_default());
        self.held_back = held_back.split_off(fitting);
        if self.held_back.is_empty()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(cx, buffer)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        let answering = socket.phase.answering.load(Ordering::Relaxed);
        if socket.read >= MAX_READ && !answering {
            ready!(socket.poll_large_head(cx))?;
        }
        let before = buffer.filled().len();
        let read = socket.poll_read_on(cx, buffer);
        // Bodies have their own timeouts. hyper reads again when the response has ended.
        if answering {
            return read;
        }
        if read.is_ready() {
            socket.hold_back(buffer, before);
        }
        socket.begin_wait();
        match read {
            Poll::Pending => socket.poll_wait(cx)?,
            Poll::Ready(_) if buffer.filled().len() > before => {
                socket.read += buffer.filled().len() - before;
                if !matches!(socket.expecting, Expecting::Head) {
                    socket.expecting = Expecting::NewHead;
                }
            }
            Poll::Ready(_) => {}
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Responds to a request that cannot be read, and closes the connection.
    pub async fn refuse(mut self, answer: &[u8]) {
        if self.write_all(answer).await.is_ok() {
            let _ = self.shutdown().await;
        }
    }

    /// Writes a small response with one call; None if it is not small.
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
        Some(Pin::new(self.stream.get_mut()).poll_write(cx, whole.get(..length)?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write(cx, bytes);
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
        let written = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.stream.get_mut()).poll_flush(cx);
        self.watch_flush(cx, flushed)
    }

    /// Closes our side, and drains what the client still sends until it closes too (a lingering
    /// close).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        if socket.lingering.is_none() {
            let shut = Pin::new(socket.stream.get_mut()).poll_shutdown(cx);
            ready!(socket.watch_flush(cx, shut))?;
        }
        let lingering = socket.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER_TIMEOUT)));
        let mut ignored = [0; 4096];
        while lingering.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(Pin::new(socket.stream.get_mut()).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
