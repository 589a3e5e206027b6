//! A client over real sockets. It checks the invariants of every response.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::description;

#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
    headers: HeaderMap,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None, headers: HeaderMap::new() }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// Adds a header to every request.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        let value = HeaderValue::from_str(value).unwrap();
        client.headers.append(HeaderName::from_static(name), value);
        client
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, None).await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.send(Method::DELETE, target, None).await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(Method::POST, target, Some(body.to_string().into())).await
    }

    pub async fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(Method::PUT, target, Some(body.to_string().into())).await
    }

    pub async fn patch(&self, target: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, target, Some(body.to_string().into())).await
    }

    /// A body is sent as JSON unless the client has a content type of its own.
    pub async fn send(&self, method: Method, target: &str, body: Option<Bytes>) -> Answer {
        let mut request = Request::builder().method(&method).uri(target);
        let headers = request.headers_mut().unwrap();
        headers.insert("host", HeaderValue::from_str(&self.address.to_string()).unwrap());
        headers.extend(self.headers.clone());
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            headers.insert(AUTHORIZATION, value);
        }
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request.body(Full::new(body.unwrap_or_default())).unwrap();
        let answer = self.exchange(request).await;
        answer.check(&method);
        answer
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        let target = request.uri().to_string();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { target, status: head.status, headers: head.headers, body }
    }
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    target: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The response, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// The response, which must be this error.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["code"], code, "{answer:?}");
        answer
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The id of the resource in the body.
    #[track_caller]
    pub fn id(&self) -> i64 {
        #[derive(serde::Deserialize)]
        struct Resource {
            id: i64,
        }
        // The rest may contain numbers that fit no type.
        serde_json::from_slice::<Resource>(&self.body).unwrap().id
    }

    /// The names of the fields at fault.
    #[track_caller]
    pub fn bad_fields(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().unwrap();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }

    /// The target of the `Link` to the next page.
    pub fn next_page(&self) -> Option<String> {
        let link = self.header("link")?;
        let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        Some(target.unwrap().to_owned())
    }

    /// Every answer is as the API's description says, and has what a schema cannot say.
    #[track_caller]
    fn check(&self, method: &Method) {
        let Self { target, status, headers, body } = self;
        if let Err(error) = description::check(method, target, status.as_u16(), headers, body) {
            panic!("{error}: {method} {self:?}");
        }
        assert_ne!(*status, 500, "{self:?}");
        if !body.is_empty() && !status.is_success() {
            let problem = self.json();
            assert_eq!(problem["request_id"], self.header("x-request-id").unwrap(), "{self:?}");
        }
    }
}
