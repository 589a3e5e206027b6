//! The log: text lines on standard output, written by a thread of their own so that no worker waits.

use std::io::{self, BufWriter, Stdout, Write};
use std::panic;
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;

/// How long the thread gathers lines after it has written some. To wake it for each line would cost
/// a worker a system call a request.
const GATHER: Duration = Duration::from_millis(2);

/// Starts logging. What is logged is written at the latest when the guard is dropped.
pub fn start(level: LevelFilter) -> WorkerGuard {
    let output = BufWriter::with_capacity(64 << 10, io::stdout());
    let (writer, guard) = tracing_appender::non_blocking(Gathering(output));
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .init();
    // The message of a panic may quote what a client sent; its place does not.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    guard
}

/// Standard output flushes at every line. This does when the thread has no line left, and then lets
/// some come together.
struct Gathering(BufWriter<Stdout>);

impl Write for Gathering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(GATHER);
        Ok(())
    }
}
