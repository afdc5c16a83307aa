//! A file system whose one file can be written but never read: whoever reads it waits.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::folder::Folder;

/// The name of its file.
const NAME: &[u8] = b"error.log\0";
const ROOT: u64 = 1;
const FILE: u64 = 2;

/// The mounted file system.
#[derive(Debug)]
pub struct Stalling {
    folder: Folder,
    reads: Arc<AtomicUsize>,
    server: Option<JoinHandle<()>>,
}

impl Stalling {
    /// Mounts it.
    pub fn new() -> Result<Self> {
        let folder = Folder::new()?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .context("cannot open /dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        let options = CString::new(options)?;
        mount("stalling", folder.path(), "fuse", flags, Some(&*options)).context("cannot mount")?;
        let reads = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&reads);
        let server = std::thread::spawn(move || serve(device, &shared));
        Ok(Self {
            folder,
            reads,
            server: Some(server),
        })
    }

    /// Its file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    /// How many reads wait, or have waited.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Acquire)
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        // By force first: whoever waits gets an error, and the server ends.
        for flags in [UnmountFlags::FORCE, UnmountFlags::DETACH] {
            let _ = unmount(self.folder.path(), flags);
        }
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// Answers the kernel (include/uapi/linux/fuse.h) until nothing is mounted any more.
fn serve(mut device: File, reads: &AtomicUsize) {
    let mut size = 0_u64;
    let mut held: Vec<u64> = Vec::new();
    let mut request = vec![0_u8; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        let request = &request[..length];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap_or([0; 4]));
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or([0; 8]));
        let (operation, unique, node) = (word(4), long(8), long(16));
        let answer = match operation {
            // FORGET, BATCH_FORGET
            2 | 42 => continue,
            // LOOKUP
            1 if &request[40..] == NAME => {
                let mut entry = Vec::new();
                for value in [FILE, 0, 0, 0, 0] {
                    entry.extend(value.to_ne_bytes());
                }
                entry.extend(attributes(FILE, size));
                Ok(entry)
            }
            // GETATTR, SETATTR
            3 | 4 => {
                let mut answer = vec![0; 16];
                answer.extend(attributes(node, size));
                Ok(answer)
            }
            // OPEN, OPENDIR: every read comes to us.
            14 | 27 => {
                let mut answer = vec![0; 8];
                answer.extend(1_u32.to_ne_bytes());
                answer.extend([0; 4]);
                Ok(answer)
            }
            // READ
            15 => {
                reads.fetch_add(1, Ordering::AcqRel);
                held.push(unique);
                continue;
            }
            // WRITE
            16 => {
                let written = word(40 + 16);
                size += u64::from(written);
                let mut answer = written.to_ne_bytes().to_vec();
                answer.extend([0; 4]);
                Ok(answer)
            }
            // RELEASE, FSYNC, FLUSH, RELEASEDIR
            18 | 20 | 25 | 29 => Ok(Vec::new()),
            // INIT: version 7.31, writes of 64 KiB
            26 => {
                let mut answer = Vec::new();
                for value in [7_u32, 31, 0, 0, 0, 65_536, 1, 0] {
                    answer.extend(value.to_ne_bytes());
                }
                answer.resize(64, 0);
                Ok(answer)
            }
            // INTERRUPT: who was waiting is ended.
            36 => {
                let waiting = long(40);
                if let Some(at) = held.iter().position(|one| *one == waiting) {
                    held.swap_remove(at);
                    reply(&mut device, waiting, Err(libc::EINTR));
                }
                continue;
            }
            1 => Err(libc::ENOENT),
            _ => Err(libc::ENOSYS),
        };
        reply(&mut device, unique, answer);
    }
}

fn reply(device: &mut File, unique: u64, answer: Result<Vec<u8>, i32>) {
    let (error, body) = match answer {
        Ok(body) => (0, body),
        Err(errno) => (-errno, Vec::new()),
    };
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(error.to_ne_bytes());
    message.extend(unique.to_ne_bytes());
    message.extend(body);
    // Who asked may be gone.
    drop(device.write(&message));
}

fn attributes(node: u64, size: u64) -> Vec<u8> {
    let is_root = node == ROOT;
    let mode = if is_root {
        libc::S_IFDIR | 0o755
    } else {
        libc::S_IFREG | 0o666
    };
    let mut attributes = Vec::new();
    for value in [node, if is_root { 0 } else { size }, 0, 0, 0, 0] {
        attributes.extend(value.to_ne_bytes());
    }
    for value in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        attributes.extend(value.to_ne_bytes());
    }
    attributes
}
