//! Whether the static binary runs: in a root that holds nothing else, and in Debian's releases. It
//! is started as a user does, attaches to this host's kernel, and has to say `tracing`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;
use crate::{command, privilege};

/// Oldest and newest of [`crate::packages::SUITES`] that are releases.
const ROOTS: [&str; 2] = ["bullseye", "trixie"];

/// All that is mounted lies on a file system of this process's own, and goes away with it.
const ENTER: &str = r#"
set -e
tree=$1 binary=$2
if [ "$tree" = empty ]; then
    tree=/mnt && mount -t tmpfs -o mode=755 root $tree && mkdir $tree/proc $tree/var
fi
mount -t tmpfs -o mode=755 var "$tree/var"
mkdir "$tree/var/sys"
cp "$binary" "$tree/var/tracer"
mount -t sysfs sys "$tree/var/sys"
mount --rbind /proc "$tree/proc"
export TRACER_BTF_PATH=/var/sys/kernel/btf/vmlinux
exec chroot "$tree" /var/tracer live --duration 1s
"#;

pub(super) fn run(workspace: &Workspace, binary: &Path) -> Result<()> {
    trial("empty", Path::new("empty"), binary)?;
    for suite in ROOTS {
        let tree = workspace.target().join("nginx").join(suite);
        ensure!(
            tree.is_dir(),
            "no Debian {suite} at {}: `cargo xtask setup` says why",
            tree.display()
        );
        trial(suite, &tree, binary)?;
    }
    Ok(())
}

fn trial(name: &str, tree: &Path, binary: &Path) -> Result<()> {
    let mut command = privilege::as_root("unshare", "try the binary in other roots")?;
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .arg(tree)
        .arg(binary)
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("running `{}`", command::line(&command)))?;
    let stderr = child.stderr.take().context("the trial's stderr")?;
    let mut said = String::new();
    let mut tracing: Option<Duration> = None;
    for line in BufReader::new(stderr).lines() {
        let line = line.context("reading the trial's stderr")?;
        if line.starts_with("tracing") {
            tracing.get_or_insert(started.elapsed());
        }
        said = format!("{said}{line}\n");
    }
    let status = child.wait().context("waiting for the trial")?;
    let Some(tracing) = tracing.filter(|_| status.success()) else {
        anyhow::bail!("the binary does not run in the root `{name}` ({status}): {said}");
    };
    println!(
        "root {name}: tracing {} ms after its start",
        tracing.as_millis()
    );
    Ok(())
}
