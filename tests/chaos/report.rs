//! What a fault did, beside what must hold.

use std::time::Duration;

/// How long a fault is looked at: for seconds by `make test`, or for minutes by `make chaos`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Short,
    Long,
}

impl Form {
    pub fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }

    pub fn seconds(self, short: u64, long: u64) -> Duration {
        Duration::from_secs(self.pick(short, long))
    }
}

#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
}

struct Line {
    what: String,
    figure: String,
    /// Empty for what is only told.
    bound: String,
    held: bool,
    /// Depends on how busy the machine is, and so is judged in the long form alone.
    timed: bool,
}

impl Report {
    /// Of a fault whose function has panicked, which printed why.
    pub fn of_failure() -> Self {
        let mut report = Self::default();
        report.holds("ran to its end", "no", "yes", false);
        report
    }

    /// Something that must not happen.
    pub fn none(&mut self, what: &str, count: usize) {
        self.add(what, count.to_string(), "0", count == 0, false);
    }

    /// Something that must be so.
    pub fn holds(
        &mut self,
        what: &str,
        figure: &(impl ToString + ?Sized),
        bound: &str,
        held: bool,
    ) {
        self.add(what, figure.to_string(), bound, held, false);
    }

    pub fn within(&mut self, what: &str, took: Duration, bound: Duration) {
        self.add(
            what,
            duration(took),
            &format!("at most {}", duration(bound)),
            took <= bound,
            true,
        );
    }

    /// A share of what it is without the fault.
    pub fn share(&mut self, what: &str, share: f64, bound: f64) {
        let (figure, at_least) = (format!("{share:.2}"), format!("at least {bound:.2}"));
        self.add(what, figure, &at_least, share >= bound, true);
    }

    pub fn at_most(&mut self, what: &str, figure: f64, bound: f64) {
        let (text, at_most) = (format!("{figure:.2}"), format!("at most {bound}"));
        self.add(what, text, &at_most, figure <= bound, true);
    }

    pub fn tell(&mut self, what: &str, figure: &(impl ToString + ?Sized)) {
        self.add(what, figure.to_string(), "", true, false);
    }

    pub fn tell_time(&mut self, what: &str, took: Duration) {
        self.tell(what, &duration(took));
    }

    fn add(&mut self, what: &str, figure: String, bound: &str, held: bool, timed: bool) {
        let (what, bound) = (what.to_owned(), bound.to_owned());
        self.lines.push(Line { what, figure, bound, held, timed });
    }

    /// Fails unless everything held that does not depend on how busy the machine is.
    #[track_caller]
    pub fn assert(self) {
        let failed = self.lines.iter().filter(|line| !line.held && !line.timed);
        let failed: Vec<_> = failed.map(Line::row).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    /// Prints rows of a Markdown table, one with all that has no bound, and returns whether
    /// everything held.
    pub fn print(&self, fault: &str) -> bool {
        let (bound, told): (Vec<_>, Vec<_>) =
            self.lines.iter().partition(|line| !line.bound.is_empty());
        for line in &bound {
            println!("| {fault} {}", line.row());
        }
        let told: Vec<_> =
            told.iter().map(|line| format!("{}: {}", line.what, line.figure)).collect();
        println!("| {fault} | {} | | | |", told.join(", "));
        bound.iter().all(|line| line.held)
    }
}

impl Line {
    fn row(&self) -> String {
        let held = if self.held { "yes" } else { "**no**" };
        format!("| {} | {} | {} | {held} |", self.what, self.figure, self.bound)
    }
}

pub fn duration(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}
