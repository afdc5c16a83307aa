//! A cgroup with a memory limit, in whichever hierarchy holds the memory controller.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The cgroup; it goes away with its value, once its processes have gone.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    name: String,
}

/// The file that holds the limit, and the mount where it is to be found.
fn controller() -> Option<(PathBuf, &'static str)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let (place, kind, options) = (words.get(1)?, words.get(2)?, words.get(3)?);
        if *kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Some((place.into(), "memory.limit_in_bytes"));
        }
        let children = Path::new(place).join("cgroup.subtree_control");
        let unified = *kind == "cgroup2"
            && std::fs::read_to_string(children)
                .is_ok_and(|list| list.split_whitespace().any(|name| name == "memory"));
        unified.then(|| (place.into(), "memory.max"))
    })
}

/// Why no memory limit can be set here, or `None` if one can.
pub fn missing() -> Option<String> {
    match controller() {
        Some(_) => None,
        None => Some("no cgroup hierarchy has the memory controller for its children".into()),
    }
}

impl Memory {
    /// Makes a cgroup that may hold `bytes`.
    pub fn new(bytes: u64) -> Result<Self> {
        let (mount, limit) = controller().context("no memory controller")?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracer-memory-{}-{number}", std::process::id());
        let path = mount.join(&name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let memory = Self { path, name };
        std::fs::write(memory.path.join(limit), bytes.to_string())
            .with_context(|| format!("cannot set {limit}"))?;
        Ok(memory)
    }

    /// Its name below the mount.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes `command` start in it.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        let processes = std::fs::File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))?;
        // SAFETY: between fork and exec one write is made; "0" is the writing process.
        unsafe {
            command.pre_exec(move || {
                use std::io::Write;
                (&processes).write_all(b"0")
            });
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // The kernel lets go of the last process a moment after it was reaped.
        let removed = wait::until("an empty cgroup", Duration::from_secs(3), || {
            Ok(std::fs::remove_dir(&self.path).ok())
        });
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
