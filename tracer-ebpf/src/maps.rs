//! The maps both sides share.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use core::intrinsics::AtomicOrdering;
use tracer_ebpf::abi::{
    Connection, Endpoint, Flow, FlowKey, Holder, Layout, MemoryLimit, NOBODY, Program, ProgramKey,
    Signal, WORKER_SLOTS, Watched, Worker, counter, quota, shedding, worker_places,
};

use crate::{
    constants::{SEED, number},
    hints,
};

/// Records for the collector, in one order.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// What not to tell, by `shedding`.
#[map]
static SHEDDING: Array<u64> = Array::with_max_entries(shedding::SLOTS, 0);

/// Programs that are nginx, where all of the host is followed: a process that runs one is followed,
/// as is what it forks.
#[map]
pub static PROGRAMS: HashMap<ProgramKey, Program> = HashMap::with_max_entries(1024, 0);

/// Processes that executed a program of late, and when: what it is shows only after a while.
#[map]
static YOUNG: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);
/// Nothing that takes longer to become nginx is found by its forks.
const YOUTH: u64 = 3_000_000_000;

/// How many followed processes each family has.
#[map]
static FAMILIES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(8192, 0);

/// Followed processes at their places. The verifier makes an array's lookup a few instructions, a
/// tenth of a hash map's: most runs of most hooks end here.
#[map]
static WORKERS: Array<Worker> = Array::with_max_entries(WORKER_SLOTS, 0);

/// Open upstream connections by socket. The least recently used goes first: a leak can not fill it.
#[map]
static CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(65536, 0);

/// Upstream addresses that a worker tried: only packets to or from them are looked at.
#[map]
static UPSTREAMS: LruHashMap<Endpoint, u8> = LruHashMap::with_max_entries(4096, 0);

/// Who connects from an address: two containers may have the same. Those of the loopback device,
/// which all have, are not here.
#[map]
static SOURCES: LruHashMap<[u8; 16], Source> = LruHashMap::with_max_entries(4096, 0);

/// Two namespaces' users of an address.
#[repr(C)]
#[derive(Clone, Copy)]
struct Source {
    users: [SourceUser; 2],
    /// How often a user was entered.
    entered: u32,
}

/// The worker that last connected from an address in its namespace.
#[repr(C)]
#[derive(Clone, Copy)]
struct SourceUser {
    netns: u32,
    worker: u32,
}

/// What happened to packets of a flow, until its connection is written.
#[map]
static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(8192, 0);

