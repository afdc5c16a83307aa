//! The tarball, the .deb and their checksums. Packed twice from one commit they are the same bytes:
//! names are sorted, owners are root, times are the commit's.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Stage;
use crate::command;

/// Packs into `folder`; gives the files.
pub(super) fn all(stage: &Stage, folder: &Path) -> Result<Vec<PathBuf>> {
    if !command::exists("dpkg-deb")? {
        bail!("packing a .deb takes dpkg-deb, which this host does not have");
    }
    let epoch = epoch(&stage.folder)?;
    let mut made = vec![tarball(stage, folder, &epoch)?, deb(stage, folder, &epoch)?];
    made.push(checksums(&made, folder)?);
    Ok(made)
}

/// When the commit was made, in seconds since 1970; now, outside a checkout.
fn epoch(folder: &Path) -> Result<String> {
    let commit = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(folder)
        .output();
    let said = match commit {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => command::output(Command::new("date").arg("+%s"))?,
    };
    Ok(said.trim().to_owned())
}

fn tarball(stage: &Stage, folder: &Path, epoch: &str) -> Result<PathBuf> {
    let name = format!("tracer-{}-{ARCH}-linux", stage.version);
    let file = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
    ])
    .args(["--numeric-owner", &format!("--mtime=@{epoch}")])
    .arg(format!("--transform=s,^\\.,{name},"))
    .arg("--file")
    .arg(&file)
    .arg("--directory")
    .arg(&stage.folder)
    .arg(".");
    command::run(&mut tar)?;
    Ok(file)
}

/// Where the package's files go, with the modes that packages give them.
fn deb(stage: &Stage, folder: &Path, epoch: &str) -> Result<PathBuf> {
    let architecture = Stage::architecture();
    let root = folder.join("deb");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    let place = |from: &str, to: &str, mode: u32| -> Result<()> {
        let (from, to) = (stage.folder.join(from), root.join(to));
        let above = to.parent().context("a file of a package is in a folder")?;
        fs::create_dir_all(above)
            .and_then(|()| fs::copy(&from, &to))
            .and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("placing {}", to.display()))
    };
    place("tracer", "usr/bin/tracer", 0o755)?;
    for (from, to) in [
        (
            "completions/tracer.bash",
            "bash-completion/completions/tracer",
        ),
        ("completions/_tracer", "zsh/vendor-completions/_tracer"),
        (
            "completions/tracer.fish",
            "fish/vendor_completions.d/tracer.fish",
        ),
        ("LICENSE-MIT", "doc/tracer/LICENSE-MIT"),
        ("LICENSE-APACHE", "doc/tracer/LICENSE-APACHE"),
        ("LICENSE-GPL2", "doc/tracer/LICENSE-GPL2"),
        ("README.md", "doc/tracer/README.md"),
        ("CHANGELOG.md", "doc/tracer/CHANGELOG.md"),
    ] {
        place(from, &format!("usr/share/{to}"), 0o644)?;
    }
    let pages = stage.folder.join("man");
    for page in fs::read_dir(&pages).with_context(|| format!("listing {}", pages.display()))? {
        let name = page.context("a manual page")?.file_name();
        let name = name.to_str().context("a manual page's name is ASCII")?;
        place(
            &format!("man/{name}"),
            &format!("usr/share/man/man1/{name}"),
            0o644,
        )?;
    }
    fs::create_dir_all(root.join("DEBIAN"))
        .and_then(|()| fs::write(root.join("DEBIAN/control"), control(&stage.version)))
        .context("writing the package's control file")?;

    let file = folder.join(format!("tracer_{}_{architecture}.deb", stage.version));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--build", "--root-owner-group", "-Zxz"])
        .arg(&root)
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", epoch);
    command::output(&mut build)?;
    Ok(file)
}

/// The binary is static: the package depends on nothing.
fn control(version: &str) -> String {
    format!(
        "Package: tracer\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: the tracer authors <tracer@localhost>\n\
         Section: net\n\
         Priority: optional\n\
         Description: explains each 502 of nginx from the kernel's own evidence\n\
        \x20One verdict per failed request, with evidence, confidence and the fix. nginx is neither\n\
        \x20restarted nor reconfigured. Needs Linux 5.10 or later with BTF, and root.\n",
        Stage::architecture()
    )
}

fn checksums(files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = command::output(Command::new("sha256sum").args(names).current_dir(folder))?;
    let file = folder.join("SHA256SUMS");
    fs::write(&file, sums).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
