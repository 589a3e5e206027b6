//! What each operation is called, is for, takes and answers.

mod accounts;
mod records;
mod service;

use hyper::Method;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as PROMETHEUS_TEXT;
use serde_json::{Value, json};

use super::paths::OTHER_METHODS;
use super::schemas::reference;
use crate::bulk::{self, Format};
use crate::error::{Error, Result};
use crate::http::body;
use crate::routes::Route;

/// A method of a route.
pub struct Operation {
    /// Its name in generated clients.
    pub id: &'static str,
    pub summary: &'static str,
    /// May be empty.
    pub description: &'static str,
    /// The headers that it looks at, by the names of their components.
    pub headers: &'static [&'static str],
    pub body: Option<Body>,
    /// In bytes.
    pub body_limit: usize,
    /// Its answers that are no errors.
    pub answers: &'static [Answer],
    /// The errors that its handler finds.
    pub errors: Vec<Error>,
}

/// The header that makes a change once.
pub const IDEMPOTENCY_KEY: &str = "IdempotencyKey";

/// The body of a request.
pub struct Body {
    pub content: Content,
    /// Distinguishes the errors of this body from those of others.
    pub name: &'static str,
    /// What is answered to a body that is wrong, for an example.
    pub wrong: fn() -> Error,
}

/// An answer that is no error.
pub struct Answer {
    pub status: u16,
    pub description: &'static str,
    pub content: Content,
    /// Those that not every answer has.
    pub headers: &'static [&'static str],
    /// Operations for what was created, and where in the answer the id for each is.
    pub links: &'static [(&'static str, &'static str)],
}

/// A body: its schema by name, or its text.
#[derive(Clone, Copy)]
pub enum Content {
    None,
    /// The description of the API.
    Document,
    /// The page on it.
    Page,
    One(&'static str),
    List(&'static str),
    /// Patients as lines that are sent.
    Lines,
    /// Patients as lines that are answered.
    Export,
    Metrics,
}

impl Content {
    /// The media types with their schemas.
    pub fn media_types(self) -> Vec<(&'static str, Value)> {
        let json = |schema| vec![("application/json", schema)];
        match self {
            Self::None => Vec::new(),
            Self::Document => {
                json(json!({"type": "object", "required": ["openapi", "info", "paths"]}))
            }
            Self::Page => vec![("text/html", json!({"type": "string"}))],
            Self::One(name) => json(reference(name)),
            Self::List(name) => json(json!({"type": "array", "items": reference(name)})),
            Self::Lines => Format::ALL.map(|f| (f.media_type(), lines(f))).into(),
            Self::Export => Format::ALL.map(|f| (f.content_type(), lines(f))).into(),
            Self::Metrics => vec![(PROMETHEUS_TEXT, json!({"type": "string"}))],
        }
    }

    /// The error if a body is declared as another type.
    pub fn other_type(self) -> Error {
        match self {
            Self::Lines => bulk::no_format(),
            _ => body::not_json(),
        }
    }
}

/// The schema of patients as lines.
fn lines(format: Format) -> Value {
    let description = match format {
        Format::Ndjson => "A JSON object a line, each as `NewPatient`.",
        Format::Csv => {
            "RFC 4180: a line with the names of fields of `NewPatient`, and a line for each \
             patient. An empty cell is an absent value; `metadata` is JSON."
        }
    };
    json!({"type": "string", "description": description})
}

impl Answer {
    const fn new(status: u16, description: &'static str, content: Content) -> Self {
        Self { status, description, content, headers: &[], links: &[] }
    }

    const fn with(self, headers: &'static [&'static str]) -> Self {
        Self { headers, ..self }
    }

    const fn links(self, links: &'static [(&'static str, &'static str)]) -> Self {
        Self { links, ..self }
    }
}

/// The error of a body that was read.
fn refused<T>(read: Result<T>) -> Error {
    read.err().unwrap_or_else(|| Error::fields(Vec::new()))
}

const NO_CONTENT: Answer = Answer::new(204, "Done.", Content::None);

impl Operation {
    fn new(id: &'static str, summary: &'static str, answers: &'static [Answer]) -> Self {
        Self {
            id,
            summary,
            description: "",
            headers: &[],
            body: None,
            body_limit: body::LIMIT,
            answers,
            errors: Vec::new(),
        }
    }

    fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    fn headers(self, headers: &'static [&'static str]) -> Self {
        Self { headers, ..self }
    }

    fn body(self, schema: &'static str, wrong: fn() -> Error) -> Self {
        Self { body: Some(Body { content: Content::One(schema), name: schema, wrong }), ..self }
    }

    fn errors<const N: usize>(self, errors: [Error; N]) -> Self {
        Self { errors: errors.into(), ..self }
    }
}

/// The operation of a route and one of its methods; that of `HEAD` is that of `GET`.
pub fn operation(route: Route, method: &Method) -> Operation {
    if *method == Method::OPTIONS {
        const ALLOWED: &[Answer] =
            &[Answer::new(204, "The methods are in `Allow`.", Content::None).with(&["allow"])];
        return Operation::new(name(route), "Which methods work", ALLOWED);
    }
    match route {
        Route::Index
        | Route::OpenApi
        | Route::Docs
        | Route::DocsFile(_)
        | Route::Live
        | Route::Ready
        | Route::Metrics => service::operation(route),
        Route::Register
        | Route::Login
        | Route::Refresh
        | Route::Logout
        | Route::Me
        | Route::Password => {
            Operation { body_limit: body::AUTH_LIMIT, ..accounts::operation(route) }
        }
        Route::Patients => records::patients(method),
        Route::PatientsExport => records::export(),
        Route::PatientsImport => records::import(),
        Route::Patient(_) => records::patient(method),
        Route::Doctors => records::doctors(method),
        Route::Doctor(_) => records::doctor(method),
        Route::Mappings => records::mappings(method),
        Route::Mapping(_) => records::mapping(method),
        Route::PatientMappings(_) => records::patients_doctors("listDoctorsOfPatient"),
    }
}

fn name(route: Route) -> &'static str {
    match route {
        Route::Index => "Index",
        Route::OpenApi => "OpenApi",
        Route::Docs | Route::DocsFile(_) => "Docs",
        Route::Live => "Live",
        Route::Ready => "Ready",
        Route::Metrics => "Metrics",
        Route::Register => "Register",
        Route::Login => "Login",
        Route::Refresh => "Refresh",
        Route::Logout => "Logout",
        Route::Me => "Me",
        Route::Password => "Password",
        Route::Patients => "Patients",
        Route::PatientsExport => "PatientsExport",
        Route::PatientsImport => "PatientsImport",
        Route::Patient(_) => "Patient",
        Route::Doctors => "Doctors",
        Route::Doctor(_) => "Doctor",
        Route::Mappings => "Mappings",
        Route::Mapping(_) => "Mapping",
        Route::PatientMappings(_) => "DoctorsOfPatient",
    }
}

/// The group of a route.
pub fn tag(route: Route) -> &'static str {
    match route {
        Route::Register
        | Route::Login
        | Route::Refresh
        | Route::Logout
        | Route::Me
        | Route::Password => "Accounts",
        Route::Patients | Route::PatientsExport | Route::PatientsImport | Route::Patient(_) => {
            "Patients"
        }
        Route::Doctors | Route::Doctor(_) => "Doctors",
        Route::Mappings | Route::Mapping(_) | Route::PatientMappings(_) => "Mappings",
        Route::Index
        | Route::OpenApi
        | Route::Docs
        | Route::DocsFile(_)
        | Route::Live
        | Route::Ready
        | Route::Metrics => "Service",
    }
}

/// The groups, in the order in which a newcomer needs them.
pub fn tags() -> Value {
    let tag = |name: &str, description: &str| json!({"name": name, "description": description});
    json!([
        tag("Accounts", "Register, log in, and keep a session."),
        tag("Patients", "Seen and changed by the user who created them, and by nobody else."),
        tag("Doctors", "Seen by every user, changed by who created them or an admin."),
        tag("Mappings", "Who treats whom: the doctors of your patients."),
        tag("Service", "What this is, and whether it is well. Needs no token."),
        tag(OTHER_METHODS, "`HEAD` answers as `GET` without a body, `OPTIONS` names the methods."),
    ])
}
