//! Writing records.

use csv_core::{Terminator, WriterBuilder};

/// Appends a record, with quotation marks where a cell needs them, and CRLF.
pub fn write_record<'c>(cells: impl IntoIterator<Item = &'c [u8]>, out: &mut Vec<u8>) {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).build();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            append(out, 2, |room| writer.delimiter(room).1);
        }
        // Every byte may be a quotation mark, which is doubled.
        append(out, 2 * cell.len() + 2, |room| writer.field(cell, room).2);
    }
    append(out, 5, |room| writer.terminator(room).1);
}

/// Appends what is written into room for that many bytes.
fn append(out: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let start = out.len();
    out.resize(start + room, 0);
    let written = write(out.get_mut(start..).unwrap_or_default());
    out.truncate(start + written);
}
