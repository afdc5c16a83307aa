//! The current process, and the sockets behind its descriptors.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};
use tracer_ebpf::abi::{COMM_LEN, ProgramKey, Worker};

use crate::{constants::OFFSETS, maps, read};

/// Nanoseconds since boot.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { generated::bpf_ktime_get_boot_ns() }
}

/// The current process's host pid.
#[inline(always)]
pub fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The current process's name. Its threads may have names of their own; `/proc/PID/comm` has the
/// first one's.
#[inline(always)]
pub fn name(into: &mut [u8; COMM_LEN]) {
    // SAFETY: a helper without arguments.
    let task = unsafe { generated::bpf_get_current_task() };
    let leader: u64 = read::kernel(task, &OFFSETS.group_leader).unwrap_or(task);
    if let Some(at) = read::offset_of(&OFFSETS.comm) {
        let _ = read::kernel_into(leader.wrapping_add(at), into);
    }
}

/// The current process, if it is a followed worker.
#[inline(always)]
pub fn worker() -> Option<(u32, &'static mut Worker)> {
    let pid = pid();
    maps::worker(pid).map(|worker| (pid, worker))
}

/// The worker, if it is inside `ngx_event_connect_peer`, or may be.
#[inline(always)]
pub fn connecting_worker() -> Option<&'static mut Worker> {
    let (_, worker) = worker()?;
    if worker.peer != 0 || worker.layout.is_by_socket() {
        Some(worker)
    } else {
        None
    }
}

/// The current thread's `errno`, positive; 0 if it can not be found.
#[inline(always)]
pub fn errno(worker: &Worker) -> u32 {
    if worker.layout.errno == 0 {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { generated::bpf_get_current_task() };
    let Some(base) = read::kernel::<u64>(task, &OFFSETS.fsbase) else {
        return 0;
    };
    let value: i32 = read::user(base.wrapping_add(worker.layout.errno as u64)).unwrap_or(0);
    if value > 0 { value as u32 } else { 0 }
}

/// `struct sock *` behind a descriptor of the current process (`fdtable` walk, no locks: the worker
/// is in user space).
#[inline(always)]
pub fn socket_of(fd: i32) -> Option<u64> {
    // SAFETY: a helper without arguments.
    let task = unsafe { generated::bpf_get_current_task() };
    let files: u64 = read::kernel(task, &OFFSETS.files)?;
    let table: u64 = read::kernel(files, &OFFSETS.fdt)?;
    let limit: u32 = read::kernel(table, &OFFSETS.max_fds)?;
    if fd < 0 || fd as u32 >= limit {
        return None;
    }
    let array: u64 = read::kernel(table, &OFFSETS.fd_array)?;
    let file: u64 = read::kernel_at(array.wrapping_add(fd as u64 * 8))?;
    let socket: u64 = read::kernel(file, &OFFSETS.private_data)?;
    read::kernel(socket, &OFFSETS.socket_sk)
}

/// Which program a task runs; kernel threads run none.
#[inline(always)]
pub fn program(task: u64) -> Option<ProgramKey> {
    let file: u64 = read::kernel(memory(task)?, &OFFSETS.exe_file)?;
    let inode: u64 = read::kernel(file, &OFFSETS.file_inode)?;
    let super_block: u64 = read::kernel(inode, &OFFSETS.inode_super)?;
    Some(ProgramKey {
        inode: read::kernel(inode, &OFFSETS.inode_number)?,
        device: read::kernel(super_block, &OFFSETS.super_device)?,
        padding: 0,
    })
}

/// Where a task's code begins.
#[inline(always)]
pub fn code(task: u64) -> Option<u64> {
    read::kernel(memory(task)?, &OFFSETS.start_code)
}

/// `struct mm_struct *`
#[inline(always)]
fn memory(task: u64) -> Option<u64> {
    read::kernel(task, &OFFSETS.mm).filter(|memory| *memory != 0)
}
