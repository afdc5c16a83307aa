//! What the kernel side keeps of an nginx process. Written by the collector, then by the hooks.

use super::{Header, Main, Routes};

/// What lies where in a process of nginx's. Whoever it forks shares it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Where libc's `errno` lies from the thread pointer; 0 unknown.
    pub errno: i64,
    /// Where an `ngx_connection_t` counts its requests; 0 unknown.
    pub requests: u64,
    /// Where `headers_out.status` lies in an `ngx_http_request_t`; 0 unknown.
    pub status: u64,
    /// Where `ngx_event_connect_peer` begins in the process. 0: attempts are seen by its entry and
    /// return, not by their sockets.
    pub connect: u64,
    /// The pieces of code that it was compiled to.
    pub connecting: [Code; CODES],
    /// Where members of nginx's objects lie that move between builds.
    pub members: Members,
}

/// A piece of a function's code. What compilers split off (`.part.0`, `.cold`) lies elsewhere than
/// the function.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Where it begins, from the function's address.
    pub from: i32,
    /// How many bytes it is; 0: there is none.
    pub length: u32,
}

/// As many pieces as compilers make of a function: itself, a part, and what is cold of both.
pub const CODES: usize = 4;

impl Code {
    /// No piece.
    pub const NONE: Self = Self { from: 0, length: 0 };
}

/// Where members of nginx's objects lie that move between versions, forks and builds. Each worker's
/// own memory shows them at its first failure; what a build is expected to have is known before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members {
    /// `log` in an `ngx_peer_connection_t`; 0 unknown.
    pub peer_log: u16,
    /// `data` in an `ngx_log_t`; 0 unknown.
    pub log_data: u16,
    /// `upstream` in an `ngx_http_request_t`; 0 unknown.
    pub upstream: u16,
    /// [`SHOWN`] and the like.
    pub state: u16,
}

/// Tag of [`LayoutShown`].
pub const LAYOUT: u16 = 21;

/// A worker's memory showed members elsewhere than they were expected, or, all 0, nowhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LayoutShown {
    /// Tag [`LAYOUT`].
    pub header: Header,
    /// All 0: nothing was expected.
    pub expected: Members,
    /// What its memory showed.
    pub shown: Members,
}

/// In [`Members::state`]: the worker's memory showed them.
pub const SHOWN: u16 = 1;
/// In [`Members::state`]: a session of `stream {}` showed them, but for `upstream`.
pub const SHOWN_BY_SESSION: u16 = 4;
/// In [`Members::state`]: it was reported that its memory does not show them.
pub const NOT_AS_EXPECTED: u16 = 2;

impl Members {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        peer_log: 0,
        log_data: 0,
        upstream: 0,
        state: 0,
    };

    /// As a function of the kernel side's returns them.
    #[must_use]
    #[inline(always)]
    pub fn bits(self) -> u64 {
        u64::from(self.peer_log)
            | u64::from(self.log_data) << 16
            | u64::from(self.upstream) << 32
            | u64::from(self.state) << 48
    }

    /// From [`Self::bits`].
    #[must_use]
    #[inline(always)]
    pub fn from_bits(bits: u64) -> Self {
        Self {
            peer_log: bits as u16,
            log_data: (bits >> 16) as u16,
            upstream: (bits >> 32) as u16,
            state: (bits >> 48) as u16,
        }
    }

    /// Are they the worker's own memory's?
    #[must_use]
    #[inline(always)]
    pub fn are_shown(self) -> bool {
        self.state & SHOWN != 0
    }

    /// The same places?
    #[must_use]
    #[inline(always)]
    pub fn are_at(self, other: Self) -> bool {
        self.peer_log == other.peer_log
            && self.log_data == other.log_data
            && self.upstream == other.upstream
    }
}

impl Layout {
    /// Are attempts seen by their sockets?
    #[must_use]
    #[inline(always)]
    pub fn is_by_socket(&self) -> bool {
        self.connect != 0
    }

    /// Does an address lie in the code of `ngx_event_connect_peer`?
    #[must_use]
    #[inline(always)]
    pub fn is_connecting(&self, address: u64) -> bool {
        let inside = address.wrapping_sub(self.connect);
        self.connecting
            .iter()
            .any(|code| inside.wrapping_sub(code.from as u64) < u64::from(code.length))
    }
}

impl Worker {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        pid: 0,
        family: 0,
        layout: Layout {
            errno: 0,
            requests: 0,
            status: 0,
            connect: 0,
            connecting: [Code::NONE; CODES],
            members: Members::UNKNOWN,
        },
        peer: 0,
        start: 0,
        socket: 0,
        request: 0,
        logged_errno: 0,
        has_logged: 0,
        is_retry: 0,
        watched: 0,
        last_watched: 0,
        is_led_on: 0,
        returned: 0,
        has_unix: 0,
        granted: 0,
        reset: 0,
        reset_at: 0,
        main: Main::NONE,
        core: 0,
        request_id: 0,
        routes: Routes::NONE,
    };
}

