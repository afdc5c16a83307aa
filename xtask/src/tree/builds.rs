//! `target/builds/NAME/nginx`: nginx compiled in many ways from Debian's source packages, for the
//! tests. What it takes besides the host's `cc` is unpacked under `target/builds` as well. A build
//! that cannot be made here is left out, and said; its test then skips.

mod list;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{apt::Apt, links};
use crate::command;
use crate::packages::LEFT_OUT;
use crate::workspace::Workspace;
pub(crate) use list::{BUILDS, Build, SHORT};
use list::{CONFIGURE, Compiler, Patch};

const TRIPLE: &str = "x86_64-linux-gnu";
const MUSL_TRIPLE: &str = "x86_64-linux-musl";

/// What a compiler needs, from the host's sources.
struct Packages {
    folder: &'static str,
    names: &'static [&'static str],
    /// Also what they depend on.
    is_whole: bool,
}

const COMMON: Packages = Packages {
    folder: "sysroot",
    names: &["make", "libpcre2-dev", "zlib1g-dev", "libssl-dev"],
    is_whole: true,
};
const CLANG: Packages = Packages {
    folder: "sysroot-clang",
    names: &["clang"],
    is_whole: true,
};
/// Its gcc is the host's `cc`.
const MUSL: Packages = Packages {
    folder: "sysroot-musl",
    names: &["musl", "musl-dev"],
    is_whole: false,
};

/// The host has them with its `cc`, and two of one libc would be mixed up.
const HOSTS: [&str; 2] = ["libc6-dev", "linux-libc-dev"];

/// Makes those of these builds that are missing or made otherwise.
pub(crate) fn ensure(workspace: &Workspace, builds: &[&Build]) {
    let due: Vec<_> = builds
        .iter()
        .filter(|build| !is_made(workspace, build))
        .collect();
    if due.is_empty() {
        return;
    }
    eprintln!(
        "setup: building {} nginx from Debian's sources under target/builds (under a minute each)",
        due.len()
    );
    for build in due {
        if let Err(error) = make(workspace, build) {
            eprintln!("setup: the build {} is left out: {error:#}", build.name);
        }
    }
}

/// The build of this name.
pub(crate) fn named(name: &str) -> Result<&'static Build> {
    let found = BUILDS.iter().find(|build| build.name == name);
    found.with_context(|| {
        let names: Vec<_> = BUILDS.iter().map(|build| build.name).collect();
        format!("there is no build {name}, but {}", names.join(", "))
    })
}

pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("builds")
}

fn is_made(workspace: &Workspace, build: &Build) -> bool {
    let folder = folder(workspace).join(build.name);
    folder.join("nginx").is_file()
        && fs::read_to_string(folder.join("stamp")).is_ok_and(|stamp| stamp == text(build))
}

/// All that makes it: the stamp.
fn text(build: &Build) -> String {
    format!("{build:#?}\n{CONFIGURE:?}\n")
}

fn make(workspace: &Workspace, build: &Build) -> Result<()> {
    let builds = folder(workspace);
    let binary = match unstripped(build) {
        Some(other) => {
            ensure(workspace, &[other]);
            let binary = builds.join(other.name).join("nginx");
            ensure!(binary.is_file(), "it is {} without symbols", other.name);
            binary
        }
        None => compiled(workspace, build)?,
    };
    let done = builds.join(build.name).with_extension("done");
    super::empty(&done)?;
    let own = done.join("nginx");
    fs::copy(&binary, &own).context("keeping the binary")?;
    if build.is_stripped {
        command::output(Command::new("strip").arg("--strip-all").arg(&own))?;
    }
    fs::write(done.join("stamp"), text(build)).context("stamping the build")?;
    super::replace(&builds.join(build.name), &done)?;
    let fresh = fresh(workspace, build);
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    Ok(())
}

/// The build that only differs by its symbols.
fn unstripped(build: &Build) -> Option<&'static Build> {
    let same = Build {
        is_stripped: false,
        ..*build
    };
    build.is_stripped.then_some(())?;
    BUILDS.iter().find(|other| {
        let named = Build {
            name: other.name,
            what: other.what,
            ..same
        };
        text(other) == text(&named)
    })
}

