//! The log: text lines on standard output, written by a thread of their own so that no worker waits.

use std::io::BufWriter;
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;

/// Starts logging. What is logged is written at the latest when the guard is dropped.
pub fn start(level: LevelFilter) -> WorkerGuard {
    // Standard output flushes at every line; the thread does when it has nothing left to write.
    let output = BufWriter::with_capacity(64 << 10, std::io::stdout());
    let (writer, guard) = tracing_appender::non_blocking(output);
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
