//! Malformed or excessive methods, targets, versions and headers.

use super::{Attack, END, Scene};

/// The request line, and the only response.
const LINES: [(&str, u16); 46] = [
    ("TRACE /api/patients HTTP/1.1", 405),
    ("TRACK /api/patients HTTP/1.1", 405),
    ("CONNECT /api/patients HTTP/1.1", 405),
    ("CONNECT example.com:443 HTTP/1.1", 404),
    ("get /health/live HTTP/1.1", 405),
    ("Get /health/live HTTP/1.1", 405),
    ("GE\0T /health/live HTTP/1.1", 400),
    ("GET{} /health/live HTTP/1.1", 400),
    ("PRI * HTTP/1.1", 404),
    // Only the path of an absolute target counts, whatever host it names (RFC 9112, section 3.2.2).
    ("GET http://evil.example/health/live HTTP/1.1", 200),
    ("GET https://evil.example:1/api/patients HTTP/1.1", 401),
    ("GET http://evil.example/nowhere HTTP/1.1", 404),
    ("GET http://evil.example HTTP/1.1", 200),
    ("GET http:///health/live HTTP/1.1", 400),
    ("GET file:///etc/passwd HTTP/1.1", 400),
    ("GET evil.example:80 HTTP/1.1", 404),
    ("GET * HTTP/1.1", 404),
    ("OPTIONS * HTTP/1.1", 404),
    ("GET health/live HTTP/1.1", 400),
    ("GET //evil.example/health/live HTTP/1.1", 404),
    ("GET /health/live/.. HTTP/1.1", 404),
    ("GET /api/../health/live HTTP/1.1", 404),
    ("GET /api/%2e%2e/health/live HTTP/1.1", 404),
    ("GET /../../../../etc/passwd HTTP/1.1", 404),
    ("GET /..%2f..%2fetc%2fpasswd HTTP/1.1", 404),
    ("GET /health%2flive HTTP/1.1", 404),
    ("GET /health/live%00 HTTP/1.1", 404),
    ("GET /health/live\0 HTTP/1.1", 400),
    ("GET /health/live%2500 HTTP/1.1", 404),
    ("GET /health/%6cive HTTP/1.1", 404),
    ("GET /health/live%zz HTTP/1.1", 404),
    ("GET /health/live;x=1 HTTP/1.1", 404),
    ("GET /health/live%20 HTTP/1.1", 404),
    ("GET /health/live\\ HTTP/1.1", 404),
    ("GET /health/live?access_token=x HTTP/1.1", 400),
    ("GET /health/live?%zz HTTP/1.1", 400),
    ("GET  /health/live HTTP/1.1", 400),
    ("GET\t/health/live HTTP/1.1", 400),
    ("GET /health/live  HTTP/1.1", 400),
    ("GET /health/live HTTP/1.1 x", 400),
    ("GET /health/live HTTP/1.2", 400),
    ("GET /health/live HTTP/2.0", 400),
    ("GET /health/live HTTP/11", 400),
    ("GET /health/live http/1.1", 400),
    ("GET /health/live", 400),
    ("EHLO evil.example", 400),
];

/// Further headers beside those of [`END`], and the only answer of `GET /health/live`.
const HEADERS: [(&str, u16); 26] = [
    ("host: y\r\n", 400),
    ("host: x\r\n", 400),
    ("authorization: Bearer a\r\nauthorization: Bearer b\r\n", 400),
    ("x: a\0b\r\n", 400),
    ("x: a\rb\r\n", 400),
    ("x\0: a\r\n", 400),
    ("x: a\x7f\r\n", 400),
    ("x : a\r\n", 400),
    (" x: a\r\n", 400),
    ("x: a\r\n b\r\n", 400),
    ("x: a\r\n\tb\r\n", 400),
    (": a\r\n", 400),
    ("x\r\n", 400),
    ("x(: a\r\n", 400),
    ("\u{e9}: a\r\n", 400),
    ("\r\r\n", 400),
    ("x: a\n\r\r\n", 400),
    ("x: \u{e9}\r\n", 200),
    ("x:\r\n", 200),
    // A line may end with a bare LF (RFC 9112, section 2.2).
    ("x: a\n", 200),
    ("upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n", 200),
    ("upgrade: websocket\r\nsec-websocket-version: 13\r\n", 200),
    ("range: bytes=0-,0-,0-,0-\r\n", 200),
    ("x-http-method-override: DELETE\r\n", 200),
    ("x-original-url: /api/patients\r\nx-rewrite-url: /api/patients\r\n", 200),
    ("te: trailers\r\ntrailer: authorization\r\n", 200),
];

/// What `Host` may not be; an empty one is allowed (RFC 9112, section 3.2).
const HOSTS: [(&str, u16); 8] = [
    ("", 400),
    ("host:\r\n", 200),
    ("host: a/b\r\n", 400),
    ("host: user@a\r\n", 400),
    ("host: a, b\r\n", 400),
    ("host: a b\r\n", 400),
    ("host: a\"b\r\n", 400),
    ("host: \u{e9}\r\n", 400),
];

