//! The upstream's end, where it is on this host: who made it go away, and how that process ended.
//!
//! `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int
//! result)`, `mark_victim(struct task_struct *task, uid_t uid)` (before 6.8: `(int pid)`). Without
//! them a death is known by its exit code alone, not by who sent the signal.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::abi::{COMM_LEN, MemoryLimit, Sent, Signal};

use crate::{
    constants::OFFSETS,
    maps::{OOM_VICTIMS, SIGNALS},
    read, task,
    track::{
        cgroup,
        ending::{SIGABRT, STOP},
    },
};

/// SIGHUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, KILL, USR1, SEGV, USR2, PIPE, ALRM, TERM, XCPU,
/// SYS.
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
/// A SIGABRT that a process sends itself later than this after another's is an abort() of its own.
const ABORT: u64 = 1_000_000_000;
/// `TRACE_SIGNAL_IGNORED`
const IGNORED: u32 = 1;
/// struct kernel_siginfo.si_code
const SI_CODE: u64 = 8;
/// `SI_KERNEL`
const BY_KERNEL: i32 = 0x80;

/// No limit is known, in read-only data.
static NO_LIMIT: MemoryLimit = MemoryLimit::UNKNOWN;

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
    let mut sender_name = [0; COMM_LEN];
    task::name(&mut sender_name);
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
            sender_name,
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

/// Does a process send itself what another has sent it before? A handler restores the default and
/// raises it again: the first sender counts.
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
