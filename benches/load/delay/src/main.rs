//! A proxy that adds latency between a program and PostgreSQL: every byte arrives a number of
//! microseconds later, in both directions and in order.
//!
//! `delay SOCKET MICROSECONDS` listens on a free loopback port, and prints it.

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes and the time at which they are due.
type Delayed = (Instant, Vec<u8>);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(socket), Some(delay)) = (arguments.next(), arguments.next()) else {
        return Err("usage: delay SOCKET MICROSECONDS".into());
    };
    let delay = Duration::from_micros(delay.parse()?);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("listening address={}", listener.local_addr()?);
    for client in listener.incoming() {
        let (client, server) = (client?, UnixStream::connect(&socket)?);
        client.set_nodelay(true)?;
        forward(client.try_clone()?, server.try_clone()?, delay, |server| {
            let _ = server.shutdown(Shutdown::Write);
        });
        forward(server, client, delay, |client: &TcpStream| {
            let _ = client.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

/// One direction of a connection: a thread that reads, and one that writes when bytes are due.
fn forward<R, W>(from: R, to: W, delay: Duration, close: fn(&W))
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (sender, receiver) = channel();
    thread::spawn(move || read(from, delay, &sender));
    thread::spawn(move || {
        let mut to = to;
        // The other side may be closed already.
        let _ = write(&mut to, &receiver);
        close(&to);
    });
}

fn read(mut from: impl Read, delay: Duration, sender: &Sender<Delayed>) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if sender.send((Instant::now() + delay, bytes)).is_err() {
            return;
        }
    }
}

fn write(to: &mut impl Write, receiver: &Receiver<Delayed>) -> io::Result<()> {
    for (due, bytes) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&bytes)?;
    }
    Ok(())
}
