//! `/proc/PID/status`, `stat` and `comm`: who a process is and since when (`fs/proc/array.c`).

use std::{io, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use super::read_start;
use crate::event::Time;

/// More than any kernel writes into `status` but for absurd group lists.
const STATUS_LIMIT: u64 = 256 * 1024;

/// The fields of `/proc/PID/status` that tracer uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    /// The parent's pid on the host.
    pub parent: u32,
    /// The pid in the process's own pid namespace.
    pub own_pid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// The user that file access is judged by (`fsuid`; nearly always the effective one).
    pub file_uid: u32,
    /// The group that file access is judged by.
    pub file_gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities, bit n is capability n.
    pub capabilities: u64,
    /// Seccomp mode (0 none, 1 strict, 2 a filter).
    pub seccomp: u32,
    /// `no_new_privs` is set.
    pub no_new_privs: bool,
}

/// Reads `/proc/PID/status`.
///
/// # Errors
/// The process is gone, or `/proc` hides it.
pub(crate) fn status(pid: u32) -> io::Result<Status> {
    let bytes = read_start(format!("/proc/{pid}/status"), STATUS_LIMIT)?;
    Ok(parse(&String::from_utf8_lossy(&bytes), pid))
}

/// `comm`: at most 15 bytes of name, which the process itself may have chosen.
///
/// # Errors
/// The process is gone.
pub(crate) fn name(pid: u32) -> io::Result<String> {
    let bytes = read_start(format!("/proc/{pid}/comm"), 64)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// When the process started (field 22 of `stat`: clock ticks since boot, so good to 10 ms).
///
/// # Errors
/// The process is gone, or `stat` has an unknown shape.
pub(crate) fn start_time(pid: u32) -> io::Result<Time> {
    let bytes = read_start(format!("/proc/{pid}/stat"), 4096)?;
    let ticks_a_second = rustix::param::clock_ticks_per_second().max(1);
    start_ticks(&String::from_utf8_lossy(&bytes))
        .map(|ticks| Time(ticks.saturating_mul(1_000_000_000 / ticks_a_second)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat: no start time"))
}

/// How long the process has run, good to 10 ms.
///
/// # Errors
/// As [`start_time`].
pub(crate) fn age(pid: u32) -> io::Result<Duration> {
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    );
    Ok(now.saturating_sub(Duration::from_nanos(start_time(pid)?.0)))
}

/// Is the process in a group whose leader has ended? So are children that outlive their program.
///
/// # Errors
/// The process is gone, or `stat` has an unknown shape.
pub(crate) fn has_lost_its_leader(pid: u32) -> io::Result<bool> {
    let bytes = read_start(format!("/proc/{pid}/stat"), 4096)?;
    let group = group(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat: no group"))?;
    Ok(group != pid && name(group).is_err())
}

/// Field 5.
fn group(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Field 22. The name in field 2 may hold blanks and parentheses, so counting starts at the last
/// one.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn parse(text: &str, pid: u32) -> Status {
    let mut status = Status {
        own_pid: pid,
        ..Status::default()
    };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let mut numbers = value.split_ascii_whitespace().map_while(|n| n.parse().ok());
        match key {
            "PPid" => status.parent = numbers.next().unwrap_or(0),
            // From the outermost namespace to the process's own.
            "NSpid" => status.own_pid = numbers.last().unwrap_or(pid),
            // Real, effective, saved, file system.
            "Uid" => {
                status.uid = numbers.nth(1).unwrap_or(0);
                status.file_uid = numbers.nth(1).unwrap_or(status.uid);
            }
            "Gid" => {
                status.gid = numbers.nth(1).unwrap_or(0);
                status.file_gid = numbers.nth(1).unwrap_or(status.gid);
            }
            "Groups" => status.groups = numbers.collect(),
            "CapEff" => status.capabilities = u64::from_str_radix(value.trim(), 16).unwrap_or(0),
            "Seccomp" => status.seccomp = numbers.next().unwrap_or(0),
            "NoNewPrivs" => status.no_new_privs = numbers.next() == Some(1),
            _ => {}
        }
    }
    status
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = (parse(text, 1), start_ticks(text), group(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_worker_has_both_its_pids_and_its_groups() {
        let text = "Name:\tnginx\nPid:\t4242\nPPid:\t812\nUid:\t0\t33\t0\t34\nGid:\t0\t35\t0\t36\n\
            Groups:\t33 1000 \nNSpid:\t4242\t7\nCapEff:\t0000000000000002\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        assert_eq!(
            parse(text, 4242),
            Status {
                parent: 812,
                own_pid: 7,
                uid: 33,
                gid: 35,
                file_uid: 34,
                file_gid: 36,
                groups: vec![33, 1000],
                capabilities: 2,
                seccomp: 2,
                no_new_privs: true,
            }
        );
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_start_time() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(start_ticks(stat), Some(987_654));
        assert_eq!(group("7 (a b) S 1 42 42 0 -1"), Some(42));
        assert_eq!(start_ticks("42 (x"), None);
    }

    #[test]
    fn this_process_started_in_the_past() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        let now = clock_gettime(ClockId::Boottime);
        assert!(started.0 > 0 && started.0 / 1_000_000_000 <= now.tv_sec as u64);
        assert!(age(pid).unwrap() < Duration::from_nanos(u64::MAX - started.0));
        assert_eq!(
            status(pid).unwrap().parent,
            std::os::unix::process::parent_id()
        );
    }
}
