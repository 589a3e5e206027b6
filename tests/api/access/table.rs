//! The access table: the response of each route to its owner and to another user.

use healthcare_backend::routes::{Access, DocsFile, Route};

pub struct Row {
    /// Its path, and its name in the log.
    pub label: &'static str,
    /// Other paths of the same route.
    pub also: &'static [&'static str],
    pub id: Id,
    pub allow: &'static str,
    pub access: Access,
    /// `HEAD` is answered as `GET`, and `OPTIONS` the same everywhere.
    pub cells: &'static [Cell],
}

pub struct Cell {
    pub method: &'static str,
    pub owner: u16,
    /// Status and code of the error; no code if another user succeeds too.
    pub other: (u16, &'static str),
}

/// Which id the path has.
pub enum Id {
    None,
    Patient,
    Doctor,
    /// A patient's for `GET`, a mapping's for `DELETE`.
    PatientOrMapping,
}

impl Row {
    /// Its paths, with and without a trailing slash.
    pub fn paths(&self) -> Vec<String> {
        let with_slash = |path: &str| format!("{}/", path.trim_end_matches('/'));
        let mut paths: Vec<String> = [&[self.label], self.also]
            .concat()
            .into_iter()
            .flat_map(|path| [path.to_owned(), with_slash(path)])
            .collect();
        paths.dedup();
        paths
    }

    pub fn cell(&self, method: &str) -> &Cell {
        let method = if method == "HEAD" { "GET" } else { method };
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.method == method).unwrap_or_else(|| {
            panic!("the table says nothing of {method} {}", self.label);
        })
    }
}

/// The same for every user.
const fn all(method: &'static str, status: u16) -> Cell {
    Cell { method, owner: status, other: (status, "") }
}

const fn cell(method: &'static str, owner: u16, status: u16, code: &'static str) -> Cell {
    Cell { method, owner, other: (status, code) }
}

/// The rows, and the match from a route to its row.
macro_rules! table {
    ($($route:pat => $row:expr,)*) => {
        pub const TABLE: &[Row] = &[$($row,)*];

        pub fn row_of(route: Route) -> &'static Row {
            match route {
                $($route => const { &$row },)*
            }
        }
    };
}

const READ: &str = "GET, HEAD, OPTIONS";
const SUBMIT: &str = "POST, OPTIONS";
const COLLECTION: &str = "GET, HEAD, POST, OPTIONS";
const RESOURCE: &str = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";

table! {
    Route::Index => Row {
        label: "/api", also: &["/"], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::OpenApi => Row {
        label: "/openapi.json", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::Docs => Row {
        label: "/docs", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::DocsFile(DocsFile::Script) => Row {
        label: "/docs/page.js", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::DocsFile(DocsFile::Style) => Row {
        label: "/docs/page.css", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::DocsFile(DocsFile::SwaggerUiScript) => Row {
        label: "/docs/swagger-ui.js", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::DocsFile(DocsFile::SwaggerUiStyle) => Row {
        label: "/docs/swagger-ui.css", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::Live => Row {
        label: "/health/live", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::Ready => Row {
        label: "/health/ready", also: &["/health"], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::Metrics => Row {
        label: "/metrics", also: &[], id: Id::None, allow: READ, access: Access::Anyone,
        cells: &[all("GET", 200)],
    },
    Route::Register => Row {
        label: "/api/auth/register", also: &[], id: Id::None, allow: SUBMIT, access: Access::Anyone,
        cells: &[all("POST", 201)],
    },
    Route::Login => Row {
        label: "/api/auth/login", also: &[], id: Id::None, allow: SUBMIT, access: Access::Anyone,
        cells: &[all("POST", 200)],
    },
    Route::Refresh => Row {
        label: "/api/auth/refresh", also: &["/api/auth/token/refresh"], id: Id::None, allow: SUBMIT, access: Access::Anyone,
        cells: &[all("POST", 200)],
    },
    Route::Logout => Row {
        label: "/api/auth/logout", also: &[], id: Id::None, allow: SUBMIT, access: Access::User,
        cells: &[all("POST", 204)],
    },
    Route::Password => Row {
        label: "/api/auth/password", also: &[], id: Id::None, allow: "PUT, OPTIONS", access: Access::User,
        cells: &[all("PUT", 204)],
    },
    Route::Me => Row {
        label: "/api/auth/me", also: &[], id: Id::None, allow: READ, access: Access::User,
        cells: &[all("GET", 200)],
    },
    Route::Patients => Row {
        label: "/api/patients", also: &[], id: Id::None, allow: COLLECTION, access: Access::User,
        cells: &[all("GET", 200), all("POST", 201)],
    },
    Route::PatientsExport => Row {
        label: "/api/patients/export", also: &[], id: Id::None, allow: READ, access: Access::User,
        cells: &[all("GET", 200)],
    },
    Route::PatientsImport => Row {
        label: "/api/patients/import", also: &[], id: Id::None, allow: SUBMIT, access: Access::User,
        cells: &[all("POST", 200)],
    },
    Route::Patient(_) => Row {
        label: "/api/patients/{id}", also: &[], id: Id::Patient, allow: RESOURCE, access: Access::User,
        cells: &[
            cell("GET", 200, 404, "patient_not_found"),
            cell("PUT", 200, 404, "patient_not_found"),
            cell("PATCH", 200, 404, "patient_not_found"),
            cell("DELETE", 204, 404, "patient_not_found"),
        ],
    },
    Route::Doctors => Row {
        label: "/api/doctors", also: &[], id: Id::None, allow: COLLECTION, access: Access::User,
        cells: &[all("GET", 200), all("POST", 201)],
    },
    Route::Doctor(_) => Row {
        label: "/api/doctors/{id}", also: &[], id: Id::Doctor, allow: RESOURCE, access: Access::User,
        cells: &[
            all("GET", 200),
            cell("PUT", 200, 403, "forbidden"),
            cell("PATCH", 200, 403, "forbidden"),
            cell("DELETE", 204, 403, "forbidden"),
        ],
    },
    Route::Mappings => Row {
        label: "/api/mappings", also: &[], id: Id::None, allow: COLLECTION, access: Access::User,
        cells: &[all("GET", 200), cell("POST", 201, 404, "patient_not_found")],
    },
    Route::Mapping(_) => Row {
        label: "/api/mappings/{id}", also: &[], id: Id::PatientOrMapping,
        allow: "GET, HEAD, DELETE, OPTIONS", access: Access::User,
        cells: &[
            cell("GET", 200, 404, "patient_not_found"),
            cell("DELETE", 204, 404, "not_found"),
        ],
    },
    Route::PatientMappings(_) => Row {
        label: "/api/mappings/patient/{id}", also: &[], id: Id::Patient, allow: READ,
        access: Access::User,
        cells: &[cell("GET", 200, 404, "patient_not_found")],
    },
}
