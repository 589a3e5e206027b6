//! Ids as clients write them.

/// Parses an id from a path, a query parameter or a token: decimal digits of a positive 64-bit
/// integer, without sign or leading zero.
pub fn parse_id(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}
