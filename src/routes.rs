//! The URL space: which paths exist, which methods each allows, and who has access.

use std::time::Duration;

use hyper::Method;

use crate::http::query::Parameter;
use crate::id::parse_id;
use crate::models::{doctor, mapping, patient};

/// A path of the service, with its id parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The name, the version and links.
    Index,
    /// The description of the API.
    OpenApi,
    /// The page on it for people.
    Docs,
    DocsFile(DocsFile),
    Live,
    Ready,
    Metrics,
    Register,
    Login,
    Refresh,
    Logout,
    Me,
    Password,
    Patients,
    /// All of them, as lines.
    PatientsExport,
    /// Many new ones, as lines.
    PatientsImport,
    Patient(i64),
    Doctors,
    Doctor(i64),
    Mappings,
    /// `GET` takes the id of a patient, `DELETE` that of a mapping.
    Mapping(i64),
    /// The doctors of a patient, as `GET` of [`Mapping`](Self::Mapping).
    PatientMappings(i64),
}

/// A file that the page on the API loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocsFile {
    Script,
    Style,
    SwaggerUiScript,
    SwaggerUiStyle,
}

/// Who has access to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    User,
}

/// No path of the service has more segments.
const MAX_SEGMENTS: usize = 4;

impl Route {
    /// Matches a path, undecoded, with or without one trailing slash.
    pub fn parse(path: &str) -> Option<Self> {
        // Its slash is not a trailing one, and `//` is no path.
        if path == "/" {
            return Some(Self::Index);
        }
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = [""; MAX_SEGMENTS];
        let mut count = 0;
        for segment in path.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        Some(match segments.get(..count)? {
            ["api"] => Self::Index,
            ["openapi.json"] => Self::OpenApi,
            ["docs"] => Self::Docs,
            ["docs", "page.js"] => Self::DocsFile(DocsFile::Script),
            ["docs", "page.css"] => Self::DocsFile(DocsFile::Style),
            ["docs", "swagger-ui.js"] => Self::DocsFile(DocsFile::SwaggerUiScript),
            ["docs", "swagger-ui.css"] => Self::DocsFile(DocsFile::SwaggerUiStyle),
            ["health", "live"] => Self::Live,
            ["health"] | ["health", "ready"] => Self::Ready,
            ["metrics"] => Self::Metrics,
            ["api", "auth", "register"] => Self::Register,
            ["api", "auth", "login"] => Self::Login,
            ["api", "auth", "refresh"] | ["api", "auth", "token", "refresh"] => Self::Refresh,
            ["api", "auth", "logout"] => Self::Logout,
            ["api", "auth", "me"] => Self::Me,
            ["api", "auth", "password"] => Self::Password,
            ["api", "patients"] => Self::Patients,
            ["api", "patients", "export"] => Self::PatientsExport,
            ["api", "patients", "import"] => Self::PatientsImport,
            ["api", "patients", id] => Self::Patient(parse_id(id)?),
            ["api", "doctors"] => Self::Doctors,
            ["api", "doctors", id] => Self::Doctor(parse_id(id)?),
            ["api", "mappings"] => Self::Mappings,
            ["api", "mappings", id] => Self::Mapping(parse_id(id)?),
            ["api", "mappings", "patient", id] => Self::PatientMappings(parse_id(id)?),
            _ => return None,
        })
    }

