//! A child process that ends with its value, and the few questions we ask `/proc` and signals.

use std::process::{Child, ExitStatus};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Sends `signal` to one process; a process that has gone is no error.
pub fn signal(pid: u32, signal: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid as i32), Signal::from_named_raw(signal)) {
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process's first thread, oldest first. Empty when it has gone.
pub fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Whether the process exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// When the process started, to the kernel's tick of 10 ms (`starttime` in proc_pid_stat(5)).
pub fn started(pid: u32) -> Result<SystemTime> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19));
    let ticks: u64 = field.context("no start time")?.parse()?;
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills in what we point at.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    let up = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    Ok(SystemTime::now() - (up.saturating_sub(Duration::from_millis(ticks * 10))))
}

/// The time that a process has spent on a CPU.
pub fn on_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let spent = text.split_whitespace().next().context("no time")?;
    Ok(Duration::from_nanos(spent.parse()?))
}

/// Waits for the child's end.
pub fn ended(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let what = format!("the end of process {}", child.id());
    wait::until(&what, limit, || {
        child.try_wait().context("cannot wait for a child")
    })
}

/// Asks the child to end by `gentle`; kills it if it does not.
pub fn end(child: &mut Child, gentle: i32) {
    signal(child.id(), gentle);
    if ended(child, Duration::from_secs(3)).is_err() {
        drop(child.kill());
        drop(child.wait());
    }
}

/// The name of this process as the kernel has it, and evidence has of who sent a signal.
pub fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name.trim_end().to_owned()
}
