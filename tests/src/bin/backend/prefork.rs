//! A parent that listens and children that accept, one connection at a time each; a child that
//! ends is replaced. The children end with their parent.

use anyhow::{Context, Result, bail};

use crate::conduct::Mode;
use crate::listener::Listener;

pub(crate) fn serve(listener: &Listener, mode: &Mode, count: usize) -> Result<()> {
    for _ in 0..count {
        fork(listener, mode)?;
    }
    println!("ready");
    loop {
        // SAFETY: no status is asked for, so no memory is passed.
        let ended = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        if ended < 0 {
            return Err(std::io::Error::last_os_error()).context("no child is left");
        }
        fork(listener, mode)?;
    }
}

fn fork(listener: &Listener, mode: &Mode) -> Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: prctl takes integers here.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            while let Ok(stream) = listener.accept() {
                mode.conduct(stream);
            }
            std::process::exit(0);
        }
        ..0 => bail!("cannot fork: {}", std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
