//! The page on the API: what it loads, who is sent to it, and that it can be taken away. That it
//! works is tested with a browser, in `tests/docs/page.mjs`.

use std::sync::Arc;

use hyper::Method;

use crate::access::table::TABLE;
use crate::harness::{Client, TestDb, TestServer};

/// What clients send as `Accept` when a person opens an address.
const BROWSERS: [&str; 3] = [
    // Chrome
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;\
     q=0.8,application/signed-exchange;v=b3;q=0.7",
    // Firefox and Safari
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    // Lynx
    "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01",
];

const OTHERS: [&str; 5] = [
    // curl, Postman, fetch
    "*/*",
    // axios
    "application/json, text/plain, */*",
    "application/json",
    "application/json, text/html",
    "image/png",
];

async fn without_docs() -> TestServer {
    let database = Arc::new(TestDb::new().await);
    TestServer::start_with(database, &[("DOCS", "off")]).await
}

#[tokio::test]
async fn a_browser_is_sent_to_the_page_and_others_get_json() {
    let server = TestServer::start().await;
    for path in ["/", "/api", "/api/"] {
        for accept in BROWSERS {
            let browser = server.anyone().with("accept", accept);
            for method in [Method::GET, Method::HEAD] {
                let answer = browser.send(method, path, None).await.expect(303);
                assert_eq!(answer.header("location"), Some("/docs"), "{accept}");
                assert_eq!(answer.header("vary"), Some("accept"));
            }
        }
        for accept in OTHERS {
            let answer = server.anyone().with("accept", accept).get(path).await.expect(200);
            assert_eq!(answer.json()["links"]["docs"], "/docs", "{accept}");
            assert_eq!(answer.header("vary"), Some("accept"));
        }
        server.anyone().get(path).await.expect(200);
    }
}

/// The paths that the page names in attributes.
fn loaded(page: &str) -> Vec<String> {
    let attributes = ["src=\"", "href=\""].into_iter().flat_map(|name| page.split(name).skip(1));
    attributes.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// A file of the service, asked for again with its tag.
async fn kept(client: &Client, path: &str) {
    let answer = client.get(path).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
    let again = client.with("if-none-match", answer.header("etag").unwrap());
    let again = again.get(path).await.expect(304);
    assert_eq!(again.header("etag"), answer.header("etag"), "{path}");
    assert_eq!(again.header("content-encoding"), None, "{path}");
}

#[tokio::test]
async fn the_page_loads_its_own_files_and_may_load_no_others() {
    let server = TestServer::start().await;
    let anyone = server.anyone();
    let page = anyone.get("/docs").await.expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for source in policy.split([';', ' ']) {
        assert!(!source.contains("unsafe") && !source.contains('*') && !source.contains("http"));
    }
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    // Scripts and styles in the page itself would not run.
    assert!(!page.contains("<style") && !page.contains("<script>"), "{page}");
    let mut files = loaded(&page);
    files.retain(|file| file != "data:,");
    for row in TABLE.iter().filter(|row| row.label.starts_with("/docs/")) {
        assert!(files.iter().any(|file| file == row.label), "{} is not used", row.label);
        kept(&anyone, row.label).await;
    }
    for file in files {
        anyone.get(&file).await.expect(200);
    }
    kept(&anyone, "/docs").await;
}

#[tokio::test]
async fn large_files_of_the_page_are_compressed() {
    let server = TestServer::start().await;
    let mut sum = 0;
    for row in TABLE.iter().filter(|row| row.label.starts_with("/docs/")) {
        let file = server.anyone().get(row.label).await.expect(200);
        let compressed = file.header("content-encoding") == Some("gzip");
        // RFC 1952, section 2.3.1.
        assert_eq!(compressed, file.body.starts_with(&[0x1F, 0x8B]), "{}", row.label);
        assert!(compressed || file.body.len() < 8 << 10, "{}", row.label);
        sum += file.body.len();
    }
    assert!(sum < 1 << 20, "{sum} bytes of the program");
}

#[tokio::test]
async fn it_can_be_taken_away() {
    let server = without_docs().await;
    for row in TABLE.iter().filter(|row| row.label.starts_with("/docs")) {
        for method in [Method::GET, Method::OPTIONS] {
            let answer = server.anyone().send(method, row.label, None).await;
            answer.expect_error(404, "not_found");
        }
    }
    let index = server.anyone().with("accept", BROWSERS[0]).get("/").await.expect(200).json();
    assert_eq!(index["links"].get("docs"), None);
    assert_eq!(index["links"]["patients"], "/api/patients");
}
