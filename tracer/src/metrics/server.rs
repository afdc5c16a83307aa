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
    http::{self, Stream},
    page::Pages,
    snapshot::Shared,
};
use crate::source::keep_nothing;

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
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let pages = Arc::new(Pages::new(shared));
    let (listening, file) = Listening::of(door.listener, &runtime)?;
    thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            keep_nothing();
            runtime.block_on(serve(&listening, &pages));
        })?;
    Ok(file)
}

async fn serve(listening: &Listening, pages: &Arc<Pages>) {
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
        open.push_back(tokio::spawn(timeout(PATIENCE, served)));
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
