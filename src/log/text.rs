//! A line of the log as text: time, level, message, fields, in the format of tracing-subscriber.

use std::cell::Cell;
use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use healthcare_backend::json::RFC_3339;

thread_local! {
    /// A buffer that is reused, so that not every line allocates.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// The most bytes of the buffer that are kept: enough for most lines.
const MAX_RETAINED_LINE: usize = 1 << 10;

/// Passes the line of an event, with its newline, to `output`.
pub fn write(event: &Event<'_>, output: impl FnOnce(&[u8])) {
    // Not available while the thread is exiting.
    let mut fields = Fields { line: LINE.try_with(Cell::take).unwrap_or_default() };
    // Writing to a String cannot fail.
    let _ = RFC_3339.print_timestamp(&Timestamp::now(), &mut fields.line);
    fields.line.push_str(level(*event.metadata().level()));
    event.record(&mut fields);
    fields.line.push('\n');
    output(fields.line.as_bytes());
    fields.line.clear();
    fields.line.shrink_to(MAX_RETAINED_LINE);
    let _ = LINE.try_with(|line| line.set(fields.line));
}

/// The level's name, padded to the longest.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => " ERROR",
        Level::WARN => "  WARN",
        Level::INFO => "  INFO",
        Level::DEBUG => " DEBUG",
        Level::TRACE => " TRACE",
    }
}

/// Replaces control characters by spaces.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        Ok(())
    }
}

struct Fields {
    line: String,
}

impl Fields {
    fn name(&mut self, field: &Field) {
        self.line.push(' ');
        if field.name() != "message" {
            self.line.push_str(field.name());
            self.line.push('=');
        }
    }

    fn number(&mut self, field: &Field, number: impl itoa::Integer) {
        self.name(field);
        self.line.push_str(itoa::Buffer::new().format(number));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let special = value.bytes().fold(0, |found, byte| {
            found | u8::from(!matches!(byte, b' '..=b'~')) | u8::from(matches!(byte, b'"' | b'\\'))
        });
        if special != 0 {
            return self.record_debug(field, &value);
        }
        self.name(field);
        self.line.push('"');
        self.line.push_str(value);
        self.line.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        // If formatting a value fails, the rest of the line is still logged. Values of libraries
        // may contain newlines.
        let _ = write!(OneLine(&mut self.line), "{value:?}");
    }
}
