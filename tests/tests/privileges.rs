//! What each thread of a running tracer may do: one of them, the keeper, may do what root does to
//! namespaces; none of those that read what others wrote may.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::expected::Expected;
use tests::site::Site;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{self, Tracer};
use tests::wait::{PATIENCE, until};

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_NET_RAW: u64 = 1 << 13;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;
const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;

/// What threads of this name may have.
fn allowed(name: &str) -> Option<u64> {
    let looks = CAP_DAC_READ_SEARCH | CAP_SYS_PTRACE;
    Some(match name {
        "tracer" => looks | CAP_PERFMON | CAP_BPF,
        "observer" | "scout" | "queues" => looks,
        "reader" => looks | CAP_SETGID | CAP_SETUID | CAP_CHECKPOINT_RESTORE,
        "recorder" => CAP_DAC_OVERRIDE,
        "stdout" | "metrics" | "otlp" => 0,
        "keeper" => {
            looks
                | CAP_SETGID
                | CAP_SETUID
                | CAP_CHECKPOINT_RESTORE
                | CAP_NET_ADMIN
                | CAP_NET_RAW
                | CAP_PERFMON
                | CAP_BPF
                | CAP_SYS_ADMIN
        }
        _ => return None,
    })
}

/// A thread's name, and some fields of its `status`.
#[derive(Debug)]
struct Thread {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Thread {
    fn capabilities(&self, set: &str) -> Result<u64> {
        let text = self.fields.get(set).context("no such set")?;
        Ok(u64::from_str_radix(text, 16)?)
    }

    fn is(&self, field: &str, value: &str) -> bool {
        self.fields.get(field).is_some_and(|now| now == value)
    }
}

/// All threads of a process; one that ends meanwhile is left out.
fn threads(pid: u32) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            continue;
        };
        let fields: BTreeMap<String, String> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        threads.push(Thread {
            name: fields["Name"].clone(),
            fields,
        });
    }
    Ok(threads)
}

/// The threads, these among them, when none of the keeper's jobs is at work: those have its
/// privileges, and end.
fn settled(pid: u32, names: &[&str]) -> Result<Vec<Thread>> {
    until("a tracer without jobs at work", PATIENCE, || {
        let threads = threads(pid)?;
        let has = |name: &str| threads.iter().any(|thread| thread.name == name);
        let settled = names.iter().all(|name| has(name)) && !has("admin");
        Ok(settled.then_some(threads))
    })
}

/// One of them is the keeper, and none may do more than it has to.
fn are_limited(threads: &[Thread]) -> Result<()> {
    let mut keepers = 0;
    for thread in threads {
        let allowed = allowed(&thread.name)
            .with_context(|| format!("{} is a thread of no known kind", thread.name))?;
        for set in ["CapEff", "CapPrm"] {
            let has = thread.capabilities(set)?;
            ensure!(
                has & !allowed == 0,
                "{set} of {} has {has:x}, of which {:x} is too much",
                thread.name,
                has & !allowed
            );
        }
        ensure!(
            thread.capabilities("CapInh")? == 0,
            "{} would hand capabilities on",
            thread.name
        );
        ensure!(
            thread.is("NoNewPrivs", "1"),
            "{} may gain privileges",
            thread.name
        );
        ensure!(
            thread.is("Seccomp", "2"),
            "{} has no filter of system calls",
            thread.name
        );
        keepers += usize::from(thread.capabilities("CapEff")? & CAP_SYS_ADMIN != 0);
    }
    ensure!(keepers == 1, "{keepers} threads have CAP_SYS_ADMIN");
    Ok(())
}

fn site() -> Result<Site> {
    let stage = Stage::new()?;
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    stage.start(vec![Fault::proxy(expected, "")])
}

#[test]
fn one_thread_alone_may_enter_namespaces() -> Result<()> {
    let site = site()?;
    let tracer = Tracer::follow_with(site.nginx.master, &["--metrics", "127.0.0.1:0"])?;
    let sent = site.send(Load::default())?;
    // Each kind of thread has worked by then.
    site.verdict_lines(&sent, &tracer)?;
    let names = ["observer", "stdout", "metrics", "queues"];
    are_limited(&settled(tracer.pid(), &names)?)?;
    // And with no more than that all is found.
    site.check(&sent, tracer).map(drop)
}

#[test]
fn what_sends_verdicts_may_do_nothing_else() -> Result<()> {
    let site = site()?;
    let mut command = tracer::live(site.nginx.master)?;
    let mut tracer = Tracer::start(command.args(["--otlp", "http://127.0.0.1:1"]))?;
    tracer.tracing()?;
    let sent = site.send(Load::default())?;
    // Nobody listens there: it has tried, and will again.
    tracer.says("trying again")?;
    are_limited(&settled(tracer.pid(), &["otlp"])?)?;
    site.check(&sent, tracer).map(drop)
}

/// Sets the limits of descriptors for a command.
fn limited(command: &mut Command, soft: u64, hard: u64) -> &mut Command {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: one system call, on a value that was copied before.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        )
    }
}

#[test]
fn the_limit_of_descriptors_is_raised_and_running_short_is_said() -> Result<()> {
    const SHORT: &str = "is near its own descriptor limit";
    let stage = Stage::new()?;
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let site = stage.start(vec![Fault::proxy(expected, "")])?;

    // Fewer than it needs at its start, and as many as it likes.
    let mut command = tracer::live(site.nginx.master)?;
    let mut tracer = Tracer::start(limited(&mut command, 40, 4096))?;
    tracer.tracing()?;
    let sent = site.send(Load::default())?;
    site.verdict_lines(&sent, &tracer)?;
    let open = fs::read_dir(format!("/proc/{}/fd", tracer.pid()))?.count() as u64;
    ensure!(open > 40, "it needs {open} alone");
    let ended = site.check_all(&sent, tracer)?;
    ensure!(!ended.stderr.contains(SHORT), "{}", ended.stderr);

    // A few more than it holds.
    let mut command = tracer::live(site.nginx.master)?;
    let mut tracer = Tracer::start(limited(&mut command, 40, open * 10 / 9))?;
    tracer.says(SHORT)?;
    let sent = site.send(Load::default())?;
    let ended = site.check_all(&sent, tracer)?;
    // When it began, and in the summary.
    ensure!(ended.stderr.matches(SHORT).count() == 2, "{}", ended.stderr);
    Ok(())
}
