//! The records, one file an event family, and the constants that the loader fills in.

mod attempt;
mod config;
mod connection;
mod death;
mod dns;
mod flow;
mod process;
mod reply;
mod request;
mod worker;

pub use self::{
    attempt::{
        FAILURE, FIRST_BYTE, Failure, FirstByte, RETRANSMIT, RETRY, Retransmit, Retry, SOCKADDR_LEN,
    },
    config::{ABSENT, DROP_SITES, DropSite, Offsets, WantedDrops, own_reason},
    connection::{
        ACCEPTED, CONNECTION, Connection, FLAG_BROKE_OFF, FLAG_LOGS_ERRORS, FLAG_MEASURED,
        FLAG_OPEN, FLAG_RETRY, FLAG_RST_IN_SYN_SENT, FLAG_TLS_DATA, FLAG_UNASKED, FLAG_UNIX,
        FLAG_WHOLE, Holder, NO_LENGTH, QUEUED, Routes, UnixConnection,
    },
    death::{
        COMM_LEN, COMPONENT_LEN, COMPONENTS, Cgroup, DEATH, Death, End, MemoryLimit, PEER_CLOSED,
        PeerClosed, Sent, Signal,
    },
    dns::{ANSWERED, ASKED, DNS, Dns, FAILED, IS_ANSWER, IS_TRUNCATED, QUESTION_LEN},
    flow::{DROP_SLOTS, DropSlot, Flow, FlowKey},
    process::{
        EXECUTED, EXITED, FOLLOWED, FORKED, PROCESS, Process, REFUSED, WAS_FOLLOWED, YOUNG_FORKED,
    },
    reply::{Main, REPLY, Reply, WATCHED, Watched},
    request::{
        ANSWER, Answer, Client, FORMAT_LEN, HEAD_LEN, HOST_LEN, LOG_CALL, LOG_CALL_NUMBER,
        LOG_CALL_STREAM, LogCall, NAME_COMPUTED, NAME_LEN, Name, TAIL_LEN, TEXT_LEN,
    },
    worker::{
        CODES, Code, FAMILY_QUOTA, LAYOUT, Layout, LayoutShown, Members, NOBODY, NOT_AS_EXPECTED,
        OTHERS, OTHERS_QUOTA, Program, ProgramKey, SHOWN, SHOWN_BY_SESSION, TARGETS, WORKER_SLOTS,
        Worker, quota, worker_places,
    },
};

/// Bumped when the meaning or the layout of a record changes.
pub const VERSION: u32 = 1;

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// Which record.
    pub tag: u16,
    /// Bytes of the record, header included.
    pub len: u16,
    /// The nginx process (host pid) it belongs to.
    pub pid: u32,
    /// When, in nanoseconds since boot.
    pub at: u64,
}

/// One end of a connection: an IPv4 address is kept as IPv4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Network byte order.
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u16,
}

impl Endpoint {
    /// No address, no port.
    pub const NONE: Self = Self {
        address: [0; 16],
        port: 0,
    };
}

/// Counters of the kernel side, slots of the `COUNTERS` per-CPU array.
pub mod counter {
    /// Records that found the ring buffer full.
    pub const LOST: u32 = 0;
    /// Healthy connections that were not written, as
    /// [`shedding::HEALTHY`](super::shedding::HEALTHY) asks.
    pub const HEALTHY: u32 = 1;
    /// Failed attempts that were not reported, as [`shedding::SAMPLE`](super::shedding::SAMPLE)
    /// asks.
    pub const UNTOLD: u32 = 2;
    /// Records written to the ring buffer.
    pub const WRITTEN: u32 = 3;
    /// Times that it was not read what a request asks, as
    /// [`shedding::DETAILS`](super::shedding::DETAILS) has it: seldom more than once a request.
    pub const BARE: u32 = 4;
    /// Times that something was met that only nginx's closing of connections shows: a log that
    /// lets no errors through, a unix connection to an upstream.
    pub const CLOSINGS: u32 = 5;
    /// Processes of nginx's that found no place to be followed.
    pub const REFUSED: u32 = 6;
    /// How many slots there are.
    pub const SLOTS: u32 = 7;
}

/// What the collector wants left out, slots of the `SHEDDING` array: no verdict rests on it,
/// or there is too much to do.
pub mod shedding {
    /// Not 0: healthy connections are counted, not written.
    pub const HEALTHY: u32 = 0;
    /// A power of two less 1: of so many failed requests and one more, one is reported; 0: all
    /// are.
    pub const SAMPLE: u32 = 1;
    /// Requests that began from then on (nanoseconds since boot) are of that sample: all of one's
    /// records are reported, or none.
    pub const SINCE: u32 = 2;
    /// The sample that older ones are of.
    pub const BEFORE: u32 = 3;
    /// Not 0: connections that served well, and of which nothing was ever asked, are neither
    /// written nor counted.
    pub const UNASKED: u32 = 4;
    /// Not 0: what a request asks (its line, its host) is not read.
    pub const DETAILS: u32 = 5;
    /// How many failed requests of each worker are reported in a window whatever the sample: a
    /// flood of one nginx hides no other's failures.
    pub const GRANT: u32 = 6;
    /// How many slots there are.
    pub const SLOTS: u32 = 7;
    /// Nanoseconds of a window, as a power of two: 134 ms.
    pub const WINDOW: u32 = 27;
    /// In a request's number: it was granted.
    pub const GRANTED: u64 = 1;
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Endpoint>() == 18);
    assert!(size_of::<Flow>() == 96);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<Worker>() == 272);
    assert!(size_of::<Connection>() == 296 + size_of::<Flow>());
    assert!(size_of::<UnixConnection>().is_multiple_of(8));
    assert!(size_of::<MemoryLimit>() == 16 + COMPONENT_LEN);
    assert!(size_of::<End>() == 32 + 80 + size_of::<MemoryLimit>() + COMPONENTS * COMPONENT_LEN);
    assert!(size_of::<PeerClosed>() == 16 + 36 + 20 + size_of::<End>());
    assert!(size_of::<Dns>() == 16 + 18 + 2 + 4 + 4 + 4 + 4 + QUESTION_LEN);
    assert!(size_of::<Failure>().is_multiple_of(8));
    assert!(size_of::<Name>() == 8 + NAME_LEN);
    assert!(
        size_of::<Client>()
            == 8 + 8 + 18 + 2 + 12 + HEAD_LEN + TAIL_LEN + HOST_LEN + 4 * size_of::<Name>()
    );
    assert!(size_of::<Answer>() == 32 + size_of::<Client>());
    assert!(size_of::<FirstByte>() == 184 + size_of::<Client>());
    assert!(size_of::<Reply>() == 16 + 32);
    assert!(size_of::<LayoutShown>() == 16 + 16);
    assert!(size_of::<LogCall>().is_multiple_of(8));
};
