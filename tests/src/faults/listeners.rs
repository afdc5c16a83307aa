//! TCP ports that are taken without being served.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::netns::Netns;
use crate::wait::{PATIENCE, until};

/// A socket that is bound to `address` in 127.0.0.0/8 or another IPv4 network, without listen().
pub fn bound(netns: &Netns, address: &str) -> Result<OwnedFd> {
    let address: SocketAddr = netns.listens(address).parse()?;
    let SocketAddr::V4(v4) = address else {
        anyhow::bail!("{address} is not IPv4");
    };
    netns.backends().enter(|| {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("cannot make a socket")?;
        rustix::net::bind(&socket, &v4).context("cannot bind")?;
        Ok(socket)
    })
}

/// A listener whose accept queue is full, and the connections that fill it.
#[derive(Debug)]
pub struct Full {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

/// A listener on `address` with this backlog, which holds one connection more.
pub fn small(netns: &Netns, address: &str, backlog: u8) -> Result<TcpListener> {
    let address = netns.listens(address);
    netns.backends().enter(|| {
        let listener = TcpListener::bind(address)?;
        rustix::net::listen(&listener, backlog.into()).context("cannot shrink a backlog")?;
        Ok(listener)
    })
}

/// Makes a listener with a backlog of 0 and fills it.
pub fn full(netns: &Netns, address: &str) -> Result<Full> {
    fill(netns, small(netns, address, 0)?, 0)
}

/// Fills a [`small`] listener that has this backlog.
pub fn fill(netns: &Netns, listener: TcpListener, backlog: u8) -> Result<Full> {
    netns.backends().enter(|| {
        let address = listener.local_addr()?;
        let waiting = (0..=backlog)
            .map(|_| TcpStream::connect(address))
            .collect::<std::io::Result<_>>()?;
        let queued = format!(":{:08X}", u32::from(backlog) + 1);
        let port = format!(":{:04X}", address.port());
        until("a full accept queue", PATIENCE, || {
            let table = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
            // Local address, remote address, state 0A (listening), then sent:queued.
            Ok(table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .find(|words| {
                    words.len() > 4
                        && words[1].ends_with(&port)
                        && words[3] == "0A"
                        && words[4].ends_with(&queued)
                })
                .map(drop))
        })?;
        Ok(Full {
            _listener: listener,
            _waiting: waiting,
        })
    })
}

/// Takes every ephemeral port towards `address`: the connections, which must be held, and the
/// listener that they lead to. Leaves `ports` ports in all for each other destination.
pub fn exhaust_ports(
    netns: &Netns,
    address: &str,
    ports: u16,
) -> Result<(TcpListener, Vec<TcpStream>)> {
    const FIRST: u16 = 40000;
    netns.sysctl(
        "ipv4/ip_local_port_range",
        &format!("{FIRST} {}", FIRST + ports - 1),
    )?;
    netns.enter(|| {
        let listener = TcpListener::bind(address)?;
        let held: Vec<_> = (0..ports)
            .map(|_| TcpStream::connect(address))
            .collect::<std::io::Result<_>>()?;
        let more = TcpStream::connect(address);
        anyhow::ensure!(
            more.as_ref()
                .is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL)),
            "a port is left: {more:?}"
        );
        Ok((listener, held))
    })
}
