//! Who listens on an address, and who nearby: the answer to [`Question::Listener`].
//!
//! A listener that stops between the failure and the question is not seen; the kernel's own events
//! decide then. Sockets bound without `listen()` are seen from 6.8 on.
//!
//! [`Question::Listener`]: crate::event::Question::Listener

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};

use super::{
    forwarder,
    owner::Owners,
    place::{Asked, Namespaces},
    sock_diag::{self, Query, TcpSocket},
    way::{Destination, Target, Way, Ways},
};
use crate::{
    event::{
        Time,
        fact::{Listener, ListenerView, Owner, is_one_digit_off},
    },
    process::{self, Netns},
};

const SOCKETS: usize = 16_384;
const NEARBY: usize = 5;
/// Of each kind no more are reported, the fullest: a capture's reader takes an answer of 256 KiB.
const REPORTED: usize = 64;
/// Namespaces of which the listeners are remembered.
const LISTINGS: usize = 16;
/// Listeners of which all processes are looked for.
const CROWDS: usize = 4;
const LOOPBACK_INTERFACE: u32 = 1;

/// What is known of the namespaces that were looked at last.
#[derive(Debug, Default)]
pub(super) struct Listings {
    /// The last one is the newest.
    of: Vec<Listing>,
    ways: Ways,
}

impl Listings {
    /// That of a namespace, looked at since it was asked; `true` if it was looked at just now.
    fn look(&mut self, netns: &Netns, asked: Asked) -> Result<(&mut Listing, bool)> {
        let known = self.of.iter().position(|one| one.netns == netns.id());
        let mut listing = match known {
            Some(at) => self.of.remove(at),
            None => Listing::default(),
        };
        let has_looked = listing.look(netns, asked)?;
        if self.of.len() >= LISTINGS {
            self.of.remove(0);
        }
        self.of.push(listing);
        let last = self.of.len() - 1;
        Ok((&mut self.of[last], has_looked))
    }
}

/// What is known of one namespace: it answers all that was asked before it was looked at.
#[derive(Debug, Default)]
struct Listing {
    netns: u32,
    at: Time,
    listening: Vec<TcpSocket>,
    bound: Option<Vec<TcpSocket>>,
    somaxconn: Option<Option<u32>>,
}

impl Listing {
    /// What there is about an address: those that listen, and if none takes connections to it those
    /// that are bound alone.
    fn scene(&mut self, netns: &Netns, target: Target, way: Way) -> Result<Scene> {
        let mut sockets = self.listening.clone();
        let is_taken = are_taking(&sockets, target);
        if !is_taken {
            let bound = match self.bound.take() {
                Some(bound) => bound,
                // The kernel looks through all its bound ports for these.
                None => list(netns, sock_diag::BOUND)?,
            };
            sockets.extend_from_slice(&bound);
            self.bound = Some(bound);
        }
        // It limits the queues of who listens.
        let somaxconn = match is_taken {
            true => *self
                .somaxconn
                .get_or_insert_with(|| netns.number("core/somaxconn")),
            false => None,
        };
        Ok(Scene {
            way,
            sockets,
            somaxconn,
        })
    }

    /// Looks at a namespace unless it was since then; `true` if it did.
    fn look(&mut self, netns: &Netns, asked: Asked) -> Result<bool> {
        if self.netns == netns.id() && self.at >= asked.at {
            return Ok(false);
        }
        *self = Self {
            listening: list(netns, sock_diag::LISTENING)?,
            netns: netns.id(),
            at: asked.now,
            ..Self::default()
        };
        Ok(true)
    }
}

/// What a question about listeners is answered from.
pub(super) struct Memory<'a> {
    pub(super) listings: &'a mut Listings,
    pub(super) namespaces: &'a mut Namespaces,
    pub(super) owners: &'a mut Owners,
}

