//! apt with a private state: the host's sources, proxies and keys, but no lock, list, cache or dpkg
//! status of the host. It needs no root and leaves no trace outside `target/apt`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::workspace::Workspace;

const DEBIAN: &str = "http://deb.debian.org/debian";
/// Of suites whose name ends in `-security`.
const SECURITY: &str = "http://deb.debian.org/debian-security";
/// Of the package debian-archive-keyring, which Debian's own releases have.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A private apt state.
pub(crate) struct Apt {
    folder: PathBuf,
}

/// A package archive, as apt resolved it.
#[derive(Debug, PartialEq)]
pub(crate) struct Archive {
    pub(crate) package: String,
    pub(crate) bytes: u64,
}

impl Apt {
    /// With the host's sources.
    pub(crate) fn new(workspace: &Workspace) -> Result<Self> {
        Self::at(workspace.target().join("apt"), "")
    }

    /// With these of Debian's suites as the only sources, whatever the host is.
    pub(crate) fn of_debian(workspace: &Workspace, suites: &[&str]) -> Result<Self> {
        Self::at(workspace.target().join("apt"), &debians("deb", suites)?)
    }

    /// The same, for source packages.
    pub(crate) fn of_debians_sources(workspace: &Workspace, suites: &[&str]) -> Result<Self> {
        Self::at(workspace.target().join("apt"), &debians("deb-src", suites)?)
    }

    fn at(folder: PathBuf, sources: &str) -> Result<Self> {
        // What an interrupted setup left would be counted among the downloads.
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        for part in ["state/lists/partial", "cache/archives/partial", "archives"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
        }
        let apt = Self { folder };
        apt.write("status", "")?;
        let mut configuration = configuration(&apt.folder);
        if !sources.is_empty() {
            apt.write("sources.list", sources)?;
            configuration += &format!(
                "Dir::Etc::sourcelist \"{}/sources.list\";\nDir::Etc::sourceparts \"-\";\n",
                apt.folder.display()
            );
        }
        apt.write("apt.conf", &configuration)?;
        Ok(apt)
    }

    pub(crate) fn update(&self) -> Result<()> {
        command::output(self.command("apt-get").args(["-qq", "update"]))
            .context("fetching apt's package lists")?;
        Ok(())
    }

    /// Whether some source has this package, and not just others that provide its name.
    pub(crate) fn has(&self, package: &str) -> Result<bool> {
        let found = command::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(!found.trim().is_empty())
    }

    /// The names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let found = command::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// The packages with all that they depend on.
    pub(crate) fn resolve(&self, packages: &[&str]) -> Result<Vec<Archive>> {
        let mut command = self.command("apt-get");
        command.args(["-qq", "install", "--yes", "--print-uris"]);
        let listing = command::output(command.args(packages))
            .with_context(|| format!("resolving {}", packages.join(" ")))?;
        let archives: Vec<Archive> = listing.lines().filter_map(parse_uri).collect();
        ensure!(
            !archives.is_empty(),
            "apt resolved {} to nothing",
            packages.join(" ")
        );
        Ok(archives)
    }

    /// These packages alone, whatever they depend on; those that no source has are left out.
    pub(crate) fn alone(&self, packages: &[&str]) -> Result<Vec<Archive>> {
        let mut found = Vec::new();
        for package in packages {
            if self.has(package)? {
                found.push(*package);
            }
        }
        let mut command = self.command("apt-get");
        command.args(["-qq", "download", "--print-uris"]);
        let listing = command::output(command.args(&found))
            .with_context(|| format!("looking for {}", found.join(" ")))?;
        Ok(listing.lines().filter_map(parse_uri).collect())
    }

    /// Downloads the archives, checked by apt against its signed lists.
    pub(crate) fn download(&self, archives: &[Archive]) -> Result<Vec<PathBuf>> {
        let into = self.folder.join("archives");
        let mut command = self.command("apt-get");
        command.args(["-qq", "download"]).current_dir(&into);
        command.args(archives.iter().map(|archive| &archive.package));
        command::output(&mut command).context("downloading packages")?;

        let listing = fs::read_dir(&into).with_context(|| format!("listing {}", into.display()))?;
        let mut files = Vec::new();
        for entry in listing {
            files.push(
                entry
                    .with_context(|| format!("listing {}", into.display()))?
                    .path(),
            );
        }
        files.retain(|file| file.extension().is_some_and(|ending| ending == "deb"));
        ensure!(
            files.len() == archives.len(),
            "apt downloaded {} of {} packages",
            files.len(),
            archives.len()
        );
        Ok(files)
    }

    /// Downloads what upstream released of a suite's source package, checked as packages are.
    pub(crate) fn download_source(&self, package: &str, suite: &str) -> Result<PathBuf> {
        let into = self.folder.join("archives").join(suite);
        fs::create_dir_all(&into).with_context(|| format!("making {}", into.display()))?;
        let mut command = self.command("apt-get");
        command
            .args(["-qq", "source", "--download-only", "--tar-only"])
            .arg(format!("{package}/{suite}"))
            .current_dir(&into);
        command::output(&mut command)
            .with_context(|| format!("downloading {suite}'s source of {package}"))?;
        let entry = fs::read_dir(&into)
            .with_context(|| format!("listing {}", into.display()))?
            .next()
            .with_context(|| format!("apt downloaded no source of {package}"))?;
        Ok(entry
            .with_context(|| format!("listing {}", into.display()))?
            .path())
    }

    /// The lists age: the next setup fetches its own.
    pub(crate) fn forget(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("removing {}", self.folder.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("apt.conf"));
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// The lines of sources.list for these of Debian's suites.
fn debians(kind: &str, suites: &[&str]) -> Result<String> {
    ensure!(
        Path::new(KEYS).is_file(),
        "this host has no Debian keys at {KEYS}"
    );
    let line = |suite: &&str| {
        let archive = if suite.ends_with("-security") {
            SECURITY
        } else {
            DEBIAN
        };
        format!("{kind} [signed-by={KEYS}] {archive} {suite} main\n")
    };
    Ok(suites.iter().map(line).collect())
}

/// Read after the host's own configuration, which may have hooks that clean the host's caches or
/// fetch what only a desktop shows.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "{folder}/status";
Dir::State::extended_states "{folder}/state/extended_states";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}/cache/archives";
Dir::Log "{folder}/log";
Debug::NoLocking "true";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
"#
    )
}

/// A line of `--print-uris`: 'URI' FILE BYTES HASH.
fn parse_uri(line: &str) -> Option<Archive> {
    let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
    let (package, _version_and_architecture) = words.next()?.split_once('_')?;
    Some(Archive {
        package: package.to_owned(),
        bytes: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_uri_names_the_package_and_its_size() {
        let line = "'http://deb.debian.org/debian/pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb' \
                    zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 MD5Sum:ec42cc09";
        let expected = Archive {
            package: "zlib1g".to_owned(),
            bytes: 86_684,
        };
        assert_eq!(parse_uri(line), Some(expected));
    }

    #[test]
    fn apts_other_lines_are_no_archives() {
        assert_eq!(
            parse_uri("The following NEW packages will be installed:"),
            None
        );
    }
}
