//! Comma-separated values (RFC 4180) under a header with the names of fields. An empty cell is a
//! field that was not sent.

pub mod writer;

use std::str;

use csv_core::{ReadRecordResult, Reader};
use serde_json::value::RawValue;
use tokio_postgres::types::Type;

use super::{Content, Line, MAX_LINE};
use crate::error::FieldError;
use crate::json::WriteJson;
use crate::models::input::Names;
use crate::models::patient::FIELDS;

/// The most cells of a line, more than there are names of different fields.
const MAX_CELLS: usize = 64;

/// Splits input that comes in parts into records, and writes each as JSON, so that the rules of
/// single patients apply to it. A byte order mark is skipped if the first part has all of it.
pub struct Records {
    reader: Reader,
    record: Record,
    /// Ends of lines so far.
    lines: u64,
    header: Header,
    json: Vec<u8>,
}

/// The record that is being read.
struct Record {
    /// The number of its first line.
    number: u64,
    /// What it takes in the input, in bytes; 0 between two records.
    size: usize,
    quotation_marks: usize,
    /// Its cells, one after the other, without their quotation marks.
    text: Box<[u8]>,
    text_length: usize,
    /// Where each cell ends.
    ends: [usize; MAX_CELLS],
    cells: usize,
    too_many_cells: bool,
}

enum Header {
    Expected,
    Columns(Vec<Column>),
    /// It was wrong, so that nothing is known of the lines.
    Wrong,
}

struct Column {
    name: String,
    /// The type of the field; None for one that the server sets.
    sql_type: Option<Type>,
}

impl Default for Records {
    fn default() -> Self {
        let record = Record {
            number: 1,
            size: 0,
            quotation_marks: 0,
            text: vec![0; MAX_LINE].into(),
            text_length: 0,
            ends: [0; MAX_CELLS],
            cells: 0,
            too_many_cells: false,
        };
        let (reader, header) = (Reader::new(), Header::Expected);
        Self { reader, record, lines: 0, header, json: Vec::new() }
    }
}

impl Records {
    /// The next record behind the header, or what is wrong with the header. It is taken from the
    /// input; None if more input is needed, or if this was all.
    pub fn next(&mut self, input: &mut &[u8], ended: bool) -> Option<Line<'_>> {
        loop {
            let number = self.read(input, ended)?;
            let read = match &self.header {
                Header::Expected => match read_header(&self.record) {
                    Ok(columns) => {
                        self.header = Header::Columns(columns);
                        Ok(false)
                    }
                    Err(wrong) => {
                        self.header = Header::Wrong;
                        Err(wrong)
                    }
                },
                Header::Columns(columns) => {
                    self.json.clear();
                    self.record.write_json(columns, &mut self.json).map(|()| true)
                }
                Header::Wrong => Ok(false),
            };
            self.record.clear();
            match read {
                Ok(true) => return Some(Line { number, content: Content::Json(&self.json) }),
                Ok(false) => {}
                Err(content) => return Some(Line { number, content }),
            }
        }
    }

    pub fn has_header(&self) -> bool {
        !matches!(self.header, Header::Expected)
    }

    /// Reads to the end of a record, and returns the number of its first line.
    fn read(&mut self, input: &mut &[u8], ended: bool) -> Option<u64> {
        let record = &mut self.record;
        while record.size == 0
            && let Some((end @ (b'\r' | b'\n'), rest)) = input.split_first()
        {
            self.lines += u64::from(*end == b'\n');
            *input = rest;
        }
        if record.size == 0 {
            record.number = self.lines + 1;
        }
        while !input.is_empty() || (ended && record.size > 0) {
            let text = record.text.get_mut(record.text_length..).unwrap_or_default();
            let ends = record.ends.get_mut(record.cells..).unwrap_or_default();
            let (result, taken, written, cells) = self.reader.read_record(input, text, ends);
            let (taken, rest) = input.split_at(taken);
            *input = rest;
            let count =
                |wanted| taken.iter().map(|byte| usize::from(*byte == wanted)).sum::<usize>();
            self.lines += count(b'\n') as u64;
            record.quotation_marks += count(b'"');
            record.size += taken.len();
            record.text_length += written;
            record.cells += cells;
            match result {
                ReadRecordResult::Record => return Some(record.number),
                ReadRecordResult::End => return None,
                ReadRecordResult::InputEmpty => {}
                // The rest is read over what was there. The size tells that it is too long.
                ReadRecordResult::OutputFull => record.text_length = 0,
                ReadRecordResult::OutputEndsFull => {
                    record.too_many_cells = true;
                    record.cells = 0;
                }
            }
        }
        None
    }
}

