//! Accept queues of upstreams, as far as their listeners are on this host: the fullest where
//! several share an upstream's connections.

use super::{
    listener::{self, Listings},
    place::{Asked, Namespaces},
    unix_path,
};
use crate::{
    clean,
    event::{Time, Upstream},
};

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Depth {
    /// The upstream, as nginx connects to it.
    pub(crate) upstream: String,
    /// Where its listener is bound.
    pub(crate) listener: String,
    /// Connections that wait for `accept()` (`sk_ack_backlog`).
    pub(crate) queue: u32,
    /// `sk_max_ack_backlog`; full means `queue > limit`.
    pub(crate) limit: u32,
}

/// What is remembered from one round to the next.
#[derive(Debug, Default)]
pub(crate) struct AcceptQueues {
    listings: Listings,
    namespaces: Namespaces,
}

impl AcceptQueues {
    /// The queues of those upstreams that have a listener here; each is seen as this worker sees
    /// it. What cannot be looked at is left out.
    pub(crate) fn look(&mut self, wanted: &[(Upstream, u32)], now: Time) -> Vec<Depth> {
        // One list of sockets answers for all of a namespace.
        let asked = Asked { at: now, now };
        let each = wanted.iter();
        each.filter_map(|(upstream, worker)| self.depth(upstream, *worker, asked))
            .collect()
    }

    fn depth(&mut self, upstream: &Upstream, worker: u32, asked: Asked) -> Option<Depth> {
        // As its other series have it.
        let name = clean::text(&upstream.to_string());
        let (listener, queue, limit) = match upstream {
            Upstream::Inet(address) => {
                let memory = (&mut self.listings, &mut self.namespaces);
                let socket = listener::fullest(worker, *address, memory, asked).ok()??;
                let bound = socket.local.to_string();
                (bound, socket.receive_queue, socket.send_queue)
            }
            Upstream::Unix(path) => {
                let found = unix_path::accepting(worker, path).ok()??;
                (name.clone(), found.queue, found.limit)
            }
        };
        Some(Depth {
            upstream: name,
            listener,
            queue,
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    #[test]
    fn a_queue_is_as_deep_as_connections_wait() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!("tracer-queue-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        let _waiting = (
            TcpStream::connect(address).unwrap(),
            TcpStream::connect(address).unwrap(),
            UnixStream::connect(&path).unwrap(),
        );
        let own = std::process::id();
        let unix_name = path.display().to_string();
        let wanted = [
            (Upstream::Inet(address), own),
            (Upstream::Unix(unix_name.clone()), own),
            (Upstream::Inet("192.0.2.1:80".parse().unwrap()), own),
            (Upstream::Unix("/nowhere.sock".to_owned()), own),
        ];
        let found = AcceptQueues::default().look(&wanted, Time(1));
        std::fs::remove_file(&path).unwrap();
        drop(unix);
        let depths: Vec<_> = found
            .iter()
            .map(|one| (one.upstream.clone(), one.listener.clone(), one.queue))
            .collect();
        let (inet, unix) = (address.to_string(), format!("unix:{unix_name}"));
        assert_eq!(depths, [(inet.clone(), inet, 2), (unix.clone(), unix, 1)]);
        assert!(found.iter().all(|one| one.limit > 0), "{found:?}");
    }
}
