//! The tarball, the .deb and their checksums. Packed twice from one commit they are the same bytes:
//! names are sorted, owners are root, times are the commit's.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{EXAMPLES, Stage, UNIT};
use crate::command;

const SUMS: &str = "SHA256SUMS";

/// Packs into `folder`; gives the files.
pub(super) fn all(stage: &Stage, folder: &Path) -> Result<Vec<PathBuf>> {
    if !command::exists("dpkg-deb")? {
        bail!("packing a .deb takes dpkg-deb, which this host does not have");
    }
    let epoch = epoch(&stage.folder)?;
    let mut made = vec![tarball(stage, folder, &epoch)?, deb(stage, folder, &epoch)?];
    made.push(checksums(&made, folder)?);
    made.push(notes(stage, folder)?);
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

/// The release's binary as a user installs it: checksum, tarball, `install`.
pub(super) fn installed(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    let trial = folder.join("trial");
    if trial.exists() {
        fs::remove_dir_all(&trial).with_context(|| format!("removing {}", trial.display()))?;
    }
    fs::create_dir_all(&trial).with_context(|| format!("making {}", trial.display()))?;
    let name = name(stage);
    let archive = format!("{name}.tar.gz");
    for file in [archive.as_str(), SUMS] {
        fs::copy(folder.join(file), trial.join(file)).with_context(|| format!("copying {file}"))?;
    }
    let run = |line: &[&str]| {
        let mut command = Command::new(line[0]);
        command::output(command.args(&line[1..]).current_dir(&trial))
    };
    run(&["sha256sum", "--check", "--ignore-missing", SUMS])?;
    run(&["tar", "-xzf", &archive])?;
    run(&["install", "-D", &format!("{name}/tracer"), "bin/tracer"])?;
    Ok(trial.join("bin/tracer"))
}

fn name(stage: &Stage) -> String {
    format!("tracer-{}-{ARCH}-linux", stage.version)
}

fn tarball(stage: &Stage, folder: &Path, epoch: &str) -> Result<PathBuf> {
    let name = name(stage);
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
    // No maintainer script enables or starts it: that is the operator's choice.
    place(UNIT, "usr/lib/systemd/system/tracer.service", 0o644)?;
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
    for (folder, names) in EXAMPLES {
        for name in names {
            let from = format!("{folder}/{name}");
            place(&from, &format!("usr/share/doc/tracer/{from}"), 0o644)?;
        }
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
    let control = control(&stage.version, &maintainer(&stage.folder)?);
    fs::create_dir_all(root.join("DEBIAN"))
        .and_then(|()| fs::write(root.join("DEBIAN/control"), control))
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

/// Who packs: by Debian's own variables, or else the commit's author.
fn maintainer(folder: &Path) -> Result<String> {
    let [name, address] = ["DEBFULLNAME", "DEBEMAIL"].map(std::env::var);
    if let (Ok(name), Ok(address)) = (name, address) {
        return Ok(format!("{name} <{address}>"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%an <%ae>"]);
    let said = command::output(git.current_dir(folder))
        .context("no commit says who packs: set DEBFULLNAME and DEBEMAIL")?;
    Ok(said.trim().to_owned())
}

/// The binary is static: the package depends on nothing.
fn control(version: &str, maintainer: &str) -> String {
    format!(
        "Package: tracer\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: {maintainer}\n\
         Section: net\n\
         Priority: optional\n\
         Description: explains each 502 of nginx from the kernel's own evidence\n\
        \x20One verdict per failed request, with evidence, confidence and the fix. nginx is neither\n\
        \x20restarted nor reconfigured. Needs Linux 5.10 or later with BTF, and root. The unit\n\
        \x20tracer.service records always; it is not enabled by itself.\n",
        Stage::architecture()
    )
}

/// What the release's page says: the changes of this version, and the checksums.
fn notes(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    let read = |file: PathBuf| {
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    };
    let changes = read(stage.folder.join("CHANGELOG.md"))?;
    let changes = section(&changes, &stage.version)
        .with_context(|| format!("CHANGELOG.md has no section [{}]", stage.version))?;
    let sums = read(folder.join(SUMS))?;
    let file = folder.join("RELEASE-NOTES.md");
    let text = format!(
        "# tracer {}\n\n{changes}\n\n## {SUMS}\n\n```text\n{sums}```\n",
        stage.version
    );
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// A version's section of a changelog, without its heading.
fn section<'a>(changelog: &'a str, version: &str) -> Option<&'a str> {
    let heading = format!("\n## [{version}]");
    let (_, rest) = changelog.split_once(&heading)?;
    let (_, rest) = rest.split_once('\n')?;
    let section = rest.split("\n## ").next()?.trim();
    (!section.is_empty()).then_some(section)
}

fn checksums(files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = command::output(Command::new("sha256sum").args(names).current_dir(folder))?;
    let file = folder.join(SUMS);
    fs::write(&file, sums).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn notes_are_the_section_of_the_version() {
        let text =
            "# Changelog\n\n## [0.2.0] - 2027\n\nTwo.\n\n## [0.1.0] - 2026\n\n### A\n\nOne.\n";
        assert_eq!(section(text, "0.2.0"), Some("Two."));
        assert_eq!(section(text, "0.1.0"), Some("### A\n\nOne."));
        assert_eq!(section(text, "0.3.0"), None);
        assert_eq!(section("\n## [0.1.0]\n\n## [0.0.1]\nA", "0.1.0"), None);
    }
}