/// SYNs from nobody's address that were answered by a RST for want of a socket, by their sequence
/// number: an address translation that hides the source (masquerade) leaves that as it is.
#[map]
static STRAYS: LruHashMap<u32, Stray> = LruHashMap::with_max_entries(1024, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Stray {
    at: u64,
    reason: u32,
    /// Where it was sent to.
    end: Endpoint,
    padding: [u8; 2],
}

/// Connections that nginx closed without an answer.
#[map]
static GIVEN_UP: LruHashMap<FlowKey, u8> = LruHashMap::with_max_entries(1024, 0);

/// What peer objects stand for.
#[map]
pub static REQUESTS: LruHashMap<PeerKey, Request> = LruHashMap::with_max_entries(16384, 0);

/// Requests that met a failure, by their client's socket, until they are answered: HTTP/2 has
/// several on one.
#[map]
static CLIENTS: LruHashMap<u64, Client> = LruHashMap::with_max_entries(2048, 0);

/// A client's watched requests.
pub type Client = [Watched; WATCHED_REQUESTS];

/// Requests watched a client's socket; of more the answer is not seen.
pub const WATCHED_REQUESTS: usize = 8;

/// Backends by host pid, whose ends are reported: those of unix upstreams, and who closed a TCP
/// connection unanswered. Holds [`FAMILY`] or [`ITSELF`].
#[map]
pub static BACKENDS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(1024, 0);

/// In [`BACKENDS`]: the ends of its children are reported too.
pub const FAMILY: u8 = 1;
/// In [`BACKENDS`]: only its own exit is.
pub const ITSELF: u8 = 2;

/// The upstream's end of a unix connection.
#[repr(C)]
pub struct UnixEnd {
    /// Who uses it.
    pub holder: Holder,
    /// Of nginx's socket when it was used first, 0: not yet. Another may have its place.
    pub inode: u32,
}

/// The upstream's ends of unix connections, by socket.
#[map]
static UNIX_ENDS: LruHashMap<u64, UnixEnd> = LruHashMap::with_max_entries(16384, 0);

/// Fatal signals of late, by the host pid they were sent to.
#[map]
pub static SIGNALS: LruHashMap<u32, Signal> = LruHashMap::with_max_entries(1024, 0);

/// Processes that the OOM killer chose, and the nearest limit on their memory then.
#[map]
pub static OOM_VICTIMS: LruHashMap<u32, MemoryLimit> = LruHashMap::with_max_entries(256, 0);

/// Loss, by `counter`.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::SLOTS, 0);

/// When the collector was last woken for a failure.
#[map]
static WOKEN: Array<u64> = Array::with_max_entries(1, 0);
/// Nanoseconds between two such wakeups.
const WAKEUP_EVERY: u64 = 5_000_000;

/// May the collector be woken for a failure?
#[inline(always)]
pub fn is_wakeup_due(now: u64) -> bool {
    let is_due = now.wrapping_sub(load(&WOKEN, 0)) >= WAKEUP_EVERY;
    if is_due && let Some(woken) = WOKEN.get_ptr_mut(0) {
        // SAFETY: an element of a map lives as long as the program runs; others write it meanwhile.
        unsafe { woken.write_volatile(now) };
    }
    is_due
}

/// Are healthy connections written?
#[inline(always)]
pub fn are_healthy_told() -> bool {
    load(&SHEDDING, shedding::HEALTHY) == 0
}

/// Whether request details are captured.
#[inline(always)]
pub fn are_details_told() -> bool {
    load(&SHEDDING, shedding::DETAILS) == 0
}

/// Are connections written that served well, and of which nothing was asked?
#[inline(always)]
pub fn are_unasked_told() -> bool {
    load(&SHEDDING, shedding::UNASKED) == 0
}

/// Whether another failed request of this worker is reported in this window, whatever the sample.
#[inline(always)]
pub fn grant(worker: &mut Worker, now: u64) -> bool {
    let window = (now >> shedding::WINDOW) as u32 & (u32::MAX >> 8);
    let count = if worker.granted >> 8 == window {
        worker.granted & 0xff
    } else {
        0
    };
    let is_granted = u64::from(count) < load(&SHEDDING, shedding::GRANT);
    worker.granted = window << 8 | (count + u32::from(is_granted));
    is_granted
}

/// Whether failures of this request are reported: all of them or none; those of no known request
/// are.
#[inline(always)]
pub fn is_told(request: u64) -> bool {
    if request & shedding::GRANTED != 0 {
        return true;
    }
    let slot = if request < load(&SHEDDING, shedding::SINCE) {
        shedding::BEFORE
    } else {
        shedding::SAMPLE
    };
    let sample = load(&SHEDDING, slot);
    // Requests are numbered by time, which alone is no fair sample.
    request == 0 || (request.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & sample == 0
}

/// Counts one, by `counter`.
#[inline(always)]
pub fn count(slot: u32) {
    if let Some(count) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: a slot of this CPU's. Since 7.x another task's program may come in between.
        // `AtomicU64` can not add on this target, of which the compiler only knows that it has no
        // compare-and-exchange; adding without looking at the result every kernel can.
        unsafe { core::intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
    }
}

/// The upstream connection that a socket is.
#[inline(always)]
pub fn connection(sk: u64) -> Option<&'static mut Connection> {
    // SAFETY: the entry lives as long as the program runs.
    socket(&CONNECTIONS, sk).map(|entry| unsafe { &mut *entry })
}

/// Enters a connection.
#[inline(always)]
pub fn add_connection(sk: u64, connection: &Connection) {
    add_socket(&CONNECTIONS, sk, connection);
}

/// Forgets a connection.
#[inline(always)]
pub fn remove_connection(sk: u64) {
    remove_socket(&CONNECTIONS, sk);
}

/// What is known of the upstream's end of a unix connection.
#[inline(always)]
pub fn unix_end(sk: u64) -> Option<&'static mut UnixEnd> {
    if !hints::are_unix_ends_known() {
        return None;
    }
    // SAFETY: as above.
    socket(&UNIX_ENDS, sk).map(|entry| unsafe { &mut *entry })
}

/// In read-only data.
static UNUSED: UnixEnd = UnixEnd {
    holder: Holder::NOBODY,
    inode: 0,
};

