//! The upstream's end, where it is on this host: which process closed or reset it, and how that
//! process ended.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use tracer_ebpf::abi::{DEATH, Death, End, Endpoint, FlowKey, PEER_CLOSED, PeerClosed};

use super::cgroup;
use crate::{
    apart::apart,
    constants::OFFSETS,
    emit::{self, Urgency},
    hints,
    maps::{self, BACKENDS, FAMILY, ITSELF, OOM_VICTIMS, SIGNALS},
    read, sock, task,
};

/// include/linux/sched.h
const PF_EXITING: u32 = 0x4;
/// SIGINT, QUIT, ABRT, TERM: programs catch these to stop in order.
const STOPS: u32 = 1 << 2 | 1 << SIGQUIT | 1 << SIGABRT | 1 << 15;
const SIGQUIT: u32 = 3;
pub const SIGABRT: u32 = 6;
/// A stop takes no longer than service managers wait for it (nanoseconds).
pub const STOP: u64 = 90_000_000_000;
/// `BPF_NOEXIST`
const IF_ABSENT: u64 = 1;

/// The upstream's end of some connection is closed by the current process. Reported if that is
/// dying or was asked to stop, if it sent no byte, or if nginx had given the connection up: then it
/// proves that the process had accepted it.
#[inline(always)]
pub fn closed(sk: u64) {
    let port = sock::local_port(sk);
    let is_upstream = hints::may_be_upstream(port);
    if !is_upstream && !hints::may_be_source(sock::remote_last_byte(sk)) {
        return;
    }
    let matters = is_dying() || is_silent(sk) || is_stopping();
    // Beyond an address translation the port is another.
    if !matters && is_upstream && !hints::may_be_given_up(port) {
        return;
    }
    closed_by_current(sk, is_upstream, matters);
}

#[apart]
fn closed_by_current(sk: u64, is_upstream: bool, matters: bool) {
    let mut key = flow(sk);
    if !is_upstream {
        if !maps::is_source(&key.local.address) {
            return;
        }
        key.remote = Endpoint::NONE;
    }
    let was_given_up = maps::take_given_up(&key);
    if !matters && !was_given_up {
        return;
    }
    if !is_upstream {
        key.remote = sock::local(sk);
    }
    tell(&key, None, 0);
}

/// Was the current process asked to stop of late?
#[inline(always)]
fn is_stopping() -> bool {
    let Some(signal) = SIGNALS.get_ptr(&task::pid()) else {
        return false;
    };
    // SAFETY: the entry lives as long as the program runs.
    let (number, at) = unsafe { ((*signal).sent.number, (*signal).sent.at) };
    number < 32 && STOPS & (1 << number) != 0 && task::now().wrapping_sub(at) < STOP
}

/// As nginx sees it.
#[inline(always)]
fn flow(sk: u64) -> FlowKey {
    let mut key = FlowKey {
        local: sock::remote(sk),
        remote: sock::local(sk),
        netns: 0,
    };
    key.netns = maps::home(&key, sock::netns(sk));
    key
}

/// Whether it has sent nothing: its peer got no response.
#[inline(always)]
fn is_silent(sk: u64) -> bool {
    read::kernel::<u64>(sk, &OFFSETS.bytes_sent) == Some(0)
}

/// The current process makes the upstream's end of some connection send a RST.
#[inline(always)]
pub fn reset(sk: u64, reason: u32) {
    tell(&flow(sk), Some(unread(sk)), reason);
}

/// What came and was not read. Closing drops it, and counts it as read nowhere.
#[inline(always)]
fn unread(sk: u64) -> u32 {
    let came = read::kernel::<u32>(sk, &OFFSETS.rcv_nxt).unwrap_or(0);
    came.wrapping_sub(read::kernel(sk, &OFFSETS.copied_seq).unwrap_or(came))
}

/// `unread`: it sends a RST and leaves so much unread.
#[inline(always)]
fn tell(key: &FlowKey, unread: Option<u32>, reason: u32) {
    let is_translated = !maps::is_upstream(&key.remote);
    if is_translated && !maps::is_source(&key.local.address) {
        return;
    }
    emit::in_place(&PEER_UNKNOWN, Urgency::Whenever, |record| {
        let pid = task::pid();
        record.header = emit::header::<PeerClosed>(PEER_CLOSED, pid, task::now());
        record.local = key.local;
        record.remote = key.remote;
        record.netns = key.netns;
        record.rst_reason = reason;
        record.reset = u32::from(unread.is_some()) | u32::from(is_translated) << 1;
        record.unread = unread.unwrap_or(0);
        end(pid, &mut record.end);
        if record.end.dying == 0 {
            // It may close on its way out: its end is reported.
            let _ = BACKENDS.insert(&pid, &ITSELF, IF_ABSENT);
        }
    });
}

/// Records of which nothing is known yet, in read-only data.
static PEER_UNKNOWN: PeerClosed = PeerClosed::UNKNOWN;
static DEATH_UNKNOWN: Death = Death::UNKNOWN;

#[inline(always)]
fn is_dying() -> bool {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    read::kernel::<u32>(task, &OFFSETS.task_flags).is_some_and(|flags| flags & PF_EXITING != 0)
}

/// How the current process ends.
#[inline(always)]
fn end(pid: u32, end: &mut End) {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    end.code = read::kernel(task, &OFFSETS.exit_code).unwrap_or(0);
    end.parent = parent();
    if let Some(limit) = OOM_VICTIMS.get_ptr(&pid) {
        end.oom = 1;
        // SAFETY: the entry lives as long as the program runs.
        end.limit = unsafe { *limit };
    }
    cgroup::of_current(&mut end.cgroup);
    end.dying = u32::from(is_dying());
    task::name(&mut end.name);
    if let Some(signal) = SIGNALS.get_ptr(&pid) {
        // SAFETY: the entry lives as long as the program runs.
        end.signal = unsafe { *signal };
    }
}

/// The current process's parent, host pid.
#[inline(always)]
fn parent() -> u32 {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let parent: u64 = read::kernel(task, &OFFSETS.real_parent).unwrap_or(0);
    read::kernel(parent, &OFFSETS.tgid).unwrap_or(0)
}

/// The current process ends; reported if it is a backend's.
#[inline(always)]
pub fn died(pid: u32) {
    // SAFETY: the entry lives as long as the program runs.
    let has_children = || {
        BACKENDS
            .get_ptr(&parent())
            .is_some_and(|kind| unsafe { *kind } == FAMILY)
    };
    if BACKENDS.get_ptr(&pid).is_none() && !has_children() {
        return;
    }
    emit::in_place(&DEATH_UNKNOWN, Urgency::Whenever, |record| {
        record.header = emit::header::<Death>(DEATH, pid, task::now());
        end(pid, &mut record.end);
    });
}

/// A process begins: what is known of its pid is of an earlier one.
#[inline(always)]
pub fn begins(pid: u32) {
    let _ = SIGNALS.remove(&pid);
}
