//! `/api/patients/export` and `/api/patients/import`: all patients of a user as lines, and many new
//! ones at once.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, VARY};

use super::list::{self, Filter, Framing, List};
use crate::auth::AuthUser;
use crate::bulk::export::{csv_header, write_csv, write_ndjson};
use crate::bulk::import::Import;
use crate::bulk::{Format, MAX_LINE, no_format};
use crate::db::Sql;
use crate::error::Result;
use crate::http::query::Page;
use crate::http::response::json;
use crate::http::upload::{PART, Part, Upload};
use crate::http::{Request, Response, accept, body};
use crate::json::WriteJson;
use crate::worker::Worker;

/// What an import holds at once, in bytes: a part, and a line with what is parsed from it.
const HELD: usize = 2 * PART + 2 * MAX_LINE;

/// The answer to an import: the number of new patients.
struct Imported(i64);

impl WriteJson for Imported {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"imported\":");
        self.0.write_json(out);
        out.push(b'}');
    }
}

/// All patients, in the order of their ids, in the format that the client prefers.
pub async fn export(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let media_types = Format::ALL.map(Format::media_type);
    let preferred = accept::preferred(request.headers(), &media_types);
    let format = Format::ALL.get(preferred).copied().unwrap_or(Format::Ndjson);
    let (write, before): (list::Write, _) = match format {
        Format::Ndjson => (write_ndjson, Vec::new()),
        Format::Csv => (write_csv, csv_header()),
    };
    let list = List {
        first: Sql::PatientsFirst,
        sql: Sql::PatientsList,
        page: Sql::PatientsPage,
        keys: vec![user.id()],
        filters: vec![Filter::Text("search", None), Filter::Text("gender", None)],
        write,
        framing: Framing { before, between: b"", after: b"" },
    };
    let page = Page { limit: None, after: 0 };
    let mut response = list::respond(worker, user, "", page, list, None).await?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Creates a patient for each line, or none.
pub async fn import(worker: &Worker, user: AuthUser, request: Request) -> Result<Response> {
    let media_types = Format::ALL.map(Format::media_type);
    let sent = body::media_type(request.headers(), &media_types)?;
    let format = sent.and_then(|at| Format::ALL.get(at)).ok_or_else(no_format)?;
    let mut upload = Upload::new(request, worker.app.config.import_max_bytes)?;
    let _admitted = worker.app.imports.admit(user.id()).await?;
    let _lease = worker.allowance(user).lease(HELD).await?;
    let mut import = Import::new(*format, worker.app.imports.options.clone());
    let imported = worker.app.imports.run(async move {
        loop {
            let Part { bytes, last } = upload.next().await?;
            import.read(&bytes, last).await?;
            if last {
                return import.finish(user.id()).await;
            }
        }
    });
    let imported = i64::try_from(imported.await?).unwrap_or(i64::MAX);
    Ok(json(StatusCode::OK, &Imported(imported)))
}
