//! Work that another user can stall, on threads that are given up when it does.
//!
//! Whoever owns a process chooses what lies behind its memory and its files: a page of a FUSE file,
//! an `open` that its server never answers. Such work runs on a thread of a small pool. If it does
//! not return in [`PATIENCE`], the caller gets `ETIMEDOUT` and goes on; until it does return, every
//! further call about that process fails at once, and the thread is missing from the pool. At most
//! 64 threads are given up, four of them for one user's processes; beyond, calls fail at once.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use super::keeper;

/// How long the caller waits. A busy host needs some; a stalled one is not worth more.
const PATIENCE: Duration = Duration::from_millis(500);
/// Threads that may be given up at a time, and of those for processes of one user other than root:
/// nobody stops what is read of others' processes.
const STUCK: usize = 64;
const STUCK_BY_USER: usize = 4;
/// Idle threads that are kept.
const IDLE: usize = 4;

/// From here on keys are no pids (`PID_MAX_LIMIT` is 2^22): of a file that many processes share, or
/// that none holds.
pub(crate) const NO_PROCESS: u32 = 1 << 30;

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    idle: Vec<SyncSender<Job>>,
    /// Calls that did not return in time, by process.
    stuck: Option<HashMap<u32, Stuck>>,
    prepare: Option<fn()>,
}

struct Stuck {
    calls: usize,
    user: Option<u32>,
}

/// Who runs a process; root, and who is gone, are nobody in particular.
fn user(pid: u32) -> Option<u32> {
    let status = super::status(pid).ok()?;
    (status.uid != 0).then_some(status.uid)
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    idle: Vec::new(),
    stuck: None,
    prepare: None,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has each new thread of the pool run this first: it drops the privileges that such work does not
/// need.
pub(crate) fn prepare_with(prepare: fn()) {
    let mut pool = pool();
    pool.prepare = Some(prepare);
    // They began without it.
    pool.idle.clear();
}

/// Processes that stall whoever looks at them, now.
#[must_use]
pub(crate) fn stalling() -> Vec<u32> {
    let pool = pool();
    let stuck = pool.stuck.iter().flatten().map(|(&pid, _)| pid);
    let mut pids: Vec<u32> = stuck.filter(|&pid| pid < NO_PROCESS).collect();
    pids.sort_unstable();
    pids
}

/// Runs `work`, which looks at process `pid`, and waits for it no longer than half a second.
///
/// # Errors
/// Those of `work`; `ETIMEDOUT` if it does not return in time, or if an earlier call about this
/// process has not returned yet; `EIO` if it panics.
pub(crate) fn bounded<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    bounded_by(PATIENCE, pid, work)
}

/// The same, with a patience of its own.
///
/// # Errors
/// As [`bounded`].
pub(crate) fn bounded_by<T: Send + 'static>(
    patience: Duration,
    pid: u32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    let state = Arc::new(AtomicU8::new(RUNNING));
    let own = Arc::clone(&state);
    let job: Job = Box::new(move || {
        // A reader's panic on hostile bytes costs this answer alone.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let _ = done.send(outcome);
        if own.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            returned(pid);
        }
    });
    send(pid, job)?;
    match result.recv_timeout(patience) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
        Err(RecvTimeoutError::Timeout) => {
            // Entered first, so that whoever returns finds what to take off.
            give_up(pid);
            if state.swap(GIVEN_UP, Ordering::AcqRel) == DONE {
                returned(pid);
            }
            Err(stalled())
        }
    }
}

/// What becomes of a call.
const RUNNING: u8 = 0;
const DONE: u8 = 1;
const GIVEN_UP: u8 = 2;

fn stalled() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