/// Has the users of a socket seen, unless they are already: both ends may come at once, so what
/// says that it is known comes first.
#[inline(always)]
pub fn add_unix_end(sk: u64) {
    hints::enter_unix_end();
    hints::enter_socket(sk);
    if let Err(error) = UNIX_ENDS.insert(&sk, &UNUSED, BPF_NOEXIST.into()) {
        hints::leave_socket(sk);
        if error != EEXIST {
            count(counter::LOST);
        }
    }
}

/// `EEXIST`, as a helper returns it.
const EEXIST: i32 = -17;

/// Who uses it does not matter any more.
#[inline(always)]
pub fn remove_unix_end(sk: u64) {
    remove_socket(&UNIX_ENDS, sk);
}

/// The watched requests of the client that a socket leads to.
#[inline(always)]
pub fn client(sk: u64) -> Option<&'static mut Client> {
    // SAFETY: as above.
    socket(&CLIENTS, sk).map(|entry| unsafe { &mut *entry })
}

/// Enters a client, which has no watched request yet.
#[inline(always)]
pub fn add_client(sk: u64) {
    add_socket(&CLIENTS, sk, &UNWATCHED);
}

/// Forgets a client.
#[inline(always)]
pub fn remove_client(sk: u64) {
    remove_socket(&CLIENTS, sk);
}

/// A client with no watched request, in read-only data.
static UNWATCHED: Client = [Watched::NONE; WATCHED_REQUESTS];

#[inline(always)]
fn socket<T>(map: &'static LruHashMap<u64, T>, sk: u64) -> Option<*mut T> {
    if hints::is_unknown(sk) {
        return None;
    }
    map.get_ptr_mut(&sk)
}

#[inline(always)]
fn add_socket<T>(map: &'static LruHashMap<u64, T>, sk: u64, value: &T) {
    if insert(map, &sk, value) {
        hints::enter_socket(sk);
    }
}

/// Enters what verdicts rest on; what finds no place counts as lost.
#[inline(always)]
pub fn insert<K, V>(map: &'static LruHashMap<K, V>, key: &K, value: &V) -> bool {
    let is_entered = map.insert(key, value, 0).is_ok();
    if !is_entered {
        count(counter::LOST);
    }
    is_entered
}

#[inline(always)]
fn remove_socket<T>(map: &'static LruHashMap<u64, T>, sk: u64) {
    if map.remove(&sk).is_ok() {
        hints::leave_socket(sk);
    }
}

/// A worker tried this upstream.
#[inline(always)]
pub fn add_upstream(remote: &Endpoint) {
    // A lookup keeps it in use, at a fraction of an insertion's cost.
    if UPSTREAMS.get_ptr(remote).is_none() && UPSTREAMS.insert(remote, &1, 0).is_ok() {
        hints::set_upstream(remote.port);
    }
}

/// Did a worker try it?
#[inline(always)]
pub fn is_upstream(endpoint: &Endpoint) -> bool {
    hints::may_be_upstream(endpoint.port) && UPSTREAMS.get_ptr(endpoint).is_some()
}

/// A worker connects from this address.
#[inline(always)]
pub fn add_source(address: &[u8; 16], netns: u32, pid: u32) {
    if is_loopback(address) {
        return;
    }
    if SOURCES.get_ptr(address).is_none() {
        let _ = SOURCES.insert(address, &NO_SOURCE, u64::from(BPF_NOEXIST));
        hints::set_source(address[15]);
    }
    let Some(source) = SOURCES.get_ptr_mut(address) else {
        return;
    };
    // SAFETY: the entry lives as long as the program runs; another CPU may write it, and is noticed
    // below.
    let Source { users, entered } = unsafe { &mut *source };
    let user = SourceUser { netns, worker: pid };
    // Mostly so already: all CPUs read it.
    if users
        .iter()
        .any(|one| one.netns == netns && one.worker == pid)
    {
        return;
    }
    change(&raw mut *entered, 1);
    let before = volatile(entered);
    let [one, other] = users;
    let place = if one.netns == netns || (other.netns != netns && !is_used(one)) {
        one
    } else {
        &mut *other
    };
    *place = user;
    if volatile(entered) != before {
        // Another was entered meanwhile, perhaps in the same place: until it connects again both
        // are taken, and neither gets what is the other's.
        *other = SourceUser {
            netns: UNKNOWN_NETNS,
            worker: pid,
        };
    }
}

