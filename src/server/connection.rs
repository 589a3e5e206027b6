//! One client connection, from its TLS handshake to its end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::phase::Phase;
use super::socket::{LARGE_HEAD, Socket};
use crate::auth::client_address;
use crate::http::budget::{Allowance, Holder};
use crate::http::response::{Body, Failed};
use crate::http::{Request, Response, problem};
use crate::metrics::Gauge;
use crate::service::{self, Listener, Peer};
use crate::worker::Worker;

/// The timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is served after the service has stopped listening: a client may have sent
/// a request before it could know, and that is answered.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// The most of a response that rustls buffers for a client that does not read, in bytes: one
/// record.
const MAX_TLS_BUFFER: usize = 16 << 10;

/// Serves a connection until the client closes it, it fails, or the service stops.
pub async fn serve(worker: Arc<Worker>, socket: TcpStream, peer: Peer, stop: &CancellationToken) {
    // Responses are written whole, so Nagle's algorithm would only delay them.
    let _ = socket.set_nodelay(true);
    let tls = worker.app.config.tls.clone().filter(|_| peer.listener == Listener::Public);
    let Some(tls) = tls else {
        return serve_http(worker, socket, peer, stop).await;
    };
    // Boxed, or every connection's task would be as large as one with TLS.
    Box::pin(serve_tls(worker, tls, socket, peer, stop)).await;
}

async fn serve_tls(
    worker: Arc<Worker>,
    tls: Arc<ServerConfig>,
    socket: TcpStream,
    peer: Peer,
    stop: &CancellationToken,
) {
    let handshaking = worker.metrics.connections.handshaking.count();
    let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(socket));
    let accepted = handshake.await;
    drop(handshaking);
    if let Ok(Ok(mut socket)) = accepted {
        socket.get_mut().1.set_buffer_limit(Some(MAX_TLS_BUFFER));
        serve_http(worker, socket, peer, stop).await;
    }
}

async fn serve_http<S>(worker: Arc<Worker>, stream: S, peer: Peer, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The peer's network, because the client that a proxy forwards for is named in the head.
    let network = Holder::Network(client_address::network(peer.address));
    let large_heads = worker.app.large_heads.allowance(network);
    let answering = Arc::clone(&worker.metrics.connections.answering);
    let answering_worker = Arc::clone(&worker);
    let answer = move |request| service::serve(Arc::clone(&answering_worker), peer, request);
    if let Some(refused) = serve_stream(stream, answer, large_heads, answering, stop).await {
        let answer = problem::refusal(&worker.app.request_ids.next(None));
        Box::pin(refused.refuse(&answer)).await;
    }
}

/// Serves HTTP on a stream until either side closes it. Returns the socket if a head is too large
/// for the room that its client has now.
async fn serve_stream<S, F, A>(
    stream: S,
    answer: F,
    large_heads: Allowance,
    answering: Arc<Gauge>,
    stop: &CancellationToken,
) -> Option<Socket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request) -> A,
    A: Future<Output = Result<Response, Infallible>>,
{
    let phase = Arc::new(Phase::new(answering));
    let socket = Socket::new(stream, Arc::clone(&phase), large_heads);
    let socket_phase = Arc::clone(&phase);
    let service = service_fn(move |request| {
        phase.begin();
        let answering = Answering(Arc::clone(&phase));
        let close = phase.had_large_head();
        let answer = answer(request);
        async move {
            answer.await.map(|mut response| {
                if close {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response.map(|body| AnswerBody { body, _answering: answering })
            })
        }
    });
    let mut connection = http1::Builder::new()
        // It holds a target beyond our limit, so that such a request gets its proper response.
        // hyper also polls for the next part of a body while less than this is unwritten.
        .max_buf_size(LARGE_HEAD)
        // A client may close its sending side after a complete request and still gets the response.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    // Connection errors are the client's affair; the outcome of its requests is in the log.
    let grace_is_over = async {
        stop.cancelled().await;
        sleep(STOP_GRACE).await;
    };
    let ended = tokio::select! {
        biased;
        ended = &mut connection => Some(ended),
        () = grace_is_over => None,
    };
    if ended.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        let _ = (&mut connection).await;
    }
    socket_phase.refused_large_head().then(|| connection.into_parts().io.into_inner())
}

