//! Hints before hash maps: what most runs of most hooks end at. The verifier makes an array's
//! lookup a few instructions, where a hash map's is a call; what is left are the places in memory
//! that a run meets cold, so the hints about one thing lie together.

use aya_ebpf::{macros::map, maps::Array};
use core::intrinsics::AtomicOrdering;

/// Of a few things each, by member.
type Hints<const MEMBERS: usize> = Array<[u32; MEMBERS]>;

/// Not 0: there has been a unix upstream, or the configuration may have one (set by user space when
/// it attaches `closed_at_once`). Mostly there is none, which one place says for all sockets; it is
/// written once, as all CPUs read it.
#[map]
static UNIX_UPSTREAMS: Hints<1> = Hints::with_max_entries(1, 0);

/// How many `FLOWS` there are, or were when the map dropped them: mostly none.
#[map]
static FLOWS_KNOWN: Hints<1> = Hints::with_max_entries(1, 0);

/// Not 0: a worker connects from an address with this last byte.
#[map]
static SOURCE_BYTES: Hints<1> = Hints::with_max_entries(256, 0);

/// What is known of the sockets with one hash.
#[map]
static SOCKETS: Hints<2> = Hints::with_max_entries(SOCKET_PLACES, 0);
const SOCKET_PLACES: u32 = 1 << 14;
/// How many of them are in `CONNECTIONS`, `UNIX_ENDS` or `CLIENTS`, or were when the map dropped
/// them.
const ENTERED: usize = 0;
/// The [`mark`] of a worker's that is no upstream connection: the clients' ones, which are met
/// again and again; or the number of a unix one that has ended. 0: none.
const NO_UPSTREAM: usize = 1;

/// What is known of the ports with one remainder.
#[map]
static PORTS: Hints<4> = Hints::with_max_entries(PORT_PLACES, 0);
const PORT_PLACES: u32 = 1 << 12;
/// How many of `FLOWS` have this port of nginx's, or had when the map dropped them.
const FLOWS: usize = 0;
/// Not 0: an upstream has it.
const UPSTREAM: usize = 1;
/// Not 0: nginx gave up a connection to an upstream that has it.
const GIVEN_UP: usize = 2;

/// Is the socket in none of the maps by socket?
#[inline(always)]
pub fn is_unknown(sk: u64) -> bool {
    get(&SOCKETS, hash(sk), ENTERED) == 0
}

/// A map has the socket.
#[inline(always)]
pub fn enter_socket(sk: u64) {
    add(&SOCKETS, hash(sk), ENTERED, 1);
}

/// It has it no more.
#[inline(always)]
pub fn leave_socket(sk: u64) {
    add(&SOCKETS, hash(sk), ENTERED, ONE_LESS);
}

/// May the upstream's end of some unix connection be known?
#[inline(always)]
pub fn are_unix_ends_known() -> bool {
    get(&UNIX_UPSTREAMS, 0, 0) != 0
}

/// One is.
#[inline(always)]
pub fn enter_unix_end() {
    if !are_unix_ends_known() {
        set(&UNIX_UPSTREAMS, 0, 0, 1);
    }
}

/// Was this socket found to be no upstream connection, or no longer one?
#[inline(always)]
pub fn is_no_upstream(sk: u64) -> bool {
    get(&SOCKETS, hash(sk), NO_UPSTREAM) == mark(sk)
}

/// This socket is no upstream connection.
#[inline(always)]
pub fn set_no_upstream(sk: u64) {
    set(&SOCKETS, hash(sk), NO_UPSTREAM, mark(sk));
}

/// Whether this unix connection has ended for nginx, which may use it once more until it closes it.
/// Nothing need show that close, so its inode distinguishes another connection in its place.
#[inline(always)]
pub fn is_over(sk: u64, inode: u64) -> bool {
    get(&SOCKETS, hash(sk), NO_UPSTREAM) == over(inode)
}

/// It is.
#[inline(always)]
pub fn set_over(sk: u64, inode: u64) {
    set(&SOCKETS, hash(sk), NO_UPSTREAM, over(inode));
}