/// Which program a process runs: the inode of its file as the kernel has it. It differs from what
/// `stat()` shows on file systems that are stacked or have subvolumes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProgramKey {
    /// `inode.i_ino`
    pub inode: u64,
    /// `super_block.s_dev`: 20 bits of minor number below the major one.
    pub device: u32,
    /// Zero.
    pub padding: u32,
}

impl ProgramKey {
    /// No program.
    pub const NONE: Self = Self {
        inode: 0,
        device: 0,
        padding: 0,
    };
}

/// A program that is nginx: the value of the map `PROGRAMS`. Whoever executes it is followed from
/// its first instruction on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// See [`Layout`]; `connect` is an address of the file's.
    pub layout: Layout,
    /// The file's address of what lies at `mm_struct.start_code`.
    pub code: u64,
}

/// Elements of the array `WORKERS`.
pub const WORKER_SLOTS: u32 = 8192;
/// How many places a process may have there: the first that is free. With 1,000 of them one in 20
/// million finds none.
pub const WORKER_PLACES: u32 = 8;

/// The places of a process in the array `WORKERS`; behind one that nobody ever had there is none.
/// Which pids share places depends on a secret number: nobody can fill those of another's.
#[inline(always)]
pub fn worker_places(pid: u32, seed: u32) -> impl Iterator<Item = u32> {
    let first = (pid ^ seed).wrapping_mul(0x9e37_79b1) >> (32 - WORKER_SLOTS.ilog2());
    // An odd number of places apart, or processes that are neighbours would share them.
    (0..WORKER_PLACES).map(move |at| first.wrapping_add(at * 977) % WORKER_SLOTS)
}

/// The family of all processes that another user than root started: they share their places, so
/// that none of them takes those of root's.
pub const OTHERS: u32 = 0;
/// How many followed processes a family may have: those that one execution led to by forks.
pub const FAMILY_QUOTA: u32 = WORKER_SLOTS / 8;
/// How many processes of other users than root may be followed.
pub const OTHERS_QUOTA: u32 = WORKER_SLOTS / 2;

/// How many a family may have.
#[must_use]
#[inline(always)]
pub fn quota(family: u32) -> u32 {
    if family == OTHERS {
        OTHERS_QUOTA
    } else {
        FAMILY_QUOTA
    }
}

/// In [`Worker::pid`]: whose place this was is followed no more.
pub const NOBODY: u32 = u32::MAX;

/// A followed process (a worker, or its master): value of the array `WORKERS` at one of its
/// [`worker_places`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker {
    /// Its host pid; 0: nobody had the place yet.
    pub pid: u32,
    /// Whose quota its place counts to: the pid that executed its program, or [`OTHERS`].
    pub family: u32,
    /// See [`Layout`].
    pub layout: Layout,
    /// The `ngx_peer_connection_t *` of the `ngx_event_connect_peer` call in progress, 0 none; by
    /// sockets always 0.
    pub peer: u64,
    /// When that call began; by sockets when the attempt was first seen.
    pub start: u64,
    /// The `struct sock *` that call moved to `SYN_SENT`, 0 none.
    pub socket: u64,
    /// The request of that call: a number that this worker gives to no other request.
    pub request: u64,
    /// The errno that call logged.
    pub logged_errno: u32,
    /// 1: that call logged, be it without an errno.
    pub has_logged: u32,
    /// 1: an attempt of the same request came before that call; 2: of the same client's request,
    /// with another upstream object (`error_page` led on to it).
    pub is_retry: u32,
    /// How many of its requests are watched until they are answered.
    pub watched: u32,
    /// 1: the worker's next attempt may be a further one of a request, whose last one nothing else
    /// shows.
    pub is_led_on: u32,
    /// The request that a `return` of the configuration ended, already reported: from its
    /// connection's number and its ordinal on that; 0 none.
    pub returned: u32,
    /// The request of the last failure for which one was watched; 0: some watched one was answered
    /// since.
    pub last_watched: u64,
    /// 1: it has had unix connections to upstreams, whose end only nginx shows.
    pub has_unix: u32,
    /// The last window in which failed requests were granted, and in the low byte how many.
    pub granted: u32,
    /// A socket of which nothing is known got a RST: the `struct sock *`, 0 none.
    pub reset: u64,
    /// When.
    pub reset_at: u64,
    /// The request that a hook of its is about: more than a function of the hook's own can be
    /// given.
    pub main: Main,
    /// The `ngx_http_core_main_conf_t *` that `request_id` is of, 0 none.
    pub core: u64,
    /// Which of its indexed variables is `$request_id`, counted from 1; 0 none.
    pub request_id: u64,
    /// Route lookups within that call; by sockets since the worker last read or wrote one.
    pub routes: Routes,
}

/// How many program files breakpoints are set in with a number of their own.
pub const TARGETS: u32 = 1024;
