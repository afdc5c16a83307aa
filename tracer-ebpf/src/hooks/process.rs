//! `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, `sched_process_exec(struct task_struct
//! *p, pid_t old_pid, struct linux_binprm *bprm)`, `sched_process_exit(struct task_struct *p)`: a master's children
//! are followed from their first instruction on. Without them, new workers are followed late.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use tracer_ebpf::abi::{EXECUTED, EXITED, FORKED, PROCESS, Process};

use crate::{
    constants::OFFSETS,
    emit::{self, Urgency},
    hooks::backend,
    maps::{self, MASTERS},
    read, task,
};

/// A process or thread is made.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn fork(ctx: RawTracePointContext) -> i32 {
    let (Some(parent), Some(child)): (Option<u32>, Option<u32>) = (
        read::kernel(ctx.arg(0), &OFFSETS.tgid),
        read::kernel(ctx.arg(1), &OFFSETS.tgid),
    ) else {
        return 0;
    };
    if parent == child {
        return 0;
    }
    let Some(found) = MASTERS.get_ptr(&parent) else {
        return 0;
    };
    // SAFETY: the entry lives as long as the program runs.
    maps::add_worker(child, unsafe { &*found });
    debug!(&ctx, "master {} forked {}", parent, child);
    tell(child, FORKED, parent);
    0
}

/// A program is executed: it may be an nginx, and it is no worker any more.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn exec(_ctx: RawTracePointContext) -> i32 {
    let pid = task::pid();
    maps::remove_worker(pid);
    tell(pid, EXECUTED, 0);
    0
}

/// A thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exit(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let (Some(tgid), Some(pid)): (Option<u32>, Option<u32>) = (
        read::kernel(task, &OFFSETS.tgid),
        read::kernel(task, &OFFSETS.pid),
    ) else {
        return 0;
    };
    if tgid == pid {
        backend::died(tgid);
    }
    if tgid != pid || (maps::worker(tgid).is_none() && MASTERS.get_ptr(&tgid).is_none()) {
        return 0;
    }
    debug!(&ctx, "nginx process {} ends", tgid);
    maps::remove_worker(tgid);
    let _ = MASTERS.remove(&tgid);
    tell(
        tgid,
        EXITED,
        read::kernel(task, &OFFSETS.exit_code).unwrap_or(0),
    );
    0
}

#[inline(always)]
fn tell(pid: u32, kind: u32, value: u32) {
    let record = Process {
        header: emit::header::<Process>(PROCESS, pid, task::now()),
        kind,
        value,
    };
    emit::record(&record, Urgency::Now);
}
