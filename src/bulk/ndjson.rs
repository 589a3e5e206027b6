//! Newline-delimited JSON: an object a line. Empty lines are skipped.

use super::{Content, Line, MAX_LINE};

/// Splits input that comes in parts into lines.
#[derive(Default)]
pub struct Lines {
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Whether `partial` is a line that was returned.
    returned: bool,
    /// Whether the start of the line was dropped, because it is too long.
    too_long: bool,
    /// Lines so far.
    count: u64,
}

impl Lines {
    /// The next line, which is taken from the input; None if more input is needed, or if this was
    /// all.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], ended: bool) -> Option<Line<'a>> {
        loop {
            if std::mem::take(&mut self.returned) {
                self.partial.clear();
            }
            let end = input.iter().position(|byte| *byte == b'\n');
            let begun = !input.is_empty() || !self.partial.is_empty() || self.too_long;
            if end.is_none() && !(ended && begun) {
                self.keep(std::mem::take(input));
                return None;
            }
            let (line, rest) = input.split_at(end.unwrap_or(input.len()));
            *input = rest.get(1..).unwrap_or_default();
            self.count += 1;
            let number = self.count;
            let whole = self.partial.is_empty() && !self.too_long;
            if !whole {
                self.keep(line);
                self.returned = true;
            }
            if std::mem::take(&mut self.too_long) || line.len() > MAX_LINE {
                return Some(Line { number, content: Content::too_long() });
            }
            let blank = if whole { line } else { &self.partial }.trim_ascii().is_empty();
            if !blank {
                let line = if whole { line } else { &self.partial };
                return Some(Line { number, content: Content::Json(line) });
            }
        }
    }

    /// Keeps a part of a line, unless it is too long with it.
    fn keep(&mut self, part: &[u8]) {
        self.too_long |= self.partial.len() + part.len() > MAX_LINE;
        if self.too_long {
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// The lines of an input that comes in parts of this size.
    fn lines(input: &[u8], size: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut read = |mut part: &[u8], ended| {
            while let Some(line) = lines.next(&mut part, ended) {
                let text = match line.content {
                    Content::Json(json) => Some(String::from_utf8(json.to_vec()).unwrap()),
                    Content::Wrong(_) => None,
                };
                found.push((line.number, text));
            }
        };
        for part in input.chunks(size) {
            read(part, false);
        }
        read(&[], true);
        found
    }

    #[test]
    fn lines_are_counted_and_empty_ones_skipped() {
        let expected: Vec<_> =
            [(1, "{}"), (3, "{\"a\":1}\r"), (5, "x")].map(|(n, s)| (n, Some(s.into()))).into();
        for size in [1, 2, 100] {
            assert_eq!(lines(b"{}\n\n{\"a\":1}\r\n \r\nx", size), expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_wrong_and_the_next_one_is_not() {
        let just_right = "x".repeat(MAX_LINE);
        let input = format!("{just_right}\n{just_right}y\nz\n{just_right}y");
        for size in [1000, MAX_LINE + 1, input.len()] {
            let found = lines(input.as_bytes(), size);
            let numbers: Vec<_> = found.iter().map(|(n, text)| (*n, text.is_some())).collect();
            assert_eq!(numbers, [(1, true), (2, false), (3, true), (4, false)], "{size}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_in_which_input_comes_do_not_matter(
            input in "[a\n\r ]{0,40}",
            size in 1..8_usize,
        ) {
            prop_assert_eq!(lines(input.as_bytes(), size), lines(input.as_bytes(), 1000));
        }
    }
}