/// Looks in the worker's network namespace; where another of this host has the address, in that. If
/// a forwarder listens there, also where it leads.
///
/// # Errors
/// The worker is gone, its namespace cannot be entered, or the kernel lists no sockets.
pub(super) fn view(
    worker: u32,
    address: SocketAddr,
    mut memory: Memory<'_>,
    asked: Asked,
) -> Result<ListenerView> {
    let mut view = look(worker, address, &mut memory, asked)?;
    let mut owners = view.exact.iter().filter_map(|one| one.owner.as_ref());
    if let Some(mut forwarder) = owners.find_map(forwarder::of) {
        if let Some(target) = forwarder.address
            && let Ok(behind) = look(forwarder.pid, target, &mut memory, asked)
            && behind.local
        {
            forwarder.listens = Some(!behind.exact.is_empty());
        }
        view.forwarder = Some(Box::new(forwarder));
    }
    Ok(view)
}

/// The fullest listener of an upstream on this host; address translation is not followed.
///
/// # Errors
/// As [`view`].
pub(super) fn fullest(
    worker: u32,
    address: SocketAddr,
    (listings, namespaces): (&mut Listings, &mut Namespaces),
    asked: Asked,
) -> Result<Option<TcpSocket>> {
    let ways = &mut listings.ways;
    let Some((netns, target)) = ways.straight(worker, address, namespaces, asked)? else {
        return Ok(None);
    };
    let (listing, _) = listings.look(&netns, asked)?;
    let best = rank_of_the_best(&listing.listening, target);
    let takes = |socket: &&TcpSocket| {
        socket.local.port() == target.port() && takes(socket, target) && Some(rank(socket)) == best
    };
    let taking = listing.listening.iter().filter(takes);
    Ok(taking.max_by_key(|socket| socket.receive_queue).copied())
}

fn look(
    worker: u32,
    address: SocketAddr,
    memory: &mut Memory<'_>,
    asked: Asked,
) -> Result<ListenerView> {
    let Memory {
        listings,
        namespaces,
        owners,
    } = memory;
    let Destination {
        netns,
        target,
        way,
        translated,
    } = listings.ways.follow(worker, address, namespaces, asked)?;
    let (listing, has_looked) = listings.look(&netns, asked)?;
    if has_looked {
        owners.refresh();
    }
    let scene = listing.scene(&netns, target, way)?;
    let nginx = process::status(worker).map_or([worker, worker], |status| [status.parent, worker]);
    let holders = holders(target, &scene, nginx, owners, (netns.id(), asked.now));
    let mut view = ListenerView {
        translated,
        ..arrange(target, &scene, &holders, nginx)
    };
    let waits = |listener: &&mut Listener| listener.queue > 0;
    for listener in view.exact.iter_mut().filter(waits).take(CROWDS) {
        let is_it = |socket: &&TcpSocket| {
            socket.listens()
                && Some(socket.local) == listener.address
                && socket.receive_queue == listener.queue
        };
        if let Some(inode) = scene.sockets.iter().find(is_it).map(|socket| socket.inode) {
            owners.crowd(listener, inode);
        }
    }
    Ok(view)
}

struct Scene {
    way: Way,
    sockets: Vec<TcpSocket>,
    somaxconn: Option<u32>,
}

/// Is one among them that takes connections to this address?
fn are_taking(sockets: &[TcpSocket], target: Target) -> bool {
    let is_one = |socket: &TcpSocket| {
        socket.listens() && socket.local.port() == target.port() && takes(socket, target)
    };
    sockets.iter().any(is_one)
}

/// Of several that take connections to an address the kernel prefers one on just that address, then
/// IPv4's own (`inet_lookup_listener`, `compute_score`). Equal ones share them: SO_REUSEPORT.
fn rank(socket: &TcpSocket) -> (bool, bool, bool) {
    let ip = socket.local.ip();
    (!ip.is_unspecified(), socket.interface != 0, ip.is_ipv4())
}

fn rank_of_the_best(sockets: &[TcpSocket], target: Target) -> Option<(bool, bool, bool)> {
    let of_port = sockets
        .iter()
        .filter(|socket| socket.listens() && socket.local.port() == target.port());
    of_port
        .filter(|socket| takes(socket, target))
        .map(rank)
        .max()
}

