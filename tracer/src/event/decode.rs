//! Kernel records from bytes, by checked tag and length: the one place where they are read.
//!
//! Field by field in the order of `tracer_ebpf::abi`, never transmuted: a short or unknown record is an error value,
//! counted by the caller.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bytes::Buf;
use thiserror::Error;
use tracer_ebpf::abi::{
    ACCEPTED, ANSWER, ANSWERED, COMM_LEN, COMPONENT_LEN, COMPONENTS, CONNECTION, DEATH, DNS,
    DROP_SLOTS, EXITED, FAILED, FAILURE, FIRST_BYTE, FLAG_BROKE_OFF, FLAG_OPEN,
    FLAG_RST_IN_SYN_SENT, FLAG_TLS_DATA, FLAG_UNIX, FLOW_RESERVED, FORKED, FORMAT_LEN, HEAD_LEN,
    HOST_LEN, IS_TRUNCATED, LOG_CALL, LOG_CALL_STREAM, PEER_CLOSED, PROCESS, QUESTION_LEN, QUEUED,
    REPLY, RETRANSMIT, RETRY, SOCKADDR_LEN, TAIL_LEN, TEXT_LEN, WATCHED,
};

use super::head::Pieces;
use super::{
    Answer, ClientRequest, Connection, Death, Dns, DnsStep, Drop, Event, Failure, FirstByte,
    Holder, LogCall, MemoryLimit, PeerClosed, Process, ProcessKind, Reply, RequestHead, RequestId,
    Retransmit, Retry, RouteLookup, RstSent, Signal, Time, Unread, Upstream,
};
use crate::kernel::Reasons;

/// Why a record could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The record is shorter than its kind.
    #[error("a record of tag {tag} has {len} bytes only")]
    Short {
        /// Its tag.
        tag: u16,
        /// Its length.
        len: usize,
    },
    /// A kind this version does not know.
    #[error("unknown record tag {0}")]
    Unknown(u16),
}

/// Bytes of [`tracer_ebpf::abi::Header`].
const HEADER: usize = 16;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const NGX_BUSY: i32 = -3;

/// One record as it came from the ring buffer.
///
/// # Errors
/// It is short, or of an unknown kind.
pub fn record(bytes: &[u8], reasons: &Reasons) -> Result<Event, DecodeError> {
    if bytes.len() < HEADER {
        return Err(DecodeError::Short {
            tag: 0,
            len: bytes.len(),
        });
    }
    let mut buf = bytes;
    let header = Head {
        tag: buf.get_u16_ne(),
        len: buf.get_u16_ne(),
        pid: buf.get_u32_ne(),
        at: Time(buf.get_u64_ne()),
    };
    let body = match header.tag {
        FAILURE => size_of::<tracer_ebpf::abi::Failure>(),
        CONNECTION => size_of::<tracer_ebpf::abi::Connection>(),
        RETRANSMIT => size_of::<tracer_ebpf::abi::Retransmit>(),
        FIRST_BYTE => size_of::<tracer_ebpf::abi::FirstByte>(),
        ANSWER => size_of::<tracer_ebpf::abi::Answer>(),
        LOG_CALL => size_of::<tracer_ebpf::abi::LogCall>(),
        PROCESS => size_of::<tracer_ebpf::abi::Process>(),
        PEER_CLOSED => size_of::<tracer_ebpf::abi::PeerClosed>(),
        DEATH => size_of::<tracer_ebpf::abi::Death>(),
        DNS => size_of::<tracer_ebpf::abi::Dns>(),
        RETRY => size_of::<tracer_ebpf::abi::Retry>(),
        REPLY => size_of::<tracer_ebpf::abi::Reply>(),
        unknown => return Err(DecodeError::Unknown(unknown)),
    };
    if bytes.len() < body || usize::from(header.len) < body {
        return Err(DecodeError::Short {
            tag: header.tag,
            len: bytes.len().min(header.len.into()),
        });
    }
    Ok(match header.tag {
        FAILURE => Event::Failure(failure(&header, buf)),
        CONNECTION => Event::Connection(Box::new(connection(&header, buf, reasons))),
        RETRANSMIT => Event::Retransmit(retransmit(&header, buf)),
        FIRST_BYTE => Event::FirstByte(first_byte(&header, buf)),
        ANSWER => Event::Answer(answer(&header, buf)),
        LOG_CALL => Event::LogCall(log_call(&header, buf)),
        PEER_CLOSED => Event::PeerClosed(Box::new(peer_closed(&header, buf, reasons))),
        DEATH => Event::Death(Box::new(end(&header, buf).0)),
        DNS => Event::Dns(dns(&header, buf)),
        REPLY => Event::Reply(reply(&header, buf)),
        RETRY => Event::Retry(Retry {
            at: header.at,
            worker: header.pid,
            request: RequestId(buf.get_u64_ne()),
        }),
        _ => Event::Process(process(&header, buf)),
    })
}

