//! The public listener, and its end, at which no client may lose a request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Connections that the system completes before they are accepted: a burst of clients. The system's
/// own limit, `net.core.somaxconn`, may be lower.
const BACKLOG: u32 = 4096;
/// How long handshakes that have begun may take when the listener is closed: longer than nearly any
/// round trip. Whoever connects meanwhile is refused when it tries again, which is after a second.
const LAST_HANDSHAKES: Duration = Duration::from_millis(200);
/// The pause after a failed accept: the process is probably out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Logs that a connection could not be accepted, and pauses before the next is tried.
pub async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection cannot be accepted");
    sleep(ACCEPT_PAUSE).await;
}

/// Closes a listener, and hands over what has connected, which its end would reset: clients that
/// are told to close their connections connect again at just this moment.
pub async fn close(listener: TcpListener, mut hand_over: impl FnMut(TcpStream, SocketAddr)) {
    // Where this cannot be done, who connects between the last look and the end is reset.
    if let Err(error) = ignore_new_clients(&listener) {
        tracing::debug!(%error, "new clients cannot be kept away from a listener that ends");
    }
    let _ = timeout(LAST_HANDSHAKES, async {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => hand_over(socket, peer),
                Err(error) => accept_failed(&error).await,
            }
        }
    })
    .await;
    // The time may be over before all are accepted that there are.
    for (socket, peer) in accept_rest(listener) {
        hand_over(socket, peer);
    }
}

/// What has connected and is not accepted yet.
fn accept_rest(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std();
    let accept = move || {
        let (socket, peer) = listener.as_ref().ok()?.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(socket).ok()?, peer))
    };
    std::iter::from_fn(accept)
}

/// From here on the system drops the first packet of a handshake, and completes those that have
/// begun.
#[cfg(target_os = "linux")]
fn ignore_new_clients(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};

    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // Classic BPF (the kernel's Documentation/networking/filter.rst) sees a packet from its TCP
    // header on, of which byte 13 has the flags (RFC 9293, section 3.1).
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        // Over the next one, unless they are equal.
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn ignore_new_clients(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn whoever_has_connected_when_the_listener_ends_is_handed_over_and_nobody_after_it() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let early = TcpStream::connect(address).await.unwrap();
        let handed_over = RefCell::new(Vec::new());
        let closing = close(listener, |_, peer| handed_over.borrow_mut().push(peer));
        let late = async {
            let connecting = timeout(2 * LAST_HANDSHAKES, TcpStream::connect(address)).await;
            assert!(!matches!(connecting, Ok(Ok(_))), "{connecting:?}");
        };
        tokio::join!(closing, late);
        assert_eq!(*handed_over.borrow(), [early.local_addr().unwrap()]);
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn all_that_have_connected_are_accepted_however_many() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..300 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(accept_rest(listener).count(), clients.len());
    }
}
