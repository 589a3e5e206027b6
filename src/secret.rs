//! The secret that signs tokens.

/// The shortest key for HS256 (RFC 7518, section 3.2), in bytes.
pub const MIN_SECRET_BYTES: usize = 32;

/// Bytes that have no `Debug` or `Display`, so that they are never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// None if there are fewer than [`MIN_SECRET_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() >= MIN_SECRET_BYTES).then_some(Self(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