/// Where it is compiled.
fn fresh(workspace: &Workspace, build: &Build) -> PathBuf {
    folder(workspace).join(build.name).with_extension("new")
}

/// Compiles it; gives the binary.
fn compiled(workspace: &Workspace, build: &Build) -> Result<PathBuf> {
    let common = unpacked(workspace, &COMMON)?;
    let nginx = source(workspace, "nginx", build.suite)?;
    eprintln!("setup: building nginx: {}, {}", build.name, build.what);

    let fresh = fresh(workspace, build);
    extract(&nginx, &fresh)?;
    for patch in build.patches.iter().copied().flatten() {
        apply(patch, &fresh)?;
    }

    let mut configure = Command::new("./configure");
    configure
        .current_dir(&fresh)
        .args(CONFIGURE)
        .args(build.configure)
        .args(compiler(workspace, build, &common)?)
        .envs(environment(workspace, build));
    if build.compiler == Compiler::Musl {
        // No package has one for this libc; nginx's own makefile compiles it.
        extract(
            &source(workspace, "pcre2", build.suite)?,
            &fresh.join("pcre"),
        )?;
        configure.arg("--with-pcre=pcre");
    }
    step(&mut configure)?;
    let jobs = std::thread::available_parallelism()?;
    let mut make = Command::new(common.join("usr/bin/make"));
    make.current_dir(&fresh)
        .args(["--silent", "--file=objs/Makefile", "binary"])
        .arg(format!("--jobs={jobs}"))
        .envs(environment(workspace, build));
    step(&mut make)?;
    Ok(fresh.join("objs/nginx"))
}

fn extract(archive: &Path, folder: &Path) -> Result<()> {
    super::empty(folder)?;
    command::output(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(folder),
    )
    .map(drop)
}

