//! The servers: a socket that responds without parsing, bare hyper, and the service. Each has one
//! thread for its connections.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use healthcare_backend::app::App;
use healthcare_backend::config::Config;
use healthcare_backend::secret::Secret;
use healthcare_backend::server;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot::{self, Receiver, Sender};

use crate::fixture::{self, Fixture};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server on its own thread, until dropped.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The cost of the path through two sockets.
    pub fn floor() -> Self {
        Self::of_connections(|mut socket| {
            Box::pin(async move {
                let mut ignored = [0; 4096];
                while socket.read(&mut ignored).await.is_ok_and(|read| read > 0) {
                    if socket.write_all(ANSWER).await.is_err() {
                        break;
                    }
                }
            })
        })
    }

    /// The cost of hyper on top of it.
    pub fn hyper() -> Self {
        Self::of_connections(|socket| {
            Box::pin(async move {
                // Connection errors do not matter here.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service_fn(two_bytes))
                    .await;
            })
        })
    }

    pub fn service(app: Arc<App>) -> Self {
        Self::start(async |listener, stopped| {
            let stopped = async { drop(stopped.await) };
            server::serve(listener, app, stopped).await.unwrap();
        })
    }

    fn of_connections(serve: fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self::start(async move |listener, mut stopped| {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = &mut stopped => break,
                };
                let (socket, _) = accepted.unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::spawn(serve(socket));
            }
        })
    }

    fn start(serve: impl AsyncFnOnce(TcpListener, Receiver<()>) + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (started, address) = oneshot::channel();
        let thread = thread::spawn(move || {
            fixture::runtime().block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, stopped).await;
            });
        });
        let address = address.blocking_recv().unwrap();
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The service with its default settings, except for a single worker.
pub fn app(fixture: &Fixture) -> Arc<App> {
    let config = Config::from_variables([("WORKERS".to_owned(), "1".to_owned())]).unwrap();
    let secret = Secret::new("s".repeat(32)).unwrap();
    let app = App::new(config, fixture.connect_options().clone(), &secret).unwrap();
    app.use_database();
    Arc::new(app)
}

async fn two_bytes(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
}
