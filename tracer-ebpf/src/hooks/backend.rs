//! The upstream's end, where it is on this host: who made it go away, and how that process ended.
//!
//! `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`,
//! `mark_victim(struct task_struct *task, uid_t uid)` (before 6.8: `(int pid)`). Without them a death is known by its
//! exit code alone, not by who sent the signal.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, generated::bpf_get_current_task},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_ebpf::abi::{
    COMM_LEN, DEATH, Death, End, Endpoint, FlowKey, MemoryLimit, PEER_CLOSED, PeerClosed, Sent,
    Signal,
};

use crate::{
    apart::apart,
    constants::OFFSETS,
    emit::{self, Urgency},
    hints,
    hooks::cgroup,
    maps::{self, BACKENDS, FAMILY, ITSELF, OOM_VICTIMS, SIGNALS},
    read, sock, task,
};

/// include/linux/sched.h
const PF_EXITING: u32 = 0x4;
/// SIGHUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, KILL, USR1, SEGV, USR2, PIPE, ALRM, TERM, XCPU, SYS.
const FATAL: u32 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 24
    | 1 << 31;
/// SIGINT, QUIT, ABRT, TERM: programs catch these to stop in order.
const STOPS: u32 = 1 << 2 | 1 << SIGQUIT | 1 << SIGABRT | 1 << 15;
const SIGQUIT: u32 = 3;
const SIGABRT: u32 = 6;
/// A stop takes no longer than service managers wait for it (nanoseconds).
const STOP: u64 = 90_000_000_000;
/// A SIGABRT that a process sends itself later than this after another's is an abort() of its own.
const ABORT: u64 = 1_000_000_000;
/// `TRACE_SIGNAL_IGNORED`
const IGNORED: u32 = 1;
/// `BPF_NOEXIST`
const IF_ABSENT: u64 = 1;
/// struct kernel_siginfo.si_code
const SI_CODE: u64 = 8;
/// `SI_KERNEL`
const BY_KERNEL: i32 = 0x80;

/// The upstream's end of some connection is closed by the current process. Reported if that is dying or was asked to
/// stop, if it sent no byte, or if nginx had given the connection up: then it proves that the process had accepted it.
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

/// Has it sent nothing? Its other end got no response.
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
static NO_LIMIT: MemoryLimit = MemoryLimit::UNKNOWN;

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
    if let Ok(name) = bpf_get_current_comm() {
        end.name = name;
    }
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

/// A signal is sent.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal(ctx: RawTracePointContext) -> i32 {
    let (number, result): (u32, u32) = (ctx.arg(0), ctx.arg(4));
    if result == IGNORED || number >= 32 || FATAL & (1 << number) == 0 {
        return 0;
    }
    let Some(target) = read::kernel::<u32>(ctx.arg(2), &OFFSETS.tgid) else {
        return 0;
    };
    let info: u64 = ctx.arg(1);
    let code = match info {
        0 => 0,
        1 => BY_KERNEL,
        _ => read::kernel_at(info.wrapping_add(SI_CODE)).unwrap_or(0),
    };
    let (now, sender) = (task::now(), task::pid());
    if sender == target && code <= 0 && is_raised_again(target, number, now) {
        return 0;
    }
    let mut signal = Signal {
        sent: Sent {
            at: now,
            code,
            sender,
            number,
            padding: 0,
            sender_name: bpf_get_current_comm().unwrap_or([0; COMM_LEN]),
        },
        before: Sent::NONE,
    };
    if let Some(before) = SIGNALS.get_ptr(&sender) {
        // SAFETY: the entry lives as long as the program runs.
        signal.before = unsafe { (*before).sent };
    }
    let _ = SIGNALS.insert(&target, &signal, 0);
    0
}

/// Does a process send itself what another has sent it before? A handler restores the default and raises it again: the
/// first sender counts.
#[inline(always)]
fn is_raised_again(pid: u32, number: u32, now: u64) -> bool {
    let Some(signal) = SIGNALS.get_ptr(&pid) else {
        return false;
    };
    // SAFETY: the entry lives as long as the program runs.
    let known = unsafe { (*signal).sent };
    let within = if number == SIGABRT { ABORT } else { STOP };
    known.number == number && known.sender != pid && now.wrapping_sub(known.at) < within
}

/// The OOM killer chose a process; kernels from 6.8 on pass the task.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let Some(pid) = read::kernel::<u32>(task, &OFFSETS.tgid) else {
        return 0;
    };
    let _ = OOM_VICTIMS.insert(&pid, &NO_LIMIT, 0);
    if let Some(limit) = OOM_VICTIMS.get_ptr_mut(&pid) {
        // SAFETY: the entry lives as long as the program runs.
        cgroup::limit(task, unsafe { &mut *limit });
    }
    0
}

/// The OOM killer chose a process; kernels before 6.8 pass its pid.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim_pid(ctx: RawTracePointContext) -> i32 {
    let pid: u32 = ctx.arg(0);
    let _ = OOM_VICTIMS.insert(&pid, &NO_LIMIT, 0);
    0
}
