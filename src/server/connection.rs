//! One connection, from its TLS handshake to its end.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::socket::{Phase, Socket};
use crate::app::Worker;
use crate::http::response::{Body, Failed};
use crate::service;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// hyper's buffer for the head of a request, in bytes: a target that is too long still fits, so that
/// it gets its proper answer.
const MAX_BUFFER: usize = 128 << 10;

/// Serves a connection until its client closes it, it fails, or the service stops.
pub async fn serve(worker: Arc<Worker>, socket: TcpStream, peer: IpAddr, stop: &CancellationToken) {
    // Answers are written whole; waiting for more would only delay them.
    let _ = socket.set_nodelay(true);
    let Some(tls) = worker.app.config.tls.clone() else {
        return serve_http(worker, socket, peer, stop).await;
    };
    let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(socket));
    if let Ok(Ok(socket)) = handshake.await {
        serve_http(worker, socket, peer, stop).await;
    }
}

async fn serve_http<S>(worker: Arc<Worker>, stream: S, peer: IpAddr, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Arc::new(Phase::new());
    let socket = Socket::new(stream, Arc::clone(&phase));
    let service = service_fn(move |request| {
        phase.begin();
        let answering = Answering(Arc::clone(&phase));
        let answer = service::call(Arc::clone(&worker), peer, request);
        async move {
            answer
                .await
                .map(|response| response.map(|body| AnswerBody { body, _answering: answering }))
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    // How a connection ends is the client's affair; what happened to its requests is in the log.
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// A request that is being answered.
struct Answering(Arc<Phase>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A body that knows when its answer has ended: hyper drops it then.
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
