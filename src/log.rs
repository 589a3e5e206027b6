//! The log: lines of text or JSON on standard output. Requests append to a buffer in memory, which
//! a dedicated thread writes, so that no worker waits for the output.
//!
//! tracing-subscriber with tracing-appender, which sends a message for each line, took a sixth of
//! the cost of a request served from memory; this takes 4% (`/health/live`, 64 connections, against
//! `LOG=warn`, CPU time of both cores by `perf record -a`).

mod json;
mod text;

use std::io::{self, Write as _};
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

use healthcare_backend::config::LogFormat;

/// The pause between two writes, in which lines accumulate, so that the thread is not woken for
/// each.
const FLUSH_INTERVAL: Duration = Duration::from_millis(2);
/// The most buffered bytes. Further lines are dropped: an output that nobody reads must neither
/// block the service nor fill its memory.
const MAX_BUFFERED: usize = 16 << 20;
/// Bytes of the buffer that are kept for the next lines.
const RETAINED_CAPACITY: usize = 1 << 20;

/// How long the end of the program waits for the last lines to be written: nobody may read them.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts logging. All lines are written at the latest when the guard is dropped, if somebody reads
/// them.
pub fn start(level: LevelFilter, format: LogFormat) -> io::Result<Guard> {
    let lines = Lines::default();
    let writer = lines.clone();
    thread::Builder::new().name("log".into()).spawn(move || writer.write_out())?;
    subscriber::set_global_default(Log { level, format, lines: lines.clone() })
        .map_err(io::Error::other)?;
    // The message of a panic may quote what a client sent; its location does not.
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panicked");
    }));
    Ok(Guard { lines })
}

/// Writes the remaining lines when dropped.
pub struct Guard {
    lines: Lines,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Shared { available, written, .. } = &*self.lines.shared;
        let mut buffered = self.lines.lock();
        buffered.ended = true;
        available.notify_one();
        drop(written.wait_timeout_while(buffered, LAST_WRITE_TIMEOUT, |lines| !lines.written));
    }
}

/// Formats each event of an enabled level as a line. There are no spans.
struct Log {
    level: LevelFilter,
    format: LogFormat,
    lines: Lines,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let append = |line: &[u8]| self.lines.append(line);
        match self.format {
            LogFormat::Text => text::write(event, append),
            LogFormat::Json => json::write(event, append),
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The buffer between requests and the writer.
#[derive(Clone, Default)]
struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    buffered: Mutex<Buffered>,
    available: Condvar,
    /// The last line is.
    written: Condvar,
}

#[derive(Default)]
struct Buffered {
    bytes: Vec<u8>,
    dropped: u64,
    ended: bool,
    /// Whether all is written after the end.
    written: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Buffered> {
        self.shared.buffered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8]) {
        let mut buffered = self.lock();
        if buffered.bytes.len() + line.len() > MAX_BUFFERED {
            buffered.dropped += 1;
            return;
        }
        let first = buffered.bytes.is_empty();
        buffered.bytes.extend_from_slice(line);
        drop(buffered);
        if first {
            self.shared.available.notify_one();
        }
    }

    /// Writes until the log ends.
    fn write_out(&self) {
        let mut output = io::stdout();
        let mut bytes = Vec::new();
        loop {
            let (dropped, ended) = self.take(&mut bytes);
            // A failing output cannot be reported anywhere.
            let _ = output.write_all(&bytes);
            let _ = output.flush();
            if dropped > 0 {
                tracing::warn!(dropped, "lines of the log were dropped");
            } else if ended {
                self.lock().written = true;
                self.shared.written.notify_one();
                return;
            }
            bytes.clear();
            bytes.shrink_to(RETAINED_CAPACITY);
            thread::sleep(FLUSH_INTERVAL);
        }
    }

    /// Waits for lines and takes them all. Returns how many were dropped, and whether the log has
    /// ended.
    fn take(&self, bytes: &mut Vec<u8>) -> (u64, bool) {
        let is_idle = |buffered: &mut Buffered| buffered.bytes.is_empty() && !buffered.ended;
        let buffered = self.shared.available.wait_while(self.lock(), is_idle);
        let mut buffered = buffered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut buffered.bytes, bytes);
        (std::mem::take(&mut buffered.dropped), buffered.ended)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// The lines of some events, as text.
    fn logged(level: LevelFilter, events: impl FnOnce()) -> String {
        logged_as(LogFormat::Text, level, events)
    }

    fn logged_as(format: LogFormat, level: LevelFilter, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        subscriber::with_default(Log { level, format, lines: lines.clone() }, events);
        let mut bytes = Vec::new();
        lines.lock().ended = true;
        lines.take(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_is_one_line_whatever_its_fields_hold() {
        let line = logged(LevelFilter::INFO, || {
            let id = "a \"quote\",\na line and a \\";
            let nobody: Option<i64> = None;
            tracing::warn!(id, route = "/api/patients/{id}", status = 200_u16, nobody, "request");
        });
        let two_lines = logged(LevelFilter::INFO, || {
            let detail = "a\nb";
            tracing::warn!(%detail, "{detail}");
        });
        assert!(two_lines.ends_with("  WARN a b detail=a b\n"), "{two_lines}");
        let (time, rest) = line.split_at("2026-11-22T20:56:26.179512Z".len());
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(
            rest,
            "  WARN request id=\"a \\\"quote\\\",\\na line and a \\\\\" \
             route=\"/api/patients/{id}\" status=200\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_its_fields_hold() {
        let log = |events: fn()| logged_as(LogFormat::Json, LevelFilter::INFO, events);
        let line = log(|| {
            let id = "a \"quote\",\na line and a \\";
            let (nobody, detail): (Option<i64>, _) = (None, "b\nc");
            tracing::warn!(id, status = 200_u16, user = -7, nobody, %detail, "request {}", 1);
        });
        assert_eq!(line.lines().count(), 1, "{line}");
        let mut object: serde_json::Value = serde_json::from_str(&line).unwrap();
        let time = object["time"].take();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        let expected = serde_json::json!({
            "time": null, "level": "WARN", "message": "request 1", "status": 200, "user": -7,
            "id": "a \"quote\",\na line and a \\", "detail": "b\nc",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn only_levels_that_are_wanted_are_logged() {
        let lines = logged(LevelFilter::WARN, || {
            tracing::info!("quiet");
            tracing::warn!("heard");
            tracing::error!(user = -7, "heard too");
        });
        let rests: Vec<&str> = lines.lines().map(|line| &line[27..]).collect();
        assert_eq!(rests, ["  WARN heard", " ERROR heard too user=-7"]);
        assert_eq!(logged(LevelFilter::OFF, || tracing::error!("lost")), "");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let lines = Lines::default();
        let line = "x".repeat(MAX_BUFFERED / 2);
        for _ in 0..5 {
            lines.append(line.as_bytes());
        }
        let mut bytes = Vec::new();
        assert_eq!(lines.take(&mut bytes), (3, false));
        assert_eq!(bytes.len(), MAX_BUFFERED);
        lines.append(b"next\n");
        lines.lock().ended = true;
        bytes.clear();
        assert_eq!(lines.take(&mut bytes), (0, true));
        assert_eq!(bytes, b"next\n");
    }
}