struct Head {
    tag: u16,
    len: u16,
    pid: u32,
    at: Time,
}

fn failure(header: &Head, mut buf: &[u8]) -> Failure {
    let start = Time(buf.get_u64_ne());
    let request = RequestId(buf.get_u64_ne());
    let code = buf.get_i32_ne();
    let errno = buf.get_u32_ne();
    let routes = routes(&mut buf);
    let syn_sent = buf.get_u8() != 0;
    let has_address = buf.get_u8() != 0;
    buf.advance(2);
    let address_len = buf.get_u32_ne() as usize;
    let address = &buf[..SOCKADDR_LEN.min(address_len)];
    let source = &buf[SOCKADDR_LEN..SOCKADDR_LEN + 32];
    Failure {
        start,
        at: header.at,
        worker: header.pid,
        request,
        // Where nginx chose no peer, the address is that of an earlier attempt.
        upstream: if has_address && code != NGX_BUSY {
            sockaddr(address)
        } else {
            None
        },
        source: match sockaddr(source) {
            Some(Upstream::Inet(address)) => Some(address),
            _ => None,
        },
        code,
        errno,
        syn_sent,
        routes,
    }
}

fn connection(header: &Head, mut buf: &[u8], reasons: &Reasons) -> Connection {
    let socket = buf.get_u64_ne();
    buf.advance(size_of::<u64>()); // the peer object
    let start = Time(buf.get_u64_ne());
    let established = some(buf.get_u64_ne());
    let first_byte = some(buf.get_u64_ne());
    let fin_received = some(buf.get_u64_ne());
    let rst_received = some(buf.get_u64_ne());
    let error_at = Time(buf.get_u64_ne());
    let last_retransmit = some(buf.get_u64_ne());
    let reused_at = some(buf.get_u64_ne());
    let bytes_received = buf.get_u64_ne();
    let bytes_sent = buf.get_u64_ne();
    let request = request(buf.get_u64_ne());
    buf.advance(2 * size_of::<u64>()); // nginx's connection and its turn are the kernel side's own
    let error = buf.get_u32_ne();
    let netns = buf.get_u32_ne();
    let last_sent = some(buf.get_u64_ne());
    let last_received = some(buf.get_u64_ne());
    let end_read = some(buf.get_u64_ne());
    let transfer_error_at = Time(buf.get_u64_ne());
    let idle = buf.get_u64_ne();
    let transfer_error = buf.get_u32_ne();
    let listener_pid = buf.get_u32_ne();
    let first_sent = buf.get_u8();
    let first_received = buf.get_u8();
    // What is pending is the kernel side's own.
    buf.advance(2);
    let alert = buf.get_u16_ne();
    buf.advance(2 + 2 * size_of::<u64>()); // zero; the response so far is the kernel side's own
    let reuses = buf.get_u32_ne();
    let flags = buf.get_u16_ne();
    let syn_retransmits = u32::from(buf.get_u16_ne());
    let routes = routes(&mut buf);
    let status = buf.get_u16_ne();
    let state = buf.get_u8();
    buf.advance(1);
    let local = endpoint(&mut buf);
    let remote = endpoint(&mut buf);
    let rst_at = some(buf.get_u64_ne());
    let icmp_at = some(buf.get_u64_ne());
    let rst_reason = buf.get_u32_ne();
    let icmp_kind = buf.get_u8();
    let icmp_code = buf.get_u8();
    buf.advance(2);
    let drops = (0..DROP_SLOTS)
        .filter_map(|_| drop_slot(&mut buf, reasons))
        .collect();
    let (queue, queue_limit) = (buf.get_u32_ne(), buf.get_u32_ne());
    buf.advance(size_of::<u64>() * FLOW_RESERVED);
    let unix = unix_end(header, buf);
    Connection {
        socket,
        worker: header.pid,
        request,
        start,
        closed: header.at,
        local: (local.port() != 0).then_some(local),
        remote: if flags & FLAG_UNIX == 0 {
            Upstream::Inet(remote)
        } else {
            unix.remote
        },
        accepted: unix.accepted,
        holder: unix.holder,
        netns,
        established,
        first_byte,
        status: (status != 0).then_some(status),
        fin_received,
        rst_received,
        rst_in_syn_sent: flags & FLAG_RST_IN_SYN_SENT != 0,
        error: (error != 0).then_some((error, error_at)),
        state,
        syn_retransmits,
        last_retransmit,
        bytes_received,
        bytes_sent,
        last_sent,
        last_received,
        end_read,
        transfer_error: (transfer_error != 0).then_some((transfer_error, transfer_error_at)),
        first_sent: (first_sent != 0).then_some(first_sent),
        first_received: (first_received != 0).then_some(first_received),
        tls_alert: (alert != 0).then_some((alert & 0xff) as u8),
        tls_data: flags & FLAG_TLS_DATA != 0,
        broke_off: flags & FLAG_BROKE_OFF != 0,
        listener_pid: (listener_pid != 0).then_some(listener_pid),
        open: flags & FLAG_OPEN != 0,
        reuses,
        idle: (reuses != 0 && idle != 0).then_some(idle),
        reused_at,
        rst_sent: rst_at.map(|at| RstSent {
            at,
            reason: reasons.reset(rst_reason),
        }),
        drops,
        icmp_sent: icmp_at.map(|at| (icmp_kind, icmp_code, at)),
        full_queue: (queue != 0).then_some((queue, queue_limit)),
        routes,
    }
}

