//! What the host was asked at the moment a case needed it, and what it answered.
//!
//! Live, the host observer answers a [`Question`] with a [`Fact`]; in a capture the fact is simply
//! there.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Time;

/// A question of the correlator's to the host. `worker` is the nginx worker (pid on the host) whose
/// network, mount and user view counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Question {
    /// Who listens on this address, and nearby? (In the worker's network namespace, or the one that
    /// has the address.)
    Listener {
        /// Whose network namespace.
        worker: u32,
        /// The address that failed.
        address: SocketAddr,
    },
    /// What is at this path, seen by the worker (its root, its user)?
    UnixPath {
        /// Whose view.
        worker: u32,
        /// The path nginx connects to.
        path: String,
    },
    /// What is the upstream's socket of this connection doing? (Where it is on this host.)
    PeerSocket {
        /// Whose network namespace.
        worker: u32,
        /// nginx's end.
        local: SocketAddr,
        /// The upstream's end.
        remote: SocketAddr,
    },
    /// How are the ephemeral ports used towards this peer?
    Ports {
        /// Whose network namespace.
        worker: u32,
        /// The peer that could not be connected to.
        remote: SocketAddr,
    },
    /// How many descriptors does the worker hold, and how many may it?
    Descriptors {
        /// Which worker.
        worker: u32,
    },
    /// Which security modules and cgroup programs apply to the worker's `connect()`?
    Confinement {
        /// Which worker.
        worker: u32,
    },
    /// What did nginx log about its connections since last asked?
    Log {
        /// Whose error logs.
        worker: u32,
    },
    /// How much room has a folder that nginx could not write to, and who may write there?
    Folder {
        /// Whose view.
        worker: u32,
        /// The folder.
        path: String,
    },
    /// Which lines of the configuration have nginx answer with this status by itself?
    Returns {
        /// Whose root has the file.
        worker: u32,
        /// The configuration file.
        conf: String,
        /// The status.
        status: u16,
    },
    /// Which servers has this upstream block?
    Block {
        /// Whose root has the file.
        worker: u32,
        /// The configuration file.
        conf: String,
        /// The block's name.
        name: String,
    },
    /// Which host names has the configuration for upstreams with this port?
    Names {
        /// Whose root has the files.
        worker: u32,
        /// The configuration file.
        conf: String,
        /// The port.
        port: u16,
    },
}

impl Question {
    /// The worker that it is about.
    #[must_use]
    pub const fn worker(&self) -> u32 {
        match self {
            Self::Listener { worker, .. }
            | Self::UnixPath { worker, .. }
            | Self::PeerSocket { worker, .. }
            | Self::Ports { worker, .. }
            | Self::Descriptors { worker }
            | Self::Confinement { worker }
            | Self::Log { worker }
            | Self::Folder { worker, .. }
            | Self::Returns { worker, .. }
            | Self::Block { worker, .. }
            | Self::Names { worker, .. } => *worker,
        }
    }
}

/// A question, its answer, and when it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When the host answered.
    pub at: Time,
    /// What was asked.
    pub question: Question,
    /// What was found; `Err` says in words why the host could not tell (a vanished worker, no
    /// permission).
    pub finding: Result<Finding, String>,
}

/// What the host found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// To [`Question::Listener`].
    Listener(ListenerView),
    /// To [`Question::UnixPath`].
    UnixPath(Box<UnixPathView>),
    /// To [`Question::PeerSocket`].
    PeerSocket(PeerSocketView),
    /// To [`Question::Ports`].
    Ports(PortsView),
    /// To [`Question::Descriptors`].
    Descriptors(DescriptorsView),
    /// To [`Question::Confinement`].
    Confinement(ConfinementView),
    /// To [`Question::Log`]: the lines themselves came before, as events.
    Log,
    /// To [`Question::Folder`].
    Folder(Box<FolderView>),
    /// To [`Question::Returns`].
    Returns(ReturnsView),
    /// To [`Question::Block`].
    Block(BlockView),
    /// To [`Question::Names`].
    Names(NamesView),
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its pid on the host.
    pub pid: u32,
    /// Its `comm`.
    pub name: String,
    /// When it started (boot time).
    pub since: Time,
    /// Its systemd unit or container, where its cgroup names one.
    pub unit: Option<String>,
    /// Its descriptors and its limit on them (`RLIMIT_NOFILE`, soft), where that is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<(u64, u64)>,
    /// Its process group's leader has ended: it may have inherited its sockets from a program that
    /// is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_left: bool,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens. For a unix socket: `None`.
    pub address: Option<SocketAddr>,
    /// An IPv6 wildcard that takes no IPv4.
    pub v6_only: bool,
    /// Connections waiting for `accept()` (`sk_ack_backlog`).
    pub queue: u32,
    /// `sk_max_ack_backlog`: full means `queue > limit`.
    pub limit: u32,
    /// Who holds it, if it could be found; several after a fork: the first by pid.
    pub owner: Option<Owner>,
    /// The others that hold it, which most prefork servers fork to serve its connections: the first
    /// by pid, at most 8. Only of one whose connections wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Owner>,
}

