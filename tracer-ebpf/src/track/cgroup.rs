//! The memory cgroup of a process: its path, which says who runs it, also once it is a zombie that
//! was reaped, and the limit on it.

use aya_ebpf::helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_get_current_task};
use tracer_ebpf::abi::{COMPONENT_LEN, Cgroup, MemoryLimit};

use crate::{constants::OFFSETS, read};

/// Levels of limits looked at.
const LEVELS: usize = 8;
/// `PAGE_COUNTER_MAX` and more is no limit (mm/page_counter.c); no host has so many pages.
const UNLIMITED: u64 = 1 << 50;

/// The path of the current process's, from its own component upwards.
#[inline(always)]
pub fn of_current(cgroup: &mut Cgroup) {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(mut node) = memory(task).and_then(node) else {
        return;
    };
    for component in &mut cgroup.components {
        name(node, component);
        node = match above(node) {
            Some(above) => above,
            None => return,
        };
    }
}

/// The nearest limit on the memory of `task`.
#[inline(always)]
pub fn limit(task: u64, limit: &mut MemoryLimit) {
    let Some(memory) = memory(task) else {
        return;
    };
    let Some(offset) = read::offset_of(&OFFSETS.memcg_memory) else {
        return;
    };
    // struct mem_cgroup begins with its css, whose counter it has beside.
    let mut counter = memory.wrapping_add(offset);
    for _ in 0..LEVELS {
        let max: u64 = read::kernel(counter, &OFFSETS.counter_max).unwrap_or(u64::MAX);
        if max < UNLIMITED {
            limit.pages = max;
            limit.used = read::kernel(counter, &OFFSETS.counter_usage).unwrap_or(0);
            if let Some(node) = node(counter.wrapping_sub(offset)) {
                name(node, &mut limit.cgroup);
            }
            return;
        }
        counter = match read::kernel(counter, &OFFSETS.counter_parent) {
            Some(parent) if parent != 0 => parent,
            _ => return,
        };
    }
}

/// `task->cgroups->subsys[memory_cgrp_id]`
#[inline(always)]
fn memory(task: u64) -> Option<u64> {
    let set: u64 = read::kernel(task, &OFFSETS.task_cgroups)?;
    read::kernel(set, &OFFSETS.css_set_memory)
}

/// `css->cgroup->kn`
#[inline(always)]
fn node(css: u64) -> Option<u64> {
    let cgroup: u64 = read::kernel(css, &OFFSETS.css_cgroup)?;
    read::kernel(cgroup, &OFFSETS.cgroup_node)
}

#[inline(always)]
fn above(node: u64) -> Option<u64> {
    read::kernel::<u64>(node, &OFFSETS.node_parent).filter(|parent| *parent != 0)
}

#[inline(always)]
fn name(node: u64, into: &mut [u8; COMPONENT_LEN]) {
    if let Some(name) = read::kernel::<u64>(node, &OFFSETS.node_name) {
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, into) };
    }
}
