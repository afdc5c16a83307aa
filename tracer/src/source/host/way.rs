//! The way to an address: on this host or not, through address translation or not, and in which
//! network namespace.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result};

use super::{
    conntrack::Led,
    neighbor,
    place::{Asked, Namespaces, Place},
    route,
};
use crate::{
    event::{
        Time,
        fact::{Owner, SilentNeighbor},
    },
    process::Netns,
};

const WAYS: usize = 1024;

/// Where a connection to an address ends.
pub(super) struct Destination {
    pub(super) netns: Netns,
    pub(super) target: Target,
    pub(super) way: Way,
    /// The end that address translation puts in the address's place.
    pub(super) translated: Option<SocketAddr>,
}

/// What nginx connects to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// Within the worker's own namespace: by the loopback interface.
    pub(super) is_inside: bool,
}

impl Target {
    pub(super) fn ip(self) -> IpAddr {
        self.address.ip()
    }

    pub(super) fn port(self) -> u16 {
        self.address.port()
    }
}

/// Where the addresses are that were asked for in one namespace: good for all that was asked
/// before.
#[derive(Debug, Default)]
pub(super) struct Ways {
    netns: u32,
    at: Time,
    to: HashMap<IpAddr, Way>,
}

/// Where an address is.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    /// On this host, in whichever network namespace.
    pub(super) local: bool,
    pub(super) silent_neighbor: Option<SilentNeighbor>,
    /// The errno that the table gives instead of a route.
    pub(super) route_error: Option<u32>,
    /// Who is in the namespace that it is in, if that is another than the worker's; and its number.
    pub(super) container: Option<(u32, Owner)>,
    pub(super) unclear: bool,
}

impl Ways {
    /// Follows a worker's packets to an address, through translation and to another namespace of
    /// this host.
    ///
    /// # Errors
    /// The worker is gone, or its routing table cannot be asked.
    pub(super) fn follow(
        &mut self,
        worker: u32,
        address: SocketAddr,
        namespaces: &mut Namespaces,
        asked: Asked,
    ) -> Result<Destination> {
        let netns =
            Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
        let mut address = reached(address);
        let mut way = self.to(&netns, address.ip(), namespaces, asked)?;
        let led = match way.local {
            true => Led::Straight,
            false => namespaces.translation((&netns, worker), address, asked.now),
        };
        let translated = match led {
            Led::Straight => None,
            Led::To(end) => Some(end),
            Led::Several => {
                way.unclear = true;
                None
            }
        };
        if let Some(end) = translated {
            address = end;
            way = self.to(&netns, end.ip(), namespaces, asked)?;
        }
        let there = way.container.as_ref().and_then(|(id, owner)| {
            let there = Netns::of(owner.pid).ok();
            there.filter(|there| there.id() == *id)
        });
        if there.is_none() && way.container.take().is_some() {
            // It ended just now.
            (way.local, way.unclear) = (false, true);
        }
        let target = Target {
            address,
            is_inside: there.is_none(),
        };
        Ok(Destination {
            netns: there.unwrap_or(netns),
            target,
            way,
            translated,
        })
    }

    /// Where an address is that is on this host without translation; `None`: elsewhere.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub(super) fn straight(
        &mut self,
        worker: u32,
        address: SocketAddr,
        namespaces: &mut Namespaces,
        asked: Asked,
    ) -> Result<Option<(Netns, Target)>> {
        let netns =
            Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
        let address = reached(address);
        let way = self.to(&netns, address.ip(), namespaces, asked)?;
        let netns = match way.container {
            _ if !way.local => None,
            None => Some((netns, true)),
            Some((id, owner)) => {
                let there = Netns::of(owner.pid).ok();
                there
                    .filter(|there| there.id() == id)
                    .map(|there| (there, false))
            }
        };
        let target = |is_inside| Target { address, is_inside };
        Ok(netns.map(|(netns, is_inside)| (netns, target(is_inside))))
    }

    fn to(
        &mut self,
        netns: &Netns,
        address: IpAddr,
        namespaces: &mut Namespaces,
        asked: Asked,
    ) -> Result<Way> {
        if self.netns != netns.id() || self.at < asked.at || self.to.len() >= WAYS {
            *self = Self {
                netns: netns.id(),
                at: asked.now,
                to: HashMap::new(),
            };
        }
        if let Some(way) = self.to.get(&address) {
            return Ok(way.clone());
        }
        let way = way(netns, address, namespaces, asked)?;
        self.to.insert(address, way.clone());
        Ok(way)
    }
}

/// Does an address belong to this host, and if not, who on the link does not answer?
fn way(netns: &Netns, address: IpAddr, namespaces: &mut Namespaces, asked: Asked) -> Result<Way> {
    let way = route::way(netns, address).context("ask the routing table")?;
    let silent_neighbor = match (way.next_hop, way.source) {
        // Where the neighbour table cannot be asked, nobody is reported silent.
        (Some((address, interface)), Some(source))
            if neighbor::entry(netns, address, interface)
                .is_ok_and(|neighbor| neighbor.is_silent) =>
        {
            Some(SilentNeighbor { address, source })
        }
        _ => None,
    };
    let mut found = Way {
        local: way.is_local,
        silent_neighbor,
        route_error: way.error,
        ..Way::default()
    };
    match namespaces.find(netns, address, asked.at, asked.now) {
        Place::Here => found.local = true,
        Place::There(netns, owner) => {
            found.local = true;
            found.container = Some((netns.id(), owner));
        }
        Place::Remote => {}
        Place::Unclear => found.unclear = true,
    }
    Ok(found)
}

/// The address that a `connect()` to `address` reaches: the wildcard stands for the loopback.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
