//! What the presenting commands make of a capture: `chart`, `report`, `export`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::folder::Folder;
use crate::programs;
use crate::sent::Sent;
use crate::site::Site;
use crate::tracer::Tracer;

/// Records what `send` does to a site into `file`, checks every verdict, and gives how many there
/// were.
pub fn record(site: Site, file: &Path, send: impl FnOnce(&Site) -> Result<Sent>) -> Result<usize> {
    let tracer = Tracer::follow_into(file, site.nginx.master)?;
    let sent = send(&site)?;
    site.check(&sent, tracer).map(|verdicts| verdicts.len())
}

/// Runs a command of tracer's that has to succeed, and says nothing but what it wrote.
pub fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new(programs::tracer()?)
        .args(arguments)
        .output()
        .context("tracer")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success()
            && !said.is_empty()
            && said.lines().all(|line| line.starts_with("wrote "))
            && output.stdout.is_empty(),
        "{arguments:?} ended with {}: {said}",
        output.status
    );
    Ok(())
}

/// All files in and below a folder; each has to be readable by its owner alone.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A folder's path and that of a file in it, as arguments.
pub fn paths(folder: &Folder, file: &str) -> (String, String) {
    let text = |path: PathBuf| path.display().to_string();
    (text(folder.join("out")), text(folder.join(file)))
}
