//! Answers that the service has given, recorded by a test that compares them with what it answers
//! now.

use std::sync::LazyLock;

use serde_json::Value;

/// For each operation by its id: what was `sent`, and the `status`, `headers` and `body` of the
/// answer.
static RECORDED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// The body that was sent.
pub fn sent(operation: &str) -> Option<&'static Value> {
    RECORDED.get(operation)?.get("sent")
}

/// The body of the answer.
pub fn body(operation: &str) -> Option<&'static Value> {
    RECORDED.get(operation)?.get("body")
}
