//! The log: text lines on standard output. Requests append to a buffer in memory, and a thread of its
//! own writes what has gathered there, so that no worker waits for the output.
//!
//! With tracing-appender, a channel with a message for each line, and tracing-subscriber's own format,
//! the log took a sixth of what a request from memory costs; like this it takes a tenth
//! (`/health/live`, 64 connections, against `LOG=warn`).

mod line;

use std::io::{self, Write};
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather after some were written, so that the thread is not woken for each.
const GATHER: Duration = Duration::from_millis(2);
/// Bytes that wait at most. Lines beyond are dropped: an output that nobody reads must not stop the
/// service, nor fill its memory.
const MOST_WAITING: usize = 16 << 20;
/// Bytes of memory that are kept for the next lines.
const KEPT: usize = 1 << 20;

/// Starts logging. What is logged is written at the latest when the guard is dropped.
pub fn start(level: LevelFilter) -> io::Result<Guard> {
    let lines = Lines::default();
    let writer = lines.clone();
    let thread = thread::Builder::new().name("log".into()).spawn(move || writer.write_out())?;
    tracing_subscriber::fmt()
        .event_format(line::Line)
        .with_writer(lines.clone())
        .with_max_level(level)
        .init();
    // The message of a panic may quote what a client sent; its place does not.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    Ok(Guard { lines, thread: Some(thread) })
}

/// Writes what is left when it is dropped.
pub struct Guard {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lines.lock().ended = true;
        self.lines.shared.come.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lines on their way to the output.
#[derive(Clone, Default)]
struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    come: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    ended: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MOST_WAITING {
            waiting.dropped += 1;
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.shared.come.notify_one();
        }
    }

    /// Writes until the log ends.
    fn write_out(&self) {
        let mut output = io::stdout();
        let mut bytes = Vec::new();
        loop {
            let (dropped, ended) = self.take(&mut bytes);
            // Without an output there is nobody to tell.
            let _ = output.write_all(&bytes);
            if dropped > 0 {
                let _ = writeln!(output, "{dropped} lines were dropped");
            }
            let _ = output.flush();
            if ended {
                return;
            }
            bytes.clear();
            bytes.shrink_to(KEPT);
            thread::sleep(GATHER);
        }
    }

    /// Waits for lines, and takes them all. Tells how many were dropped, and whether these are the last.
    fn take(&self, bytes: &mut Vec<u8>) -> (u64, bool) {
        let nothing = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.ended;
        let waiting = self.shared.come.wait_while(self.lock(), nothing);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, bytes);
        (std::mem::take(&mut waiting.dropped), waiting.ended)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Each write is a whole line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let lines = Lines::default();
        let line = vec![b'x'; MOST_WAITING / 2];
        for _ in 0..5 {
            lines.append(&line);
        }
        let mut bytes = Vec::new();
        assert_eq!(lines.take(&mut bytes), (3, false));
        assert_eq!(bytes.len(), MOST_WAITING);
        lines.append(b"next\n");
        lines.lock().ended = true;
        bytes.clear();
        assert_eq!(lines.take(&mut bytes), (0, true));
        assert_eq!(bytes, b"next\n");
    }
}
