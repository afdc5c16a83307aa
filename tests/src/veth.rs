//! A cable to a second network namespace on this host: a remote peer, but the same kernel.

use anyhow::Result;

use crate::netns::Netns;

/// Our end's address; the network is a /24 and a /64.
pub const NEAR: &str = "10.88.0.1";
/// The far end's address.
pub const FAR: &str = "10.88.0.2";
/// Addresses of the network that nobody has, with a port.
pub const NOBODY: &str = "10.88.0.99:80";
/// See [`NOBODY`].
pub const NOBODY_V6: &str = "[fd88::99]:80";
/// The network's broadcast address.
pub const BROADCAST: &str = "10.88.0.255";
/// The far end's IPv6 address.
pub const FAR_V6: &str = "fd88::2";

/// Lays a cable from `near` to a new namespace, addresses set on both ends.
pub fn connect(near: &Netns) -> Result<Netns> {
    let far = Netns::new()?;
    near.ip(&format!(
        "link add near type veth peer name far netns {}",
        far.path()
    ))?;
    for (end, name, octet) in [(near, "near", 1), (&far, "far", 2)] {
        end.ip(&format!("addr add 10.88.0.{octet}/24 brd + dev {name}"))?;
        end.ip(&format!("addr add fd88::{octet}/64 dev {name} nodad"))?;
        end.ip(&format!("link set {name} up"))?;
    }
    Ok(far)
}

/// Lays a cable without addresses from `near` to `far`. Its end in `near` is gone once the kernel
/// has freed `far`, which it does when nobody holds that namespace or a socket in it: [`has`].
pub fn tether(near: &Netns, name: &str, far: &Netns) -> Result<()> {
    near.ip(&format!(
        "link add {name} type veth peer name tether netns {}",
        far.path()
    ))
}

/// Whether `netns` has a link of that name.
pub fn has(netns: &Netns, name: &str) -> Result<bool> {
    netns.enter(|| {
        let name = std::ffi::CString::new(name)?;
        // SAFETY: a name that ends with a zero.
        Ok(unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
    })
}
