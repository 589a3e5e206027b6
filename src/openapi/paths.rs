//! Every path with its operations.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::operations::{Answer, Body, Content, IDEMPOTENCY_KEY, Operation, operation, tag};
use super::responses::{Responses, header_references};
use super::{errors, examples, parameters};
use crate::error::Error;
use crate::routes::{Access, Route};

/// The tag of what clients rarely call.
pub const OTHER_METHODS: &str = "HEAD and OPTIONS";

/// Every route, with its other paths. The files of the documentation's page are none of the API.
const ROUTES: [(Route, &[&str]); 21] = [
    (Route::Index, &["/"]),
    (Route::OpenApi, &[]),
    (Route::Docs, &[]),
    (Route::Live, &[]),
    (Route::Ready, &["/health"]),
    (Route::Metrics, &[]),
    (Route::Register, &[]),
    (Route::Login, &[]),
    (Route::Refresh, &["/api/auth/token/refresh"]),
    (Route::Logout, &[]),
    (Route::Me, &[]),
    (Route::Password, &[]),
    (Route::Patients, &[]),
    (Route::PatientsExport, &[]),
    (Route::PatientsImport, &[]),
    (Route::Patient(1), &[]),
    (Route::Doctors, &[]),
    (Route::Doctor(1), &[]),
    (Route::Mappings, &[]),
    (Route::Mapping(1), &[]),
    (Route::PatientMappings(1), &[]),
];

/// All paths.
pub fn all(responses: &mut Responses) -> Value {
    let mut paths = Map::new();
    for (route, others) in ROUTES {
        paths.insert(route.label().to_owned(), path(responses, route, false));
        for other in others {
            paths.insert((*other).to_owned(), path(responses, route, true));
        }
    }
    paths.into()
}

/// One path of a route; `other` if it is not the first.
fn path(responses: &mut Responses, route: Route, other: bool) -> Value {
    let mut operations = Map::new();
    for name in route.allow().split(", ") {
        let Ok(method) = name.parse::<Method>() else { continue };
        let described = describe(responses, route, &method, other);
        operations.insert(name.to_ascii_lowercase(), described);
    }
    operations.into()
}

fn describe(responses: &mut Responses, route: Route, method: &Method, other: bool) -> Value {
    let operation = operation(route, method);
    let head = *method == Method::HEAD;
    let rare = head || *method == Method::OPTIONS;
    let mut id = operation.id.to_owned();
    let mut summary = operation.summary.to_owned();
    if rare {
        id = format!("{}{}", method.as_str().to_ascii_lowercase(), capitalized(&id));
    }
    if head {
        summary = format!("{summary}, without a body");
    }
    if other {
        id.push_str("AtOtherPath");
        summary.push_str(" (another path)");
    }
    let mut described = json!({
        "operationId": id,
        "tags": [if rare { OTHER_METHODS } else { tag(route) }],
        "summary": summary,
    });
    if !operation.description.is_empty() && !rare {
        described["description"] = operation.description.into();
    }
    described["security"] = match route.access() {
        Access::User if *method != Method::OPTIONS => json!([{"bearer": []}]),
        _ => json!([]),
    };
    let mut parameters = parameters::of(route, method);
    parameters.extend(operation.headers.iter().map(|name| parameters::header(name)));
    parameters.extend(["RequestId", "TraceParent"].map(parameters::header));
    described["parameters"] = parameters.into();
    if let Some(body) = &operation.body {
        described["requestBody"] = request_body(operation.id, body);
    }
    let mut answers: Map<String, Value> = Map::new();
    for answer in operation.answers {
        answers.insert(answer.status.to_string(), success(operation.id, answer, head));
    }
    let body = operation.body.as_ref().map(|body| body.name);
    answers.extend(responses.of(&possible_errors(route, method, operation), body, head));
    described["responses"] = answers.into();
    described
}

fn request_body(operation: &str, body: &Body) -> Value {
    json!({"required": true, "content": media_types(body.content, operation, examples::sent)})
}

/// The media types of a body, each with its schema and its example.
fn media_types(
    content: Content,
    operation: &str,
    example: fn(&str, usize) -> Option<&'static Value>,
) -> Value {
    let described = content.media_types().into_iter().enumerate().map(|(at, (media, schema))| {
        let mut described = json!({"schema": schema});
        if let Some(example) = example(operation, at) {
            described["example"] = example.clone();
        }
        (media.to_owned(), described)
    });
    described.collect::<Map<_, _>>().into()
}

fn success(operation: &str, answer: &Answer, head: bool) -> Value {
    let headers = header_references(answer.headers);
    let mut success = json!({"description": answer.description, "headers": headers});
    if head || matches!(answer.content, Content::None) {
        return success;
    }
    success["content"] = media_types(answer.content, operation, examples::body);
    let links = answer.links.iter().map(|(target, id)| {
        ((*target).to_owned(), json!({"operationId": target, "parameters": {"id": id}}))
    });
    if !answer.links.is_empty() {
        success["links"] = links.collect::<Map<_, _>>().into();
    }
    success
}

/// The errors of an operation: those of every request, those that its path and method bring about,
/// and those that its handler finds.
fn possible_errors(route: Route, method: &Method, operation: Operation) -> Vec<Error> {
    // `OPTIONS` is answered before anything but the path is looked at.
    let runs = *method != Method::OPTIONS;
    let (private, writes) = (route.access() == Access::User, !method.is_safe());
    let database = runs && route.needs_database();
    let mut possible = errors::all();
    possible.retain(|error| match error {
        Error::BadRequest(_)
        | Error::BadQuery(_)
        | Error::UriTooLong { .. }
        | Error::HeadersTooLarge { .. }
        | Error::Overloaded { .. }
        | Error::Internal { .. } => true,
        Error::NotFound => {
            parameters::id_of(route, method).is_some()
                || route.is_documentation()
                || route.is_operational()
        }
        Error::Unauthorized | Error::InvalidToken => runs && private,
        Error::DatabaseUnavailable { .. } | Error::NotReady { .. } => database,
        Error::Locked { .. } | Error::ReadOnly | Error::OutcomeUnknown { .. } => database && writes,
        Error::RequestTimeout => operation.body.is_some(),
        Error::MalformedJson { .. } => {
            operation.body.as_ref().is_some_and(|body| matches!(body.content, Content::One(_)))
        }
        _ => false,
    });
    if writes {
        possible.push(Error::BodyTooLarge { limit: operation.body_limit });
    }
    if let Some(body) = operation.body {
        possible.extend([body.content.other_type(), (body.wrong)()]);
    }
    if operation.headers.contains(&IDEMPOTENCY_KEY) {
        possible.extend([Error::IdempotencyInProgress, Error::IdempotencyKeyReused]);
    }
    possible.extend(operation.errors);
    possible
}

fn capitalized(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}
