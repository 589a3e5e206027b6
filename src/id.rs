//! Ids as clients spell them.

/// An id as paths, query parameters and tokens spell it: decimal digits of a positive 64-bit integer,
/// without sign or leading zero.
pub fn parse_id(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}
