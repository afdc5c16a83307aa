//! Time on a CPU, in nanoseconds, as the scheduler counts it (`/proc/PID/task/TID/schedstat`).

use std::fs;

/// What all threads of a process have used; 0 when it is gone.
pub(crate) fn of(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// How much of what a process used was in the kernel, by ticks.
pub(crate) fn kernel_share(before: (u64, u64), after: (u64, u64)) -> f64 {
    let (user, kernel) = (after.0 - before.0, after.1 - before.1);
    kernel as f64 / (user + kernel).max(1) as f64
}

/// Ticks in user space and in the kernel.
pub(crate) fn ticks(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(12);
    let mut next = || fields.next().and_then(|field| field.parse().ok());
    (next().unwrap_or(0), next().unwrap_or(0))
}

/// Resident memory in KiB; 0 when it is gone.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Which threads may run where: the process and its children to be keep to these CPUs.
pub(crate) fn keep_to(cpus: &[usize]) -> std::io::Result<()> {
    // SAFETY: plain bits; the call reads them.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        match libc::sched_setaffinity(0, size_of_val(&set), &raw const set) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}
