//! Kernel records as domain types. Each is decoded from one ABI record of `tracer-ebpf`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    Time, Upstream,
    said::{Format, Said},
};

/// What names a request within its worker, from its turn to its upstream on: no other request of
/// that worker has it. It is the time of that turn (nanoseconds, as [`Time`]).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct RequestId(pub u64);

/// What names a client's request within its worker, subrequests apart, while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientRequest {
    /// The address of nginx's `ngx_http_request_t` in the worker; nginx recycles it.
    pub address: u64,
    /// nginx's number of the client's connection.
    pub connection: u64,
}

/// What the client of a request that met a failure got in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// When nginx wrote it, or the client's connection ended.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The client's request.
    pub client_request: ClientRequest,
    /// The one whose attempt failed last; `None` where that has no upstream.
    pub request: Option<RequestId>,
    /// `r->headers_out.status`; `None`: the client was gone.
    pub status: Option<u16>,
    /// Its answer had begun before that failure.
    #[serde(default)]
    pub is_earlier: bool,
}

/// `ngx_event_connect_peer` failed at once (`src/event/ngx_event_connect.c`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When it was called, and when it returned.
    pub start: Time,
    /// See `start`.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The request.
    pub request: RequestId,
    /// Where to; `None` if nginx chose no peer (`no live upstreams`).
    pub upstream: Option<Upstream>,
    /// The source address from `proxy_bind`, if one was set.
    pub source: Option<SocketAddr>,
    /// The name of the upstream block whose balancer had no peer (`NGX_BUSY`), from nginx's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// `NGX_ERROR` −1, `NGX_BUSY` −3, `NGX_DECLINED` −5.
    pub code: i32,
    /// The errno, positive; 0 if none was set.
    pub errno: u32,
    /// The kernel moved the socket to `SYN_SENT` within the call.
    pub syn_sent: bool,
    /// Route lookups within the call.
    pub routes: RouteLookup,
}

/// How `ngx_event_connect_peer` failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// `NGX_BUSY`: the balancer had no peer.
    NoPeer,
    /// `NGX_ERROR`: before `connect()`.
    BeforeConnect,
    /// `NGX_DECLINED`: `connect()` failed at once.
    ConnectFailed,
    /// A code that it does not return: only a damaged capture has one.
    Unknown,
}

impl Failure {
    /// `NGX_BUSY`.
    pub(crate) const NO_PEER: i32 = -3;
    /// `NGX_ERROR`.
    const BEFORE_CONNECT: i32 = -1;
    /// `NGX_DECLINED`.
    pub(crate) const CONNECT_FAILED: i32 = -5;

    /// Returns how it failed.
    pub(crate) fn kind(&self) -> FailureKind {
        match self.code {
            Self::NO_PEER => FailureKind::NoPeer,
            Self::BEFORE_CONNECT => FailureKind::BeforeConnect,
            Self::CONNECT_FAILED => FailureKind::ConnectFailed,
            _ => FailureKind::Unknown,
        }
    }
}

/// The route lookups of one `connect()` (`fib_table_lookup`, `fib6_table_lookup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteLookup {
    /// How many were seen; 0 also if the hook is absent.
    pub lookups: u32,
    /// IPv4: the last one's error, negative errno (−11: nothing matched in that table), 0 a route
    /// was found.
    pub error: i32,
    /// IPv6: the last one's route type (`RTN_UNICAST` 1, `RTN_BLACKHOLE` 6, `RTN_UNREACHABLE` 7,
    /// `RTN_PROHIBIT` 8), 0 if unseen.
    pub kind: u8,
    /// The errno (positive) with which the security modules denied the call before any lookup
    /// (`security_socket_connect`); `None` also where that hook is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<u32>,
    /// No hook looked for lookups: nginx's log alone reported the failure.
    #[serde(default, skip)]
    pub unseen: bool,
}