#[inline(always)]
fn over(inode: u64) -> u32 {
    (inode as u32) << 1 | 1
}

/// A socket's last moment: another may have its place.
#[inline(always)]
pub fn forget_no_upstream(sk: u64) {
    if is_no_upstream(sk) {
        set(&SOCKETS, hash(sk), NO_UPSTREAM, 0);
    }
}

/// Distinguishes sockets with one hash: none lies within 128 bytes of another.
#[inline(always)]
fn mark(sk: u64) -> u32 {
    (sk >> 6) as u32 | 1
}

/// Sockets lie some hundred bytes apart.
#[inline(always)]
fn hash(sk: u64) -> u32 {
    (sk.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SOCKET_PLACES.ilog2())) as u32
}

/// A worker tried an upstream that has this port.
#[inline(always)]
pub fn set_upstream(port: u16) {
    set(&PORTS, place(port), UPSTREAM, 1);
}

/// Did a worker perhaps try an upstream with this port?
#[inline(always)]
pub fn may_be_upstream(port: u16) -> bool {
    get(&PORTS, place(port), UPSTREAM) != 0
}

/// A worker connects from an address with this last byte.
#[inline(always)]
pub fn set_source(byte: u8) {
    set(&SOURCE_BYTES, u32::from(byte), 0, 1);
}

/// May a worker connect from an address with this last byte?
#[inline(always)]
pub fn may_be_source(byte: u8) -> bool {
    get(&SOURCE_BYTES, u32::from(byte), 0) != 0
}

/// nginx gave up a connection to this port.
#[inline(always)]
pub fn set_given_up(port: u16) {
    set(&PORTS, place(port), GIVEN_UP, 1);
}

/// May nginx have given up a connection to this port?
#[inline(always)]
pub fn may_be_given_up(port: u16) -> bool {
    get(&PORTS, place(port), GIVEN_UP) != 0
}

/// Something is kept of a flow with this port of nginx's.
#[inline(always)]
pub fn enter_flow(port: u16) {
    add(&PORTS, place(port), FLOWS, 1);
    add(&FLOWS_KNOWN, 0, 0, 1);
}

/// No longer.
#[inline(always)]
pub fn leave_flow(port: u16) {
    add(&FLOWS_KNOWN, 0, 0, ONE_LESS);
    add(&PORTS, place(port), FLOWS, ONE_LESS);
}

/// May something have happened to packets of a connection from this port of nginx's? It is asked
/// for only where something happened at all.
#[inline(always)]
pub fn may_have_flow(port: impl FnOnce() -> u16) -> bool {
    get(&FLOWS_KNOWN, 0, 0) != 0 && get(&PORTS, place(port()), FLOWS) != 0
}

#[inline(always)]
fn place(port: u16) -> u32 {
    u32::from(port) % PORT_PLACES
}

/// What to add to have one less.
const ONE_LESS: u32 = u32::MAX;

#[inline(always)]
fn get<const N: usize>(hints: &'static Hints<N>, index: u32, member: usize) -> u32 {
    match hint(hints, index, member) {
        // SAFETY: an element of a map lives as long as the program runs; others write it meanwhile.
        Some(hint) => unsafe { hint.read_volatile() },
        None => 0,
    }
}

#[inline(always)]
fn set<const N: usize>(hints: &'static Hints<N>, index: u32, member: usize, value: u32) {
    if let Some(hint) = hint(hints, index, member) {
        // SAFETY: as above.
        unsafe { hint.write_volatile(value) };
    }
}

#[inline(always)]
fn add<const N: usize>(hints: &'static Hints<N>, index: u32, member: usize, value: u32) {
    if let Some(hint) = hint(hints, index, member) {
        // SAFETY: as above. `AtomicU32` can not add on this target, see `maps::count`.
        unsafe {
            core::intrinsics::atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(hint, value)
        };
    }
}

#[inline(always)]
fn hint<const N: usize>(hints: &'static Hints<N>, index: u32, member: usize) -> Option<*mut u32> {
    let element = hints.get_ptr_mut(index)?;
    // SAFETY: one of its members.
    Some(unsafe { &raw mut (*element)[member] })
}