impl Record {
    fn clear(&mut self) {
        self.size = 0;
        self.quotation_marks = 0;
        self.text_length = 0;
        self.cells = 0;
        self.too_many_cells = false;
    }

    /// The cells, or what is wrong with the line.
    fn cells(&self) -> Result<Vec<&str>, Content<'static>> {
        // Including its end, which does not count.
        if self.size > MAX_LINE + 1 {
            return Err(Content::too_long());
        }
        if !self.quotation_marks.is_multiple_of(2) {
            return Err(Content::wrong("has a quotation mark without its other half"));
        }
        if self.too_many_cells {
            return Err(Content::wrong(format!("must have at most {MAX_CELLS} cells")));
        }
        let mut start = 0;
        let cells = self.ends.iter().take(self.cells).map(|end| {
            let cell = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            str::from_utf8(cell)
        });
        cells.collect::<Result<_, _>>().map_err(|_| Content::wrong("is not UTF-8"))
    }

    /// Writes an object with the cells that are not empty.
    fn write_json(&self, columns: &[Column], out: &mut Vec<u8>) -> Result<(), Content<'static>> {
        let cells = self.cells()?;
        let (count, expected) = (cells.len(), columns.len());
        if count != expected {
            let message = format!("must have {expected} cells, as the header, and has {count}");
            return Err(Content::wrong(message));
        }
        out.push(b'{');
        let filled = cells.into_iter().zip(columns).filter(|(cell, _)| !cell.is_empty());
        for (cell, Column { name, sql_type }) in filled {
            let Some(sql_type) = sql_type else { continue };
            // No longer than a client may write it.
            if out.len() + escaped_length(cell) > MAX_LINE {
                return Err(Content::too_long());
            }
            if out.len() > 1 {
                out.push(b',');
            }
            name.write_json(out);
            out.push(b':');
            write_cell(cell, sql_type, out);
        }
        out.push(b'}');
        Ok(())
    }
}

/// The bytes that a text takes in JSON.
fn escaped_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        ..b' ' => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

/// Writes numbers and objects as they are, and everything else as a text: whether a field takes it
/// is up to its rule.
fn write_cell(cell: &str, sql_type: &Type, out: &mut Vec<u8>) {
    let as_it_is = match *sql_type {
        Type::INT4 => cell.starts_with(|first: char| first == '-' || first.is_ascii_digit()),
        Type::JSON => cell.trim_ascii_start().starts_with('{'),
        _ => false,
    };
    if as_it_is && serde_json::from_str::<&RawValue>(cell).is_ok() {
        out.extend_from_slice(cell.as_bytes());
    } else {
        cell.write_json(out);
    }
}

