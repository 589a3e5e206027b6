//! Lists: a page, or all rows streamed. Either way rows are fetched by key range in chunks, so that
//! a slow reader pins neither memory nor a database connection.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK};
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::app::Worker;
use crate::auth::User;
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::http::query::{Page, next_page};
use crate::http::response::{Body, json_bytes};

/// The longest `search`, in characters.
pub const MAX_SEARCH: usize = 200;

/// Rows of the first chunk. A longer list is streamed.
const FIRST_ROWS: i64 = 100;
/// What most rows come to, in bytes, with some room.
const ROW_BYTES: usize = 768;
/// What a later chunk should come to, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows of a later chunk at most.
const MAX_ROWS: i64 = 1000;

/// Writes a row's JSON and tells its id; None for a row that stands for no element.
pub type Write = fn(&Row, &mut Vec<u8>) -> Result<Option<i64>>;

/// What to list. The parameters of both statements are: the id to start after, the number of rows,
/// the keys, the filters.
pub struct List {
    pub sql: Sql,
    /// Finds the end of a page without reading it.
    pub seek: Sql,
    pub keys: Vec<i64>,
    pub filters: Vec<Filter>,
    pub write: Write,
}

/// An optional parameter of the query string, which stays in the link to the next page.
pub enum Filter {
    Text(&'static str, Option<String>),
    Id(&'static str, Option<i64>),
}

/// Answers with the page, or with all rows. `missing` is the answer if not even the row that stands
/// for an empty list is there.
pub async fn respond(
    worker: &Worker,
    user: User,
    path: &str,
    page: Page,
    list: List,
    missing: Option<Error>,
) -> Result<Response> {
    let wanted = page.limit.unwrap_or(FIRST_ROWS).min(FIRST_ROWS);
    let pool = if list.searches() { &worker.searches } else { &worker.lists };
    let pool = pool.of(user.id());
    let rows = list.fetch_first(worker, &pool, page.after, wanted + 1).await?;
    if rows.is_empty()
        && let Some(missing) = missing
    {
        return Err(missing);
    }
    let shown = rows.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
    let complete = shown == rows.len();
    let mut bytes = Vec::with_capacity(1 + shown * ROW_BYTES);
    bytes.push(b'[');
    let (after, _) = list.write_rows(&rows[..shown], i64::MAX, &mut bytes)?;
    drop(rows);

    if complete || page.limit == Some(wanted) {
        bytes.push(b']');
        let mut response = json_bytes(StatusCode::OK, bytes);
        if let (false, Some(limit)) = (complete, page.limit) {
            link(&mut response, path, limit, after, &list.filters);
        }
        return Ok(response);
    }

    let end = match page.limit {
        Some(limit) => list.page_end(&pool, page.after, limit).await?,
        None => PageEnd { last: i64::MAX, more: false },
    };
    let left = page.limit.map_or(i64::MAX, |limit| limit - wanted);
    let mean = bytes.len() / shown.max(1);
    let rest = Rest {
        pool,
        first: Some(bytes),
        after,
        until: end.last,
        left,
        rows: next_rows(FIRST_ROWS, mean).min(left),
        list,
    };
    let mut response = json_bytes(StatusCode::OK, Vec::new());
    if let (true, Some(limit)) = (end.more, page.limit) {
        link(&mut response, path, limit, end.last, &rest.list.filters);
    }
    *response.body_mut() = Body::Parts(Box::pin(try_unfold(Some(rest), Rest::next)));
    Ok(response)
}

/// Where a page ends, and whether there is more behind it.
struct PageEnd {
    last: i64,
    more: bool,
}

impl List {
    /// A short list takes the lane. A search may look at many rows to find a few, and everything
    /// behind it on a lane would wait; an id is found by an index.
    async fn fetch_first(
        &self,
        worker: &Worker,
        pool: &Pool,
        after: i64,
        rows: i64,
    ) -> Result<Vec<Row>> {
        if self.searches() {
            return self.fetch(pool, after, rows).await;
        }
        worker.lane.query(self.sql, &self.parameters(&after, &rows)).await
    }

    fn searches(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Text(_, Some(_))))
    }

    async fn fetch(&self, pool: &Pool, after: i64, rows: i64) -> Result<Vec<Row>> {
        pool.query(self.sql, &self.parameters(&after, &rows)).await
    }

    async fn page_end(&self, pool: &Pool, after: i64, limit: i64) -> Result<PageEnd> {
        let rows = pool.query(self.seek, &self.parameters(&after, &limit)).await?;
        let last = rows.first().map_or(Ok(i64::MAX), |row| column(row, 0))?;
        Ok(PageEnd { last, more: rows.len() > 1 })
    }

