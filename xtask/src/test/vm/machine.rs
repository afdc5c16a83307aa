//! A guest under QEMU's emulation (TCG: no KVM is needed), its output over the serial line.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::image;
use crate::command;
use crate::packages::{EMULATOR, GUEST_SUITE};
use crate::tree;
use crate::tree::apt::Apt;
use crate::workspace::Workspace;

/// What the guest says last.
const DONE: &str = "All programs ran";
/// A guest that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(600);

/// How a guest ended.
pub(super) enum End {
    /// It ran everything, in this time.
    Ran(Duration),
    /// It panicked, crashed or hung before.
    Died(String),
}

/// Fetches qemu unless it is there; returns its tree.
pub(super) fn emulator(workspace: &Workspace) -> Result<PathBuf> {
    let tree = workspace.target().join("vm/qemu");
    if tree.join("usr/bin/qemu-system-x86_64").is_file() {
        return Ok(tree);
    }
    let apt = Apt::of_debian(workspace, &[GUEST_SUITE])?;
    apt.update()?;
    let archives = apt.resolve(&EMULATOR)?;
    let bytes: u64 = archives.iter().map(|archive| archive.bytes).sum();
    eprintln!(
        "setup: unpacking qemu, {} packages ({} MB to fetch), under target/vm",
        archives.len(),
        bytes / 1_000_000
    );
    let files = apt.download(&archives)?;
    let fresh = tree.with_extension("new");
    tree::unpack(&files, &fresh)?;
    tree::replace(&tree, &fresh)?;
    apt.forget()?;
    Ok(tree)
}

/// The machine that guests run on: qemu's tree.
pub(super) struct Machine<'a>(pub(super) &'a Path);

impl Machine<'_> {
    /// Boots a guest and gives each line of its output to `read`.
    pub(super) fn boot(
        &self,
        kernel: &Path,
        initramfs: &Path,
        mut read: impl FnMut(&str),
    ) -> Result<End> {
        let started = Instant::now();
        let mut child = self.start(kernel, initramfs)?;
        let stdout = child.stdout.take().context("the guest's serial line")?;
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut done = false;
        let mut last = String::new();
        let died = loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end_matches('\r');
                    done |= line.trim() == DONE;
                    read(line);
                    if !line.trim().is_empty() {
                        line.clone_into(&mut last);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break "it ended early",
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    child.kill().context("ending a guest that hangs")?;
                    break "it said nothing for ten minutes";
                }
            }
        };
        child.wait().context("waiting for qemu")?;
        // The pipe is closed by now.
        let _ = reader.join();
        Ok(if done {
            End::Ran(started.elapsed())
        } else {
            End::Died(format!("{died}, after `{last}`"))
        })
    }

    fn start(&self, kernel: &Path, initramfs: &Path) -> Result<Child> {
        let mut qemu = image::own(self.0, "usr/bin/qemu-system-x86_64");
        for folder in ["usr/share/seabios", "usr/share/qemu"] {
            qemu.arg("-L").arg(self.0.join(folder));
        }
        // Without la57 and cx16, which TCG emulates slowly or wrongly.
        // Its clock counts its instructions, one a nanosecond, and leaps over idle time: however
        // busy this machine is, what the guest does takes the same time there, and waiting takes
        // none here. QEMU does that for one CPU well.
        qemu.args(["-accel", "tcg,thread=single", "-M", "q35"])
            .args(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"])
            .args(["-cpu", "max,la57=off,cx16=off", "-m", "1536"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .args(["-no-reboot", "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg(
                "console=ttyS0 loglevel=1 panic=-1 mitigations=off no_timer_check lsm=landlock,apparmor,bpf",
            )
            // Its path is the loader's, so it does not find them by itself.
            .env(
                "QEMU_MODULE_DIR",
                self.0.join("usr/lib/x86_64-linux-gnu/qemu"),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        qemu.spawn()
            .with_context(|| format!("running `{}`", command::line(&qemu)))
    }
}