fn list(netns: &Netns, states: u32) -> Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let query = Query {
            family,
            states,
            remote_port: 0,
            limit: SOCKETS,
        };
        let listed = sock_diag::tcp(netns, query, |socket| sockets.push(socket));
        // A kernel without IPv6 has no v6 listeners.
        if let Err(error) = listed
            && family == libc::AF_INET
        {
            return Err(error).context("list TCP listeners by sock_diag");
        }
    }
    Ok(sockets)
}

/// Returns the holders of the sockets in the answer; a host may have thousands of processes.
fn holders(
    target: Target,
    scene: &Scene,
    nginx: [u32; 2],
    owners: &mut Owners,
    (netns, now): (u32, Time),
) -> HashMap<u32, Owner> {
    let (of_port, mut others): (Vec<_>, Vec<_>) = scene
        .sockets
        .iter()
        .partition(|socket| socket.local.port() == target.port());
    others.retain(|socket: &&TcpSocket| socket.listens());
    others.sort_by_key(|socket| distance(socket.local.port(), target.port()));
    let inodes = |sockets: &[&TcpSocket]| -> Vec<u32> {
        sockets.iter().map(|socket| socket.inode).collect()
    };
    let all = inodes(&others);
    let mut found = owners.find(&inodes(&of_port), &all, netns, now);
    if are_taking(&scene.sockets, target) {
        return found;
    }
    // A program's that has the port on another address, or the nearest that are not nginx's own:
    // both are quickly known.
    let pids: Vec<u32> = found
        .values()
        .map(|owner| owner.pid)
        .take(REPORTED)
        .collect();
    let mut holders = owners.among(&nginx, &all);
    if pids.is_empty() {
        others.retain(|socket| {
            !holders.contains_key(&socket.inode) && is_within_reach(socket, target)
        });
        // A program's two families count once.
        others.truncate(2 * NEARBY);
        found.extend(owners.find(&inodes(&others), &all, netns, now));
    } else {
        found.extend(owners.among(&pids, &all));
    }
    holders.extend(found);
    holders
}

fn arrange(
    target: Target,
    scene: &Scene,
    holders: &HashMap<u32, Owner>,
    nginx: [u32; 2],
) -> ListenerView {
    let listener = |socket: &TcpSocket| Listener {
        address: Some(socket.local),
        v6_only: socket.v6_only,
        queue: socket.receive_queue,
        limit: socket.send_queue,
        owner: holders.get(&socket.inode).cloned(),
        others: Vec::new(),
    };
    let mut view = ListenerView {
        local: scene.way.local,
        silent_neighbor: scene.way.silent_neighbor,
        route_error: scene.way.route_error,
        container: scene.way.container.as_ref().map(|(_, owner)| owner.clone()),
        unclear: scene.way.unclear,
        somaxconn: scene.somaxconn,
        ..ListenerView::default()
    };
    let best = rank_of_the_best(&scene.sockets, target);
    for socket in &scene.sockets {
        if socket.local.port() != target.port() {
            continue;
        }
        let is_passed_over = socket.listens() && Some(rank(socket)) < best;
        let would_take = scene.way.local && takes(socket, target) && !is_passed_over;
        match (socket.listens(), would_take) {
            (true, true) => view.exact.push(listener(socket)),
            (true, false) => view.same_port.push(listener(socket)),
            (false, true) => view.bound.extend(holders.get(&socket.inode).cloned()),
            (false, false) => {}
        }
    }
    view.bound.sort_by_key(|owner| owner.pid);
    view.bound.dedup_by_key(|owner| owner.pid);
    view.bound.truncate(REPORTED);
    if scene.way.local && view.exact.is_empty() {
        view.nearby = nearby(target, scene, &view, &listener, nginx);
    }
    for listeners in [&mut view.exact, &mut view.same_port] {
        if listeners.len() > REPORTED {
            listeners.sort_by_key(|one| std::cmp::Reverse(one.queue));
            listeners.truncate(REPORTED);
        }
    }
    view
}

