//! A parent that listens and children that accept, one connection at a time each; a child that
//! ends is replaced. The children end with their parent.

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal, wait};

use crate::conduct::Mode;
use crate::listener::Listener;

pub(crate) fn serve(listener: &Listener, mode: &Mode, count: usize) -> Result<()> {
    for _ in 0..count {
        fork(listener, mode)?;
    }
    println!("ready");
    loop {
        wait(WaitOptions::empty()).context("no child is left")?;
        fork(listener, mode)?;
    }
}

fn fork(listener: &Listener, mode: &Mode) -> Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            while let Ok(stream) = listener.accept() {
                mode.conduct(stream);
            }
            std::process::exit(0);
        }
        ..0 => bail!("cannot fork: {}", std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