/// An upstream connection's life, written by the kernel side when the worker closed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The socket's kernel address; unique together with `start`.
    pub socket: u64,
    /// The worker.
    pub worker: u32,
    /// The request it served last; `None` unknown (opened before attaching, not used since).
    pub request: Option<RequestId>,
    /// `connect()` began; 0 if that was before attaching.
    pub start: Time,
    /// When the worker closed it.
    pub closed: Time,
    /// Both ends. The local one is `None` where the kernel never chose a port.
    pub local: Option<SocketAddr>,
    /// The upstream.
    pub remote: Upstream,
    /// Network namespace (inode number).
    pub netns: u32,
    /// When the three-way handshake was complete.
    pub established: Option<Time>,
    /// First byte of a response for the request it served last. TLS's handshake and alerts are
    /// none; in captures of before, and of `stream {}`, the handshake's first byte.
    pub first_byte: Option<Time>,
    /// The HTTP/1 status of that response, where it could be read.
    pub status: Option<u16>,
    /// The upstream's FIN.
    pub fin_received: Option<Time>,
    /// The upstream's RST, and whether the socket was in `SYN_SENT` then.
    pub rst_received: Option<Time>,
    /// See `rst_received`.
    pub rst_in_syn_sent: bool,
    /// The last error the socket reported (`inet_sk_error_report`), positive errno, and when.
    pub error: Option<(u32, Time)>,
    /// TCP state when the worker closed it (kernel numbering: 1 ESTABLISHED, 2 SYN_SENT, 7 CLOSE, 8
    /// CLOSE_WAIT).
    pub state: u8,
    /// SYNs sent again, and when last.
    pub syn_retransmits: u32,
    /// See `syn_retransmits`.
    pub last_retransmit: Option<Time>,
    /// Payload bytes.
    pub bytes_received: u64,
    /// Payload bytes handed to TCP.
    pub bytes_sent: u64,
    /// Bytes that came and that nginx never read, as far as its reads were seen.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u64,
    /// Bytes that nginx wrote of a request on a reused connection before it heard of the upstream;
    /// 0 unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked: u64,
    /// The worker last wrote to it, and last read from it (bytes, not an end).
    pub last_sent: Option<Time>,
    /// See `last_sent`.
    pub last_received: Option<Time>,
    /// The worker read the end: `recv() = 0`.
    pub end_read: Option<Time>,
    /// The worker's read or write failed: positive errno, and when.
    pub transfer_error: Option<(u32, Time)>,
    /// First byte of what the worker wrote since the connection was made: 0x16 is a TLS handshake.
    pub first_sent: Option<u8>,
    /// First byte of what came, after a TLS handshake of what came then: 0x15 a TLS alert, 0x16 a
    /// TLS handshake, 0x17 a TLS record of another kind, or an alert in TLS 1.3; `H` of `HTTP/1`; 4
    /// an HTTP/2 SETTINGS frame.
    pub first_received: Option<u8>,
    /// The description of the TLS alert that came first (RFC 8446 section 6).
    pub tls_alert: Option<u8>,
    /// The worker wrote TLS application data: for it the handshake was complete.
    pub tls_data: bool,
    /// The upstream ended the response before the end that its header had announced.
    #[serde(default)]
    pub broke_off: bool,
    /// A read failed after all had come that the response's header had announced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Bytes of an HTTP/1 response's body that nginx read, where it logged something about the
    /// response or its end came too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Unix sockets: who called `listen()` (`SO_PEERCRED`), host pid.
    pub listener_pid: Option<u32>,
    /// Unix sockets, while both ends are open: whether `accept()` had taken the upstream's when
    /// this was written.
    pub accepted: Option<bool>,
    /// Unix sockets: the process that last read from or wrote to the upstream's end.
    pub holder: Option<Holder>,
    /// The connection was still open when this was written: the error answer came first, or it is
    /// kept alive.
    pub open: bool,
    /// How often nginx took it out of its keep-alive cache.
    pub reuses: u32,
    /// When last.
    pub reused_at: Option<Time>,
    /// How long nothing had been read from it then, in nanoseconds.
    pub idle: Option<u64>,
    /// A RST that a TCP of this host (any namespace of it) sent for want of a socket, answering our
    /// SYN.
    pub rst_sent: Option<RstSent>,
    /// Packets of this connection that this host (any namespace of it) dropped, first of each
    /// reason, at most 3.
    pub drops: Vec<Drop>,
    /// An ICMP error that this host (any namespace of it) made about a packet of this connection:
    /// type, code, when.
    pub icmp_sent: Option<(u8, u8, Time)>,
    /// How many waited in the listener's accept queue as it refused a packet of ours, and how many
    /// may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_queue: Option<(u32, u32)>,
    /// The upstream's end as this host met it behind an address translation (DNAT), joined by
    /// nginx's end: what happened to packets there is in the members above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<SocketAddr>,
    /// Route lookups within `connect()`.
    pub routes: RouteLookup,
}

