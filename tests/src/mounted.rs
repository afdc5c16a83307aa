//! Files of `/etc` that one program alone sees.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

/// Has `command` see these files of `folder` in place of those of its `/etc`, in a mount namespace
/// of its own. What is written to them later, it sees too. A file that `/etc` lacks is left out.
pub fn on_etc(command: &mut Command, folder: &Path, names: &[&str]) -> Result<()> {
    let mut mounts = Vec::new();
    for name in names {
        let target = Path::new("/etc").join(name);
        if target.exists() {
            let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
            mounts.push((path(&folder.join(name))?, path(&target)?));
        }
    }
    let failed = || Err(std::io::Error::last_os_error());
    // SAFETY: between fork and exec only system calls are made, on strings made before.
    unsafe {
        command.pre_exec(move || {
            let none = std::ptr::null();
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return failed();
            }
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            if libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) != 0 {
                return failed();
            }
            for (from, to) in &mounts {
                if libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()) != 0 {
                    return failed();
                }
            }
            Ok(())
        });
    }
    Ok(())
}
