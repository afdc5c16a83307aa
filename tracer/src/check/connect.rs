//! One try of a peer, on a thread in the worker's place: a connection, on demand a TLS handshake
//! or one HEAD request.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt},
};

use super::tls::{self, Tls};
use crate::process::Guest;

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Address {
    Tcp(SocketAddr),
    /// A path; `@` begins an abstract name.
    Unix(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Attempt {
    pub(super) address: Address,
    /// The address that the connection leaves from.
    pub(super) bind: Option<IpAddr>,
    pub(super) tls: Option<Tls>,
    /// Send a HEAD request with this host.
    pub(super) head: Option<String>,
    /// After it keep the connection open for so long, and see whether the peer closes it.
    pub(super) idle: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Connected, and the rest went well.
    Well,
    /// No socket could be bound to the address to leave from.
    Unbound(i32),
    /// `connect()` failed.
    Failed(i32),
    /// Neither an answer nor an error in this time.
    Silent,
    /// The handshake: how it ended instead.
    Tls(tls::Reply),
    /// An error or silence (`None`) once connected, in the handshake or before an answer.
    Broken(Option<i32>),
    /// The answer to HEAD, where it says that something is wrong: its status.
    Status(u16),
    /// No HTTP: how the answer begins.
    NotHttp(Vec<u8>),
    /// Closed before any answer.
    Closed,
    /// The idle connection was closed after this time.
    Idle(Duration),
    /// Nothing could be tried: tracer's own limits.
    Untried(String),
}

/// Tries a peer for so long.
pub(super) fn attempt(attempt: &Attempt, guest: Option<&Guest>, patience: Duration) -> Outcome {
    let open = || match &attempt.address {
        Address::Tcp(address) => Ok(tcp(*address, attempt.bind)),
        Address::Unix(path) => Ok(unix(path)),
    };
    let opened = match guest {
        Some(guest) => guest.with_rights(open),
        None => open(),
    };
    let (socket, is_pending) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(outcome)) => return outcome,
        Err(error) => return Outcome::Untried(error.to_string()),
    };
    if is_pending && let Err(outcome) = connected(&socket, patience) {
        return outcome;
    }
    let spoken = match &attempt.address {
        Address::Tcp(_) => {
            let stream = TcpStream::from(socket);
            let set = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(patience)))
                .and_then(|()| stream.set_write_timeout(Some(patience)));
            set.and_then(|()| {
                speak(attempt, stream, patience, |stream, left| {
                    stream.set_read_timeout(Some(left))
                })
            })
        }
        Address::Unix(_) => {
            let stream = UnixStream::from(socket);
            let set = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(patience)))
                .and_then(|()| stream.set_write_timeout(Some(patience)));
            set.and_then(|()| {
                speak(attempt, stream, patience, |stream, left| {
                    stream.set_read_timeout(Some(left))
                })
            })
        }
    };
    spoken.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Outcome::Broken(None),
        io::ErrorKind::UnexpectedEof => Outcome::Closed,
        _ => Outcome::Broken(Some(error.raw_os_error().unwrap_or(libc::EIO))),
    })
}

type Opened = Result<(OwnedFd, bool), Outcome>;

/// A socket that connects; `true`: that is not decided yet.
fn tcp(address: SocketAddr, bind: Option<IpAddr>) -> Opened {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family)?;
    if let Some(ip) = bind.filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
        let bound = rustix::net::bind(&socket, &SocketAddr::new(ip, 0));
        bound.map_err(|error| Outcome::Unbound(error.raw_os_error()))?;
    }
    begun(rustix::net::connect(&socket, &address), socket)
}

fn unix(path: &str) -> Opened {
    let name = path.strip_prefix('@').map(str::as_bytes);
    let address = match name {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(path),
    };
    let address = address.map_err(|error| Outcome::Failed(error.raw_os_error()))?;
    let socket = socket(AddressFamily::UNIX)?;
    begun(rustix::net::connect(&socket, &address), socket)
}

fn socket(family: AddressFamily) -> Result<OwnedFd, Outcome> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).map_err(|error| match error {
        Errno::AFNOSUPPORT => Outcome::Failed(error.raw_os_error()),
        error => Outcome::Untried(error.to_string()),
    })
}

fn begun(result: rustix::io::Result<()>, socket: OwnedFd) -> Opened {
    match result {
        Ok(()) => Ok((socket, false)),
        Err(Errno::INPROGRESS) => Ok((socket, true)),
        Err(error) => Err(Outcome::Failed(error.raw_os_error())),
    }
}

/// Waits until it is connected.
fn connected(socket: &OwnedFd, patience: Duration) -> Result<(), Outcome> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Err(Outcome::Silent),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Outcome::Untried(error.to_string())),
        }
    }
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(Outcome::Failed(error.raw_os_error())),
    }
}

