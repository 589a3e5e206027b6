//! Content negotiation by `Accept` (RFC 9110, section 12.5.1).

use hyper::header::{ACCEPT, HeaderMap};

/// The index of the type that the client prefers; of equal ones the first. If it accepts none, the
/// header is disregarded, as section 12.4.1 allows.
pub fn preferred(headers: &HeaderMap, offered: &[&str]) -> usize {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> =
        values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
    let mut best = (0, 0);
    for (at, media) in offered.iter().enumerate() {
        // The most specific range that includes the type decides.
        let including = ranges.iter().filter_map(|range| Some((range.matches(media)?, range)));
        let quality = including.max_by_key(|(specific, _)| *specific).map_or(0, |(_, r)| r.quality);
        if quality > best.1 {
            best = (at, quality);
        }
    }
    best.0
}

/// `text/*;q=0.5`
struct Range<'a> {
    media: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
        });
        Some(Self { media, quality: quality.unwrap_or(1000) })
    }

    /// How specifically the range includes a type; None if it does not.
    fn matches(&self, media: &str) -> Option<u8> {
        if self.media == "*/*" {
            return Some(0);
        }
        if let Some(group) = self.media.strip_suffix("/*") {
            let (offered, _) = media.split_once('/')?;
            return offered.eq_ignore_ascii_case(group).then_some(1);
        }
        self.media.eq_ignore_ascii_case(media).then_some(2)
    }
}

/// A quality like `0.5`; what is none counts as nothing.
fn thousandths(value: &str) -> u16 {
    let Ok(quality) = value.parse::<f32>() else { return 0 };
    // In range, because it is clamped. NaN becomes 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let thousandths = (quality.clamp(0.0, 1.0) * 1000.0) as u16;
    thousandths
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_client_chooses_and_else_the_first_is_sent() {
        for (accept, index) in [
            ("", 0),
            ("*/*", 0),
            ("text/html", 0),
            ("text/csv", 1),
            ("Text/CSV; header=present", 1),
            ("text/*", 1),
            ("text/*, */*;q=0.1", 1),
            ("text/csv, application/x-ndjson", 0),
            ("text/csv, application/x-ndjson;q=0.9", 1),
            ("text/csv;q=0, */*", 0),
            ("application/x-ndjson;q=0, */*", 1),
            ("text/csv;q=x", 0),
            ("text/csv;q=NaN", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            let preferred = preferred(&headers, &["application/x-ndjson", "text/csv"]);
            assert_eq!(preferred, index, "{accept}");
        }
    }
}
