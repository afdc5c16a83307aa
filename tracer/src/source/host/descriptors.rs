//! How many descriptors a worker holds, and how many it and the host may: the answer to
//! [`Question::Descriptors`].
//!
//! [`Question::Descriptors`]: crate::event::Question::Descriptors

use std::fs;

use anyhow::{Context as _, Result};

use crate::{event::fact::DescriptorsView, process};

/// Looks at the worker now.
///
/// # Errors
/// The worker is gone, or `/proc` does not say.
pub(super) fn view(worker: u32) -> Result<DescriptorsView> {
    let limits = process::read_start(format!("/proc/{worker}/limits"), 16 * 1024)
        .with_context(|| format!("limits of worker {worker}"))?;
    let (soft_limit, hard_limit) = nofile(&String::from_utf8_lossy(&limits))
        .context("/proc/PID/limits: no `Max open files`")?;
    let host = process::read_start("/proc/sys/fs/file-nr", 256).context("/proc/sys/fs/file-nr")?;
    let (host_open, host_limit) = file_nr(&String::from_utf8_lossy(&host))
        .context("/proc/sys/fs/file-nr: not three numbers")?;
    Ok(DescriptorsView {
        open: open(worker).with_context(|| format!("descriptors of worker {worker}"))?,
        soft_limit,
        hard_limit,
        host_open,
        host_limit,
    })
}

/// How many descriptors a process holds and may hold, if that leaves none for one more.
pub(super) fn exhausted(pid: u32) -> Option<(u64, u64)> {
    let limits = process::read_start(format!("/proc/{pid}/limits"), 16 * 1024).ok()?;
    let (limit, _) = nofile(&String::from_utf8_lossy(&limits))?;
    let open = open(pid).ok()?;
    (open >= limit).then_some((open, limit))
}

/// The directory's size is the count since 6.2; before, it is 0 and they are counted.
fn open(worker: u32) -> std::io::Result<u64> {
    let path = format!("/proc/{worker}/fd");
    match fs::metadata(&path)?.len() {
        0 => Ok(fs::read_dir(path)?.count() as u64),
        count => Ok(count),
    }
}

fn nofile(limits: &str) -> Option<(u64, u64)> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_ascii_whitespace().map(|number| match number {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Allocated, free (always 0), maximum.
fn file_nr(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text
        .split_ascii_whitespace()
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.nth(1)??))
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = (nofile(text), file_nr(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_also_without_a_bound() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
            Max open files            1024                 unlimited            files\n";
        assert_eq!(nofile(limits), Some((1024, u64::MAX)));
        assert_eq!(nofile(""), None);
    }

    #[test]
    fn this_process_s_descriptors_are_counted() {
        let files: Vec<_> = (0..50)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let view = view(std::process::id()).unwrap();
        assert!(view.open > files.len() as u64 && view.open < view.soft_limit);
        assert!(view.host_open > 0 && view.host_limit > 0);
    }
}