fn speak<S: Read + Write>(
    attempt: &Attempt,
    mut stream: S,
    patience: Duration,
    set_timeout: impl Fn(&S, Duration) -> io::Result<()>,
) -> io::Result<Outcome> {
    if let Some(tls) = &attempt.tls {
        return Ok(match tls::probe(&mut stream, tls)? {
            tls::Reply::Hello => Outcome::Well,
            reply => Outcome::Tls(reply),
        });
    }
    let Some(host) = &attempt.head else {
        return Ok(Outcome::Well);
    };
    let kept = if attempt.idle.is_some() {
        "keep-alive"
    } else {
        "close"
    };
    let request = format!(
        "HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tracer-check\r\nConnection: {kept}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let head = head(&mut stream, patience)?;
    if head.is_empty() {
        return Ok(Outcome::Closed);
    }
    let Some(status) = status(&head) else {
        return Ok(Outcome::NotHttp(head[..head.len().min(16)].to_vec()));
    };
    if matches!(status, 400 | 502..=504) {
        return Ok(Outcome::Status(status));
    }
    let Some(idle) = attempt.idle.filter(|_| !closes(&head)) else {
        return Ok(Outcome::Well);
    };
    let began = Instant::now();
    let mut buffer = [0; 4096];
    while let Some(left) = idle.checked_sub(began.elapsed()) {
        set_timeout(&stream, left.max(Duration::from_millis(1)))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Outcome::Idle(began.elapsed())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return Ok(Outcome::Idle(began.elapsed())),
        }
    }
    Ok(Outcome::Well)
}

/// The head of an answer, or as much as comes of it.
fn head(stream: &mut impl Read, patience: Duration) -> io::Result<Vec<u8>> {
    const LONGEST: usize = 64 << 10;
    let end = Instant::now() + patience;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while head.len() < LONGEST && Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => head.extend(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if head.is_empty() => return Err(error),
            Err(_) => break,
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n")
            || !b"HTTP/".starts_with(&head[..head.len().min(5)])
        {
            break;
        }
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// Does it say that it closes the connection?
fn closes(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_lowercase();
    head.starts_with("http/1.0") || head.contains("\r\nconnection: close")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn plain(address: Address) -> Attempt {
        Attempt {
            address,
            bind: None,
            tls: None,
            head: None,
            idle: None,
        }
    }

    /// A listener that answers one connection with this.
    fn answering(answer: &'static [u8]) -> (Address, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        (address, serve)
    }

    fn headed(answer: &'static [u8]) -> Outcome {
        let (address, serve) = answering(answer);
        let asked = Attempt {
            head: Some("a".to_owned()),
            ..plain(address)
        };
        let outcome = attempt(&asked, None, PATIENCE);
        serve.join().unwrap();
        outcome
    }

    #[test]
    fn a_connection_is_made_or_its_error_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tried = plain(Address::Tcp(address));
        assert_eq!(attempt(&tried, None, PATIENCE), Outcome::Well);
        drop(listener);
        assert_eq!(
            attempt(&tried, None, PATIENCE),
            Outcome::Failed(libc::ECONNREFUSED)
        );
        let missing = plain(Address::Unix("/nonexistent/a.sock".to_owned()));
        assert_eq!(
            attempt(&missing, None, PATIENCE),
            Outcome::Failed(libc::ENOENT)
        );
        let bound = Attempt {
            bind: Some("192.0.2.1".parse().unwrap()),
            ..tried
        };
        assert_eq!(
            attempt(&bound, None, PATIENCE),
            Outcome::Unbound(libc::EADDRNOTAVAIL)
        );
    }

    #[test]
    fn an_answer_to_head_is_judged_by_its_first_line() {
        assert_eq!(
            headed(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n"),
            Outcome::Well
        );
        assert_eq!(headed(b"HTTP/1.1 503 No\r\n\r\n"), Outcome::Status(503));
        assert_eq!(headed(b""), Outcome::Closed);
        assert_eq!(headed(b"\x15\x03\x01"), Outcome::NotHttp(vec![21, 3, 1]));
    }

    #[test]
    fn a_plain_port_is_known_by_its_answer_to_a_handshake() {
        let (address, serve) = answering(b"HTTP/1.1 400 Bad\r\n\r\n");
        let asked = Attempt {
            tls: Some(Tls {
                name: None,
                has_12: true,
                has_13: true,
                is_h2: false,
            }),
            ..plain(address)
        };
        let outcome = attempt(&asked, None, PATIENCE);
        serve.join().unwrap();
        assert_eq!(outcome, Outcome::Tls(tls::Reply::Other(b"HTTP/".to_vec())));
    }

    #[test]
    fn an_idle_connection_s_end_is_measured() {
        let (address, serve) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let asked = Attempt {
            head: Some("a".to_owned()),
            idle: Some(PATIENCE),
            ..plain(address)
        };
        let outcome = attempt(&asked, None, PATIENCE);
        serve.join().unwrap();
        assert!(
            matches!(outcome, Outcome::Idle(after) if after < PATIENCE),
            "{outcome:?}"
        );
    }
}