/// The upstream, or the gateway to it, was asked for on the link (ARP, neighbour discovery) and has
/// not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentNeighbor {
    /// Its address.
    pub address: IpAddr,
    /// The address that packets which go this way leave from.
    pub source: IpAddr,
}

/// A program that accepts connections only to forward them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarder {
    /// Host pid.
    pub pid: u32,
    /// Its `comm`.
    pub name: String,
    /// Where it forwards to, as its arguments say.
    pub to: Option<String>,
    /// The same, where it is an address.
    pub address: Option<SocketAddr>,
    /// Whether something listens there; `None`: that is not on this host, or was not found out.
    pub listens: Option<bool>,
}

/// What listens on and near an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListenerView {
    /// Is the address one of this host's: of the worker's network namespace, or of
    /// [`container`](Self::container)'s?
    pub local: bool,
    /// Who is in the other network namespace of this host that has the address (its process with
    /// the lowest pid): what listens was looked for there. `None`: in the worker's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Owner>,
    /// What the address is translated to (DNAT): the rest is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<SocketAddr>,
    /// It was not found out whether another network namespace of this host has the address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
    /// The next hop towards the address, if it does not answer.
    pub silent_neighbor: Option<SilentNeighbor>,
    /// The errno that the routing table gives instead of a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_error: Option<u32>,
    /// Listeners that would take a connection to the address (wildcards included).
    pub exact: Vec<Listener>,
    /// Same port, other address, that would not take it (`[::1]` only!).
    pub same_port: Vec<Listener>,
    /// Bound to the port, but not listening.
    pub bound: Vec<Owner>,
    /// Other ports of the program that is closest: the owner of `bound`/`same_port`, else (none
    /// known) listeners on a loopback or the same address, at most 5, those a digit off first, then
    /// the nearest port.
    pub nearby: Vec<Listener>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// What listens only forwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<Box<Forwarder>>,
}

/// Are these ports a slip of one digit apart: one other, missing or swapped with its neighbour?
#[must_use]
pub(crate) fn is_one_digit_off(port: u16, other: u16) -> bool {
    let (a, b) = (port.to_string(), other.to_string());
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let differing: Vec<usize> = (0..short.len())
        .filter(|&at| short[at] != long[at])
        .collect();
    match (long.len() - short.len(), &differing[..]) {
        (0, [_]) => true,
        (0, &[at, next]) => next == at + 1 && short[at] == long[next] && short[next] == long[at],
        (1, []) => true,
        (1, &[at, ..]) => short[at..] == long[at + 1..],
        _ => false,
    }
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// Nothing is there.
    Missing,
    /// It leads nowhere: symbolic links in a circle, or more than the kernel follows.
    Circle,
    /// A socket file.
    Socket,
    /// Something that is no socket.
    Other,
}

/// Ids as the worker's own user namespace numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The user; `None`: not mapped there.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// A file's owner and mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// The path of it.
    pub path: String,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner, as the host numbers it.
    pub uid: u32,
    /// Group, as the host numbers it.
    pub gid: u32,
    /// Owner's name in the worker's root.
    pub user: Option<String>,
    /// Group's name there.
    pub group: Option<String>,
    /// Owner and group as the worker sees them, where its user namespace is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// A unix socket that listens on a path at which a worker sees nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenListener {
    /// Who listens.
    pub owner: Owner,
    /// Its own file system has the file: another mount namespace or root than the worker's. Else it
    /// was removed.
    pub has_file: bool,
}

/// A unix socket's path, seen by a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixPathView {
    /// What is there.
    pub kind: PathKind,
    /// The file, if there is one.
    pub file: Option<Inode>,
    /// For a missing file: the first component that is missing (a directory, or the file).
    pub missing: Option<String>,
    /// The path component that stops the worker's user: a directory without `x`, or the file
    /// without `w`.
    pub blocked: Option<Inode>,
    /// The listener on it, if one listens.
    pub listener: Option<Listener>,
    /// For a missing file: who listens on a path of that very name all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<UnseenListener>,
    /// The worker's effective uid and gid as the host numbers them, and its user's name in its own
    /// root.
    pub worker_uid: u32,
    /// See `worker_uid`.
    pub worker_gid: u32,
    /// See `worker_uid`.
    pub worker_user: Option<String>,
    /// Its group's name in its own root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_group: Option<String>,
    /// Its user and group as it sees them itself, where its user namespace is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_inside: Option<Inside>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
}

/// The upstream's socket of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerSocketView {
    /// Its end is on this host and there still.
    pub found: bool,
    /// `accept()` has taken it: it belongs to a process (`idiag_inode != 0`).
    pub accepted: bool,
    /// Bytes that arrived and were not read by the program (`idiag_rqueue`).
    pub unread: u32,
    /// Who holds it.
    pub owner: Option<Owner>,
    /// How often nginx's socket has retransmitted unacknowledged data.
    #[serde(default)]
    pub retransmits: u8,
    /// Its address, where nginx connected to one that is translated to it (DNAT): it was found by
    /// nginx's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<SocketAddr>,
}