/// The beginning of a TLS handshake.
const TLS_HELLO: &[u8] =
    b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x00\x04\x13\x01\x13\x02\x01\x00";

pub fn attacks(scene: &Scene) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (line, status) in LINES {
        attacks.push(Attack::new(
            line.escape_debug().to_string(),
            format!("{line}\r\n{END}"),
            &[status],
        ));
    }
    for (headers, status) in HEADERS {
        let bytes = format!("GET /health/live HTTP/1.1\r\n{headers}{END}");
        let name = format!("with {}", headers.escape_debug());
        attacks.push(Attack::new(name, bytes, &[status]));
    }
    for (host, status) in HOSTS {
        let bytes = format!("GET /health/live HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        attacks.push(Attack::new(format!("only {}", host.escape_debug()), bytes, &[status]));
    }
    attacks.extend(floods());
    attacks.extend([
        Attack::new("HTTP/0.9", "GET /health/live\r\n\r\n", &[400]),
        Attack::new("HTTP/1.0", "GET /health/live HTTP/1.0\r\n\r\n", &[200]),
        Attack::new("HTTP/1.0 with a host", "GET /health/live HTTP/1.0\r\nhost: x\r\n\r\n", &[200]),
        Attack::new("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[]),
        Attack::new("TLS", TLS_HELLO, &[400]),
        Attack::new("SSH", "SSH-2.0-x\r\n\r\n", &[400]),
        Attack::new("all bytes", (0..=255).collect::<Vec<u8>>(), &[400]),
        Attack::new(
            "line ends of LF",
            "GET /health/live HTTP/1.1\nhost: x\nconnection: close\n\n",
            &[200],
        ),
        Attack::new(
            "blank lines before",
            format!("\r\n\r\nGET /health/live HTTP/1.1\r\n{END}"),
            &[200],
        ),
        Attack::new("a name that is a script", format!("<script>\r\n{END}"), &[400]),
    ]);
    for (name, value, status) in [
        ("no scheme", scene.attacker.token().to_owned(), 401),
        ("Basic", "Basic ZXZlOng=".to_owned(), 401),
        ("an empty scheme", "Bearer".to_owned(), 401),
        ("bytes that are no ASCII", "Bearer \u{e9}".to_owned(), 401),
        ("two tokens", format!("Bearer {0}, Bearer {0}", scene.attacker.token()), 401),
        ("a token of 20 KB", format!("Bearer {}", "a".repeat(20_000)), 401),
    ] {
        let bytes = format!("GET /api/patients HTTP/1.1\r\nauthorization: {value}\r\n{END}");
        attacks.push(Attack::new(format!("authorization: {name}"), bytes, &[status]));
    }
    attacks
}

/// Heads beyond every limit.
fn floods() -> Vec<Attack> {
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}{END}");
    let path = |length: usize| "/".to_owned() + &"a".repeat(length - 1);
    vec![
        Attack::new("a target that is just too long", get(&path(8193), ""), &[414]),
        Attack::new("a target of 64 KB", get(&path(64_000), ""), &[414]),
        Attack::new("a target of 100 KB", get(&path(100_000), ""), &[414]),
        Attack::new("a target of 1 MB", get(&path(1_000_000), ""), &[431]),
        Attack::new(
            "a query of 1,000 parameters",
            get(&format!("/x?{}", "a=1&".repeat(1000)), ""),
            &[404],
        ),
        Attack::new("a path of 4,000 segments", get(&"/a".repeat(4000), ""), &[404]),
        Attack::new(
            "a method of 1 MB",
            format!("{} / HTTP/1.1\r\n{END}", "A".repeat(1_000_000)),
            &[431],
        ),
        Attack::new("99 headers more", get("/health/live", &"x: y\r\n".repeat(99)), &[431]),
        Attack::new("10,000 headers", get("/health/live", &"x: y\r\n".repeat(10_000)), &[431]),
        Attack::new(
            "a value of 25 KB",
            get("/health/live", &format!("x: {}\r\n", "y".repeat(25_000))),
            &[431],
        ),
        Attack::new(
            "a value of 10 MB",
            get("/health/live", &format!("x: {}\r\n", "y".repeat(10_000_000))),
            &[431],
        ),
        Attack::new(
            "a name of 25 KB",
            get("/health/live", &format!("{}: y\r\n", "x".repeat(25_000))),
            &[431],
        ),
        Attack::new(
            "a name of 1 MB",
            get("/health/live", &format!("{}: y\r\n", "x".repeat(1_000_000))),
            &[431],
        ),
        Attack::new(
            "a cookie of 30 KB",
            get("/health/live", &format!("cookie: {}\r\n", "a=b; ".repeat(6000))),
            &[431],
        ),
        Attack::new("1 MB of blank lines", "\r\n".repeat(500_000), &[431]),
    ]
}