/// Runs a step of the build; a failure carries the end of what it said, on either output.
fn step(command: &mut Command) -> Result<()> {
    // The caller's own would make other builds than those described.
    for name in ["CC", "CFLAGS", "LDFLAGS", "MAKEFLAGS"] {
        command.env_remove(name);
    }
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("running {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let end = lines[lines.len().saturating_sub(5)..].join("; ");
    ensure!(output.status.success(), "{program} failed: {end}");
    Ok(())
}

fn apply(patch: &Patch, source: &Path) -> Result<()> {
    let path = source.join(patch.file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        text.matches(patch.from).count() == 1,
        "{} has not one {:?}",
        patch.file,
        patch.from
    );
    fs::write(&path, text.replace(patch.from, patch.to))
        .with_context(|| format!("writing {}", path.display()))
}

/// The arguments of configure that name the compiler, its flags and where the libraries are.
fn compiler(workspace: &Workspace, build: &Build, common: &Path) -> Result<Vec<String>> {
    // Without what only a debugger reads it is twice as fast; a newer compiler warns of more.
    let mut flags = format!("{} -g0 -Wno-error", build.flags.join(" "));
    let mut linking = build.linking.to_owned();
    let root = common.display();
    let program = match build.compiler {
        Compiler::Musl => musl(&unpacked(workspace, &MUSL)?)?.display().to_string(),
        Compiler::Host | Compiler::Clang => {
            flags += &format!(" -I{root}/usr/include -I{root}/usr/include/{TRIPLE}");
            linking += &format!(" -L{root}/usr/lib/{TRIPLE}");
            if build.compiler == Compiler::Clang {
                let tree = unpacked(workspace, &CLANG)?;
                tree.join("usr/bin/clang").display().to_string()
            } else {
                "cc".to_owned()
            }
        }
    };
    Ok(vec![
        format!("--with-cc={program}"),
        format!("--with-cc-opt={flags}"),
        format!("--with-ld-opt={linking}"),
    ])
}

/// clang is linked with libraries of its own tree.
fn environment(workspace: &Workspace, build: &Build) -> Option<(&'static str, PathBuf)> {
    let tree = folder(workspace).join(CLANG.folder);
    (build.compiler == Compiler::Clang)
        .then(|| ("LD_LIBRARY_PATH", tree.join("usr/lib").join(TRIPLE)))
}

/// The host's `cc` with musl's specs, led into the tree; what it makes has its loader there too.
fn musl(tree: &Path) -> Result<PathBuf> {
    let given = tree
        .join("usr/lib")
        .join(MUSL_TRIPLE)
        .join("musl-gcc.specs");
    let text =
        fs::read_to_string(&given).with_context(|| format!("reading {}", given.display()))?;
    let root = tree.display();
    let text = text
        .replace("/usr/", &format!("{root}/usr/"))
        .replace(" /lib/", &format!(" {root}/lib/"))
        .replace("-L .%s", &format!("-L{root}/lib/{MUSL_TRIPLE} -L .%s"));
    let write = |name: &str, text: String| {
        let path = tree.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok::<_, anyhow::Error>(path)
    };
    let specs = write("musl-gcc.specs", text)?;
    // gcc takes specs that rename something once only, and configure would give them twice.
    let script = format!("#!/bin/sh\nexec cc \"$@\" -specs {}\n", specs.display());
    write("musl-cc", script)
}

/// A suite's package as its authors released it.
fn source(workspace: &Workspace, package: &str, suite: &str) -> Result<PathBuf> {
    let kept = folder(workspace)
        .join("source")
        .join(format!("{package}-{suite}.tar.gz"));
    if kept.is_file() {
        return Ok(kept);
    }
    eprintln!("setup: fetching the source of Debian {suite}'s {package} into target/builds/source");
    let apt = Apt::of_debians_sources(workspace, &[suite])?;
    apt.update()?;
    let file = apt.download_source(package, suite)?;
    let folder = kept.parent().context("target/builds/source")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::rename(&file, &kept).with_context(|| format!("keeping {}", kept.display()))?;
    apt.forget()?;
    Ok(kept)
}

/// Unpacks the packages, unless they are there; returns their tree.
fn unpacked(workspace: &Workspace, packages: &Packages) -> Result<PathBuf> {
    let tree = folder(workspace).join(packages.folder);
    let stamp = tree.join(".packages");
    let wanted = packages.names.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return Ok(tree);
    }
    let apt = Apt::new(workspace)?;
    apt.update()?;
    for name in packages.names {
        ensure!(apt.has(name)?, "this release has no package {name}");
    }
    let mut archives = if packages.is_whole {
        apt.resolve(packages.names)?
    } else {
        apt.alone(packages.names)?
    };
    archives.retain(|archive| {
        let name = archive.package.as_str();
        !LEFT_OUT.contains(&name) && !HOSTS.contains(&name)
    });
    let bytes: u64 = archives.iter().map(|archive| archive.bytes).sum();
    eprintln!(
        "setup: unpacking {wanted}, {} packages ({} MB to fetch), under target/builds/{}",
        archives.len(),
        bytes / 1_000_000,
        packages.folder
    );
    let files = apt.download(&archives)?;
    let fresh = tree.with_extension("new");
    super::unpack(&files, &fresh)?;
    links::keep_inside(&fresh)?;
    fs::write(fresh.join(".packages"), &wanted).context("stamping what builds need")?;
    super::replace(&tree, &fresh)?;
    apt.forget()?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_has_a_test_of_its_name_and_the_short_ones_run_always() -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/builds.rs");
        let text = fs::read_to_string(path)?;
        let is_named = |kind: &str, name: &str| {
            let list = text
                .split_once(&format!("{kind}! {{"))
                .map(|(_, rest)| rest);
            let list = list
                .and_then(|rest| rest.split_once('}'))
                .map(|(list, _)| list);
            list.is_some_and(|list| list.split([',', ' ', '\n']).any(|word| word == name))
        };
        for build in &BUILDS {
            let kind = if SHORT.contains(&build.name) {
                "short"
            } else {
                "long"
            };
            assert!(is_named(kind, build.name), "{kind}: {}", build.name);
        }
        Ok(())
    }
}
