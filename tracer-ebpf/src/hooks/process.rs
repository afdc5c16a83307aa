//! `sched_process_fork(struct task_struct *parent, struct task_struct *child)`,
//! `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`,
//! `sched_process_exit(struct task_struct *p)`: whoever executes nginx is followed from its first
//! instruction on, and so is all that it forks: the master that a daemon leaves behind, and its
//! workers. Without them, new workers are followed late.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_uid_gid, generated::bpf_get_current_task},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use tracer_ebpf::abi::{
    EXECUTED, EXITED, FOLLOWED, FORKED, Layout, OTHERS, PROCESS, Process, ProgramKey, REFUSED,
    WAS_FOLLOWED, YOUNG_FORKED,
};

use crate::{
    constants::{FOLLOWS_ALL, OFFSETS, number},
    emit::{self, Urgency},
    maps::{self, PROGRAMS},
    read, task,
    track::ending,
};

/// How the names begin that nginx and what is made of it are executed by: `nginx`, `angie`,
/// `openresty`, `tengine`, `freenginx`.
const NAMES: [[u8; 4]; 5] = [*b"ngin", *b"angi", *b"open", *b"teng", *b"free"];

/// A process or thread is made.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn fork(ctx: RawTracePointContext) -> i32 {
    let (task, made): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let Some(parent) = read::kernel::<u32>(task, &OFFSETS.tgid) else {
        return 0;
    };
    let Some(child) = read::kernel::<u32>(made, &OFFSETS.tgid) else {
        return 0;
    };
    if parent == child {
        return 0;
    }
    // Another had this pid before.
    ending::begins(child);
    if let Some(known) = maps::worker(parent) {
        let layout = known.layout;
        debug!(&ctx, "nginx process {} forked {}", parent, child);
        follow(
            child,
            known.family,
            &layout,
            FORKED,
            parent,
            ProgramKey::NONE,
        );
    } else if number(&FOLLOWS_ALL) != 0 {
        if let Some(layout) = task::program(task).and_then(|key| layout(task, &key)) {
            // It was there before its program was known.
            follow(
                child,
                family(parent),
                &layout,
                FORKED,
                parent,
                ProgramKey::NONE,
            );
        } else if maps::is_young(parent, task::now()) {
            maps::set_young(child, task::now());
            tell(child, YOUNG_FORKED, parent, ProgramKey::NONE, Urgency::Soon);
        }
    }
    0
}

/// A program is executed: it may be an nginx, and it is no worker any more.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn exec(ctx: RawTracePointContext) -> i32 {
    let pid = task::pid();
    let was_followed = maps::remove_worker(pid);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let key = task::program(task).unwrap_or(ProgramKey::NONE);
    if number(&FOLLOWS_ALL) != 0
        && let Some(layout) = layout(task, &key)
    {
        debug!(&ctx, "{} executed nginx", pid);
        follow(pid, family(pid), &layout, EXECUTED, FOLLOWED, key);
        return 0;
    }
    maps::set_young(pid, task::now());
    if was_followed {
        tell(pid, EXECUTED, WAS_FOLLOWED, key, Urgency::Now);
    } else {
        let urgency = if is_named_nginx() {
            Urgency::Now
        } else {
            Urgency::Soon
        };
        tell(pid, EXECUTED, 0, key, urgency);
    }
    0
}

/// A thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exit(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let Some(tgid) = read::kernel::<u32>(task, &OFFSETS.tgid) else {
        return 0;
    };
    let Some(pid) = read::kernel::<u32>(task, &OFFSETS.pid) else {
        return 0;
    };
    if tgid != pid {
        return 0;
    }
    ending::died(tgid);
    if maps::remove_worker(tgid) {
        debug!(&ctx, "nginx process {} ends", tgid);
        let code = read::kernel(task, &OFFSETS.exit_code).unwrap_or(0);
        tell(tgid, EXITED, code, ProgramKey::NONE, Urgency::Now);
    }
    0
}

/// Follows a process, and says so, or that there is no place for it.
#[inline(always)]
fn follow(pid: u32, family: u32, layout: &Layout, kind: u32, value: u32, program: ProgramKey) {
    if maps::add_worker(pid, family, layout) {
        tell(pid, kind, value, program, Urgency::Now);
    } else {
        let parent = if kind == EXECUTED { pid } else { value };
        tell(pid, REFUSED, parent, program, Urgency::Now);
    }
}

/// Where a task that runs a program which is nginx has what hooks read.
#[inline(always)]
fn layout(task: u64, key: &ProgramKey) -> Option<Layout> {
    let program = PROGRAMS.get_ptr(key)?;
    // SAFETY: the entry lives as long as the program runs.
    let (mut layout, code) = unsafe { ((*program).layout, (*program).code) };
    if layout.connect != 0 {
        layout.connect = match task::code(task) {
            Some(start) => start.wrapping_sub(code).wrapping_add(layout.connect),
            None => 0,
        };
    }
    Some(layout)
}

/// Whose quota the current process's places count to, which executed the program as `pid`.
#[inline(always)]
fn family(pid: u32) -> u32 {
    match bpf_get_current_uid_gid() as u32 {
        0 => pid,
        _ => OTHERS,
    }
}

#[inline(always)]
fn is_named_nginx() -> bool {
    let Ok(name) = bpf_get_current_comm() else {
        return false;
    };
    let [a, b, c, d, ..] = name;
    NAMES.contains(&[a, b, c, d])
}

#[inline(always)]
fn tell(pid: u32, kind: u32, value: u32, program: ProgramKey, urgency: Urgency) {
    let record = Process {
        header: emit::header::<Process>(PROCESS, pid, task::now()),
        kind,
        value,
        program,
    };
    emit::record(&record, urgency);
}
