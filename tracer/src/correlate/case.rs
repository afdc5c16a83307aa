//! A case: one failed request, its attempts, and what was seen of each. It names no cause.

use crate::event::{
    Connection, Death, Dns, Failure, Heap, Icmp, LogCall, LogLine, PeerClosed, RequestHead,
    RequestNames, Skipped, Time, Upstream,
    fact::{
        BlockView, ConfinementView, DescriptorsView, FolderView, ListenerView, NamesView,
        PeerSocketView, PortsView, ReturnsView, UnixPathView, Worker,
    },
};

/// One failed (or masked) request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// When nginx made the error answer, or a masked failure ended.
    pub time: Time,
    /// The worker's pid on the host.
    pub worker: u32,
    /// Who that is, where known.
    pub identity: Option<Worker>,
    /// nginx's connection number.
    pub connection: Option<u64>,
    /// The client's address, from its socket.
    pub client: Option<std::net::SocketAddr>,
    /// What the client asked, of an HTTP/1 request, from nginx's memory; the log's lines may say it
    /// too.
    pub head: Option<RequestHead>,
    /// By what it is known elsewhere, from nginx's memory.
    pub names: Option<Box<RequestNames>>,
    /// nginx's error answer, or what the upstream answered, where known.
    pub status: Option<u16>,
    /// What the client really got, where that was seen: an error page, a named location or a cache
    /// may have taken the place of `status`.
    pub client_status: Option<u16>,
    /// A later attempt hid the failure: the client got a whole answer.
    pub masked: bool,
    /// The client got the header of an answer and a part of its body.
    pub cut_short: bool,
    /// The request has an upstream (`false`: `return 502` and the like).
    pub has_upstream: bool,
    /// A `return` of the configuration made the answer.
    pub is_returned: bool,
    /// All tries in order. Empty: nginx tried none.
    pub attempts: Vec<Attempt>,
    /// nginx's own calls to its error log for this request.
    pub log_calls: Vec<LogCall>,
    /// Requests of this worker of which attempts failed in the last minute before this one, oldest
    /// first, at most 32: what may have closed its peers to it. Only where nginx tried none.
    pub earlier: Vec<Case>,
    /// What nginx's resolver did on this worker in the last minute, at most 32 steps; of the name
    /// that nginx says it could not resolve, where it says so. Only where nginx tried no peer.
    pub dns: Vec<Dns>,
    /// The log's lines for this request (same worker, connection number; later matched to the
    /// request).
    pub log_lines: Vec<LogLine>,
    /// nginx passed the request to itself again and again.
    pub looped: Option<Looped>,
    /// What the host said of the request itself, not of one attempt.
    pub host: Box<RequestFacts>,
    /// What nginx itself did could not be seen: all that is known is what the kernel and its log
    /// say.
    pub is_alone: bool,
    /// Kernel records lost so far in this run.
    pub lost_events: u64,
    /// Runs of hooks that the kernel skipped while it lasted.
    pub skipped: Vec<Skipped>,
    /// Hooks that are not attached, by name; each lowers what it touches.
    pub absent_hooks: Vec<String>,
}

/// A request that nginx passed to itself: each time its own connection was the next one's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looped {
    /// How often it was passed on.
    pub passes: usize,
    /// Where the last one led.
    pub to: std::net::SocketAddr,
    /// Who sent the first.
    pub client: std::net::SocketAddr,
}

impl Case {
    /// The log's lines that only its own worker can have written, or whoever writes to that
    /// worker's log.
    pub fn sure_lines(&self) -> impl Iterator<Item = &LogLine> {
        self.log_lines.iter().filter(|line| !line.is_doubtful())
    }
}

/// One try to reach an upstream. What most have not is boxed: there is one of these for each
/// healthy connection, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Where to; `None` if nginx chose no peer.
    pub upstream: Option<Upstream>,
    /// When it began.
    pub start: Time,
    /// When it ended (or the request did).
    pub end: Time,
    /// On a kept-alive connection.
    pub reused: bool,
    /// How it went.
    pub course: Course,
    /// How the upstream's socket went away, where that was on this host and no plain `close()`.
    pub peer_closed: Option<Box<PeerClosed>>,
    /// Processes of the upstream that died around its end: of a unix socket the one that used it;
    /// where none was seen to, the listener's owner and its children.
    pub deaths: Vec<Death>,
    /// What the host said of it.
    pub facts: Facts,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// `ngx_event_connect_peer` failed at once.
    FailedAtOnce(Failure),
    /// There was a socket; this is its life.
    Connection(Box<Connection>),
    /// The attempt served the request: it succeeded.
    Succeeded,
    /// It failed, as nginx's log alone says.
    Logged,
}

/// What the host said about a request: `None` where that was not needed, or not answered in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestFacts {
    /// The folder of a file that nginx could not write.
    pub folder: Option<FolderView>,
    /// What the configuration says of the status.
    pub returns: Option<ReturnsView>,
    /// The upstream block without a live server.
    pub block: Option<BlockView>,
    /// Names that the upstream's address may be of.
    pub names: Option<NamesView>,
}

/// What the host said about an attempt; a question that was not needed, or not answered, is `None`.
/// A finding is only here if it was answered in time for this attempt (asked at or after its
/// failure, or during it).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Who listens there and nearby.
    pub listener: Option<ListenerView>,
    /// The listener as it was when a SYN was sent again, fullest first; boxed, as it is rarely
    /// there.
    pub queue_at_retransmit: Option<Box<ListenerView>>,
    /// The upstream's socket of the connection.
    pub peer_socket: Option<PeerSocketView>,
    /// The unix path.
    pub unix_path: Option<Box<UnixPathView>>,
    /// Ephemeral ports.
    pub ports: Option<PortsView>,
    /// Descriptors.
    pub descriptors: Option<DescriptorsView>,
    /// Security modules, cgroup programs.
    pub confinement: Option<ConfinementView>,
    /// An ICMP error received for it.
    pub icmp: Option<Icmp>,
    /// Questions that the host could not answer: why.
    pub unanswered: Vec<String>,
}

impl Heap for Case {
    fn heap(&self) -> usize {
        self.identity.heap()
            + self.head.heap()
            + self.names.heap()
            + self.attempts.heap()
            + self.log_calls.heap()
            + self.earlier.heap()
            + self.dns.heap()
            + self.log_lines.heap()
            + self.host.heap()
            + self.skipped.heap()
            + self.absent_hooks.heap()
    }
}

impl Heap for RequestFacts {
    fn heap(&self) -> usize {
        self.folder.heap() + self.returns.heap() + self.block.heap() + self.names.heap()
    }
}

impl Heap for Attempt {
    fn heap(&self) -> usize {
        self.upstream.heap()
            + self.course.heap()
            + self.peer_closed.heap()
            + self.deaths.heap()
            + self.facts.heap()
    }
}

impl Heap for Course {
    fn heap(&self) -> usize {
        match self {
            Self::FailedAtOnce(failure) => failure.heap(),
            Self::Connection(connection) => connection.heap(),
            Self::Succeeded | Self::Logged => 0,
        }
    }
}

impl Heap for Facts {
    fn heap(&self) -> usize {
        self.listener.heap()
            + self.queue_at_retransmit.heap()
            + self.peer_socket.heap()
            + self.unix_path.heap()
            + self.confinement.heap()
            + self.unanswered.heap()
    }
}
