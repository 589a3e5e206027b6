//! Lists: a page, or all rows streamed. Rows are fetched by key range in chunks whose size is
//! bounded before they are fetched and while they are serialized, so that a slow reader pins
//! neither memory nor a database connection.

mod rest;

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::BytesMut;
use futures_util::stream::try_unfold;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK};
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use self::rest::Rest;
use crate::auth::AuthUser;
use crate::db::connection::Parameter;
use crate::db::row::column;
use crate::db::{Pool, Sql};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::http::query::{Page, next_page};
use crate::http::response::{Body, json_bytes};
use crate::worker::Worker;

/// The most rows of the first chunk. A longer list is streamed.
const FIRST_ROWS: i64 = 100;
/// A generous estimate of a row's size, in bytes.
const ROW_BYTES: usize = 768;

/// Writes a row and returns its id; None for the placeholder row of an empty list.
pub type Write = fn(&Row, &mut Vec<u8>) -> Result<Option<i64>>;

/// What to list. The parameters of the statements are: the id to start after, the number of rows,
/// the keys, the filters, of which `first` takes only the ids.
pub struct List {
    /// The first rows, for the shared connection. Its last column marks large rows, which are
    /// returned without their long texts.
    pub first: Sql,
    /// The rows of a chunk. Its last column marks the last row if the chunk is full.
    pub sql: Sql,
    /// Finds the ids of a page, and of one row more, without reading the page.
    pub page: Sql,
    pub keys: Vec<i64>,
    pub filters: Vec<Filter>,
    pub write: Write,
    pub framing: Framing,
}

/// What stands around the rows.
pub struct Framing {
    pub before: Vec<u8>,
    pub between: &'static [u8],
    pub after: &'static [u8],
}

impl Framing {
    /// A JSON array.
    pub fn array() -> Self {
        Self { before: b"[".to_vec(), between: b",", after: b"]" }
    }
}

/// An optional parameter of the query string, which is kept in the link to the next page.
pub enum Filter {
    Text(&'static str, Option<String>),
    Id(&'static str, Option<i64>),
}

/// Responds with the page, or with all rows. `missing` is the error if there is not even the
/// placeholder row of an empty list.
pub async fn respond(
    worker: &Worker,
    user: AuthUser,
    path: &str,
    page: Page,
    list: List,
    missing: Option<Error>,
) -> Result<Response> {
    let wanted = page.limit.unwrap_or(FIRST_ROWS).min(FIRST_ROWS);
    let pool = if list.searches() { &worker.searches } else { &worker.lists };
    let pool = pool.of(user.id());
    let mut rest = Rest::new(worker.allowance(user), pool, page, wanted + 1, list);
    let estimate = usize::try_from(wanted).unwrap_or_default() * ROW_BYTES;
    let mut chunk = rest.first_chunk(rest.allowance.lease(estimate).await?);
    // A search may scan many rows to find a few, and would block what is pipelined after it on a
    // shared connection.
    let mut whole = false;
    if !rest.list.searches() {
        let rows = rest.list.fetch_first(worker, page.after, wanted + 1).await?;
        if rows.is_empty()
            && let Some(missing) = missing
        {
            return Err(missing);
        }
        whole = rest.write_first(&rows, page.limit, &mut chunk)?;
    }
    if !whole {
        // Boxed, as the next, because most lists do without and it needs much space.
        Box::pin(rest.fetch_into(&mut chunk)).await?;
    }
    if !rest.ended && page.limit.is_some() {
        Box::pin(rest.find_page()).await?;
    }

    let next = page.limit.filter(|_| rest.more);
    let next = next.and_then(|limit| link(path, limit, rest.end(), &rest.list.filters));
    let mut response = json_bytes(StatusCode::OK, Vec::new());
    *response.body_mut() = if rest.ended {
        Body::Whole(rest.last(chunk))
    } else {
        rest.first = Some(chunk);
        Body::Parts(Box::pin(try_unfold(Some(rest), Rest::next)))
    };
    response.headers_mut().extend(next.map(|next| (LINK, next)));
    Ok(response)
}

impl List {
    /// Whether rows are filtered by their content. Filtering by id uses an index.
    fn searches(&self) -> bool {
        self.filters.iter().any(|filter| !filter.is_of_first() && filter.parameter().1.is_some())
    }

    /// The first rows, few and without long texts, on the shared connection.
    async fn fetch_first(&self, worker: &Worker, after: i64, rows: i64) -> Result<Vec<Row>> {
        let ids = self.filters.iter().filter(|filter| filter.is_of_first());
        let shared = worker.shared.of(self.first);
        shared.query(self.first, &self.parameters(&after, &rows, ids)).await
    }

    /// The rows of the next chunk.
    async fn fetch(&self, pool: &Pool, after: i64, rows: i64) -> Result<Vec<Row>> {
        pool.query(self.sql, &self.parameters(&after, &rows, &self.filters)).await
    }

    /// The ids of a page of `rows` rows, and of one more if there is one.
    async fn page_ids(&self, pool: &Pool, after: i64, rows: i64) -> Result<Vec<i64>> {
        let parameters = self.parameters(&after, &rows, &self.filters);
        let row = pool.query_opt(self.page, &parameters).await?;
        column(&row.ok_or_else(|| Error::internal("a page has no row of ids"))?, 0)
    }

    fn parameters<'a>(
        &'a self,
        after: &'a i64,
        rows: &'a i64,
        filters: impl IntoIterator<Item = &'a Filter>,
    ) -> Vec<Parameter<'a>> {
        let mut parameters: Vec<Parameter<'a>> = vec![after, rows];
        parameters.extend(self.keys.iter().map(|key| key as Parameter<'_>));
        parameters.extend(filters.into_iter().map(|filter| filter as Parameter<'_>));
        parameters
    }
}

/// `Link` to the next page (RFC 8288).
fn link(path: &str, limit: i64, after: i64, filters: &[Filter]) -> Option<HeaderValue> {
    let others: Vec<(&str, Option<Cow<'_, str>>)> = filters.iter().map(Filter::parameter).collect();
    let target = next_page(path, limit, after, &others);
    HeaderValue::try_from(format!("<{target}>; rel=\"next\"")).ok()
}

impl Filter {
    /// Whether `first` takes it, because an index finds its rows.
    fn is_of_first(&self) -> bool {
        match self {
            Self::Id(..) => true,
            Self::Text(..) => false,
        }
    }

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
            Self::Text(_, value) => value.to_sql_checked(sql_type, out),
            Self::Id(_, value) => value.to_sql_checked(sql_type, out),
        }
    }

    /// Each kind of filter checks the type itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value may be health data.
        f.write_str(self.parameter().0)
    }
}