fn nearby(
    target: Target,
    scene: &Scene,
    view: &ListenerView,
    listener: &dyn Fn(&TcpSocket) -> Listener,
    nginx: [u32; 2],
) -> Vec<Listener> {
    let same_port = view.same_port.iter().filter_map(|near| near.owner.as_ref());
    let closest: Vec<u32> = same_port
        .chain(&view.bound)
        .map(|owner| owner.pid)
        .collect();
    let mut near: Vec<Listener> = scene
        .sockets
        .iter()
        .filter(|socket| socket.listens() && socket.local.port() != target.port())
        .map(|socket| (socket, listener(socket)))
        .filter(|(socket, listener)| match &listener.owner {
            Some(owner) if nginx.contains(&owner.pid) => false,
            Some(owner) if !closest.is_empty() => closest.contains(&owner.pid),
            None if !closest.is_empty() => false,
            _ => is_within_reach(socket, target),
        })
        .map(|(_, listener)| listener)
        .collect();
    near.sort_by_key(|listener| {
        let port = listener.address.map_or(0, |address| address.port());
        distance(port, target.port())
    });
    // One program may listen on both families.
    near.dedup_by_key(|listener| {
        let port = listener.address.map(|address| address.port());
        (port, listener.owner.as_ref().map(|owner| owner.pid))
    });
    near.truncate(NEARBY);
    near
}

/// How likely a port is meant instead of another, the least first.
fn distance(port: u16, target: u16) -> (bool, u16) {
    (!is_one_digit_off(port, target), port.abs_diff(target))
}

fn is_within_reach(socket: &TcpSocket, target: Target) -> bool {
    socket.local.ip().is_loopback() || takes(socket, target)
}