/// How the ephemeral ports are used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortsView {
    /// `net.ipv4.ip_local_port_range`, both ends inclusive.
    pub range: (u16, u16),
    /// Connections to the peer, any state but the next.
    pub connected: u32,
    /// Connections to the peer in TIME_WAIT.
    pub time_wait: u32,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: Option<u32>,
}

/// A worker's descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DescriptorsView {
    /// How many it holds.
    pub open: u64,
    /// `RLIMIT_NOFILE`, soft.
    pub soft_limit: u64,
    /// `RLIMIT_NOFILE`, hard.
    pub hard_limit: u64,
    /// The host's: allocated and maximum (`/proc/sys/fs/file-nr`).
    pub host_open: u64,
    /// See `host_open`.
    pub host_limit: u64,
}

/// What confines a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfinementView {
    /// Active security modules, in order (`/sys/kernel/security/lsm`; empty if it could not be
    /// read).
    pub modules: Vec<String>,
    /// The worker's label (`/proc/PID/attr/current`): an SELinux context or an AppArmor profile.
    pub label: Option<String>,
    /// SELinux or the AppArmor profile enforces (not permissive or complain).
    pub enforcing: Option<bool>,
    /// The worker's cgroup (v2 path).
    pub cgroup: Option<String>,
    /// BPF programs on the way of `connect()` in the worker's cgroup or above: attach type and
    /// program name, e.g. `connect4 sd_fw_egress`. `None`: could not be asked.
    pub cgroup_programs: Option<Vec<String>>,
    /// Seccomp mode from `/proc/PID/status` (2: a filter).
    pub seccomp: u32,
    /// `NoNewPrivs` from `/proc/PID/status`: needed by an unprivileged Landlock ruleset.
    pub no_new_privs: bool,
}

/// A folder, seen by a worker that writes files there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderView {
    /// The folder, if it is there.
    pub folder: Option<Inode>,
    /// The first component of its path that is missing.
    pub missing: Option<String>,
    /// The component that stops the worker's user: a folder without `x`, or the last without `w`.
    pub blocked: Option<Inode>,
    /// Its file system; `None` where the folder could not be reached.
    pub room: Option<Room>,
    /// The worker's effective uid as the host numbers it, and its name in the worker's root.
    pub worker_uid: u32,
    /// See `worker_uid`.
    pub worker_user: Option<String>,
}

/// How full a file system is (`statvfs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Room {
    /// Bytes that a user other than root may still write.
    pub free: u64,
    /// All bytes.
    pub size: u64,
    /// Files that may still be made; `None` where the file system sets no limit.
    pub free_files: Option<u64>,
    /// It is mounted read-only.
    pub read_only: bool,
}

/// A directive of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigLine {
    /// The file, in the worker's root.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: u32,
    /// Its words.
    pub text: String,
    /// The words of the innermost `location` around it, after its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// What the configuration says of a status that nginx makes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReturnsView {
    /// The directives that name it, at most 8.
    pub lines: Vec<ConfigLine>,
    /// A script (Lua, njs, Perl) may answer with any status.
    pub scripted: bool,
}

/// An upstream block.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockView {
    /// Where it begins; `None`: the configuration has no block of that name.
    pub at: Option<ConfigLine>,
    /// Its servers, at most 64.
    pub servers: Vec<BlockServer>,
    /// It has a `zone`: the workers share its state.
    pub zone: bool,
}

/// A `server` of an upstream block.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockServer {
    /// As written: an address, a name, or `unix:` and a path.
    pub address: String,
    /// What follows it: `down`, `max_fails=1`.
    pub parameters: Vec<String>,
}

/// Host names that nginx looked up when it started, and not since.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NamesView {
    /// The first four.
    pub names: Vec<NameView>,
}

/// A host name of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NameView {
    /// The name.
    pub name: String,
    /// Where the configuration has it.
    pub at: ConfigLine,
    /// Its addresses now, by the hosts file of nginx's root; empty: that does not have it.
    pub now: Vec<IpAddr>,
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// When it was read.
    pub at: Time,
    /// Pid on the host.
    pub pid: u32,
    /// Pid in its own namespace (the one its log shows).
    pub own_pid: u32,
    /// Its master's pid on the host.
    pub master: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Network namespace (inode number).
    pub netns: u32,
    /// Container or systemd unit that its cgroup names.
    pub unit: Option<String>,
    /// `nginx/1.22.1`, where the binary contains it.
    pub version: Option<String>,
    /// Its master's configuration file, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::is_one_digit_off;

    #[test]
    fn ports_a_digit_apart() {
        for (port, other) in [
            (3000, 3001),
            (8000, 8080),
            (8080, 8008),
            (8080, 808),
            (9000, 900),
            (1234, 1324),
        ] {
            assert!(is_one_digit_off(port, other), "{port} {other}");
            assert!(is_one_digit_off(other, port), "{other} {port}");
        }
        for (port, other) in [
            (19999, 2024),
            (3000, 3000),
            (3000, 4001),
            (22, 2222),
            (80, 8080),
        ] {
            assert!(!is_one_digit_off(port, other), "{port} {other}");
        }
    }
}
