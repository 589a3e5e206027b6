//! Request smuggling: if the end of a body is ambiguous, the connection must be closed.

use super::{Attack, Scene};

const JSON: &str = r#"{"name":"Eve"}"#;
const CHUNKS: &str = "e\r\n{\"name\":\"Eve\"}\r\n0\r\n\r\n";
/// Follows every attack on its connection. Its response shows that service and client agree on
/// where the attack ended.
const PROBE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// The responses if the framing is valid: the patient's and the probe's.
const FINE: &[u16] = &[201, 200];
const REFUSED: &[u16] = &[400];

/// Length headers, with a body of this text.
const LENGTHS: [(&str, &str, &[u16]); 23] = [
    // RFC 9110, section 8.6, lets the same length twice count as one.
    ("the same length twice", "content-length: 14\r\ncontent-length: 14\r\n", FINE),
    ("two lengths", "content-length: 14\r\ncontent-length: 0\r\n", REFUSED),
    ("two lengths, the other way", "content-length: 0\r\ncontent-length: 14\r\n", REFUSED),
    ("a list of lengths", "content-length: 14, 14\r\n", REFUSED),
    ("a length with a sign", "content-length: +14\r\n", REFUSED),
    ("a negative length", "content-length: -14\r\n", REFUSED),
    ("a length in hexadecimal", "content-length: 0xe\r\n", REFUSED),
    ("a length with letters behind", "content-length: 14a\r\n", REFUSED),
    ("a length with a space within", "content-length: 1 4\r\n", REFUSED),
    ("a length in spaces", "content-length:   14  \r\n", FINE),
    ("an empty length", "content-length:\r\n", REFUSED),
    ("a length with a zero before it", "content-length: 014\r\n", FINE),
    ("a length in quotes", "content-length: \"14\"\r\n", REFUSED),
    ("a length with a point", "content-length: 14.0\r\n", REFUSED),
    ("a length with an exponent", "content-length: 14e0\r\n", REFUSED),
    ("a length in other digits", "content-length: \u{ff11}\u{ff14}\r\n", REFUSED),
    ("a length beyond 64 bits", "content-length: 99999999999999999999\r\n", REFUSED),
    ("a length with a space before its colon", "content-length : 14\r\n", REFUSED),
    ("a length with a tab before its colon", "content-length\t: 14\r\n", REFUSED),
    ("a folded length", "content-length:\r\n 14\r\n", REFUSED),
    ("a length with a NUL", "content-length: 14\0\r\n", REFUSED),
    ("a length behind a bare CR", "x: y\rcontent-length: 14\r\n", REFUSED),
    // Without a length there is no body, and what follows is no request.
    ("a length with an underscore", "content_length: 14\r\n", &[400, 400]),
];

/// Transfer encodings, with a chunked body.
const ENCODINGS: [(&str, &str, &[u16]); 21] = [
    ("chunked", "transfer-encoding: chunked\r\n", FINE),
    ("chunked in capitals", "Transfer-Encoding: CHUNKED\r\n", FINE),
    // RFC 9112, section 6.1: chunked overrides the length, and the connection must be closed.
    ("a length, then chunked", "content-length: 3\r\ntransfer-encoding: chunked\r\n", &[201]),
    ("chunked, then a length", "transfer-encoding: chunked\r\ncontent-length: 3\r\n", &[201]),
    ("chunked and a wrong length", "transfer-encoding: chunked\r\ncontent-length: x\r\n", &[201]),
    ("chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", REFUSED),
    ("chunked twice in a list", "transfer-encoding: chunked, chunked\r\n", REFUSED),
    ("xchunked", "transfer-encoding: xchunked\r\n", REFUSED),
    ("chunkedx", "transfer-encoding: chunkedx\r\n", REFUSED),
    ("identity", "transfer-encoding: identity\r\n", REFUSED),
    ("an empty encoding", "transfer-encoding:\r\n", REFUSED),
    ("chunked, then gzip", "transfer-encoding: chunked, gzip\r\n", REFUSED),
    ("gzip, then chunked", "transfer-encoding: gzip, chunked\r\n", REFUSED),
    (
        "gzip, then chunked, apart",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        REFUSED,
    ),
    (
        "chunked, then identity",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        REFUSED,
    ),
    ("chunked in quotes", "transfer-encoding: \"chunked\"\r\n", REFUSED),
    ("chunked behind a vertical tab", "transfer-encoding: \u{b}chunked\r\n", REFUSED),
    ("a folded encoding", "transfer-encoding:\r\n chunked\r\n", REFUSED),
    ("an encoding with a space before its colon", "transfer-encoding : chunked\r\n", REFUSED),
    ("chunked with a parameter", "transfer-encoding: chunked;q=1\r\n", REFUSED),
    // Without an encoding there is no body, and what follows is no request.
    ("an encoding with an underscore", "transfer_encoding: chunked\r\n", &[400, 400]),
];

