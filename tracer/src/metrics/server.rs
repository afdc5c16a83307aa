//! The thread `metrics`: it listens, and serves a bounded number of connections, each for a bounded
//! time. It has no capability and never touches what the event loop owns.

use std::{collections::VecDeque, io, sync::Arc, thread, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    runtime::{self, Runtime},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    address::{Door, Listener, SocketFile},
    http,
    page::Pages,
    snapshot::Shared,
};
use crate::{http::Stream, source::keep_nothing};

/// Connections at a time. One more ends the oldest: a scraper takes milliseconds, so the oldest is
/// one that stalled.
const CONNECTIONS: usize = 16;
/// From a connection's begin to its end; Prometheus itself waits for 10 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of `accept()`: descriptors may be short for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts it; the file of a unix socket is the caller's to keep.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(door: Door, shared: Arc<Shared>) -> io::Result<Option<SocketFile>> {
    start_with(door, shared, PATIENCE)
}

fn start_with(
    door: Door,
    shared: Arc<Shared>,
    patience: Duration,
) -> io::Result<Option<SocketFile>> {
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let pages = Arc::new(Pages::new(shared));
    let (listening, file) = Listening::of(door.listener, &runtime)?;
    thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            keep_nothing();
            runtime.block_on(serve(&listening, &pages, patience));
        })?;
    Ok(file)
}

async fn serve(listening: &Listening, pages: &Arc<Pages>, patience: Duration) {
    let mut open: VecDeque<JoinHandle<_>> = VecDeque::new();
    loop {
        let Ok(stream) = listening.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|one| !one.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let pages = Arc::clone(pages);
        let served = async move { http::serve(stream, &pages).await };
        open.push_back(tokio::spawn(timeout(patience, served)));
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn of(listener: Listener, runtime: &Runtime) -> io::Result<(Self, Option<SocketFile>)> {
        let _within = runtime.enter();
        Ok(match listener {
            Listener::Tcp(one) => (Self::Tcp(TcpListener::from_std(one)?), None),
            Listener::Unix(one, file) => (Self::Unix(UnixListener::from_std(one)?), Some(file)),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use super::*;
    use crate::metrics::{
        address::{Address, Listener, parse},
        tests::{Seen, with_upstreams},
    };

    /// Serves so many upstreams; returns where, and what is published there.
    fn served(upstreams: u32, patience: Duration) -> (std::net::SocketAddr, Arc<Shared>) {
        let Ok(address @ Address::Tcp(_)) = parse("127.0.0.1:0") else {
            panic!("no address");
        };
        let door = Door::open(&address).unwrap();
        let Listener::Tcp(listener) = &door.listener else {
            panic!("no TCP listener");
        };
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new(with_upstreams(upstreams)));
        start_with(door, Arc::clone(&shared), patience).unwrap();
        (address, shared)
    }

    fn asked(address: std::net::SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(head).unwrap();
        stream
    }

    fn read(mut stream: TcpStream) -> Seen {
        let mut text = String::new();
        // A connection that was given up is cut short.
        let _ = stream.read_to_string(&mut text);
        Seen::of(&text)
    }

    #[test]
    fn who_never_reads_a_large_page_holds_up_no_other() {
        // Megabytes: more than the sockets' buffers hold.
        let (address, _shared) = served(1000, PATIENCE);
        let is_shown = (0..3).any(|_| {
            let stalled: Vec<TcpStream> = (0..40).map(|_| asked(address)).collect();
            let own = read(asked(address));
            assert!(own.is_whole && own.bytes > 2_000_000, "{own:?}");
            // The last of them was not given up until now. A machine that is slower than
            // `PATIENCE` shows nothing.
            let last = stalled.into_iter().next_back();
            last.is_some_and(|last| read(last).is_whole)
        });
        assert!(is_shown, "each time the others were given up first");
    }

    #[test]
    fn who_sends_nothing_is_given_up() {
        let (address, _shared) = served(1, Duration::from_millis(50));
        let mut silent = TcpStream::connect(address).unwrap();
        let mut slow = TcpStream::connect(address).unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
        for stream in [&mut silent, &mut slow] {
            // It ends: by an end, or by a reset.
            assert!(!stream.read(&mut [0]).is_ok_and(|length| length > 0));
        }
        assert!(read(asked(address)).is_whole);
    }
}
