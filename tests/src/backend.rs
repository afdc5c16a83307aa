//! Backends that work, and the protocols they speak; each a thread of the test, in its namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::netns::Netns;

/// The protocol between nginx and a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.x, as `proxy_pass` speaks.
    Http,
    /// FastCGI: begin, params and an empty stdin come, stdout and end go.
    FastCgi,
    /// uwsgi, answered in HTTP.
    Uwsgi,
}

/// A backend that answers every request with 200 and closes the connection.
#[derive(Debug)]
pub struct Backend {
    stop: Arc<AtomicBool>,
    address: String,
    netns: Netns,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Listens on `address` in `netns` and serves.
    pub fn new(netns: &Netns, address: &str, protocol: Protocol) -> Result<Self> {
        let listener = listen(netns, address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&listener, protocol, &stop)
        });
        Ok(Self {
            stop,
            address: netns.listens(address),
            netns: netns.backends().clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // accept() returns for one more connection, and then the thread sees `stop`.
        let address = self.address.clone();
        let woken = self.netns.enter(|| Ok(TcpStream::connect(address)?));
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

/// A listener on `address` in `netns`, with the standard library's backlog.
pub fn listen(netns: &Netns, address: &str) -> Result<TcpListener> {
    let address = netns.listens(address);
    let bind = || TcpListener::bind(&address).with_context(|| format!("cannot bind {address}"));
    netns.backends().enter(bind)
}

fn serve(listener: &TcpListener, protocol: Protocol, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A thread a connection: a client that is slow to send must not hold up the others.
        if let Ok(stream) = stream {
            std::thread::spawn(move || answer(stream, protocol));
        }
    }
}

/// Answers one request. nginx may go away at any moment, which is no error of the backend's.
fn answer(mut stream: TcpStream, protocol: Protocol) {
    let request = match protocol {
        Protocol::Http => read_until(&mut stream, |bytes| {
            bytes.windows(4).any(|end| end == b"\r\n\r\n")
        }),
        // The empty stdin record that ends a request: version 1, type 5, id 1, length 0.
        Protocol::FastCgi => read_until(&mut stream, |bytes| {
            bytes.windows(6).any(|end| end == [1, 5, 0, 1, 0, 0])
        }),
        Protocol::Uwsgi => read_until(&mut stream, |bytes| {
            bytes.len() >= 4
                && bytes.len() >= 4 + usize::from(u16::from_le_bytes([bytes[1], bytes[2]]))
        }),
    };
    if request.is_err() {
        return;
    }
    let text = "Content-Length: 3\r\nConnection: close\r\n\r\nok\n";
    let answer = match protocol {
        Protocol::Http | Protocol::Uwsgi => format!("HTTP/1.1 200 OK\r\n{text}").into_bytes(),
        Protocol::FastCgi => {
            let text = "Status: 200\r\n\r\nok\n";
            let mut answer = vec![1, 6, 0, 1, 0, text.len() as u8, 0, 0];
            answer.extend(text.bytes());
            answer.extend([1, 3, 0, 1, 0, 8, 0, 0]);
            answer.extend([0; 8]);
            answer
        }
    };
    drop(stream.write_all(&answer));
}

fn read_until(stream: &mut TcpStream, complete: impl Fn(&[u8]) -> bool) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0u8; 4096];
    while !complete(&request) {
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => request.extend(&buffer[..length]),
        }
    }
    Ok(())
}