/// Does a worker connect from this address?
#[inline(always)]
pub fn is_source(address: &[u8; 16]) -> bool {
    SOURCES.get_ptr(address).is_some()
}

/// No namespace has this number: its user may have been overwritten.
const UNKNOWN_NETNS: u32 = u32::MAX;

/// Reads what another CPU may write.
#[inline(always)]
fn volatile(value: &u32) -> u32 {
    // SAFETY: a reference is valid.
    unsafe { core::ptr::read_volatile(value) }
}

/// An address that nobody uses yet, in read-only data.
static NO_SOURCE: Source = Source {
    users: [SourceUser {
        netns: 0,
        worker: 0,
    }; 2],
    entered: 0,
};

#[inline(always)]
fn is_used(user: &SourceUser) -> bool {
    user.netns != 0 && worker(user.worker).is_some()
}

/// nginx's namespace, of a flow whose packets or whose upstream's socket are in the namespace
/// `seen`. They may have come from another, whose followed nginx has the address; where two have
/// it, they are taken to be where they were seen, which may be nobody's: a wrong join is worse than
/// none.
#[inline(always)]
pub fn home(key: &FlowKey, seen: u32) -> u32 {
    if is_loopback(&key.local.address) || is_loopback(&key.remote.address) {
        return seen;
    }
    let Some(source) = SOURCES.get_ptr(&key.local.address) else {
        return seen;
    };
    // SAFETY: the entry lives as long as the program runs.
    let [one, other] = unsafe { &(*source).users };
    match (is_used(one), is_used(other)) {
        (true, false) => one.netns,
        (false, true) => other.netns,
        _ => seen,
    }
}

/// 127.0.0.0/8 and `::1`: no packet of theirs leaves its namespace.
#[inline(always)]
pub fn is_loopback(address: &[u8; 16]) -> bool {
    const V4: [u8; 13] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127];
    const V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    address[..13] == V4 || *address == V6
}

/// nginx closed the connection without an answer.
#[inline(always)]
pub fn give_up(key: &FlowKey) {
    let _ = GIVEN_UP.insert(key, &1, 0);
    hints::set_given_up(key.remote.port);
}

/// Whether this connection was given up; returned once.
#[inline(always)]
pub fn take_given_up(key: &FlowKey) -> bool {
    GIVEN_UP.get_ptr(key).is_some() && GIVEN_UP.remove(key).is_ok()
}

/// What happened to a flow's packets; a record is made if there is none yet.
#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<&'static mut Flow> {
    if FLOWS.get_ptr(key).is_none() && FLOWS.insert(key, &NO_FLOW, 0).is_ok() {
        hints::enter_flow(key.local.port);
    }
    // SAFETY: the entry lives as long as the program runs.
    FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// A flow of which nothing is known yet, in read-only data.
static NO_FLOW: Flow = Flow::NONE;

/// Takes what happened to the packets of a flow whose connection has ended. `false`: nothing.
#[inline(always)]
pub fn take_flow(key: &FlowKey, into: &mut Flow) -> bool {
    let Some(flow) = FLOWS.get_ptr(key) else {
        return false;
    };
    // SAFETY: as above.
    *into = unsafe { *flow };
    if FLOWS.remove(key).is_ok() {
        hints::leave_flow(key.local.port);
    }
    true
}

/// A SYN that is no known flow's was answered by a RST.
#[inline(always)]
pub fn add_stray(at: u64, sequence: u32, end: &Endpoint, reason: u32) {
    let stray = Stray {
        at,
        reason,
        end: *end,
        padding: [0; 2],
    };
    let _ = STRAYS.insert(&sequence, &stray, 0);
}

/// Was it this connection's, refused in `SYN_SENT`? Then it is noted in its flow, with the address
/// that it was translated to.
#[inline(always)]
pub fn take_stray(sequence: u32, since: u64, flow: &mut Flow) {
    let Some(stray) = STRAYS.get_ptr(&sequence) else {
        return;
    };
    // SAFETY: as above.
    let stray = unsafe { &*stray };
    if stray.at >= since {
        flow.rst_sent = stray.at;
        flow.rst_reason = stray.reason;
        flow.translated = stray.end;
        let _ = STRAYS.remove(&sequence);
    }
}

