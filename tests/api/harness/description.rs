//! The API's description, and whether an answer is as it says: status, headers and body.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use healthcare_backend::openapi;
use healthcare_backend::routes::Route;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName};
use jsonschema::Validator;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// Headers of the connection and the message, which an API's description does not mention.
const OF_THE_MESSAGE: [&str; 5] =
    ["connection", "content-length", "date", "transfer-encoding", "vary"];

/// The document that the service serves.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(openapi::value);

/// The schemas of the document, closed: a member that is not described is an error here, while
/// clients must expect new ones.
static SCHEMAS: LazyLock<Value> = LazyLock::new(|| {
    let mut schemas = DESCRIPTION["components"]["schemas"].clone();
    close(&mut schemas);
    schemas
});

fn close(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.values_mut().for_each(close);
    if members.get("properties").is_some_and(Value::is_object) {
        members.insert("additionalProperties".to_owned(), false.into());
    }
}

/// What is described for a request.
enum Described {
    Operation(&'static Value),
    /// The path has other methods.
    OtherMethod,
    NoPath,
    /// A file of the documentation's page, which is none of the API.
    File,
}

fn described(method: &Method, target: &str) -> Described {
    let path = target.split('?').next().unwrap();
    let path = path.strip_suffix('/').filter(|path| !["", "/"].contains(path)).unwrap_or(path);
    let id = |text: &str| text.parse::<i64>().is_ok_and(|id| id > 0 && id.to_string() == text);
    let fits = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template.zip(path).all(|(t, p)| if t == "{id}" { id(p) } else { t == p })
    };
    let mut paths = DESCRIPTION["paths"].as_object().unwrap().iter();
    let Some((_, path)) = paths.find(|(template, _)| fits(template)) else {
        return match Route::parse(path) {
            Some(Route::DocsFile(_)) => Described::File,
            _ => Described::NoPath,
        };
    };
    // Methods are compared with case.
    let known = method.as_str().chars().all(|c| c.is_ascii_uppercase());
    match path.get(method.as_str().to_ascii_lowercase()) {
        Some(operation) if known => Described::Operation(operation),
        _ => Described::OtherMethod,
    }
}

/// Follows a reference within the document.
pub fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DESCRIPTION.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// The response that is described for a status, if it is.
fn response(method: &Method, target: &str, status: u16) -> Option<&'static Value> {
    let shared = |name: &str| DESCRIPTION["components"]["responses"].get(name);
    let status_text = status.to_string();
    match described(method, target) {
        Described::Operation(operation) => operation["responses"].get(status_text).map(resolved),
        Described::OtherMethod | Described::File if status == 405 => shared("MethodNotAllowed"),
        Described::NoPath | Described::File if status == 404 => shared("NotFound"),
        // What is wrong before the path is looked at.
        _ => match status {
            400 => shared("BadRequest_BadQuery"),
            414 => shared("UriTooLong"),
            431 => shared("HeadersTooLarge"),
            503 => shared("Overloaded"),
            _ => None,
        },
    }
}

/// Checks an answer to a request. The error says what is not as described.
pub fn check(
    method: &Method,
    target: &str,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), String> {
    if status < 400 && matches!(described(method, target), Described::File) {
        return Ok(());
    }
    let response = response(method, target, status).ok_or("the status is not described")?;
    check_headers(&response["headers"], headers)?;
    if *method == Method::HEAD {
        return if body.is_empty() { Ok(()) } else { Err("HEAD has a body".to_owned()) };
    }
    let Some(content) = response.get("content") else {
        return if body.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
    };
    let media_type = headers.get("content-type").map_or("", |value| value.to_str().unwrap());
    let schema = &content.get(media_type).ok_or("the content type is not described")?["schema"];
    match media_type.split(';').next().unwrap() {
        "text/plain" | "text/csv" | "text/html" => check_text(schema, body),
        "application/x-ndjson" => check_lines(schema, body),
        _ => check_body(schema, body),
    }
}

fn check_text(schema: &Value, body: &[u8]) -> Result<(), String> {
    let text = str::from_utf8(body).map_err(|error| error.to_string())?;
    validate(schema, &json!(text))
}

/// Every line of an export can be sent as a new patient.
fn check_lines(schema: &Value, body: &[u8]) -> Result<(), String> {
    check_text(schema, body)?;
    let line = json!({"$ref": "#/components/schemas/NewPatient"});
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    lines.try_for_each(|bytes| check_body(&line, bytes))
}

/// Checks the body of an error.
pub fn check_problem(body: &[u8]) -> Result<(), String> {
    check_body(&json!({"$ref": "#/components/schemas/Problem"}), body)
}

fn check_headers(described: &Value, headers: &HeaderMap) -> Result<(), String> {
    let described = described.as_object().unwrap();
    for name in headers.keys().map(HeaderName::as_str) {
        let known = described.contains_key(name) || name == "content-type";
        if !known && !OF_THE_MESSAGE.contains(&name) {
            return Err(format!("the header {name} is not described"));
        }
    }
    for (name, header) in described {
        let header = match header["$ref"].as_str() {
            Some(reference) => DESCRIPTION.pointer(reference.trim_start_matches('#')).unwrap(),
            None => header,
        };
        let Some(value) = headers.get(name).map(|value| value.to_str().unwrap()) else {
            if header["required"] == true {
                return Err(format!("the header {name} is missing"));
            }
            continue;
        };
        let value = match value.parse::<i64>() {
            Ok(number) if header["schema"]["type"] == "integer" => json!(number),
            _ => json!(value),
        };
        validate(&header["schema"], &value).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Checks a body against a schema of the document.
pub fn check_body(schema: &Value, body: &[u8]) -> Result<(), String> {
    match serde_json::from_slice(body) {
        Ok(body) => validate(schema, &body),
        // Metadata may contain numbers that fit no type.
        Err(_) => serde_json::from_slice::<IgnoredAny>(body)
            .map(drop)
            .map_err(|error| format!("it is not JSON: {error}")),
    }
}

fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(Mutex::default);
    let key = schema.to_string();
    let known = VALIDATORS.lock().unwrap().get(&key).cloned();
    let validator = known.unwrap_or_else(|| {
        let mut whole = schema.clone();
        whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        whole["components"] = json!({"schemas": *SCHEMAS});
        let options = jsonschema::options().should_validate_formats(true);
        let validator = Arc::new(options.build(&whole).unwrap());
        VALIDATORS.lock().unwrap().insert(key, Arc::clone(&validator));
        validator
    });
    // Without the values, which would fill pages.
    validator.validate(value).map_err(|error| {
        format!("{} is not as {} says", error.instance_path(), error.schema_path())
    })
}