/// The columns that a header names.
fn read_header(record: &Record) -> Result<Vec<Column>, Content<'static>> {
    let cells = record.cells()?;
    let mut names = Names::of(&FIELDS);
    let mut columns = Vec::new();
    let mut errors: Vec<FieldError> = Vec::new();
    for name in cells {
        match names.take(name) {
            Ok(field) => {
                let field = field.and_then(|at| FIELDS.get(at));
                let sql_type = field.map(|field| field.rule.sql_type());
                columns.push(Column { name: name.to_owned(), sql_type });
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(names.missing());
    if errors.is_empty() { Ok(columns) } else { Err(Content::Wrong(errors)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::writer::write_record;
    use super::*;

    /// Each line with its JSON, or with what is wrong, when the input comes in parts of this size.
    fn read(input: &[u8], size: usize) -> Vec<(u64, String)> {
        let mut records = Records::default();
        let mut found = Vec::new();
        let mut read = |mut part: &[u8], ended| {
            while let Some(line) = records.next(&mut part, ended) {
                let text = match line.content {
                    Content::Json(json) => String::from_utf8(json.to_vec()).unwrap(),
                    Content::Wrong(errors) => {
                        let errors = errors.iter().map(|e| format!("{} {}", e.field, e.message));
                        errors.collect::<Vec<_>>().join("; ")
                    }
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

    fn expect(input: &str, expected: &[(u64, &str)]) {
        for size in [1, 2, 5, 10_000] {
            let found = read(input.as_bytes(), size);
            let found: Vec<_> = found.iter().map(|(number, text)| (*number, &**text)).collect();
            assert_eq!(found, expected, "in parts of {size}");
        }
    }

    #[test]
    fn cells_are_texts_numbers_and_objects_by_their_fields() {
        expect(
            "name,age,dob,metadata\r\n007,36,1990-01-01,\"{\"\"a\"\": 1}\"\r\nB,x,,[]\nC,007,,\n",
            &[
                (2, r#"{"name":"007","age":36,"dob":"1990-01-01","metadata":{"a": 1}}"#),
                (3, r#"{"name":"B","age":"x","metadata":"[]"}"#),
                (4, r#"{"name":"C","age":"007"}"#),
            ],
        );
    }

    #[test]
    fn a_line_has_the_number_of_its_first_in_the_file() {
        expect(
            "name,notes\n\n\"A\",\"one\r\ntwo\"\n\r\nB,\",\"\r\nC,",
            &[
                (3, r#"{"name":"A","notes":"one\r\ntwo"}"#),
                (6, r#"{"name":"B","notes":","}"#),
                (7, r#"{"name":"C"}"#),
            ],
        );
    }

    #[test]
    fn a_byte_order_mark_and_what_the_server_sets_are_skipped() {
        for input in ["\u{feff}id,name,version\n7,A,x\n", "\u{feff}\"name\"\nA\n"] {
            assert_eq!(read(input.as_bytes(), 100), [(2, r#"{"name":"A"}"#.into())]);
        }
    }

    #[test]
    fn a_wrong_header_is_all_that_is_said() {
        expect(
            "nmae,phone,contact\nA,1,2\n",
            &[(
                1,
                "nmae is not a known field; the nearest is name; \
                 contact is given twice: it is another name of phone; name is required",
            )],
        );
    }

    #[test]
    fn broken_lines_are_named_and_the_next_one_is_read() {
        expect(
            "name,age\nA\nB,1,2\n5\",1\nC,1\n",
            &[
                (2, " must have 2 cells, as the header, and has 1"),
                (3, " must have 2 cells, as the header, and has 3"),
                (4, " has a quotation mark without its other half"),
                (5, r#"{"name":"C","age":1}"#),
            ],
        );
        let found = read(b"name\n\xff\nA\n", 3);
        assert_eq!(found, [(2, " is not UTF-8".into()), (3, r#"{"name":"A"}"#.into())]);
        expect("name\n\"A", &[(2, " has a quotation mark without its other half")]);
        let many = format!("name\n{}\nA\n", ",".repeat(200));
        let too_many = " must have at most 64 cells";
        expect(&many, &[(2, too_many), (3, r#"{"name":"A"}"#)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_wrong_and_the_next_one_is_not() {
        for long in [
            "x".repeat(MAX_LINE + 2),
            format!("\"{}\"", "\"\"".repeat(MAX_LINE / 2)),
            "\u{1}".repeat(MAX_LINE / 6 + 1),
        ] {
            let found = read(format!("name\n{long}\nA\n").as_bytes(), 10_000);
            assert_eq!(found[0].1, format!(" must have at most {MAX_LINE} bytes"));
            assert_eq!(found[1], (3, r#"{"name":"A"}"#.into()));
            assert_eq!(found.len(), 2);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(cells in prop::collection::vec("[a\",\r\n é]{0,6}", 2)) {
            let mut out = Vec::new();
            write_record([&b"notes"[..], b"name"], &mut out);
            write_record(cells.iter().map(String::as_bytes), &mut out);
            let mut expected = serde_json::Map::new();
            for (name, cell) in ["notes", "name"].into_iter().zip(&cells) {
                if !cell.is_empty() {
                    expected.insert(name.into(), cell.as_str().into());
                }
            }
            for size in [1, 3, 1000] {
                let found = read(&out, size);
                prop_assert_eq!(found.len(), 1);
                let found: serde_json::Value = serde_json::from_str(&found[0].1).unwrap();
                prop_assert_eq!(found.as_object().unwrap(), &expected);
            }
        }
    }
}
