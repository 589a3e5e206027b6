//! A line of the log as a JSON object: `time`, `level`, `message`, and the fields.

use std::cell::Cell;
use std::fmt::{Arguments, Debug, Write as _};

use jiff::Timestamp;
use tracing::Event;
use tracing::field::{Field, Visit};

use healthcare_backend::json::{RFC_3339, WriteJson};

thread_local! {
    /// Buffers that are reused, so that not every line allocates.
    static LINE: Cell<Object> =
        const { Cell::new(Object { line: Vec::new(), text: String::new() }) };
}

/// The most bytes of a buffer that are kept: enough for most lines.
const MAX_RETAINED: usize = 1 << 10;

/// Passes the line of an event, with its newline, to `output`.
pub fn write(event: &Event<'_>, output: impl FnOnce(&[u8])) {
    // Not available while the thread is exiting.
    let mut object = LINE.try_with(Cell::take).unwrap_or_default();
    object.line.extend_from_slice(b"{\"time\":\"");
    // Writing to a Vec cannot fail.
    let _ = RFC_3339.print_timestamp(&Timestamp::now(), &mut object.line);
    object.line.extend_from_slice(b"\",\"level\":\"");
    object.line.extend_from_slice(event.metadata().level().as_str().as_bytes());
    object.line.push(b'"');
    event.record(&mut object);
    object.line.extend_from_slice(b"}\n");
    output(&object.line);
    object.line.clear();
    object.line.shrink_to(MAX_RETAINED);
    object.text.shrink_to(MAX_RETAINED);
    let _ = LINE.try_with(|line| line.set(object));
}

#[derive(Default)]
struct Object {
    line: Vec<u8>,
    /// A value while it is formatted.
    text: String,
}

impl Object {
    fn member(&mut self, field: &Field, value: &impl WriteJson) {
        self.line.push(b',');
        field.name().write_json(&mut self.line);
        self.line.push(b':');
        value.write_json(&mut self.line);
    }

    fn number(&mut self, field: &Field, number: impl itoa::Integer) {
        self.line.push(b',');
        field.name().write_json(&mut self.line);
        self.line.push(b':');
        self.line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn formatted(&mut self, field: &Field, value: Arguments<'_>) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // If formatting a value fails, the rest of the line is still logged.
        let _ = text.write_fmt(value);
        self.member(field, &text);
        self.text = text;
    }
}

impl Visit for Object {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.formatted(field, format_args!("{value:?}"));
    }
}
