//! A state of nginx's that is no failed request and yet explains an incident; and what tracer
//! itself could not watch.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Time;

/// Such a state began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When it was seen.
    pub at: Time,
    /// Whose: the master of a listener, the worker, the tracer; pid on the host.
    pub pid: u32,
    /// What is short.
    pub strain: Strain,
    /// It has ended.
    pub is_over: bool,
}

/// What is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strain {
    /// nginx's own accept queue: clients cannot get in.
    ListenQueue {
        /// Where nginx listens.
        address: SocketAddr,
        /// Connections waiting (`sk_ack_backlog`).
        queue: u32,
        /// `sk_max_ack_backlog`: the smaller of what `listen()` asked and somaxconn.
        limit: u32,
        /// `net.core.somaxconn`.
        somaxconn: Option<u32>,
        /// Connections that the kernel dropped at this listener since the look before.
        dropped: u32,
    },
    /// A worker's descriptors (`worker_rlimit_nofile`).
    Descriptors {
        /// How many it holds.
        open: u64,
        /// `RLIMIT_NOFILE`, soft.
        limit: u64,
    },
    /// A worker's connections (`worker_connections`).
    Connections {
        /// In use; idle ones that nginx would give up are not counted.
        used: u64,
        /// All it has.
        limit: u64,
    },
    /// tracer's own descriptors: without them it cannot look at nginx.
    OwnDescriptors {
        /// How many it holds.
        open: u64,
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// No tracer watched: one ended without its summary, and this one began later.
    Unwatched {
        /// For so long before the notice (nanoseconds), or a second less.
        nanos: u64,
    },
    /// More was logged than is read. Of no process: `pid` is 0.
    LogSkipped {
        /// Bytes of error logs that were not read so far.
        bytes: u64,
    },
    /// An error log of a worker did not answer when it was read.
    LogStalled,
}

impl Strain {
    /// A word for programs.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::ListenQueue { .. } => "listen-queue",
            Self::Descriptors { .. } => "descriptors",
            Self::Connections { .. } => "connections",
            Self::OwnDescriptors { .. } => "own-descriptors",
            Self::Unwatched { .. } => "unwatched",
            Self::LogSkipped { .. } => "log-skipped",
            Self::LogStalled => "log-stalled",
        }
    }
}