/// Sends the job to an idle thread, or to a new one.
fn send(pid: u32, job: Job) -> io::Result<()> {
    let mut job = job;
    loop {
        let (thread, prepare) = {
            let mut pool = pool();
            let stuck = pool.stuck.get_or_insert_default();
            let calls = |user: Option<u32>| {
                let counted = |one: &&Stuck| user.is_none() || one.user == user;
                stuck
                    .values()
                    .filter(counted)
                    .map(|one| one.calls)
                    .sum::<usize>()
            };
            if stuck.contains_key(&pid)
                || (!stuck.is_empty()
                    && (calls(None) >= STUCK
                        || user(pid).is_some_and(|user| calls(Some(user)) >= STUCK_BY_USER)))
            {
                return Err(stalled());
            }
            (pool.idle.pop(), pool.prepare)
        };
        let Some(thread) = thread else {
            return spawn(job, prepare);
        };
        match thread.send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(unsent)) => job = unsent,
        }
    }
}

fn spawn(first: Job, prepare: Option<fn()>) -> io::Result<()> {
    let (sender, jobs) = mpsc::sync_channel::<Job>(1);
    keeper::spawn("reader", move || {
        if let Some(prepare) = prepare {
            prepare();
        }
        first();
        loop {
            {
                let mut pool = pool();
                if pool.idle.len() >= IDLE {
                    return;
                }
                pool.idle.push(sender.clone());
            }
            let Ok(job) = jobs.recv() else { return };
            job();
        }
    })
}

fn give_up(pid: u32) {
    let user = user(pid);
    let mut pool = pool();
    let stuck = pool.stuck.get_or_insert_default();
    stuck.entry(pid).or_insert(Stuck { calls: 0, user }).calls += 1;
}

fn returned(pid: u32) {
    let mut pool = pool();
    let stuck = pool.stuck.get_or_insert_default();
    if let Some(one) = stuck.get_mut(&pid) {
        one.calls -= 1;
        if one.calls == 0 {
            stuck.remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn an_answer_in_time_is_given_and_a_panic_costs_one_answer() {
        assert_eq!(bounded(1, || Ok(7)).unwrap(), 7);
        let panicked = bounded(1, || -> io::Result<()> { panic!("hostile bytes") });
        assert_eq!(panicked.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(bounded(1, || Ok(8)).unwrap(), 8);
    }

    #[test]
    fn who_stalls_is_left_alone_until_the_call_returns() {
        const STALLER: u32 = 1_000_000_001;
        let (release, released) = channel::<()>();
        let stalled = bounded_by(SOON, STALLER, move || {
            let _ = released.recv();
            Ok(())
        });
        assert_eq!(stalled.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(stalling().contains(&STALLER));
        // At once, and without another thread.
        let again = bounded(STALLER, || Ok(()));
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        // Others are looked at as before.
        assert_eq!(bounded(1, || Ok(9)).unwrap(), 9);
        drop(release);
        while stalling().contains(&STALLER) {
            thread::yield_now();
        }
        assert_eq!(bounded(STALLER, || Ok(10)).unwrap(), 10);
    }

    #[test]
    fn one_user_s_processes_stop_nobody_else_s_reading() {
        use std::os::unix::process::CommandExt as _;
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: one_user_s_processes_stop_nobody_else_s_reading: needs root");
            return;
        }
        let sleepers: Vec<_> = (0..=STUCK_BY_USER)
            .map(|_| {
                let mut command = std::process::Command::new("sleep");
                command.arg("60").uid(65_533).spawn().expect("sleep")
            })
            .collect();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let codes: Vec<_> = sleepers
            .iter()
            .map(|sleeper| {
                let released = Arc::clone(&released);
                let stalled = bounded_by(SOON, sleeper.id(), move || {
                    let _ = released
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    Ok(())
                });
                stalled.unwrap_err().raw_os_error()
            })
            .collect();
        assert_eq!(codes, vec![Some(libc::ETIMEDOUT); STUCK_BY_USER + 1]);
        // The last was not even begun.
        let own: Vec<u32> = sleepers.iter().map(std::process::Child::id).collect();
        let stuck = stalling().into_iter().filter(|pid| own.contains(pid));
        assert_eq!(stuck.count(), STUCK_BY_USER);
        assert_eq!(bounded(std::process::id(), || Ok(9)).unwrap(), 9);
        drop(release);
        for mut sleeper in sleepers {
            sleeper.kill().expect("it runs");
            sleeper.wait().expect("it ends");
        }
    }
}
