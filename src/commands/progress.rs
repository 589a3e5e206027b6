//! Progress bars on a terminal, and the rate at the end.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a command. It is not shown where standard error is no terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Out of so many rows.
    pub fn rows(total: u64) -> Self {
        Self::new(total, "{bar:40} {human_pos}/{human_len} {per_sec} {eta} left")
    }

    /// Out of so many bytes; None if their number is not known.
    pub fn bytes(total: Option<u64>) -> Self {
        match total {
            Some(total) => {
                Self::new(total, "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
            }
            None => Self::new(0, "{bytes} {bytes_per_sec}"),
        }
    }

    fn new(total: u64, template: &str) -> Self {
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now() }
    }

    pub fn add(&self, count: u64) {
        self.bar.inc(count);
    }

    /// Removes the bar, and returns how long it took and the rate for so many.
    pub fn finish(&self, count: u64) -> String {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = count as f64 / seconds.max(0.001);
        format!("in {seconds:.1} s, {rate:.0} a second")
    }
}
