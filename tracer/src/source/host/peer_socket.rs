//! The upstream's socket of a connection, where it is on this host, and what became of the last
//! data that nginx sent: the answer to [`Question::PeerSocket`].
//!
//! A connection that `accept()` has not taken yet has no inode (`sk->sk_socket` is null), nor has
//! one that its process has closed, which its state shows.
//!
//! [`Question::PeerSocket`]: crate::event::Question::PeerSocket

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::{
    owner::Owners,
    place::{Asked, Namespaces, Place},
    sock_diag::{self, CLOSE_WAIT, ESTABLISHED, SYN_RECV, TIME_WAIT, TcpSocket},
};
use crate::{event::fact::PeerSocketView, process::Netns};

/// Looks in the worker's network namespace; where another of this host has the upstream's address,
/// in that. The first of the ends is nginx's.
///
/// # Errors
/// The worker is gone, its namespace cannot be entered, or the kernel lists no sockets.
pub(super) fn view(
    worker: u32,
    (local, remote): (SocketAddr, SocketAddr),
    (namespaces, owners): (&mut Namespaces, &mut Owners),
    asked: Asked,
) -> Result<PeerSocketView> {
    let netns =
        Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
    let place = namespaces.find(&netns, remote.ip().to_canonical(), asked.at, asked.now);
    let mut translated = None;
    let (there, remote_end) = match place {
        Place::Here => (None, remote),
        Place::There(there, _) => (Some(there), remote),
        Place::Remote | Place::Unclear => {
            match namespaces.by_nginxs_end(&netns, (local, remote), asked) {
                Some((there, end)) => {
                    translated = Some(end);
                    (Some(there), end)
                }
                None => (None, remote),
            }
        }
    };
    let there = there.as_ref().unwrap_or(&netns);
    let look = || find(there, local, remote_end);
    // One that is being closed loses its process after its state was read: what was not taken still
    // is not.
    let found = match look()? {
        Some(socket) if !is_taken(&socket) => look()?,
        found => found,
    };
    // nginx has closed it; the kernel keeps it until all is acknowledged.
    let own = sock_diag::connection(&netns, local, remote)?;
    let retransmits = own.map_or(0, |own| own.retransmits);
    let Some(socket) = found else {
        return Ok(PeerSocketView {
            retransmits,
            ..PeerSocketView::default()
        });
    };
    let owner = owners.of_connection(socket.inode, there.id(), asked.now);
    Ok(PeerSocketView {
        found: true,
        accepted: is_taken(&socket),
        unread: socket.receive_queue,
        owner,
        retransmits,
        translated,
    })
}

/// Has accept() taken it: does it belong to a process, or was it closed by one?
fn is_taken(socket: &TcpSocket) -> bool {
    socket.inode != 0 || !matches!(socket.state, ESTABLISHED | SYN_RECV | CLOSE_WAIT)
}

fn find(netns: &Netns, local: SocketAddr, remote: SocketAddr) -> Result<Option<TcpSocket>> {
    let found = sock_diag::connection(netns, remote, local)
        .context("find a TCP connection by sock_diag")?;
    Ok(found.filter(|socket| !socket.listens() && socket.state != TIME_WAIT))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::event::Time;

    fn look(local: SocketAddr, remote: SocketAddr) -> PeerSocketView {
        let asked = Asked {
            at: Time(1),
            now: Time(1),
        };
        let (mut namespaces, mut owners) = (Namespaces::default(), Owners::default());
        let memory = (&mut namespaces, &mut owners);
        view(std::process::id(), (local, remote), memory, asked).unwrap()
    }

    #[test]
    fn a_connection_not_yet_accepted_has_no_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let own = std::process::id();
        let look = || look(local, remote);
        let before = look();
        assert!(before.found && !before.accepted && before.owner.is_none());
        let accepted = listener.accept().unwrap();
        let after = look();
        assert!(after.found && after.accepted);
        assert_eq!(after.owner.map(|owner| owner.pid), Some(own));
        drop(accepted);
    }

    #[test]
    fn a_v6_listener_may_have_taken_a_v4_connection() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _accepted = listener.accept().unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let own = std::process::id();
        let seen = look(local, remote);
        assert!(seen.found && seen.accepted);
        assert_eq!(seen.owner.map(|owner| owner.pid), Some(own));
    }

    #[test]
    fn a_connection_that_is_not_here_is_not_found() {
        let (local, remote) = (
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        assert_eq!(look(local, remote), PeerSocketView::default());
    }
}