/// Bodies in chunks.
fn chunks() -> Vec<(&'static str, String, &'static [u16])> {
    let whole = |size: &str| format!("{size}\r\n{JSON}\r\n0\r\n\r\n");
    vec![
        ("a size in capitals", whole("E"), FINE),
        ("a size with zeros before it", whole("0000000e"), FINE),
        ("a size with spaces behind it", whole("e  "), FINE),
        ("a size that is no number", whole("zz"), REFUSED),
        ("a size with a sign", whole("+e"), REFUSED),
        ("a negative size", whole("-e"), REFUSED),
        ("a size with a prefix", whole("0xe"), REFUSED),
        ("a size with a space before it", whole(" e"), REFUSED),
        ("no size", whole(""), REFUSED),
        ("a size beyond 64 bits", whole("1000000000000000e"), REFUSED),
        ("a size that is too small", whole("d"), REFUSED),
        ("a size that is too large", whole("f"), REFUSED),
        ("a size that ends with a bare LF", format!("e\n{JSON}\r\n0\r\n\r\n"), REFUSED),
        ("a chunk that ends with a bare LF", format!("e\r\n{JSON}\n0\r\n\r\n"), REFUSED),
        ("a chunk that does not end", format!("e\r\n{JSON}0\r\n\r\n"), REFUSED),
        ("an extension", whole("e;a=b"), FINE),
        ("an extension with a bare LF", whole("e;a\nb"), REFUSED),
        ("extensions without end", whole(&format!("e;{}", "a".repeat(100_000))), REFUSED),
        ("a trailer", format!("e\r\n{JSON}\r\n0\r\nauthorization: x\r\n\r\n"), FINE),
        (
            "trailers without end",
            format!("e\r\n{JSON}\r\n0\r\n{}", "a: b\r\n".repeat(50_000)),
            REFUSED,
        ),
        // It becomes the start of the next method.
        ("something behind the last chunk", format!("{CHUNKS}x"), &[201, 405]),
        ("an empty body", "0\r\n\r\n".to_owned(), &[400, 200]),
    ]
}

pub fn attacks(scene: &Scene) -> Vec<Attack> {
    let token = scene.attacker.token();
    let post = |headers: &str, body: &str| {
        format!(
            "POST /api/patients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{headers}\r\n{body}{PROBE}"
        )
    };
    let mut attacks = Vec::new();
    for (name, headers, statuses) in LENGTHS {
        attacks.push(Attack::new(name, post(headers, JSON), statuses));
    }
    for (name, headers, statuses) in ENCODINGS {
        attacks.push(Attack::new(name, post(headers, CHUNKS), statuses));
    }
    for (name, body, statuses) in chunks() {
        attacks.push(Attack::new(name, post("transfer-encoding: chunked\r\n", &body), statuses));
    }
    let old = post("transfer-encoding: chunked\r\n", CHUNKS).replace("HTTP/1.1", "HTTP/1.0");
    attacks.push(Attack::new("chunked in HTTP/1.0", old, REFUSED));
    attacks.extend(hidden(scene));
    attacks
}

/// Requests inside of bodies, which must remain bodies.
fn hidden(scene: &Scene) -> Vec<Attack> {
    let (token, mapping) = (scene.victim.token(), scene.victim.mapping);
    let inner = format!(
        "DELETE /api/mappings/{mapping} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let length = inner.len();
    let in_length = format!("content-length: {length}\r\n\r\n{inner}");
    let in_chunk = format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n");
    let mut attacks = Vec::new();
    for (name, line, status) in [
        ("a request in the body of a GET", "GET /health/live", 200),
        ("a request in a body that nobody may send", "POST /api/patients", 401),
        ("a request in a body at no path", "POST /nowhere", 404),
        ("a request in a body of a method that does not work", "DELETE /health/live", 405),
        ("a request in the body of OPTIONS", "OPTIONS /api/patients", 204),
    ] {
        for (framing, rest) in [("", &in_length), (", in a chunk", &in_chunk)] {
            let bytes = format!("{line} HTTP/1.1\r\nhost: x\r\n{rest}{PROBE}");
            attacks.push(Attack::new(format!("{name}{framing}"), bytes, &[status, 200]));
        }
    }
    attacks
}
