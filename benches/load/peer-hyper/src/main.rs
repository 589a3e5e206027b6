//! Responds to every request with two bytes from memory: the upper bound of hyper here.
//!
//! One current-thread runtime per core; one acceptor distributes the connections in turn.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let workers = (0..thread::available_parallelism()?.get())
        .map(|_| start_worker())
        .collect::<Result<Vec<_>, _>>()?;
    println!("listening address={}", listener.local_addr()?);
    for worker in workers.iter().cycle() {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        worker.send(socket)?;
    }
    Ok(())
}

fn start_worker() -> std::io::Result<UnboundedSender<TcpStream>> {
    let (sockets, incoming) = unbounded_channel();
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    thread::spawn(move || runtime.block_on(work(incoming)));
    Ok(sockets)
}

async fn work(mut incoming: UnboundedReceiver<TcpStream>) {
    while let Some(socket) = incoming.recv().await {
        tokio::spawn(async move {
            if let Ok(socket) = tokio::net::TcpStream::from_std(socket) {
                // A client that disconnects does not matter here.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service_fn(answer))
                    .await;
            }
        });
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
}
