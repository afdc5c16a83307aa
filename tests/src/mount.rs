//! A file system of a test's own on a folder of its own, in the host's mount namespace: the image
//! of a container, which its runtime unmounts once the container has ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use crate::folder::Folder;
use crate::programs;
use crate::wait::until;

/// A container runtime gives up after a few seconds; so long may others hold its image.
const LIMIT: Duration = Duration::from_secs(2);

/// The mount; it goes away with its value, whoever still holds it.
#[derive(Debug)]
pub struct Mount {
    folder: Folder,
    is_mounted: bool,
}

impl Mount {
    /// Mounts an empty tmpfs.
    pub fn tmpfs() -> Result<Self> {
        let folder = Folder::new()?;
        mount("tmpfs", folder.path(), "mode=755,size=64m")?;
        Ok(Self {
            folder,
            is_mounted: true,
        })
    }

    /// Mounts the folder `image`, with a layer above it that takes what is written.
    pub fn overlay(image: &Path, layer: &Folder) -> Result<Self> {
        let folder = Folder::new()?;
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        for each in [&upper, &work] {
            std::fs::create_dir(each)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            image.display(),
            upper.display(),
            work.display()
        );
        mount("overlay", folder.path(), &options)?;
        Ok(Self {
            folder,
            is_mounted: true,
        })
    }

    /// The path of `name` on it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Unmounts it; fails if somebody holds it longer than a runtime would wait.
    pub fn unmount(mut self) -> Result<()> {
        let mut last = None;
        until("the mount to be let go", LIMIT, || {
            match rustix::mount::unmount(self.folder.path(), UnmountFlags::empty()) {
                Ok(()) => return Ok(Some(())),
                Err(error) => last = Some(error),
            }
            Ok(None)
        })
        .with_context(|| format!("unmounting: {last:?}"))?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = rustix::mount::unmount(self.folder.path(), UnmountFlags::DETACH);
        }
    }
}

fn mount(kind: &str, at: &Path, options: &str) -> Result<()> {
    let mut command = programs::command("mount")?;
    command
        .args(["-t", kind, "-o", options, "tracer-test"])
        .arg(at);
    programs::output(&mut command).map(drop)
}
