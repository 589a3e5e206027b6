//! The rest of a list, and the chunks in which it is sent.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;

use super::List;
use crate::db::Pool;
use crate::db::row::{column, is_large};
use crate::error::Result;
use crate::http::budget::{Allowance, Lease};
use crate::http::query::Page;

/// The largest chunk, in bytes. Every row fits.
const CHUNK_BYTES: usize = 128 << 10;
/// What the member names add to a row's JSON, in bytes.
const NAMES_BYTES: usize = 448;
/// The most rows of a chunk.
const MAX_ROWS: i64 = 1000;
/// How long a stream waits for a lease for its next chunk before it fails.
const CHUNK_WAIT: Duration = Duration::from_secs(30);

/// What has not been written of a list. Between two chunks it holds no connection, and no memory but
/// for the ids of a page, 8 KB at most. These are not accounted for: what waits for room must hold
/// nothing of it, or those who wait could wait for each other.
pub struct Rest {
    pub list: List,
    pub allowance: Allowance,
    pool: Pool,
    /// The chunk that is serialized already.
    pub first: Option<Chunk>,
    /// The last id that was written.
    after: i64,
    wanted: Wanted,
    /// The number of rows of the next chunk.
    rows: i64,
    /// Whether an element has been written.
    begun: bool,
    /// Whether the list is complete.
    pub ended: bool,
    /// Whether there are rows after the page.
    pub more: bool,
}

/// What may still be written of a list.
enum Wanted {
    /// So many rows.
    Rows(usize),
    /// These rows of a page, the last one first. So the link to the next page leaves no row out and
    /// repeats none, whatever is inserted, changed or deleted while the page is written.
    Ids(Vec<i64>),
}

/// A part of the list.
pub struct Chunk {
    bytes: Vec<u8>,
    lease: Lease,
}

impl Chunk {
    /// Reserves the capacity for the JSON of rows, up to the size of a chunk.
    fn reserve(&mut self, rows: &[Row]) {
        let bytes: usize = rows.iter().map(|row| row.raw_size_bytes() + NAMES_BYTES).sum();
        self.bytes.reserve_exact(bytes.min(CHUNK_BYTES.saturating_sub(self.bytes.len())));
    }

    fn into_bytes(mut self) -> Bytes {
        // Unused capacity must not be held while the chunk is sent.
        if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
        }
        self.lease.keep(self.bytes.into())
    }
}

impl Rest {
    /// A whole list or page. The first chunk has at most `rows` rows.
    pub fn new(allowance: Allowance, pool: Pool, page: Page, rows: i64, list: List) -> Self {
        Self {
            list,
            allowance,
            pool,
            first: None,
            after: page.after,
            wanted: Wanted::Rows(page.limit.map_or(usize::MAX, as_usize)),
            rows,
            begun: false,
            ended: false,
            more: false,
        }
    }

    /// The first chunk.
    pub fn first_chunk(&mut self, lease: Lease) -> Chunk {
        Chunk { bytes: std::mem::take(&mut self.list.framing.before), lease }
    }

    /// The last chunk.
    pub fn last(&self, mut chunk: Chunk) -> Bytes {
        chunk.bytes.extend_from_slice(self.list.framing.after);
        chunk.into_bytes()
    }

    /// Writes the rows from the shared connection, of which the last only shows whether there is
    /// one more. Returns whether none of them must be fetched again.
    pub fn write_first(
        &mut self,
        rows: &[Row],
        limit: Option<i64>,
        chunk: &mut Chunk,
    ) -> Result<bool> {
        let wanted = usize::try_from(self.rows - 1).unwrap_or_default();
        let shown = rows.get(..wanted).unwrap_or(rows);
        let mut small = 0;
        while let Some(row) = shown.get(small)
            && !is_large(row, row.len() - 1)?
        {
            small += 1;
        }
        let written = self.write(shown.get(..small).unwrap_or(shown), chunk)?;
        let (all, more) = (written == shown.len(), rows.len() > shown.len());
        let is_page = limit.is_some_and(|limit| limit < self.rows);
        self.ended |= all && (is_page || !more);
        if is_page {
            self.more = more;
        }
        if is_page && !self.ended {
            let ids = shown.iter().skip(written).rev().map(|row| column(row, 0));
            self.wanted = Wanted::Ids(ids.collect::<Result<_>>()?);
        }
        Ok(all || self.ended)
    }

    /// Fetches a chunk's rows into the first chunk. If there is no room for more, what it has is
    /// sent first.
    pub async fn fetch_into(&mut self, chunk: &mut Chunk) -> Result<()> {
        if !self.allowance.extend(&mut chunk.lease, CHUNK_BYTES) {
            if self.begun {
                return Ok(());
            }
            chunk.lease = Lease::default();
            chunk.lease = self.allowance.lease(CHUNK_BYTES).await?;
        }
        self.fetch(chunk).await
    }