/// How much of a response's body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Bytes, with what frames them.
    pub read: u64,
    /// Its `Content-Length`, if it has one.
    pub length: Option<u64>,
}

impl Connection {
    /// Where it leads: the upstream's address, or what that is translated to.
    #[must_use]
    pub fn reached(&self) -> Option<SocketAddr> {
        match self.remote {
            Upstream::Inet(remote) => Some(self.translated.unwrap_or(remote)),
            Upstream::Unix(_) => None,
        }
    }

    /// Whether the three-way handshake was complete, also where its end was not seen: nothing is
    /// sent before.
    #[must_use]
    pub fn was_established(&self) -> bool {
        self.established.is_some() || self.bytes_sent > 0 || self.bytes_received > 0
    }
}

/// A process that uses an upstream's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host pid.
    pub pid: u32,
    /// Its `comm`.
    pub name: String,
    /// The last fatal signal sent to it before this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
}

/// `tcp:tcp_send_reset` without a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RstSent {
    /// When.
    pub at: Time,
    /// The kernel's name for the reason (`NO_SOCKET`), from 6.10 on.
    pub reason: Option<String>,
}

/// `skb:kfree_skb` of a packet of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// When first.
    pub at: Time,
    /// The kernel's name for it: `NETFILTER_DROP`, `NEIGH_FAILED`, ….
    pub reason: String,
    /// TCP flags of the packet (0x02 SYN, 0x12 SYN-ACK).
    pub tcp_flags: u8,
    /// It came from the upstream (a SYN-ACK on its way back).
    pub from_upstream: bool,
    /// How many for this reason.
    pub count: u32,
}

/// nginx makes an error answer: `ngx_http_special_response_handler` with 500, 502 or 504, or a
/// `return` of the configuration with any status of 500 or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The status.
    pub status: u16,
    /// The request; `None` where it has no upstream (`return 502`).
    pub request: Option<RequestId>,
    /// The client's address, from its socket.
    pub client: Option<SocketAddr>,
    /// The port of nginx's own that the client connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// nginx's connection number.
    pub connection: Option<u64>,
    /// What was asked, of an HTTP/1 request, from nginx's memory.
    pub head: Option<RequestHead>,
    /// By what it is known elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Box<RequestNames>>,
    /// What the client had got already, where this is a subrequest's.
    pub client_status: Option<u16>,
    /// The client's request, if a [`Reply`] will tell what it really got.
    pub watched: Option<ClientRequest>,
    /// A `return` of the configuration made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_returned: bool,
}

/// What a client asked: the beginning of an HTTP/1 request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The request line, cut where what was kept ends.
    pub line: String,
    /// The `Host`, if it came within what was kept.
    pub host: Option<String>,
}

/// By what a request is known elsewhere, from nginx's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestNames {
    /// The `server_name` of its server block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The name of its upstream block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// `$request_id` where nginx has computed it, else the client's `X-Request-ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The client's `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// `ngx_log_error_core` at `error` or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCall {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// nginx's level (4 is `error`, 3 `crit`, 2 `alert`).
    pub level: u8,
    /// The errno given, 0 for none.
    pub errno: u32,
    /// nginx's connection number, 0 for none.
    pub connection: u64,
    /// The request, where the call belongs to one with an upstream.
    pub request: Option<RequestId>,
    /// It belongs to a `stream {}` session, not to an HTTP request.
    pub stream: bool,
    /// The format string, which names the place in nginx's source: `connect() failed`, `bind(%V)
    /// failed`.
    pub format: Format,
    /// Where the format string lies in the worker, if the kernel side could not read it: nobody had
    /// used its page yet.
    #[serde(skip)]
    pub unread: Option<Unread>,
    /// The text that stands for the format where that is only `%*s` (OpenSSL's errors); the name in
    /// `no resolver defined to resolve %V`; the path in `open() "%s" failed`, at most 95 bytes of
    /// it.
    pub text: Option<String>,
    /// The number that the format takes first: the error code in `upstream sent goaway with error
    /// %ui`, the status in `auth request unexpected status: %ui`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// For `%V could not be resolved (%i: %s)`: the name, and the resolver's state (an rcode, or
    /// 110).
    pub resolved: Option<(String, u32)>,
}