    fn parameters<'a>(&'a self, after: &'a i64, rows: &'a i64) -> Vec<Parameter<'a>> {
        let mut parameters: Vec<Parameter<'a>> = vec![after, rows];
        parameters.extend(self.keys.iter().map(|key| key as Parameter<'_>));
        parameters.extend(self.filters.iter().map(|filter| filter as Parameter<'_>));
        parameters
    }

    /// Appends rows up to the id `until`. Tells the last id, and whether there was a row behind it.
    fn write_rows(&self, rows: &[Row], until: i64, out: &mut Vec<u8>) -> Result<(i64, bool)> {
        let mut last = 0;
        for row in rows {
            let start = out.len();
            if out.last() != Some(&b'[') {
                out.push(b',');
            }
            match (self.write)(row, out)? {
                Some(id) if id <= until => last = id,
                _ => {
                    out.truncate(start);
                    return Ok((last, true));
                }
            }
        }
        Ok((last, false))
    }
}

/// What of a streamed list has not been sent. Between two chunks it holds no connection.
struct Rest {
    list: List,
    pool: Pool,
    /// The chunk that is written already.
    first: Option<Vec<u8>>,
    after: i64,
    until: i64,
    /// Rows that may still be sent: rows that are added meanwhile do not lengthen a page.
    left: i64,
    /// Rows of the next chunk.
    rows: i64,
}

impl Rest {
    async fn next(rest: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>> {
        let Some(mut rest) = rest else { return Ok(None) };
        if let Some(first) = rest.first.take() {
            return Ok(Some((first.into(), Some(rest))));
        }
        let (mut bytes, count, passed_end) = rest.fetch().await.inspect_err(|error| {
            let cause = error.cause().unwrap_or_default();
            let (code, list) = (error.status_and_code().1, rest.list.sql.file());
            tracing::error!(code, cause, list, "a list broke off");
        })?;
        rest.left = rest.left.saturating_sub(count);
        let finished =
            passed_end || count < rest.rows || rest.after >= rest.until || rest.left == 0;
        if finished {
            bytes.push(b']');
        } else {
            rest.rows =
                next_rows(count, bytes.len() / usize::try_from(count).unwrap_or(1)).min(rest.left);
        }
        Ok(Some((bytes.into(), (!finished).then_some(rest))))
    }

    /// The next chunk, its number of rows, and whether it goes beyond the end.
    async fn fetch(&mut self) -> Result<(Vec<u8>, i64, bool)> {
        let rows = self.list.fetch(&self.pool, self.after, self.rows).await?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        let (last, passed_end) = self.list.write_rows(&rows, self.until, &mut bytes)?;
        self.after = last;
        Ok((bytes, i64::try_from(rows.len()).unwrap_or(i64::MAX), passed_end))
    }
}

/// Rows of a chunk after one of `rows` rows with `mean` bytes each. It grows slowly, so that large
/// rows behind many small ones do no harm.
fn next_rows(rows: i64, mean: usize) -> i64 {
    let fitting = i64::try_from(CHUNK_BYTES / mean.max(1)).unwrap_or(MAX_ROWS);
    fitting.clamp(1, MAX_ROWS.min(2 * rows.max(1)))
}

/// `Link` to the next page (RFC 8288).
fn link(response: &mut Response, path: &str, limit: i64, after: i64, filters: &[Filter]) {
    let others: Vec<(&str, Option<Cow<'_, str>>)> = filters.iter().map(Filter::parameter).collect();
    let target = next_page(path, limit, after, &others);
    if let Ok(link) = HeaderValue::try_from(format!("<{target}>; rel=\"next\"")) {
        response.headers_mut().insert(LINK, link);
    }
}

impl Filter {
    fn parameter(&self) -> (&'static str, Option<Cow<'_, str>>) {
        match self {
            Self::Text(name, value) => (name, value.as_deref().map(Cow::Borrowed)),
            Self::Id(name, value) => (name, value.map(|id| Cow::Owned(id.to_string()))),
        }
    }
}

impl ToSql for Filter {
    fn to_sql(
        &self,
        sql_type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Text(_, value) => value.to_sql(sql_type, out),
            Self::Id(_, value) => value.to_sql(sql_type, out),
        }
    }

    fn accepts(sql_type: &Type) -> bool {
        matches!(*sql_type, Type::TEXT | Type::INT8)
    }

    to_sql_checked!();
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value may be health data.
        f.write_str(self.parameter().0)
    }
}
