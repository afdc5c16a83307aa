//! Files that a command writes: readable by their owner alone, whole or not at all. One that exists
//! is replaced only with `--force`, in one step; what a killed command left has a name of its own,
//! which begins with a dot.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use indicatif::HumanBytes;
use thiserror::Error;

use crate::{plural::count, say::say};

/// What happens to files that exist.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct Replacing {
    /// Replace files that exist
    #[arg(long)]
    pub(super) force: bool,
}

impl Replacing {
    /// Fails early, before a long replay.
    ///
    /// # Errors
    /// The file exists, and may not be replaced.
    pub(super) fn check(self, path: &Path) -> Result<(), Exists> {
        match !self.force && path.symlink_metadata().is_ok() {
            true => Err(Exists(path.to_owned())),
            false => Ok(()),
        }
    }
}

/// A file exists, and may not be replaced.
#[derive(Debug, Error)]
#[error("{0} exists; --force replaces it")]
pub(super) struct Exists(PathBuf);

/// What a command wrote.
#[derive(Debug, Default)]
pub(super) struct Total {
    files: u64,
    bytes: u64,
}

impl Total {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// Says it on stderr; `what` is the file, or what the folder's files are.
    pub(super) fn say(&self, what: &str, path: &Path) {
        let size = HumanBytes(self.bytes);
        match what {
            "" => say!("wrote {} ({size})", path.display()),
            what => say!(
                "wrote {} to {} ({size})",
                count(self.files, what),
                path.display()
            ),
        }
    }
}

/// Makes a folder, and those above it, unless they exist.
///
/// # Errors
/// It cannot be made, or something else has its name.
pub(super) fn folder(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        bail!("{} is a file: -o names a folder", path.display());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the folder {}", path.display()))
}

/// Writes a file, and counts it.
///
/// # Errors
/// It cannot be written; then nothing has changed.
pub(super) fn file(
    path: &Path,
    replacing: Replacing,
    bytes: &[u8],
    total: &mut Total,
) -> Result<()> {
    let mut written = Written::create(path, replacing)?;
    let done = written.write_all(bytes);
    done.with_context(|| format!("writing {}", path.display()))?;
    written.keep(total)
}

/// A file being written; it takes its name at [`Self::keep`], and goes without that.
#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    under_way: PathBuf,
    out: Option<BufWriter<File>>,
    bytes: u64,
}

impl Written {
    /// Begins a file.
    ///
    /// # Errors
    /// It exists and may not be replaced, or its folder takes no file.
    pub(super) fn create(path: &Path, replacing: Replacing) -> Result<Self> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            bail!("{} is a folder: a file's name is wanted", path.display());
        };
        replacing.check(path)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let under_way = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&under_way)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            under_way,
            out: Some(BufWriter::with_capacity(256 << 10, file)),
            bytes: 0,
        })
    }

    /// It is whole.
    ///
    /// # Errors
    /// What was buffered cannot be written, or the name not be given.
    pub(super) fn keep(mut self, total: &mut Total) -> Result<()> {
        let what = || format!("writing {}", self.path.display());
        if let Some(out) = self.out.take() {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error);
            file.with_context(what)?.sync_data().with_context(what)?;
        }
        fs::rename(&self.under_way, &self.path).with_context(what)?;
        total.add(self.bytes);
        Ok(())
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // After `keep` the name is gone already.
        let _ = fs::remove_file(&self.under_way);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("tracer-written-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn file(path: &Path, bytes: &[u8]) -> Result<()> {
        let replacing = Replacing { force: true };
        super::file(path, replacing, bytes, &mut Total::default())
    }

    #[test]
    fn a_file_that_exists_is_replaced_by_force_alone() {
        let dir = scratch("exists");
        folder(&dir).expect("a folder");
        let path = dir.join("report.html");
        let mut total = Total::default();
        let careful = Replacing::default();
        super::file(&path, careful, b"first", &mut total).expect("written");
        let said = super::file(&path, careful, b"second", &mut total).expect_err("exists");
        assert!(
            said.to_string()
                .ends_with("report.html exists; --force replaces it")
        );
        assert_eq!(fs::read(&path).expect("there"), b"first");
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 1);
        assert_eq!((total.files, total.bytes), (1, 5));
        file(&path, b"second").expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"second");
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_file_is_its_owners_and_replaces_the_one_that_exists() {
        let dir = scratch("replaced");
        folder(&dir.join("a/b")).expect("folders");
        let path = dir.join("a/b/report.html");
        file(&path, b"first").expect("written");
        file(&path, b"second").expect("written again");
        assert_eq!(fs::read(&path).expect("there"), b"second");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.join("a"))), (0o600, 0o700));
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = scratch("unfinished");
        folder(&dir).expect("a folder");
        let path = dir.join("trace.json");
        file(&path, b"whole").expect("written");
        let mut half = Written::create(&path, Replacing { force: true }).expect("begun");
        half.write_all(b"ha").expect("buffered");
        drop(half);
        assert_eq!(fs::read(&path).expect("there"), b"whole");
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 1);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_file_in_a_folders_place_is_named() {
        let dir = scratch("taken");
        folder(&dir).expect("a folder");
        let path = dir.join("taken");
        file(&path, b"").expect("written");
        let said = folder(&path).expect_err("a file").to_string();
        assert!(
            said.ends_with("taken is a file: -o names a folder"),
            "{said}"
        );
        let said = Written::create(&dir, Replacing::default()).expect_err("a folder");
        let said = said.to_string();
        assert!(
            said.ends_with("is a folder: a file's name is wanted"),
            "{said}"
        );
        fs::remove_dir_all(dir).expect("removed");
    }
}