/// Of a log call whose format is not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where the format lies in the worker.
    pub address: u64,
    /// What the first arguments are, read as a text.
    pub text: Option<String>,
    /// The first argument, read as a string that ends with NUL.
    pub string: Option<String>,
    /// The second argument, or the first if that is a small number.
    pub state: u32,
    /// It is the first one, a small number.
    pub is_number: bool,
}

impl LogCall {
    /// Takes the format, which says what the arguments mean.
    pub fn read(&mut self, format: String, arguments: Unread) {
        self.format = format.into();
        match self.said() {
            Said::OpenSsl | Said::NoResolver => self.text = arguments.text,
            said if said.is_of_response() => match conversion(&self.format) {
                "ui" | "uz" | "d" if arguments.is_number => self.number = Some(arguments.state),
                // A header line: its value may be a secret.
                "V" | "*s" => {
                    let name = |line: String| line.split(':').next().map(str::to_owned);
                    self.text = arguments.text.and_then(name);
                }
                _ => {}
            },
            // Others have a service's name before the host's.
            Said::Unresolved if self.format.starts_with("%V could") => {
                self.resolved = arguments.text.map(|name| (name, arguments.state));
            }
            Said::AuthStatus | Said::SliceStatus => {
                self.number = arguments.is_number.then_some(arguments.state);
            }
            _ if self
                .format
                .split('%')
                .nth(1)
                .is_some_and(|it| it.starts_with('s')) =>
            {
                self.text = arguments.string;
            }
            _ => {}
        }
    }
}

/// The first conversion of a format of nginx's.
fn conversion(format: &str) -> &str {
    let after = format.split('%').nth(1).unwrap_or_default();
    let known = ["ui", "uz", "*s", "d", "V"];
    known
        .into_iter()
        .find(|one| after.starts_with(one))
        .unwrap_or_default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A further attempt of a request began; its own record comes at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The request.
    pub request: RequestId,
}

/// `tcp:tcp_retransmit_skb` in `SYN_SENT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retransmit {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The socket.
    pub socket: u64,
    /// The upstream.
    pub remote: SocketAddr,
    /// Its ordinal.
    pub count: u32,
}

/// The first byte of a response on a connection that serves a request which failed before, or of a
/// 502 or 504.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstByte {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The socket.
    pub socket: u64,
    /// The request.
    pub request: RequestId,
    /// The upstream, where nginx's memory showed it.
    pub remote: Option<Upstream>,
    /// nginx's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The HTTP/1 status, where it could be read.
    pub status: Option<u16>,
    /// When `connect()` began.
    pub start: Time,
    /// nginx's number of the client's connection.
    pub connection: Option<u64>,
    /// The client's address, from its socket.
    pub client: Option<SocketAddr>,
    /// The port of nginx's own that the client connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// What was asked.
    pub head: Option<RequestHead>,
    /// By what it is known elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Box<RequestNames>>,
    /// The client's request, where known.
    pub client_request: Option<ClientRequest>,
}

/// An nginx process came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// When.
    pub at: Time,
    /// Its pid on the host.
    pub pid: u32,
    /// What happened.
    pub kind: ProcessKind,
}

/// What happened to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessKind {
    /// A followed master forked it.
    Forked {
        /// The master.
        master: u32,
    },
    /// Some process of the host executed a program.
    Executed,
    /// A followed process ended: `task_struct.exit_code` (signal in the low 7 bits, exit code above
    /// 8).
    Exited {
        /// The raw code.
        code: u32,
    },
}

/// An ICMP error that this host received about a TCP packet of a worker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// When it was read.
    pub at: Time,
    /// Network namespace (inode number).
    pub netns: u32,
    /// ICMP (or ICMPv6) type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Who sent it.
    pub sender: IpAddr,
    /// The source of the packet that it is about.
    pub source: SocketAddr,
    /// The destination of the packet that it is about.
    pub destination: SocketAddr,
}

/// A signal that ended a process, or was about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its number.
    pub number: u8,
    /// `si_code`: 0 sent by `kill()`, above 0 by the kernel (128 `SI_KERNEL`).
    pub code: i32,
    /// Who sent it: host pid and `comm`; the process itself for a fault of its own.
    pub sender: u32,
    /// See `sender`.
    pub sender_name: String,
    /// When.
    pub at: Time,
    /// The last one that its sender had received itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Signal>>,
}

