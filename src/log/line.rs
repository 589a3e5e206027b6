//! A line of the log: time, level, message, fields. It reads as tracing-subscriber's own format does,
//! which makes its time from single numbers and looks at texts letter by letter.

use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::json::MICROSECONDS;

pub struct Line;

/// Bytes that hold most lines.
const USUAL: usize = 256;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // A string of our own, because the writer's is behind a virtual call for each part.
        let mut fields = Fields { line: String::with_capacity(USUAL), result: Ok(()) };
        // A String takes whatever is printed.
        let _ = MICROSECONDS.print_timestamp(&Timestamp::now(), &mut fields.line);
        fields.line.push_str(level(*event.metadata().level()));
        event.record(&mut fields);
        fields.result?;
        fields.line.push('\n');
        writer.write_str(&fields.line)
    }
}

/// As wide as the longest.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => " ERROR",
        Level::WARN => "  WARN",
        Level::INFO => "  INFO",
        Level::DEBUG => " DEBUG",
        Level::TRACE => " TRACE",
    }
}

struct Fields {
    line: String,
    result: fmt::Result,
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
        self.result = self.result.and(write!(self.line, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_its_fields_hold() {
        let output = Output::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Line)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let id = "a \"quote\",\na line and a \\";
            let nobody: Option<i64> = None;
            tracing::warn!(id, route = "/api/patients/{id}", status = 200_u16, nobody, "request");
        });
        let written = output.0.lock().unwrap().clone();
        let line = String::from_utf8(written).unwrap();
        let (time, rest) = line.split_at("2026-11-22T20:56:26.179512Z".len());
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        assert_eq!(
            rest,
            "  WARN request id=\"a \\\"quote\\\",\\na line and a \\\\\" \
             route=\"/api/patients/{id}\" status=200\n"
        );
    }
}