/// A number of an array.
#[inline(always)]
fn load(numbers: &'static Array<u64>, index: u32) -> u64 {
    match numbers.get_ptr(index) {
        // SAFETY: an element of a map lives as long as the program runs; others write it meanwhile.
        Some(number) => unsafe { number.read_volatile() },
        None => 0,
    }
}

/// A followed worker.
#[inline(always)]
pub fn worker(pid: u32) -> Option<&'static mut Worker> {
    for place in worker_places(pid, number(&SEED)) {
        let slot = WORKERS.get_ptr_mut(place)?;
        // SAFETY: the entry lives as long as the program runs; a worker has one thread that makes
        // requests.
        let slot = unsafe { &mut *slot };
        if slot.pid == pid {
            return Some(slot);
        }
        // Almost always the first.
        if slot.pid == 0 {
            return None;
        }
    }
    None
}

/// Follows a process from its fork or its execution on. `false`, and counted, where there is no
/// place for it.
#[inline(always)]
pub fn add_worker(pid: u32, family: u32, layout: &Layout) -> bool {
    let members = FAMILIES.get_ptr_mut(&family);
    // SAFETY: the entry lives as long as the program runs.
    let count = members.map_or(0, |count| unsafe { count.read_volatile() });
    if count < quota(family) {
        for place in worker_places(pid, number(&SEED)) {
            let Some(slot) = WORKERS.get_ptr_mut(place) else {
                break;
            };
            // SAFETY: as above.
            let slot = unsafe { &mut *slot };
            if matches!(slot.pid, 0 | NOBODY) {
                *slot = UNKNOWN_WORKER;
                slot.layout = *layout;
                slot.family = family;
                slot.pid = pid;
                match members {
                    Some(count) => change(count, 1),
                    None => {
                        let _ = FAMILIES.insert(&family, &1, 0);
                    }
                }
                return true;
            }
        }
    }
    self::count(counter::REFUSED);
    false
}

/// Other CPUs may change it at the same time.
#[inline(always)]
fn change(count: *mut u32, by: u32) {
    // SAFETY: an element of a map lives as long as the program runs. `AtomicU32` can not add on
    // this target, see `count`.
    unsafe { core::intrinsics::atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(count, by) };
}

/// A worker of which nothing is known yet, in read-only data.
static UNKNOWN_WORKER: Worker = Worker::UNKNOWN;

/// Follows a process no more; `false` if it was not followed.
#[inline(always)]
pub fn remove_worker(pid: u32) -> bool {
    let Some(worker) = worker(pid) else {
        return false;
    };
    worker.pid = NOBODY;
    if let Some(count) = FAMILIES.get_ptr_mut(&worker.family) {
        // SAFETY: as above.
        if unsafe { count.read_volatile() } <= 1 {
            let _ = FAMILIES.remove(&worker.family);
        } else {
            change(count, u32::MAX);
        }
    }
    true
}

/// A process executed a program, or was forked by one that did of late.
#[inline(always)]
pub fn set_young(pid: u32, now: u64) {
    let _ = YOUNG.insert(&pid, &now, 0);
}

/// Did it, of late?
#[inline(always)]
pub fn is_young(pid: u32, now: u64) -> bool {
    // SAFETY: as above.
    YOUNG
        .get_ptr(&pid)
        .is_some_and(|at| now.wrapping_sub(unsafe { at.read_volatile() }) < YOUTH)
}

/// A peer object of a worker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PeerKey {
    /// `ngx_peer_connection_t *`.
    peer: u64,
    /// Host pid.
    worker: u64,
}

impl PeerKey {
    #[inline(always)]
    pub fn new(worker: u32, peer: u64) -> Self {
        Self {
            peer,
            worker: worker.into(),
        }
    }
}

/// The request that a peer object stands for, and its last attempt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// See `Worker::request`.
    pub id: u64,
    /// What distinguishes it from the object's earlier requests.
    pub mark: Mark,
    /// `struct sock *` of its last attempt, 0 where there was none.
    pub socket: u64,
    /// `pc->tries` left at that.
    pub tries: u32,
    /// 1: that took a kept-alive connection.
    pub reused: u16,
    /// 1: there was an attempt.
    pub tried: u16,
}

/// What differs between two requests that use one peer object after each other.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// nginx's number of the client's connection.
    pub connection: u64,
    /// Its ordinal on that; where the build hides that, `pc->start_time`.
    pub ordinal: u64,
}
