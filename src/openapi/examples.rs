//! Answers that the service has given, recorded by a test that compares them with what it answers
//! now.

use std::sync::LazyLock;

use serde_json::Value;

/// For each operation by its id: what was `sent`, and the `status`, `headers` and `body` of the
/// answer. Where there is another media type, that is under the id with ` 2`.
static RECORDED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// The body that was sent in this one of the operation's media types.
pub fn sent(operation: &str, media_type: usize) -> Option<&'static Value> {
    recorded(operation, media_type)?.get("sent")
}

/// The body of the answer in this one of the operation's media types.
pub fn body(operation: &str, media_type: usize) -> Option<&'static Value> {
    recorded(operation, media_type)?.get("body")
}

fn recorded(operation: &str, media_type: usize) -> Option<&'static Value> {
    match media_type {
        0 => RECORDED.get(operation),
        other => RECORDED.get(format!("{operation} {}", other + 1)),
    }
}