fn drop_slot(buf: &mut &[u8], reasons: &Reasons) -> Option<Drop> {
    let at = some(buf.get_u64_ne());
    let reason = buf.get_u32_ne();
    let count = u32::from(buf.get_u16_ne());
    let tcp_flags = buf.get_u8();
    let from_upstream = buf.get_u8() != 0;
    at.map(|at| Drop {
        at,
        reason: reasons.drop(reason),
        tcp_flags,
        from_upstream,
        count,
    })
}

fn retransmit(header: &Head, mut buf: &[u8]) -> Retransmit {
    let socket = buf.get_u64_ne();
    let remote = endpoint(&mut buf);
    let count = u32::from(buf.get_u16_ne());
    Retransmit {
        at: header.at,
        worker: header.pid,
        socket,
        remote,
        count,
    }
}

fn first_byte(header: &Head, mut buf: &[u8]) -> FirstByte {
    let socket = buf.get_u64_ne();
    let request = RequestId(buf.get_u64_ne());
    let start = Time(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    buf.advance(2);
    let address_len = buf.get_u32_ne() as usize;
    let remote = sockaddr(&buf[..SOCKADDR_LEN.min(address_len)]);
    buf.advance(SOCKADDR_LEN);
    let client = client(buf);
    let status = (status != 0).then_some(status);
    FirstByte {
        at: header.at,
        worker: header.pid,
        socket,
        request,
        remote,
        status,
        start,
        connection: client.connection,
        client: client.address,
        head: client.head,
        client_request: client.request,
    }
}

fn answer(header: &Head, mut buf: &[u8]) -> Answer {
    let request = request(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    let reply = buf.get_u16_ne();
    buf.advance(4);
    let client = client(buf);
    Answer {
        at: header.at,
        worker: header.pid,
        status,
        request,
        client: client.address,
        connection: client.connection,
        head: client.head,
        client_status: (reply > WATCHED).then_some(reply),
        watched: client.request.filter(|_| reply == WATCHED),
    }
}

fn reply(header: &Head, mut buf: &[u8]) -> Reply {
    let address = buf.get_u64_ne();
    let connection = buf.get_u64_ne();
    let request = request(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    let is_earlier = buf.get_u16_ne() != 0;
    Reply {
        at: header.at,
        worker: header.pid,
        client_request: ClientRequest {
            address,
            connection,
        },
        request,
        status: (status != 0).then_some(status),
        is_earlier,
    }
}

/// An `abi::Client`: whose request it is and what it asks.
struct Client {
    request: Option<ClientRequest>,
    /// nginx's number of its connection.
    connection: Option<u64>,
    address: Option<SocketAddr>,
    head: Option<RequestHead>,
}

fn client(mut buf: &[u8]) -> Client {
    let request = buf.get_u64_ne();
    let connection = buf.get_u64_ne();
    let address = endpoint(&mut buf);
    buf.advance(2);
    let parsed = buf.get_u32_ne() as usize;
    let line_end = buf.get_u32_ne() as usize;
    let host_len = buf.get_u32_ne() as usize;
    let (head, buf) = buf.split_at(HEAD_LEN);
    let (tail, buf) = buf.split_at(TAIL_LEN);
    let pieces = Pieces {
        head,
        parsed,
        line_end,
        tail,
        host: (&buf[..HOST_LEN], host_len),
    };
    Client {
        request: (request != 0).then_some(ClientRequest {
            address: request,
            connection,
        }),
        connection: (connection != 0).then_some(connection),
        address: (address.port() != 0).then_some(address),
        head: pieces.request(),
    }
}

fn log_call(header: &Head, mut buf: &[u8]) -> LogCall {
    let request = request(buf.get_u64_ne());
    let connection = buf.get_u64_ne();
    let errno = buf.get_u32_ne();
    let level = buf.get_u32_ne();
    let format = until_nul(&buf[..FORMAT_LEN]);
    buf.advance(FORMAT_LEN);
    let format_at = buf.get_u64_ne();
    let text_len = buf.get_u32_ne() as usize;
    let state = buf.get_u32_ne();
    let text = (text_len != 0).then(|| lossy(&buf[..TEXT_LEN.min(text_len)]));
    let mut call = LogCall {
        at: header.at,
        worker: header.pid,
        level: (level & 0xff) as u8,
        errno,
        connection,
        request,
        stream: level & LOG_CALL_STREAM != 0,
        format: String::new(),
        text: None,
        resolved: None,
        unread: None,
    };
    let unread = Unread {
        address: format_at,
        text,
        state,
    };
    if format.is_empty() {
        call.unread = Some(unread);
    } else {
        call.read(format, unread);
    }
    call
}

fn peer_closed(header: &Head, mut buf: &[u8], reasons: &Reasons) -> PeerClosed {
    let local = endpoint(&mut buf);
    let remote = endpoint(&mut buf);
    let rst_reason = buf.get_u32_ne();
    let reset = buf.get_u32_ne() != 0;
    buf.advance(4);
    let end = end(header, buf);
    PeerClosed {
        at: header.at,
        local,
        remote,
        pid: header.pid,
        name: end.0.name.clone(),
        parent: end.0.parent,
        reset: reset.then(|| {
            reasons
                .reset(rst_reason)
                .unwrap_or_else(|| PeerClosed::NO_REASON.to_owned())
        }),
        death: end.1.then_some(end.0),
    }
}

/// How a process ended, and whether it was ending at all.
fn end(header: &Head, mut buf: &[u8]) -> (Death, bool) {
    let code = buf.get_u32_ne();
    let parent = buf.get_u32_ne();
    let oom = buf.get_u32_ne() != 0;
    let dying = buf.get_u32_ne() != 0;
    let name = until_nul(&buf[..COMM_LEN]);
    buf.advance(COMM_LEN);
    let at = some(buf.get_u64_ne());
    let si_code = buf.get_i32_ne();
    let sender = buf.get_u32_ne();
    let number = u8::try_from(buf.get_u32_ne()).unwrap_or(0);
    buf.advance(4);
    let sender_name = until_nul(&buf[..COMM_LEN]);
    buf.advance(COMM_LEN);
    let pages = buf.get_u64_ne();
    let used = buf.get_u64_ne();
    let limited = until_nul(&buf[..COMPONENT_LEN]);
    buf.advance(COMPONENT_LEN);
    let mut components: Vec<String> = buf[..COMPONENTS * COMPONENT_LEN]
        .chunks(COMPONENT_LEN)
        .map(until_nul)
        .filter(|component| !component.is_empty())
        .collect();
    components.reverse();
    let signal = at.map(|at| Signal {
        number,
        code: si_code,
        sender,
        sender_name,
        at,
    });
    let death = Death {
        at: header.at,
        pid: header.pid,
        parent,
        name,
        unit: None,
        cgroup: format!("/{}", components.join("/")),
        code,
        signal,
        oom,
        limit: (pages != 0).then(|| MemoryLimit {
            cgroup: limited,
            bytes: pages.saturating_mul(page_size()),
            used: used.saturating_mul(page_size()),
        }),
    };
    (death, dying)
}

fn page_size() -> u64 {
    // SAFETY: no memory is passed.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

fn dns(header: &Head, mut buf: &[u8]) -> Dns {
    let server = endpoint(&mut buf);
    let id = buf.get_u16_ne();
    let errno = buf.get_u32_ne();
    let len = buf.get_u32_ne() as usize;
    let flags = buf.get_u16_ne();
    let answers = buf.get_u16_ne();
    let step = buf.get_u8();
    let over_tcp = buf.get_u8() != 0;
    buf.advance(2);
    let name = question(&buf[..QUESTION_LEN.min(len)]);
    let step = match step {
        ANSWERED if flags & IS_TRUNCATED != 0 => DnsStep::Truncated,
        ANSWERED => DnsStep::Answered {
            rcode: (flags & 15) as u8,
            answers,
        },
        FAILED => DnsStep::Failed { errno },
        _ => DnsStep::Asked,
    };
    Dns {
        at: header.at,
        worker: header.pid,
        server,
        over_tcp,
        step,
        id,
        name,
    }
}

/// A name in wire format (RFC 1035 section 3.1), as far as it was kept.
fn question(mut bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        if len == 0 || len > 63 {
            break;
        }
        let len = usize::from(len).min(rest.len());
        labels.push(lossy(&rest[..len]));
        bytes = &rest[len..];
    }
    labels.join(".")
}

fn until_nul(bytes: &[u8]) -> String {
    lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn process(header: &Head, mut buf: &[u8]) -> Process {
    let kind = buf.get_u32_ne();
    let value = buf.get_u32_ne();
    let kind = match kind {
        FORKED => ProcessKind::Forked { master: value },
        EXITED => ProcessKind::Exited { code: value },
        // The ABI has no fourth kind; `EXECUTED` asks for a look at the process, which is harmless.
        _ => ProcessKind::Executed,
    };
    Process {
        at: header.at,
        pid: header.pid,
        kind,
    }
}

fn request(id: u64) -> Option<RequestId> {
    (id != 0).then_some(RequestId(id))
}

fn some(time: u64) -> Option<Time> {
    (time != 0).then_some(Time(time))
}

fn routes(buf: &mut &[u8]) -> RouteLookup {
    let lookups = u32::from(buf.get_u16_ne());
    let kind = buf.get_u8();
    let security = u32::from(buf.get_u8());
    RouteLookup {
        lookups,
        error: buf.get_i32_ne(),
        kind,
        security: (security != 0).then_some(security),
    }
}

/// Address in network order, port in host order; IPv4-mapped addresses become IPv4.
fn endpoint(buf: &mut &[u8]) -> SocketAddr {
    let mut address = [0; 16];
    buf.copy_to_slice(&mut address);
    let port = buf.get_u16_ne();
    SocketAddr::new(canonical(Ipv6Addr::from(address)), port)
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
}

/// Where a unix connection leads: what follows its record.
fn unix_end(header: &Head, mut buf: &[u8]) -> UnixEnd {
    let mut end = UnixEnd {
        remote: Upstream::Unix(String::new()),
        accepted: None,
        holder: None,
    };
    let whole = size_of::<tracer_ebpf::abi::UnixConnection>();
    if usize::from(header.len) < whole || buf.len() < SOCKADDR_LEN + COMM_LEN + 16 {
        return end;
    }
    let len = buf.get_u32_ne() as usize;
    end.accepted = match buf.get_u32_ne() {
        QUEUED => Some(false),
        ACCEPTED => Some(true),
        _ => None,
    };
    let pid = buf.get_u32_ne();
    end.holder = (pid != 0).then(|| Holder {
        pid,
        name: until_nul(&buf[..COMM_LEN]),
    });
    buf.advance(COMM_LEN + 4);
    if let Some(remote) = sockaddr(&buf[..SOCKADDR_LEN.min(len)]) {
        end.remote = remote;
    }
    end
}

/// What a unix connection's record has beside.
struct UnixEnd {
    remote: Upstream,
    accepted: Option<bool>,
    holder: Option<Holder>,
}

/// A `struct sockaddr` as nginx holds it.
fn sockaddr(mut bytes: &[u8]) -> Option<Upstream> {
    if bytes.len() < 2 {
        return None;
    }
    match bytes.get_u16_ne() {
        AF_INET if bytes.len() >= 6 => {
            let port = bytes.get_u16();
            let address: [u8; 4] = bytes[..4].try_into().ok()?;
            Some(Upstream::Inet(SocketAddr::new(IpAddr::from(address), port)))
        }
        AF_INET6 if bytes.len() >= 26 => {
            let port = bytes.get_u16();
            let flow = bytes.get_u32();
            let address: [u8; 16] = bytes[..16].try_into().ok()?;
            bytes.advance(16);
            let scope = bytes.get_u32_ne();
            Some(Upstream::Inet(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(address),
                port,
                flow,
                scope,
            ))))
        }
        AF_UNIX => {
            // An abstract name begins with a NUL.
            let name = bytes.strip_prefix(&[0]);
            let path = name.unwrap_or(bytes);
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            let path = String::from_utf8_lossy(path);
            Some(Upstream::Unix(if name.is_some() {
                format!("@{path}")
            } else {
                path.into_owned()
            }))
        }
        _ => None,
    }
}