impl Signal {
    /// A stop takes no longer than service managers wait for it (nanoseconds).
    const STOP: u64 = 90_000_000_000;

    /// Programs catch it to stop in order: SIGINT, QUIT, ABRT, TERM.
    #[must_use]
    pub fn asks_to_stop(&self) -> bool {
        matches!(self.number, 2 | 3 | 6 | 15)
    }

    /// Was it sent before `at`, and not so long before that it has nothing to do with it?
    #[must_use]
    pub fn is_of_late(&self, at: Time) -> bool {
        self.at <= at && at.since(self.at) <= Self::STOP
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When.
    pub at: Time,
    /// Host pid.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its `comm`.
    pub name: String,
    /// Container, unit or cgroup that it ran in, where one is named.
    pub unit: Option<String>,
    /// The path of its memory cgroup, at most its last 6 components; `/` where none is known.
    #[serde(default)]
    pub cgroup: String,
    /// `task_struct.exit_code`: the signal in the low 7 bits, the exit code above 8.
    pub code: u32,
    /// The last fatal signal sent to it.
    pub signal: Option<Signal>,
    /// The OOM killer chose it.
    pub oom: bool,
    /// … when this limit was the nearest on its memory.
    pub limit: Option<MemoryLimit>,
}

/// A limit on the memory of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// The last component of the cgroup's path.
    pub cgroup: String,
    /// How many bytes it may hold.
    pub bytes: u64,
    /// How many it held.
    pub used: u64,
}

/// A local backend's end of a connection went away without a response, after nginx had left, or
/// with its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerClosed {
    /// When.
    pub at: Time,
    /// nginx's end.
    pub local: SocketAddr,
    /// The upstream's end.
    pub remote: SocketAddr,
    /// nginx's network namespace, 0 unknown: in captures from before it was recorded.
    #[serde(default)]
    pub netns: u32,
    /// No worker tried `remote`; by nginx's end it is the upstream's of a connection whose address
    /// was translated (DNAT).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub translated: bool,
    /// Who did it: host pid, `comm`.
    pub pid: u32,
    /// See `pid`.
    pub name: String,
    /// Its parent, host pid.
    #[serde(default)]
    pub parent: u32,
    /// Bytes that it left unread as it sent a RST.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u64,
    /// The kernel's reason for the RST it sent (`TCP_ABORT_ON_CLOSE`: unread data; `TCP_STATE`:
    /// linger 0), if it did.
    pub reset: Option<String>,
    /// It was ending.
    pub death: Option<Death>,
    /// It was not, but this fatal signal had been sent to it, the last of such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
}

impl PeerClosed {
    /// What [`Self::reset`] is where the kernel gives no reason (before 6.10).
    pub const NO_REASON: &str = "RST";
}

/// A step of nginx's resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// When.
    pub at: Time,
    /// The worker.
    pub worker: u32,
    /// The server.
    pub server: SocketAddr,
    /// Over TCP; else UDP.
    pub over_tcp: bool,
    /// What happened.
    pub step: DnsStep,
    /// Query id; nginx keeps it when it asks again, and over TCP.
    pub id: u16,
    /// The name asked, in text, at most 131 bytes of it; empty where a failure or a short answer
    /// names none.
    pub name: String,
}

impl Dns {
    /// Whether it is about that name, as far as it was kept.
    #[must_use]
    pub fn is_about(&self, name: &str) -> bool {
        let (kept, name) = (self.name.trim_end_matches('.'), name.trim_end_matches('.'));
        let is_cut = kept.len() >= 120 && name.len() > kept.len();
        let wanted = if is_cut {
            name.get(..kept.len())
        } else {
            Some(name)
        };
        !kept.is_empty() && wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(kept))
    }
}

/// What happened between nginx and a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsStep {
    /// nginx asked.
    Asked,
    /// The server answered that its answer is too long: nginx asks again over TCP.
    Truncated,
    /// The server answered: rcode, and how many answer records.
    Answered {
        /// 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
        rcode: u8,
        /// Answer records.
        answers: u16,
    },
    /// Sending or receiving failed: positive errno (111: the server's port is closed).
    Failed {
        /// The errno.
        errno: u32,
    },
}
