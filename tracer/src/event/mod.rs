//! What happened, as domain types. Everything that a verdict rests on is one of these, in one
//! ordered stream: kernel records, what the host was asked at that moment, and nginx's own log
//! lines.
//!
//! Times are nanoseconds since boot (`CLOCK_BOOTTIME`), as `bpf_ktime_get_boot_ns` gives them.

pub(crate) mod coverage;
pub(crate) mod decode;
mod doing;
pub(crate) mod fact;
mod heap;
pub(crate) mod kernel;
mod life;
pub(crate) mod log;
pub(crate) mod notice;
mod said;
mod time;
mod upstream;

pub(crate) use self::{
    coverage::Coverage,
    doing::Doing,
    fact::{Fact, Question},
    heap::Heap,
    kernel::{
        Answer, Body, ClientRequest, Death, Dns, DnsStep, Drop, Failure, FailureKind, FirstByte,
        Holder, Icmp, LogCall, MemoryLimit, PeerClosed, Process, ProcessKind, Reply, RequestHead,
        RequestNames, Retransmit, Retry, RouteLookup, RstSent, Signal, Unread,
    },
    life::{Life, LifeKind},
    log::LogLine,
    notice::{Notice, Strain},
    said::{Format, Said, Sent, is_line_of_page},
    upstream::Upstream,
};
pub use self::{
    kernel::{Connection, RequestId},
    time::{Clock, Time},
};

use serde::{Deserialize, Serialize};

/// One entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// `ngx_event_connect_peer` failed at once: no connection came to be.
    Failure(Failure),
    /// An upstream connection ended: everything the kernel saw of it.
    Connection(Box<Connection>),
    /// nginx makes an error answer of its own for a client.
    Answer(Answer),
    /// What the client of a request that met a failure got in the end.
    Reply(Reply),
    /// nginx writes an error-log line (the call, whatever the destination).
    LogCall(LogCall),
    /// A further attempt of a request began.
    Retry(Retry),
    /// A SYN of a worker's is sent again.
    Retransmit(Retransmit),
    /// The first byte of a response on a connection that serves a retry.
    FirstByte(Box<FirstByte>),
    /// An nginx process came, changed or went.
    Process(Process),
    /// Who a worker is, before the first event of it.
    Worker(fact::Worker),
    /// A local backend's end of a connection went away otherwise than by a plain `close()`.
    PeerClosed(Box<PeerClosed>),
    /// Some process of the host ended with an error or by a signal.
    Death(Box<Death>),
    /// A step of nginx's resolver.
    Dns(Dns),
    /// An ICMP error that this host received.
    Icmp(Icmp),
    /// What the host answered to a `Question`.
    Fact(Box<Fact>),
    /// A line of nginx's error log.
    LogLine(LogLine),
    /// Events that the kernel had to drop since the last such event.
    Lost(Lost),
    /// The attached hooks changed: reported at the start, and when another nginx was attached.
    Hooks(Hooks),
    /// An nginx resource nears its limit, or recovered.
    Notice(Notice),
    /// Whose failures can be seen changed.
    Coverage(Coverage),
    /// Nothing happened up to this time; deadlines may pass.
    Tick(Time),
}

/// Events that are missing, and what was left out on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When the loss was read.
    pub at: Time,
    /// How many records.
    pub events: u64,
    /// Healthy connections that were counted, not kept: the collector had too much to do.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub healthy: u64,
    /// Times that it was not read what a failed request asks, seldom more than once each: the
    /// collector had too much to do.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bare: u64,
    /// Failed attempts that were counted, not explained: the collector kept to its ceilings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unexplained: u64,
    /// Runs of our hooks that the kernel skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// Runs of a hook that the kernel skipped, as it ran on that CPU already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its program.
    pub hook: String,
    /// How many.
    pub runs: u64,
    /// After the look before; until the one that read it.
    pub since: Time,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Hooks that are not attached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// Since when.
    pub at: Time,
    /// Their names; each lowers what it touches.
    pub absent: Vec<String>,
}

impl Event {
    /// When it happened, or was read.
    #[must_use]
    pub fn at(&self) -> Time {
        match self {
            Self::Failure(one) => one.at,
            Self::Connection(one) => one.closed,
            Self::Answer(one) => one.at,
            Self::Reply(one) => one.at,
            Self::LogCall(one) => one.at,
            Self::Retry(one) => one.at,
            Self::Retransmit(one) => one.at,
            Self::FirstByte(one) => one.at,
            Self::Process(one) => one.at,
            Self::Worker(one) => one.at,
            Self::PeerClosed(one) => one.at,
            Self::Death(one) => one.at,
            Self::Dns(one) => one.at,
            Self::Icmp(one) => one.at,
            Self::Fact(one) => one.at,
            Self::LogLine(one) => one.at,
            Self::Lost(one) => one.at,
            Self::Hooks(one) => one.at,
            Self::Notice(one) => one.at,
            Self::Coverage(one) => one.at,
            Self::Tick(at) => *at,
        }
    }

    /// The request that it is of, where that has a number.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Failure(one) => Some(one.request),
            Self::Connection(one) => one.request,
            Self::Answer(one) => one.request,
            Self::Reply(one) => one.request,
            Self::LogCall(one) => one.request,
            Self::Retry(one) => Some(one.request),
            Self::FirstByte(one) => Some(one.request),
            _ => None,
        }
    }
}
