//! Where nginx tried to connect to.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// An upstream's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Upstream {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A unix stream socket's path (an abstract name starts with `@`), lossily as UTF-8.
    Unix(String),
}

impl fmt::Display for Upstream {
    /// `IP:port`, `[v6]:port` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
