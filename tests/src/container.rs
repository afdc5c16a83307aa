//! Where a test's backends run: on nginx's own loopback, or as containers' do: in a network
//! namespace of their own behind a bridge, with an address of their own, perhaps behind a
//! translated one.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::netns::Netns;
use crate::{process, programs};

/// Where backends run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the loopback of nginx's namespace.
    Loopback,
    /// In a container; nginx connects to its address over a bridge.
    Bridge,
    /// In a container; nginx connects to a service address, which nftables translates.
    Nat,
}

impl Placement {
    /// The placement of this test program: those whose names say so have every backend of theirs in
    /// a container, so that a file of scenarios can be included in them as it is.
    pub fn of_this_program() -> Self {
        let program = std::env::current_exe().ok();
        let name = program
            .as_deref()
            .and_then(|program| program.file_name()?.to_str())
            .unwrap_or_default();
        match name.split('-').next() {
            Some("behind_a_bridge") => Self::Bridge,
            Some("behind_nat") => Self::Nat,
            _ => Self::Loopback,
        }
    }
}

/// The container's addresses.
pub const ADDRESS: &str = "172.31.0.2";
/// See [`ADDRESS`].
pub const ADDRESS_V6: &str = "fd31::2";
/// The bridge's own address: where containers see connections of nginx come from.
pub const GATEWAY: &str = "172.31.0.1";
/// The service address that is translated to [`ADDRESS`].
pub const SERVICE: &str = "10.96.0.10";

/// A network namespace behind a bridge with a process in it, as each container has one.
#[derive(Debug)]
pub struct Container {
    netns: Netns,
    placement: Placement,
    first: Child,
}

/// Plugs `netns` into a bridge of `host` by a cable whose end there gets this address.
pub fn plug(netns: &Netns, host: &Netns, bridge: &str, address: &str) -> Result<()> {
    let port = format!("v{}", address.replace('.', ""));
    host.ip(&format!(
        "link add {port} type veth peer name eth0 netns {}",
        netns.path()
    ))?;
    host.ip(&format!("link set {port} master {bridge} up"))?;
    netns.ip(&format!("addr add {address}/24 dev eth0"))?;
    netns.ip("link set eth0 up")?;
    if let Some((network, _)) = address.rsplit_once('.') {
        netns.ip(&format!("route add default via {network}.1"))?;
    }
    Ok(())
}

impl Container {
    /// A container with this address on a bridge of `host`; its gateway is the network's first.
    pub fn behind(host: &Netns, bridge: &str, address: &str) -> Result<Self> {
        let netns = Netns::new()?;
        plug(&netns, host, bridge, address)?;
        let mut first = Command::new("sleep");
        first.arg("infinity").stdin(Stdio::null());
        netns.place(&mut first);
        let first = first
            .spawn()
            .context("cannot start the container's process")?;
        Ok(Self {
            netns,
            placement: Placement::Bridge,
            first,
        })
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The first process in it.
    pub fn pid(&self) -> u32 {
        self.first.id()
    }

    /// `None` where backends run on the loopback.
    pub(crate) fn placed(host: &Netns, placement: Placement) -> Result<Option<Self>> {
        if placement == Placement::Loopback {
            return Ok(None);
        }
        host.ip("link add br0 type bridge")?;
        host.ip(&format!("addr add {GATEWAY}/24 dev br0"))?;
        host.ip("addr add fd31::1/64 dev br0 nodad")?;
        host.ip("link set br0 up")?;
        let mut container = Self::behind(host, "br0", ADDRESS)?;
        container.placement = placement;
        let v6 = format!("addr add {ADDRESS_V6}/64 dev eth0 nodad");
        container.netns.ip(&v6)?;
        if placement == Placement::Nat {
            // Routed like a cluster's service addresses: to wherever, for the translation to
            // decide.
            host.ip(&format!("route add {SERVICE}/32 dev br0"))?;
            let rule = format!(
                "add table ip nat\n\
                 add chain ip nat output {{ type nat hook output priority -100; }}\n\
                 add rule ip nat output ip daddr {SERVICE} meta l4proto tcp dnat to {ADDRESS}\n"
            );
            programs::output(host.command("nft")?.arg(rule))?;
        }
        Ok(Some(container))
    }

    pub(crate) fn listens(&self, address: &str) -> String {
        address
            .replace("127.0.0.1", ADDRESS)
            .replace("[::1]", &format!("[{ADDRESS_V6}]"))
    }

    /// The text, perhaps of nginx's configuration, whose `listen` directives stay.
    pub(crate) fn reaches(&self, text: &str) -> String {
        let v4 = match self.placement {
            Placement::Nat => SERVICE,
            Placement::Bridge | Placement::Loopback => ADDRESS,
        };
        let directives = text.split_inclusive([';', '{', '}']);
        let reached = directives.map(|directive| {
            if directive.trim_start().starts_with("listen ") {
                return directive.to_owned();
            }
            directive
                .replace("127.0.0.1:", &format!("{v4}:"))
                .replace("[::1]:", &format!("[{ADDRESS_V6}]:"))
        });
        reached.collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        process::end(&mut self.first, libc::SIGKILL);
    }
}