/// Marks a request as in progress until dropped.
struct Answering(Arc<Phase>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A body that marks the end of its response: hyper drops it then.
struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures_util::stream;
    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::http::body;
    use crate::http::budget::Budget;
    use crate::http::response::{empty, json_bytes};

    /// A connection whose responses take as long as `x-seconds` says, and are empty, whole, or
    /// streamed.
    fn connect() -> DuplexStream {
        let (client, server) = duplex(1 << 16);
        let answer = async |request: Request| {
            let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
            let seconds = header("x-seconds").unwrap_or("0").parse().unwrap();
            sleep(Duration::from_secs(seconds)).await;
            Ok(match request.uri().path() {
                "/empty" => empty(StatusCode::OK),
                "/whole" => json_bytes(StatusCode::OK, "whole"),
                "/echo" => {
                    let allowance = Arc::new(Budget::default()).allowance(Holder::Anyone);
                    let (body, _) = body::read(request, 100, &allowance, 0).await.unwrap();
                    json_bytes(StatusCode::OK, body)
                }
                _ => {
                    let parts = ["par", "ts"].map(|part| Ok(Bytes::from_static(part.as_bytes())));
                    let mut response = empty(StatusCode::OK);
                    *response.body_mut() = Body::Parts(Box::pin(stream::iter(parts)));
                    response
                }
            })
        };
        let large_heads = Arc::new(Budget::default()).allowance(Holder::Anyone);
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            serve_stream(server, answer, large_heads, Arc::default(), &stop).await;
        });
        client
    }

    /// Each kind of request and response that keeps the connection open: the request, what is sent
    /// a second later, and how the response ends.
    const EXCHANGES: [(&str, &str, &str, &str); 6] = [
        ("GET /empty", "\r\n", "", "\r\n\r\n"),
        ("GET /whole", "\r\n", "", "whole"),
        ("HEAD /whole", "\r\n", "", "\r\n\r\n"),
        ("GET /parts", "\r\n", "", "0\r\n\r\n"),
        ("POST /whole", "content-length: 4\r\n\r\nbody", "", "whole"),
        (
            "POST /echo",
            "content-type: application/json\r\ncontent-length: 4\r\n\r\n",
            "body",
            "body",
        ),
    ];

    async fn ask(client: &mut DuplexStream, line: &str, rest: [&str; 2], seconds: u64) {
        let [now, later] = rest;
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\nx-seconds: {seconds}\r\n{now}");
        client.write_all(head.as_bytes()).await.unwrap();
        if !later.is_empty() {
            sleep(Duration::from_secs(1)).await;
            client.write_all(later.as_bytes()).await.unwrap();
        }
    }

    async fn read_answer(client: &mut DuplexStream, end: &str) {
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            answer.push(client.read_u8().await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_falls_silent_after_an_answer_is_closed_in_75_seconds() {
        for (line, now, later, end) in EXCHANGES {
            // Less than the head timeout, more than it, and more than the idle timeout.
            for answering in [0, 6, 200] {
                let mut client = connect();
                // The idle timeout starts again after the second response.
                for _ in 0..2 {
                    ask(&mut client, line, [now, later], answering).await;
                    read_answer(&mut client, end).await;
                    sleep(Duration::from_secs(70)).await;
                }
                let mut more = Vec::new();
                let read = client.read_to_end(&mut more);
                let waited = timeout(Duration::from_secs(10), async {
                    let started = Instant::now();
                    read.await.unwrap();
                    started.elapsed().as_secs()
                });
                let case = format!("{line} after {answering} s");
                let waited = waited.await.unwrap_or_else(|_| panic!("{case}: stays open"));
                assert!((4..=6).contains(&waited), "{case}: {waited} s");
                assert!(more.is_empty(), "{case}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_closed_its_side_gets_all_answers_and_then_the_end() {
        for (line, now, later, end) in EXCHANGES {
            for answering in [0, 6] {
                let mut client = connect();
                let started = Instant::now();
                for _ in 0..2 {
                    ask(&mut client, line, [now, later], answering).await;
                }
                client.shutdown().await.unwrap();
                for _ in 0..2 {
                    read_answer(&mut client, end).await;
                }
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{line}");
                let taken = started.elapsed().as_secs();
                assert!(taken <= 2 * answering + 2, "{line}: {taken} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_closes_its_side_between_or_within_requests_ends_the_connection_at_once()
    {
        for (line, now, later, end) in EXCHANGES {
            for part in ["", "GET /whole HTTP/1.1\r\nhost"] {
                let mut client = connect();
                ask(&mut client, line, [now, later], 0).await;
                read_answer(&mut client, end).await;
                client.write_all(part.as_bytes()).await.unwrap();
                let started = Instant::now();
                client.shutdown().await.unwrap();
                client.read_to_end(&mut Vec::new()).await.unwrap();
                assert!(started.elapsed() < Duration::from_secs(1), "{line} {part}");
            }
        }
    }
}
