//! Where things are in the checkout. All that setup makes lies under `target/`, so that
//! `cargo clean` is the whole of uninstalling.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The checkout that this xtask was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the workspace above xtask/")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Not `CARGO_TARGET_DIR`: `tracer/build.rs` and the tests look for setup's work here.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// What `tracer/build.rs` puts in front of `PATH` is this folder's `bin`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// The unpacked packages, as a file system root.
    pub(crate) fn tree(&self) -> PathBuf {
        self.target().join("root")
    }
}
