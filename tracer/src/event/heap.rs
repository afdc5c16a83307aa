//! Bytes that a value holds beyond its own size: what budgets are counted in, as texts and lists
//! are as long as a capture's author chose.

use super::{
    Answer, Connection, Death, Dns, Drop, Event, Fact, Failure, FirstByte, Holder, Hooks, LogCall,
    LogLine, Lost, MemoryLimit, PeerClosed, Question, RequestHead, RequestNames, RstSent, Signal,
    Skipped, Upstream,
    coverage::Change,
    fact::{
        BlockServer, BlockView, ConfigLine, ConfinementView, Finding, FolderView, Forwarder, Inode,
        Listener, ListenerView, NameView, NamesView, Owner, PeerSocketView, ReturnsView,
        UnixPathView, UnseenListener, Worker,
    },
};

/// See the module.
pub(crate) trait Heap {
    /// Bytes on the heap, without what the allocator adds.
    fn heap(&self) -> usize;
}

impl Heap for String {
    fn heap(&self) -> usize {
        self.len()
    }
}

impl<T: Heap> Heap for Option<T> {
    fn heap(&self) -> usize {
        self.as_ref().map_or(0, Heap::heap)
    }
}

impl<T: Heap> Heap for Box<T> {
    fn heap(&self) -> usize {
        size_of::<T>() + T::heap(self)
    }
}

impl<T: Heap> Heap for Vec<T> {
    fn heap(&self) -> usize {
        let each = self.iter().map(|one| size_of::<T>() + one.heap());
        each.sum()
    }
}

/// The sum of those members that can hold any.
macro_rules! heap {
    ($($kind:ty: $($member:ident),+;)+) => {
        $(impl Heap for $kind {
            fn heap(&self) -> usize {
                0 $(+ self.$member.heap())+
            }
        })+
    };
}

heap! {
    Failure: upstream, block;
    Connection: remote, holder, rst_sent, drops;
    Holder: name, signal;
    RstSent: reason;
    Drop: reason;
    Answer: head, names;
    RequestNames: server, block, id, traceparent;
    RequestHead: line, host;
    FirstByte: remote, head, names;
    Signal: sender_name, before;
    Death: name, unit, cgroup, signal, limit;
    MemoryLimit: cgroup;
    PeerClosed: name, reset, death, signal;
    Dns: name;
    Worker: unit, version, conf;
    FolderView: folder, missing, blocked, worker_user;
    ConfigLine: file, text, location;
    ReturnsView: lines;
    BlockView: at, servers;
    NamesView: names;
    NameView: name, at;
    BlockServer: address, parameters;
    Fact: question, finding;
    Owner: name, unit;
    Listener: owner, others;
    Forwarder: name, to;
    ListenerView: forwarder, container, exact, same_port, bound, nearby;
    PeerSocketView: owner;
    Inode: path, user, group;
    UnseenListener: owner;
    UnixPathView: unseen, file, missing, blocked, listener, worker_user, worker_group;
    ConfinementView: modules, label, cgroup, cgroup_programs;
    LogLine: message, client, host, request, upstream, server;
    Lost: skipped;
    Skipped: hook;
    Hooks: absent;
}

impl Heap for Upstream {
    fn heap(&self) -> usize {
        match self {
            Self::Inet(_) => 0,
            Self::Unix(path) => path.heap(),
        }
    }
}

impl Heap for Question {
    fn heap(&self) -> usize {
        match self {
            Self::UnixPath { path, .. } | Self::Folder { path, .. } => path.heap(),
            Self::Returns { conf, .. } => conf.heap(),
            Self::Block { conf, name, .. } => conf.heap() + name.heap(),
            Self::Names { conf, .. } => conf.heap(),
            _ => 0,
        }
    }
}

impl Heap for Result<Finding, String> {
    fn heap(&self) -> usize {
        match self {
            Ok(Finding::Listener(view)) => view.heap(),
            Ok(Finding::UnixPath(view)) => view.heap(),
            Ok(Finding::PeerSocket(view)) => view.heap(),
            Ok(Finding::Confinement(view)) => view.heap(),
            Ok(Finding::Folder(view)) => view.heap(),
            Ok(Finding::Returns(view)) => view.heap(),
            Ok(Finding::Block(view)) => view.heap(),
            Ok(Finding::Names(view)) => view.heap(),
            Ok(Finding::Ports(_) | Finding::Descriptors(_) | Finding::Log) => 0,
            Err(why) => why.heap(),
        }
    }
}

impl Heap for LogCall {
    fn heap(&self) -> usize {
        let resolved = self.resolved.as_ref().map_or(0, |(name, _)| name.heap());
        // `unread` is of the live side alone, which bounds it.
        self.format.heap() + self.text.heap() + resolved
    }
}

impl Heap for Event {
    fn heap(&self) -> usize {
        match self {
            Self::Failure(one) => one.heap(),
            Self::Connection(one) => one.heap(),
            Self::Answer(one) => one.heap(),
            Self::LogCall(one) => one.heap(),
            Self::FirstByte(one) => one.heap(),
            Self::Worker(one) => one.heap(),
            Self::PeerClosed(one) => one.heap(),
            Self::Death(one) => one.heap(),
            Self::Dns(one) => one.heap(),
            Self::Fact(one) => one.heap(),
            Self::LogLine(one) => one.heap(),
            Self::Lost(one) => one.heap(),
            Self::Hooks(one) => one.heap(),
            Self::Coverage(one) => match &one.change {
                Change::Late { program, .. }
                | Change::Ends { program, .. }
                | Change::Follows { program, .. }
                | Change::Layout { program, .. } => program.heap(),
                Change::Blind { program, why, .. } | Change::Alone { program, why, .. } => {
                    program.heap() + why.heap()
                }
                Change::Nothing | Change::Something { .. } | Change::Refused { .. } => 0,
            },
            Self::Reply(_)
            | Self::Retry(_)
            | Self::Retransmit(_)
            | Self::Process(_)
            | Self::Icmp(_)
            | Self::Notice(_)
            | Self::Tick(_) => 0,
        }
    }
}