/// Would this socket, listening, take a connection to that address (`inet_lookup_listener`)?
fn takes(socket: &TcpSocket, target: Target) -> bool {
    let ip = target.ip();
    // Packets to an address of our own come in by the loopback interface, others' never do.
    let elsewhere =
        socket.interface != 0 && (socket.interface == LOOPBACK_INTERFACE) != target.is_inside;
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if elsewhere && !link_local {
        return false;
    }
    match (socket.local.ip(), ip) {
        (IpAddr::V6(any), IpAddr::V4(_)) if any.is_unspecified() => !socket.v6_only,
        (local, ip) => {
            local.to_canonical() == ip
                || (local.is_unspecified() && local.is_ipv4() == ip.is_ipv4())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
        os::fd::{AsRawFd as _, OwnedFd},
    };

    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

    use super::*;
    use crate::process::netns::in_new_netns;

    const ASKED: Asked = Asked {
        at: Time(1),
        now: Time(1),
    };

    fn ask_of(
        worker: u32,
        address: SocketAddr,
        listings: &mut Listings,
        asked: Asked,
    ) -> Result<ListenerView> {
        let memory = Memory {
            listings,
            namespaces: &mut Namespaces::default(),
            owners: &mut Owners::default(),
        };
        view(worker, address, memory, asked)
    }

    fn ask(address: SocketAddr) -> ListenerView {
        let own = std::process::id();
        ask_of(own, address, &mut Listings::default(), ASKED).unwrap()
    }

    /// A port that is bound on 127.0.0.1 without `listen()`.
    fn bound() -> (OwnedFd, SocketAddr) {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        (socket, address.try_into().unwrap())
    }

    #[test]
    fn a_listener_is_found_with_its_owner_and_its_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        let view = ask(address);
        assert!(view.local);
        assert_eq!(view.exact.len(), 1);
        let found = &view.exact[0];
        assert_eq!((found.address, found.queue), (Some(address), 1));
        assert!(found.limit > 0 && view.somaxconn.is_some());
        assert_eq!(found.owner.as_ref().unwrap().pid, std::process::id());
    }

    #[test]
    fn a_listener_on_another_address_would_not_take_the_connection() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let view = ask(SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(view.exact.is_empty());
        assert_eq!(view.same_port[0].address, listener.local_addr().ok());
        assert!(view.nearby.iter().all(|near| {
            near.owner
                .as_ref()
                .is_some_and(|owner| owner.pid == std::process::id())
        }));
    }

    #[test]
    fn a_dual_stack_wildcard_takes_ipv4() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port))).exact.len(), 1);
        assert_eq!(ask(SocketAddr::from(([0, 0, 0, 0], port))).exact.len(), 1);
    }

    #[test]
    fn an_address_of_another_host_has_no_listener_here() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let view = ask(SocketAddr::from(([192, 0, 2, 1], port)));
        assert!(!view.local && view.exact.is_empty() && view.nearby.is_empty());
        assert_eq!(view.same_port.len(), 1);
    }

    #[test]
    fn a_port_bound_without_listen_names_who_bound_it() {
        let (socket, address) = bound();
        let view = ask(address);
        assert!(view.exact.is_empty());
        if view.bound.is_empty() {
            println!(
                "SKIPPED: a_port_bound_without_listen_names_who_bound_it: this kernel does not list such sockets (6.8 does)"
            );
            return;
        }
        assert_eq!(view.bound[0].pid, std::process::id());
        assert!(socket.as_raw_fd() >= 0);
    }

    #[test]
    fn an_mptcp_listener_is_a_listener_with_an_owner() {
        let stream = (AddressFamily::INET, SocketType::STREAM);
        let socket = socket_with(
            stream.0,
            stream.1,
            SocketFlags::CLOEXEC,
            Some(ipproto::MPTCP),
        );
        let listening = socket.and_then(|socket| {
            rustix::net::listen(&socket, 5)?;
            Ok(socket)
        });
        let listener = match listening {
            Ok(socket) => TcpListener::from(socket),
            Err(error) => {
                println!("SKIPPED: an_mptcp_listener_is_a_listener_with_an_owner: {error}");
                return;
            }
        };
        let port = listener.local_addr().unwrap().port();
        let view = ask(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!((view.exact.len(), view.exact[0].limit), (1, 5));
        assert_eq!(
            view.exact[0].owner.as_ref().unwrap().pid,
            std::process::id()
        );
    }

    #[test]
    fn a_worker_in_a_namespace_of_its_own_has_its_own_listeners() {
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = outside.local_addr().unwrap();
        let Some(netns) = in_new_netns(
            "a_worker_in_a_namespace_of_its_own_has_its_own_listeners",
            || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                (listener, address)
            },
        ) else {
            return;
        };
        let (_, inside) = &netns.value;
        let mut listings = Listings::default();
        let mut ask = |address| ask_of(netns.thread, address, &mut listings, ASKED).unwrap();
        let found = ask(*inside);
        assert!(found.local);
        assert_eq!(
            found.exact[0].owner.as_ref().unwrap().pid,
            std::process::id()
        );
        if outside.port() != inside.port() {
            assert!(ask(outside).exact.is_empty());
        }
    }

    #[test]
    fn what_was_asked_before_a_look_is_answered_by_it_and_what_comes_later_is_not() {
        let own = std::process::id();
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut listings = Listings::default();
        let mut ask = |address, at, now| {
            let asked = Asked {
                at: Time(at),
                now: Time(now),
            };
            let view = ask_of(own, address, &mut listings, asked);
            view.unwrap().exact.len()
        };
        assert_eq!(ask(first.local_addr().unwrap(), 5, 10), 1);
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(ask(second.local_addr().unwrap(), 9, 20), 0);
        assert_eq!(ask(second.local_addr().unwrap(), 11, 30), 1);
    }

    #[test]
    fn a_vanished_worker_is_an_error_that_names_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let error = ask_of(u32::MAX, address, &mut Listings::default(), ASKED).unwrap_err();
        assert!(format!("{error:#}").contains("worker 4294967295"));
    }
}