    /// The route's name in logs: its path without ids.
    pub fn label(self) -> &'static str {
        match self {
            Self::Index => "/api",
            Self::OpenApi => "/openapi.json",
            Self::Docs => "/docs",
            Self::DocsFile(DocsFile::Script) => "/docs/page.js",
            Self::DocsFile(DocsFile::Style) => "/docs/page.css",
            Self::DocsFile(DocsFile::SwaggerUiScript) => "/docs/swagger-ui.js",
            Self::DocsFile(DocsFile::SwaggerUiStyle) => "/docs/swagger-ui.css",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::Metrics => "/metrics",
            Self::Register => "/api/auth/register",
            Self::Login => "/api/auth/login",
            Self::Refresh => "/api/auth/refresh",
            Self::Logout => "/api/auth/logout",
            Self::Me => "/api/auth/me",
            Self::Password => "/api/auth/password",
            Self::Patients => "/api/patients",
            Self::PatientsExport => "/api/patients/export",
            Self::PatientsImport => "/api/patients/import",
            Self::Patient(_) => "/api/patients/{id}",
            Self::Doctors => "/api/doctors",
            Self::Doctor(_) => "/api/doctors/{id}",
            Self::Mappings => "/api/mappings",
            Self::Mapping(_) => "/api/mappings/{id}",
            Self::PatientMappings(_) => "/api/mappings/patient/{id}",
        }
    }

    /// The `Allow` header: exactly the methods that work (RFC 9110, section 10.2.1).
    pub fn allow(self) -> &'static str {
        match self {
            Self::Index
            | Self::OpenApi
            | Self::Docs
            | Self::DocsFile(_)
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Me
            | Self::PatientsExport
            | Self::PatientMappings(_) => "GET, HEAD, OPTIONS",
            Self::Register | Self::Login | Self::Refresh | Self::Logout | Self::PatientsImport => {
                "POST, OPTIONS"
            }
            Self::Password => "PUT, OPTIONS",
            Self::Patients | Self::Doctors | Self::Mappings => "GET, HEAD, POST, OPTIONS",
            Self::Patient(_) | Self::Doctor(_) => "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
            Self::Mapping(_) => "GET, HEAD, DELETE, OPTIONS",
        }
    }

    pub fn allows(self, method: &Method) -> bool {
        // Split at the comma alone: splitting at ", " takes 1% of a request to `/health/live`.
        self.allow().split(',').any(|allowed| allowed.trim_start() == method.as_str())
    }

    /// The query parameters that the method takes: only lists have any.
    pub fn parameters(self, method: &Method) -> &'static [Parameter] {
        const PATIENTS: &[Parameter] =
            &[patient::SEARCH, patient::GENDER, Parameter::LIMIT, Parameter::AFTER];
        const DOCTORS: &[Parameter] =
            &[doctor::SEARCH, doctor::SPECIALIZATION, Parameter::LIMIT, Parameter::AFTER];
        const MAPPINGS: &[Parameter] =
            &[mapping::PATIENT_ID, mapping::DOCTOR_ID, Parameter::LIMIT, Parameter::AFTER];
        const PAGE: &[Parameter] = &[Parameter::LIMIT, Parameter::AFTER];
        if !matches!(*method, Method::GET | Method::HEAD) {
            return &[];
        }
        match self {
            Self::Patients => PATIENTS,
            Self::Doctors => DOCTORS,
            Self::Mappings => MAPPINGS,
            Self::Mapping(_) | Self::PatientMappings(_) => PAGE,
            Self::Index
            | Self::OpenApi
            | Self::Docs
            | Self::DocsFile(_)
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Register
            | Self::Login
            | Self::Refresh
            | Self::Logout
            | Self::Me
            | Self::Password
            | Self::PatientsExport
            | Self::PatientsImport
            | Self::Patient(_)
            | Self::Doctor(_) => &[],
        }
    }

    /// How long an answer may take, from the head of the request or the end of its body.
    pub fn time_limit(self, method: &Method) -> Duration {
        Duration::from_secs(match self {
            // They queue for a thread, for 10 s.
            Self::Register | Self::Login | Self::Password => 15,
            // Its own wait at the start is shorter.
            Self::Ready => 5,
            // It may be a search, which reads all rows.
            Self::PatientsExport => 8,
            _ if !self.parameters(method).is_empty() => 8,
            _ => 2,
        })
    }

    /// Whether the route is unavailable before the database is.
    pub fn needs_database(self) -> bool {
        match self {
            Self::Index
            | Self::OpenApi
            | Self::Docs
            | Self::DocsFile(_)
            | Self::Live
            | Self::Metrics => false,
            Self::Ready
            | Self::Register
            | Self::Login
            | Self::Refresh
            | Self::Logout
            | Self::Me
            | Self::Password
            | Self::Patients
            | Self::PatientsExport
            | Self::PatientsImport
            | Self::Patient(_)
            | Self::Doctors
            | Self::Doctor(_)
            | Self::Mappings
            | Self::Mapping(_)
            | Self::PatientMappings(_) => true,
        }
    }

    /// Whether the route is taken away with `DOCS=off`.
    pub fn is_documentation(self) -> bool {
        matches!(self, Self::OpenApi | Self::Docs | Self::DocsFile(_))
    }

    /// Whether the route is for those who run the service, and on an address of its own where they
    /// name one.
    pub fn is_operational(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    pub fn access(self) -> Access {
        match self {
            Self::Index
            | Self::OpenApi
            | Self::Docs
            | Self::DocsFile(_)
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Register
            | Self::Login
            | Self::Refresh => Access::Anyone,
            Self::Logout
            | Self::Me
            | Self::Password
            | Self::Patients
            | Self::PatientsExport
            | Self::PatientsImport
            | Self::Patient(_)
            | Self::Doctors
            | Self::Doctor(_)
            | Self::Mappings
            | Self::Mapping(_)
            | Self::PatientMappings(_) => Access::User,
        }
    }
}
