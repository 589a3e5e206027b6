//! Answers: their headers, and the errors as components that operations share.

use std::fmt::Write;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::errors;
use super::schemas::reference;
use crate::error::Error;
use crate::http::problem::title;

/// The headers of answers, by the names under which answers refer to them.
pub fn headers() -> Value {
    json!({
        "x-request-id": {
            "description": "The id of the request, as in the log: the client's, or a new one.",
            "required": true,
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "example": "710bd1f180ec3e2d0000000000000005",
        },
        "cache-control": {
            "required": true,
            "schema": {"type": "string", "const": "no-store"},
        },
        "revalidated": {
            "description": "It may be kept, and must be asked for again with its tag.",
            "required": true,
            "schema": {"type": "string", "const": "no-cache"},
        },
        "policy": {
            "description": "The page loads nothing from elsewhere.",
            "required": true,
            "schema": {"type": "string"},
        },
        "x-content-type-options": {
            "required": true,
            "schema": {"type": "string", "const": "nosniff"},
        },
        "etag": {
            "description": "Another for each version of what is shown.",
            "required": true,
            "schema": {"type": "string", "pattern": "^\"[0-9A-Za-z_-]+\"$"},
            "example": "\"1\"",
        },
        "location": {
            "description": "The path of what was created.",
            "required": true,
            "schema": {"type": "string", "pattern": "^/api/[a-z]+/[1-9][0-9]*$"},
            "example": "/api/patients/1",
        },
        "docs": {
            "description": "The path of the documentation.",
            "required": true,
            "schema": {"type": "string", "const": "/docs"},
        },
        "link": {
            "description": "The next page, exactly when there is one.",
            "schema": {"type": "string", "pattern": "^</api/[^>]+>; rel=\"next\"$"},
            "example": "</api/patients?limit=50&after=1234>; rel=\"next\"",
        },
        "allow": {
            "description": "The methods that work.",
            "required": true,
            "schema": {"type": "string", "pattern": "^[A-Z]+(, [A-Z]+)*$"},
            "example": "GET, HEAD, OPTIONS",
        },
        "retry-after": {
            "description": "Seconds after which to try again.",
            "required": true,
            "schema": {"type": "integer", "minimum": 1},
            "example": 1,
        },
        "retry-later": {
            "description": "Seconds after which to try again, where that helps.",
            "schema": {"type": "integer", "minimum": 1},
            "example": 1,
        },
        "idempotency-replayed": {
            "description":
                "There if an earlier request with this `Idempotency-Key` had the effect.",
            "schema": {"type": "string", "const": "true"},
        },
        "vary": {
            "description": "The type is the one that you prefer.",
            "required": true,
            "schema": {"type": "string", "const": "accept"},
        },
        "www-authenticate": {
            "description": "The scheme, with an `error` if there was a token.",
            "required": true,
            "schema": {
                "type": "string",
                "enum": ["Bearer", "Bearer error=\"invalid_token\""],
            },
        },
    })
}

/// References to the headers that every answer has, and to `more`.
pub fn header_references(more: &[&str]) -> Value {
    let common = ["x-request-id", "cache-control", "x-content-type-options"];
    let reference = |component: &&str| {
        let header = match *component {
            "revalidated" => "cache-control",
            "retry-later" => "retry-after",
            "policy" => "content-security-policy",
            "docs" => "location",
            same => same,
        };
        (header.to_owned(), json!({"$ref": format!("#/components/headers/{component}")}))
    };
    common.iter().chain(more).map(reference).collect::<Map<_, _>>().into()
}

/// The answers to errors so far. Operations with the same errors share them.
#[derive(Default)]
pub struct Responses(Map<String, Value>);

impl Responses {
    /// The answers to these errors, by status. `body` names the schema of what was sent.
    pub fn of(&mut self, errors: &[Error], body: Option<&str>, head: bool) -> Map<String, Value> {
        let mut by_status: Vec<(StatusCode, Vec<&Error>)> = Vec::new();
        for error in errors {
            let (status, _) = error.status_and_code();
            match by_status.iter_mut().find(|(other, _)| *other == status) {
                Some((_, errors)) => errors.push(error),
                None => by_status.push((status, vec![error])),
            }
        }
        by_status.sort_by_key(|(status, _)| *status);
        let answers = by_status.into_iter().map(|(status, errors)| {
            (status.as_u16().to_string(), self.shared(status, &errors, body, head))
        });
        answers.collect()
    }

    fn shared(
        &mut self,
        status: StatusCode,
        errors: &[&Error],
        body: Option<&str>,
        head: bool,
    ) -> Value {
        let mut name = if head { "Head".to_owned() } else { String::new() };
        for error in errors {
            if !name.is_empty() {
                name.push('_');
            }
            name.push_str(&errors::name(error));
            let of_the_body = matches!(error, Error::Validation { .. });
            if let (true, Some(body)) = (of_the_body, body) {
                name.extend(["_", body]);
            }
        }
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        self.0.entry(name).or_insert_with(|| answer(status, errors, head));
        reference
    }

    /// All of them, and those that belong to no operation: to another method, or to no path.
    pub fn finish(mut self) -> Value {
        for error in [Error::NotFound, Error::MethodNotAllowed { allow: "GET, HEAD, OPTIONS" }] {
            self.of(&[error], None, false);
        }
        self.0.into()
    }
}

/// The answer to errors of one status.
fn answer(status: StatusCode, errors: &[&Error], head: bool) -> Value {
    let mut description = title(status).to_owned();
    let mut codes: Vec<&str> = Vec::new();
    let mut examples = Map::new();
    for error in errors {
        let (_, code) = error.status_and_code();
        // Writing to a String cannot fail.
        let _ = write!(description, "\n- `{code}`: {}", errors::when(error));
        if !codes.contains(&code) {
            codes.push(code);
            examples.insert(code.to_owned(), json!({"value": errors::example(error)}));
        }
    }
    let later = errors.iter().any(|error| error.retry_after().is_some());
    let more: &[&str] = match status {
        StatusCode::CONFLICT if later => &["retry-later"],
        StatusCode::UNAUTHORIZED => &["www-authenticate"],
        StatusCode::METHOD_NOT_ALLOWED => &["allow"],
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => &["retry-after"],
        _ => &[],
    };
    let mut answer = json!({"description": description, "headers": header_references(more)});
    if !head {
        let schema = json!({
            "allOf": [
                reference("Problem"),
                {
                    "type": "object",
                    "properties": {
                        "status": {"type": "integer", "const": status.as_u16()},
                        "code": {"type": "string", "enum": codes},
                    },
                },
            ],
        });
        answer["content"] =
            json!({"application/problem+json": {"schema": schema, "examples": examples}});
    }
    answer
}
