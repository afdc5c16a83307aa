//! A process's own root.

use std::{
    ffi::CString,
    fs::File,
    io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// A process's root, held open.
#[derive(Debug)]
pub struct Root(File);

impl Root {
    /// That of a process, as it is now.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub fn of(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/root")).map(Self)
    }

    /// Opens a file or directory for reading as the process would: no symbolic link leads out of its root (`openat2`, 5.6). A
    /// FIFO is not waited for.
    ///
    /// # Errors
    /// Those of `openat2`.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: integers, of which 0 is a value.
        let mut how: libc::open_how = unsafe { mem::zeroed() };
        how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT;
        // SAFETY: the path ends with NUL, `how` is as long as is said.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.0.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        match i32::try_from(opened) {
            // SAFETY: it is ours alone.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_path_is_the_process_s() {
        let root = Root::of(std::process::id()).unwrap();
        assert!(root.open(Path::new("/proc/version")).is_ok());
        assert!(root.open(Path::new("/no such file")).is_err());
    }

    #[test]
    fn no_link_leads_out() {
        let folder = std::env::temp_dir().join(format!("tracer-root-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "inside").unwrap();
        symlink("/file", folder.join("link")).unwrap();
        symlink("../../../../../file", folder.join("up")).unwrap();
        let root = Root(File::open(&folder).unwrap());
        let read = ["/file", "link", "/up"]
            .map(|path| io::read_to_string(root.open(Path::new(path)).unwrap()).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read, ["inside"; 3]);
    }
}
