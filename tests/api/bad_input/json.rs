//! Bodies that are not JSON, and JSON that is no object.

use super::{Setting, refused, refused_for};

/// Bytes that are not exactly one JSON value.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let mut bodies: Vec<(&str, Vec<u8>)> = [
        ("empty", ""),
        ("white space", " \n\t "),
        ("truncated", "{\"name\":\"N\""),
        ("truncated in a string", "{\"name\":\"N"),
        ("truncated in an escape", "{\"name\":\"\\u00"),
        ("trailing bytes", "{\"name\":\"N\"}x"),
        ("a second value", "{\"name\":\"N\"}{}"),
        ("a trailing comma", "{\"name\":\"N\",}"),
        ("a leading comma", "{,\"name\":\"N\"}"),
        ("a missing comma", "{\"name\":\"N\" \"age\":1}"),
        ("single quotes", "{'name':'N'}"),
        ("no quotes", "{name:\"N\"}"),
        ("a number as a name", "{1:\"N\"}"),
        ("NaN", "{\"name\":\"N\",\"age\":NaN}"),
        ("infinity", "{\"name\":\"N\",\"age\":-Infinity}"),
        ("a leading zero", "{\"name\":\"N\",\"age\":01}"),
        ("a plus sign", "{\"name\":\"N\",\"age\":+1}"),
        ("no digit before the point", "{\"name\":\"N\",\"age\":.5}"),
        ("no digit behind the point", "{\"name\":\"N\",\"age\":1.}"),
        ("hexadecimal", "{\"name\":\"N\",\"age\":0x1E}"),
        ("True", "{\"name\":\"N\",\"metadata\":True}"),
        ("undefined", "undefined"),
        ("an unknown escape", "{\"name\":\"\\q\"}"),
        ("a raw line end", "{\"name\":\"a\nb\"}"),
        ("a raw NUL", "{\"name\":\"a\0b\"}"),
        ("a NUL behind", "{\"name\":\"N\"}\0"),
        ("a comment", "{\"name\":\"N\"} // comment"),
        ("a byte order mark", "\u{feff}{\"name\":\"N\"}"),
        ("a no-break space", "\u{a0}{\"name\":\"N\"}"),
        ("unknown and malformed", "{\"nmae\":\"N\",}"),
        ("malformed metadata", "{\"name\":\"N\",\"metadata\":{\"a\":tru}}"),
        ("a form", "name=N&age=1"),
        ("XML", "<name>N</name>"),
    ]
    .map(|(case, body)| (case, body.as_bytes().to_vec()))
    .into();
    bodies.extend([
        ("a byte that is no UTF-8", b"{\"name\":\"\xff\"}".to_vec()),
        ("a surrogate in UTF-8", b"{\"name\":\"\xed\xa0\x80\"}".to_vec()),
        ("an overlong slash", b"{\"name\":\"\xc0\xaf\"}".to_vec()),
        ("UTF-8 cut off", b"{\"name\":\"\xe2\x82\"}".to_vec()),
        ("UTF-16", b"{\0\"\0n\0a\0m\0e\0\"\0:\0\"\0N\0\"\0}\0".to_vec()),
        ("no UTF-8 in metadata", b"{\"name\":\"N\",\"metadata\":{\"a\":\"\xff\"}}".to_vec()),
        ("random bytes", (0..=255).collect()),
    ]);
    bodies
}

#[tokio::test]
async fn an_empty_body_is_called_empty() {
    let setting = Setting::new().await;
    for (method, path, _) in setting.readers() {
        for body in ["", " ", "\r\n\t\n"] {
            let answer =
                refused(body, setting.send(&method, &path, body).await, 400, "malformed_json");
            assert_eq!(answer.json()["detail"], "The body is empty.", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_json_is_malformed_wherever_a_body_is_read() {
    let setting = Setting::new().await;
    for (method, path, _) in setting.readers() {
        for (case, body) in malformed() {
            let case = format!("{case}: {method} {path}");
            let answer = setting.send(&method, &path, body).await;
            refused_for(&case, answer, 400, "malformed_json", &[]);
        }
    }
}

#[tokio::test]
async fn depth_does_no_harm() {
    let setting = Setting::new().await;
    let open = |count| "[".repeat(count);
    let close = |count| "]".repeat(count);
    let nested = |count| open(count) + &close(count);
    for (case, body, status, code) in [
        ("open", open(100_000), 400, "malformed_json"),
        ("open objects", "{\"a\":".repeat(40_000), 400, "malformed_json"),
        ("open in a field", format!("{{\"name\":{}", open(100_000)), 400, "malformed_json"),
        ("closed", nested(100_000), 422, "validation_failed"),
        ("in a field", format!("{{\"name\":{}}}", nested(100_000)), 422, "validation_failed"),
        ("unknown", format!("{{\"x\":{}}}", nested(100_000)), 422, "validation_failed"),
        (
            "metadata",
            format!("{{\"name\":\"N\",\"metadata\":{{\"a\":{}}}}}", nested(100_000)),
            422,
            "validation_failed",
        ),
    ] {
        for path in ["/api/patients", "/api/doctors", "/api/mappings"] {
            let answer = setting.send(&hyper::Method::POST, path, body.clone()).await;
            refused(&format!("{case}: {path}"), answer, status, code);
        }
    }
    // As deep as the size limit of metadata allows: stored and returned, or refused.
    for depth in [10, 100, 101, 128, 200, 4000] {
        let body = format!("{{\"name\":\"N\",\"metadata\":{{\"a\":{}}}}}", nested(depth));
        let answer = setting.send(&hyper::Method::POST, "/api/patients", body).await;
        if answer.status == 201 {
            let path = format!("/api/patients/{}", answer.id());
            let shown = setting.user.get(&path).await.expect(200);
            assert!(String::from_utf8(shown.body.to_vec()).unwrap().contains(&nested(depth)));
        } else {
            refused_for("depth", answer, 422, "validation_failed", &["metadata"]);
            assert!(depth > 10);
        }
    }
    setting.user.get("/api/patients").await.expect(200);
}

#[tokio::test]
async fn json_that_is_no_object_is_valid_json_but_no_body() {
    let setting = Setting::new().await;
    for (method, path, _) in setting.readers() {
        for body in
            ["[]", "[{\"name\":\"N\"}]", "\"name\"", "1", "-1.5e3", "true", "null", " null "]
        {
            let case = format!("{body}: {method} {path}");
            let answer = setting.send(&method, &path, body).await;
            refused_for(&case, answer, 422, "validation_failed", &[]);
        }
    }
}

#[tokio::test]
async fn white_space_and_order_are_free() {
    let setting = Setting::new().await;
    let body = "\r\n\t { \"age\" : 30 ,\n\"name\":\"\\u004e\" } \n";
    let answer = setting.send(&hyper::Method::POST, "/api/patients", body).await.expect(201);
    assert_eq!((&answer.json()["name"], &answer.json()["age"]), (&"N".into(), &30.into()));
}
