//! How the ephemeral ports towards one peer are used: the answer to [`Question::Ports`].
//!
//! [`Question::Ports`]: crate::event::Question::Ports

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::sock_diag::{self, Query, TIME_WAIT};
use crate::{event::fact::PortsView, process::Netns};

/// There are no more ports than that for one source address; with several source addresses the
/// count is cut here.
const SOCKETS: usize = 1 << 18;

/// Looks in the worker's network namespace.
///
/// # Errors
/// The worker is gone, its namespace cannot be entered, or the kernel lists no sockets.
pub(super) fn view(worker: u32, remote: SocketAddr) -> Result<PortsView> {
    let netns =
        Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
    look(&netns, remote)
}

fn look(netns: &Netns, remote: SocketAddr) -> Result<PortsView> {
    let range = netns
        .setting("ipv4/ip_local_port_range")
        .context("ip_local_port_range")?;
    let mut view = PortsView {
        range: port_range(&range).context("ip_local_port_range: not two ports")?,
        tw_reuse: netns.number("ipv4/tcp_tw_reuse"),
        ..PortsView::default()
    };
    let query = Query {
        // A v6 socket may speak to a v4 peer, but nginx makes a socket of the peer's family.
        family: if remote.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        },
        states: sock_diag::CONNECTED,
        remote_port: remote.port(),
        limit: SOCKETS,
    };
    sock_diag::tcp(netns, query, |socket| {
        if socket.remote.ip() != remote.ip() {
            return;
        }
        if socket.state == TIME_WAIT {
            view.time_wait += 1;
        } else {
            view.connected += 1;
        }
    })
    .context("list TCP connections by sock_diag")?;
    Ok(view)
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_ascii_whitespace().map(|port| port.parse().ok());
    Some((ports.next()??, ports.next()??))
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = port_range(text);
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{Shutdown, TcpListener, TcpStream},
    };

    use super::*;
    use crate::process::netns::in_new_netns;

    #[test]
    fn connections_to_the_peer_are_counted_and_those_past_their_end_apart() {
        let Some(netns) = in_new_netns(
            "connections_to_the_peer_are_counted_and_those_past_their_end_apart",
            || {
                std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40999").unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let mut pairs: Vec<_> = (0..3)
                    .map(|_| {
                        (
                            TcpStream::connect(address).unwrap(),
                            listener.accept().unwrap().0,
                        )
                    })
                    .collect();
                // Who closes first keeps the port.
                let (mut ours, mut theirs) = pairs.pop().unwrap();
                ours.shutdown(Shutdown::Write).unwrap();
                let _ = theirs.read(&mut [0]);
                drop(theirs);
                let _ = ours.read(&mut [0]);
                (listener, pairs, address)
            },
        ) else {
            return;
        };
        let view = view(netns.thread, netns.value.2).unwrap();
        assert_eq!(view.range, (40000, 40999));
        assert_eq!((view.connected, view.time_wait), (2, 1));
        assert!(view.tw_reuse.is_some());
    }
}
