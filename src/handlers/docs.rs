//! The description of the API, and the page on it for people: Swagger UI, whose files are a part of
//! the program. Of what is like it, Scalar is more than twice as large, and `RapiDoc` loads fonts from
//! elsewhere.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
};

use crate::http::response::{Body, JSON, empty};
use crate::http::{Request, Response, etag};
use crate::openapi;
use crate::routes::DocsFile;

/// The page loads its own files and calls this service, and nothing else. Swagger UI has its small
/// pictures in `data:` URLs.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file of the page.
struct File {
    media_type: &'static str,
    bytes: &'static [u8],
    gzip: bool,
    etag: OnceLock<HeaderValue>,
}

impl File {
    const fn new(media_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { media_type, bytes, gzip: false, etag: OnceLock::new() }
    }

    /// Every client gets it compressed, as all browsers accept it. RFC 9110, section 12.5.3, allows
    /// that also for others, and they can see it in the answer.
    const fn gzip(media_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { media_type, bytes, gzip: true, etag: OnceLock::new() }
    }

    fn response(&self, request: &Request) -> Response {
        let etag = self.etag.get_or_init(|| etag::of_bytes(self.bytes));
        let media_type = HeaderValue::from_static(self.media_type);
        let mut response = revalidated(request, media_type, Bytes::from_static(self.bytes), etag);
        if self.gzip && response.status() == StatusCode::OK {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// The description of the API.
pub fn document(request: &Request) -> Response {
    let document = openapi::document();
    revalidated(request, JSON, document.json.clone(), &document.etag)
}

/// The page.
pub fn page(request: &Request) -> Response {
    static PAGE: File = File::new("text/html", include_bytes!("docs/page.html"));
    let mut response = PAGE.response(request);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// What the page loads.
pub fn file(file: DocsFile, request: &Request) -> Response {
    static SCRIPT: File = File::new("text/javascript", include_bytes!("docs/page.js"));
    static STYLE: File = File::new("text/css", include_bytes!("docs/page.css"));
    static SWAGGER_UI_SCRIPT: File =
        File::gzip("text/javascript", include_bytes!("docs/swagger-ui/swagger-ui-bundle.js.gz"));
    static SWAGGER_UI_STYLE: File =
        File::gzip("text/css", include_bytes!("docs/swagger-ui/swagger-ui.css.gz"));
    let file = match file {
        DocsFile::Script => &SCRIPT,
        DocsFile::Style => &STYLE,
        DocsFile::SwaggerUiScript => &SWAGGER_UI_SCRIPT,
        DocsFile::SwaggerUiStyle => &SWAGGER_UI_STYLE,
    };
    file.response(request)
}

/// A response that may be kept, but an upgrade of the service replaces it: 304 if the client has it.
fn revalidated(
    request: &Request,
    media_type: HeaderValue,
    bytes: Bytes,
    etag: &HeaderValue,
) -> Response {
    let mut response = if etag::none_match_tag(request.headers(), etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Body::Whole(bytes));
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
