//! Malicious bodies: decompression bombs, wrong lengths and types, ambiguous JSON.

use super::{Attack, Scene, request};

/// A gzip file of nothing.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";

/// Bodies for a new patient.
fn patients() -> Vec<(&'static str, Vec<u8>, u16)> {
    let metadata = |inside: &str| format!(r#"{{"name":"Eve","metadata":{{"a":{inside}}}}}"#);
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let many = |field: &dyn Fn(usize) -> String| {
        let fields: Vec<String> = (0..9000).map(field).collect();
        format!("{{{}}}", fields.join(","))
    };
    let text: Vec<(&str, String, u16)> = vec![
        ("100,000 open arrays", "[".repeat(100_000), 400),
        ("40,000 open objects", r#"{"a":"#.repeat(40_000), 400),
        ("100,000 arrays", nested(100_000), 422),
        ("100,000 arrays in a field", format!(r#"{{"name":{}}}"#, nested(100_000)), 422),
        ("deep metadata", metadata(&nested(101)), 201),
        ("very deep metadata", metadata(&nested(100_000)), 422),
        ("open metadata", format!(r#"{{"metadata":{}"#, "[".repeat(100_000)), 400),
        ("a number of 100,000 digits", metadata(&"9".repeat(100_000)), 422),
        ("a number without measure", r#"{"name":"Eve","age":1e999999999}"#.into(), 422),
        ("an age of 1e400", r#"{"name":"Eve","age":1e400}"#.into(), 422),
        ("an age of -0", r#"{"name":"Eve","age":-0}"#.into(), 201),
        ("9,000 unknown fields", many(&|n| format!(r#""x{n}":1"#)), 422),
        ("9,000 times the same field", many(&|_| r#""name":"Eve""#.into()), 422),
        ("a field name of 200 KB", format!(r#"{{"{}":1}}"#, "x".repeat(200_000)), 422),
        ("a name of 200 KB", format!(r#"{{"name":"{}"}}"#, "x".repeat(200_000)), 422),
        ("a name of escapes", format!(r#"{{"name":"{}"}}"#, "\\u0041".repeat(40_000)), 422),
        ("a field twice", r#"{"name":"Ada","name":"Eve"}"#.into(), 422),
        ("a field twice, once escaped", r#"{"name":"Ada","n\u0061me":"Eve"}"#.into(), 422),
        ("a field and its alias", r#"{"name":"Eve","phone":"1","contact":"2"}"#.into(), 422),
        ("a field in capitals", r#"{"name":"Eve","NAME":"Ada"}"#.into(), 422),
        ("__proto__", r#"{"name":"Eve","__proto__":{"role":"admin"}}"#.into(), 422),
        ("a lone high surrogate", r#"{"name":"\ud800"}"#.into(), 422),
        ("a lone low surrogate", r#"{"name":"\udc00"}"#.into(), 422),
        ("surrogates the wrong way round", r#"{"name":"\udc00\ud800"}"#.into(), 422),
        ("half a pair", r#"{"name":"\ud83d\u0041"}"#.into(), 422),
        ("a surrogate in a field name", r#"{"name":"Eve","\ud800":1}"#.into(), 400),
        ("a surrogate in metadata", metadata(r#""\ud800""#), 422),
        ("a NUL", r#"{"name":"a\u0000b"}"#.into(), 422),
        ("a NUL in metadata", metadata(r#""\u0000""#), 422),
        ("a byte order mark", "\u{feff}{\"name\":\"Eve\"}".into(), 400),
        ("two values", r#"{"name":"Eve"}{"name":"Eve"}"#.into(), 400),
        ("a form", "name=Eve".into(), 400),
        (
            "an entity",
            "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>".into(),
            400,
        ),
        ("256 KiB and a byte", " ".repeat((256 << 10) + 1), 413),
        ("10 MB", "[".repeat(10_000_000), 413),
    ];
    let mut bodies: Vec<_> =
        text.into_iter().map(|(name, body, status)| (name, body.into_bytes(), status)).collect();
    bodies.extend([
        ("a byte that is no UTF-8", b"{\"name\":\"\xff\"}".to_vec(), 400),
        ("a surrogate in UTF-8", b"{\"name\":\"\xed\xa0\x80\"}".to_vec(), 400),
        ("an overlong NUL", b"{\"name\":\"\xc0\x80\"}".to_vec(), 400),
        ("UTF-8 that is cut off", b"{\"name\":\"\xf0\x9f\x98\"}".to_vec(), 400),
        ("no UTF-8 in metadata", b"{\"name\":\"E\",\"metadata\":{\"a\":\"\xff\"}}".to_vec(), 400),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec(), 400),
        ("gzip that nothing announces", GZIP.to_vec(), 400),
    ]);
    bodies
}

/// Bodies of `/api/auth` and their paths.
fn credentials() -> Vec<(&'static str, &'static str, String, u16)> {
    let login =
        |email: &str, password: &str| format!(r#"{{"email":"{email}","password":"{password}"}}"#);
    let register = |password: &str| {
        format!(r#"{{"name":"Eve","email":"new@example.com","password":"{password}"}}"#)
    };
    vec![
        ("SQL for an address", "login", login("' OR 1=1 --", "x"), 401),
        ("a pattern for an address", "login", login("%", "x"), 401),
        ("a NUL in an address", "login", login("ada@example.com\\u0000", "correct horse"), 401),
        ("a password and a NUL", "login", login("ada@example.com", "correct horse\\u0000"), 401),
        ("a password of 7,000 bytes", "login", login("ada@example.com", &"x".repeat(7000)), 401),
        ("an address of 7,000 bytes", "login", login(&"x".repeat(7000), "x"), 401),
        (
            "an object for a password",
            "login",
            r#"{"email":"ada@example.com","password":{"$ne":""}}"#.into(),
            422,
        ),
        ("no password", "login", r#"{"email":"ada@example.com"}"#.into(), 422),
        (
            "null for a password",
            "login",
            r#"{"email":"ada@example.com","password":null}"#.into(),
            422,
        ),
        (
            "a session for a refresh token",
            "refresh",
            r#"{"refresh_token":"AAAAAAAAAAEAAAAA"}"#.into(),
            401,
        ),
        ("an empty refresh token", "refresh", r#"{"refresh_token":""}"#.into(), 401),
        ("a new password that bcrypt would cut", "register", register(&"x".repeat(72)), 422),
        ("a new password with a NUL", "register", register("correct\\u0000horse"), 422),
        ("8 KiB and a byte", "login", " ".repeat((8 << 10) + 1), 413),
    ]
}

pub fn attacks(scene: &Scene) -> Vec<Attack> {
    let token = scene.attacker.token();
    let post = |headers: &str, body: &[u8]| request("POST", "/api/patients", token, headers, body);
    let mut attacks: Vec<Attack> = patients()
        .into_iter()
        .map(|(name, body, status)| Attack::new(name, post("", &body), &[status]))
        .collect();
    for (name, path, body, status) in credentials() {
        let bytes = request("POST", &format!("/api/auth/{path}"), "", "", body.as_bytes());
        attacks.push(Attack::new(name, bytes, &[status]));
    }
    for (name, header) in [
        ("gzip", "content-encoding: gzip\r\n"),
        ("gzip in capitals", "Content-Encoding: GZIP\r\n"),
        ("gzip behind identity", "content-encoding: identity\r\ncontent-encoding: gzip\r\n"),
        ("two types", "content-type: text/plain\r\n"),
    ] {
        attacks.push(Attack::new(format!("a body with {name}"), post(header, GZIP), &[415]));
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        // What a page of another origin can send without a preflight.
        let bytes = String::from_utf8(post("", br#"{"name":"Eve"}"#)).unwrap();
        let bytes = bytes.replace("application/json", kind);
        attacks.push(Attack::new(format!("a body of {kind}"), bytes, &[415]));
    }
    attacks
}
