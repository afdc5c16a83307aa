//! Processes that die, and backends' ends of connections that go away with them.

use super::{Endpoint, Header};

/// Tag of [`PeerClosed`].
pub const PEER_CLOSED: u16 = 8;
/// Tag of [`Death`].
pub const DEATH: u16 = 9;

/// `TASK_COMM_LEN`
pub const COMM_LEN: usize = 16;

/// A signal as it was sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// 0: none.
    pub at: u64,
    /// `si_code`.
    pub code: i32,
    /// Host pid of the sender.
    pub sender: u32,
    /// Its number.
    pub number: u32,
    /// Zero.
    pub padding: u32,
    /// The sender's `comm`.
    pub sender_name: [u8; COMM_LEN],
}

impl Sent {
    /// No signal.
    pub const NONE: Self = Self {
        at: 0,
        code: 0,
        sender: 0,
        number: 0,
        padding: 0,
        sender_name: [0; COMM_LEN],
    };
}

/// The last fatal signal sent to a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Signal {
    /// It.
    pub sent: Sent,
    /// The last one that its sender had received itself: a master that is reloaded ends its
    /// workers.
    pub before: Sent,
}

impl Signal {
    /// No signal.
    pub const NONE: Self = Self {
        sent: Sent::NONE,
        before: Sent::NONE,
    };
}

/// Components of a cgroup's path that are kept, and bytes of each: a container's id has 64, a
/// prefix and a suffix.
pub const COMPONENTS: usize = 6;
/// See [`COMPONENTS`].
pub const COMPONENT_LEN: usize = 96;

/// The memory cgroup of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cgroup {
    /// The last component of its path first, NUL-terminated; the root is empty.
    pub components: [[u8; COMPONENT_LEN]; COMPONENTS],
}

/// A limit on the memory of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimit {
    /// Pages, 0: none known.
    pub pages: u64,
    /// Pages in use.
    pub used: u64,
    /// The last component of the path of the cgroup that has it.
    pub cgroup: [u8; COMPONENT_LEN],
}

impl MemoryLimit {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        pages: 0,
        used: 0,
        cgroup: [0; COMPONENT_LEN],
    };
}

/// How a process ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// `task_struct.exit_code`.
    pub code: u32,
    /// Host pid of its parent.
    pub parent: u32,
    /// 1: the OOM killer chose it.
    pub oom: u32,
    /// 1: it was ending.
    pub dying: u32,
    /// Its `comm`.
    pub name: [u8; COMM_LEN],
    /// What was sent to it.
    pub signal: Signal,
    /// Of a victim of the OOM killer: the nearest limit as it was chosen.
    pub limit: MemoryLimit,
    /// Where it ran.
    pub cgroup: Cgroup,
}

/// `header.pid`, at the upstream's end of a connection, dies or resets it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PeerClosed {
    /// Tag [`PEER_CLOSED`].
    pub header: Header,
    /// nginx's end.
    pub local: Endpoint,
    /// The upstream's end.
    pub remote: Endpoint,
    /// `enum sk_rst_reason`.
    pub rst_reason: u32,
    /// Bit 0: it sent a RST. Bit 1: no worker tried this end, but nginx's end is at a worker's
    /// address: a translation (DNAT) may have led the connection here.
    pub reset: u32,
    /// nginx's network namespace (inode number), as far as it is known here.
    pub netns: u32,
    /// Bytes that it leaves unread, of a RST.
    pub unread: u32,
    /// Zero.
    pub padding: u32,
    /// How it ended, if it did.
    pub end: End,
}

/// `header.pid`, of a unix upstream, died.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Tag [`DEATH`].
    pub header: Header,
    /// How.
    pub end: End,
}

impl End {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        code: 0,
        parent: 0,
        oom: 0,
        dying: 0,
        name: [0; COMM_LEN],
        signal: Signal::NONE,
        limit: MemoryLimit::UNKNOWN,
        cgroup: Cgroup {
            components: [[0; COMPONENT_LEN]; COMPONENTS],
        },
    };
}

impl PeerClosed {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: PEER_CLOSED,
            len: 0,
            pid: 0,
            at: 0,
        },
        local: Endpoint::NONE,
        remote: Endpoint::NONE,
        rst_reason: 0,
        reset: 0,
        netns: 0,
        unread: 0,
        padding: 0,
        end: End::UNKNOWN,
    };
}

impl Death {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: DEATH,
            len: 0,
            pid: 0,
            at: 0,
        },
        end: End::UNKNOWN,
    };
}