    /// Finds the rows of the page that are not written, unless they are known.
    pub async fn find_page(&mut self) -> Result<()> {
        if let Wanted::Rows(rows) = self.wanted {
            // After what is written, not after what was asked for: if rows that are written have
            // been deleted since, others would take their places, and be in no page.
            let mut ids = self.list.page_ids(&self.pool, self.after, as_i64(rows)).await?;
            self.more = ids.len() > rows;
            ids.truncate(rows);
            ids.shrink_to_fit();
            ids.reverse();
            self.ended = ids.is_empty();
            self.wanted = Wanted::Ids(ids);
        }
        Ok(())
    }

    /// The last id of the page.
    pub fn end(&self) -> i64 {
        let last = match &self.wanted {
            Wanted::Rows(_) => None,
            Wanted::Ids(ids) => ids.first(),
        };
        last.copied().unwrap_or(self.after)
    }

    /// The next part of the body.
    pub async fn next(rest: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>> {
        let Some(mut rest) = rest else { return Ok(None) };
        let chunk = match rest.first.take() {
            Some(first) => first,
            None => rest.next_chunk().await.inspect_err(|error| {
                let cause = error.cause().unwrap_or_default();
                let (code, list) = (error.status_and_code().1, rest.list.sql.file());
                tracing::error!(code, cause, list, "a list broke off");
            })?,
        };
        if rest.ended {
            return Ok(Some((rest.last(chunk), None)));
        }
        Ok(Some((chunk.into_bytes(), Some(rest))))
    }

    async fn next_chunk(&mut self) -> Result<Chunk> {
        let lease = self.allowance.next_lease(CHUNK_WAIT, CHUNK_BYTES).await?;
        let mut chunk = Chunk { bytes: Vec::new(), lease };
        self.fetch(&mut chunk).await?;
        Ok(chunk)
    }

    async fn fetch(&mut self, chunk: &mut Chunk) -> Result<()> {
        let (after, asked) = match &self.wanted {
            Wanted::Rows(_) => (self.after, self.rows),
            // Rows that have come between are passed over.
            Wanted::Ids(ids) => {
                (ids.last().map_or(self.after, |next| next - 1), self.rows.min(as_i64(ids.len())))
            }
        };
        let rows = self.list.fetch(&self.pool, after, asked).await?;
        let full = rows.last().map_or(Ok(false), |row| column(row, row.len() - 1))?;
        let before = chunk.bytes.len();
        let written = self.write(&rows, chunk)?;
        let count = as_i64(written);
        self.ended |= written == rows.len() && count < asked && !full;
        self.ended |= matches!(&self.wanted, Wanted::Ids(ids) if ids.is_empty());
        self.rows = next_rows(count, (chunk.bytes.len() - before) / written.max(1));
        Ok(())
    }

    /// Appends the wanted ones of the rows, until no more is wanted or one does not fit, and returns
    /// the number of rows that are done with.
    fn write(&mut self, rows: &[Row], chunk: &mut Chunk) -> Result<usize> {
        chunk.reserve(rows);
        for (at, row) in rows.iter().enumerate() {
            if matches!(self.wanted, Wanted::Rows(0)) {
                (self.ended, self.more) = (true, true);
                return Ok(at);
            }
            let start = chunk.bytes.len();
            if start + row.raw_size_bytes() > CHUNK_BYTES {
                return Ok(at);
            }
            if self.begun {
                chunk.bytes.extend_from_slice(self.list.framing.between);
            }
            let id = (self.list.write)(row, &mut chunk.bytes)?;
            let Some(id) = id.filter(|_| self.fits(chunk)) else {
                self.ended |= id.is_none();
                chunk.bytes.truncate(start);
                return Ok(at);
            };
            if !self.wanted.take(id) {
                chunk.bytes.truncate(start);
                continue;
            }
            self.begun = true;
            self.after = id;
        }
        Ok(rows.len())
    }

    fn fits(&self, chunk: &mut Chunk) -> bool {
        let length = chunk.bytes.len();
        if chunk.lease.covers(length) {
            return true;
        }
        length <= CHUNK_BYTES && self.allowance.extend(&mut chunk.lease, CHUNK_BYTES)
    }
}

impl Wanted {
    /// Takes a row away. False if it is not wanted. Those before it do not exist any more.
    fn take(&mut self, id: i64) -> bool {
        match self {
            Self::Rows(rows) => {
                *rows -= 1;
                true
            }
            Self::Ids(ids) => {
                while ids.pop_if(|next| *next < id).is_some() {}
                ids.pop_if(|next| *next == id).is_some()
            }
        }
    }
}

fn as_i64(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn as_usize(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or_default()
}

/// The number of rows of the next chunk, given one of `rows` rows with `mean` bytes each. It at
/// most doubles, so that large rows after many small ones are not fetched in vain.
fn next_rows(rows: i64, mean: usize) -> i64 {
    let fitting = i64::try_from(CHUNK_BYTES / mean.max(1)).unwrap_or(MAX_ROWS);
    fitting.clamp(1, MAX_ROWS.min(2 * rows.max(1)))
}
