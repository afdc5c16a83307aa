//! A user namespace as a rootless container has it, with users of its own.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The host's number of the namespace's user 0; 65,536 are mapped.
pub const FIRST: u32 = 100_000;

/// Has `command` run as root of a new user namespace, with these files as its own `/etc/passwd` and
/// `/etc/group`. The folder after its `-p` becomes that root's.
pub fn place(command: &mut Command, passwd: &Path, group: &Path) -> Result<()> {
    let mut arguments = command.get_args();
    arguments.find(|one| *one == "-p").context("no -p")?;
    let folder = PathBuf::from(arguments.next().context("no folder")?);
    chown(folder, Some(FIRST), Some(FIRST))?;
    let (mut told, tell) = std::io::pipe()?;
    let (wait, mut go) = std::io::pipe()?;
    // The spawning thread waits for exec.
    std::thread::spawn(move || -> Result<()> {
        let mut pid = [0_u8; 4];
        told.read_exact(&mut pid)?;
        let pid = u32::from_ne_bytes(pid);
        for map in ["uid_map", "gid_map"] {
            let text = format!("0 {FIRST} 65536\n");
            File::options()
                .write(true)
                .open(format!("/proc/{pid}/{map}"))?
                .write_all(text.as_bytes())?;
        }
        go.write_all(b"g")?;
        Ok(())
    });
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let binds = [
        (path(passwd)?, c"/etc/passwd"),
        (path(group)?, c"/etc/group"),
    ];
    // SAFETY: between fork and exec only system calls are made, on values that were made before.
    unsafe {
        command.pre_exec(move || {
            let check = |result: libc::c_int| match result {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            check(libc::unshare(libc::CLONE_NEWUSER))?;
            let pid = libc::getpid().to_ne_bytes();
            let written = libc::write(tell.as_raw_fd(), pid.as_ptr().cast(), pid.len());
            let mut byte = 0_u8;
            let read = libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
            if written != 4 || read != 1 {
                return Err(std::io::Error::from_raw_os_error(libc::EPIPE));
            }
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(0, 0, 0))?;
            check(libc::setresuid(0, 0, 0))?;
            check(libc::unshare(libc::CLONE_NEWNS))?;
            let none = std::ptr::null();
            for (from, to) in &binds {
                let flags = libc::MS_BIND;
                check(libc::mount(
                    from.as_ptr(),
                    to.as_ptr(),
                    none,
                    flags,
                    std::ptr::null(),
                ))?;
            }
            // Another user's process is told no more when its parent ends.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))
        });
    }
    Ok(())
}
