//! Compiles the BPF object with nightly and the bpf-linker that `cargo xtask setup` built under
//! `target/`.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().context("the workspace above tracer/")?;
    println!("cargo:rustc-env=TRACER_VERSION={}", version(root)?);
    let tools = root.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools).chain(env::split_paths(&path));
    let joined = env::join_paths(paths)?;

    // One object for all of the host's profiles: a folder each would build `core` and hold 300 MB
    // each time. aya-build writes to OUT_DIR.
    let out = PathBuf::from(env::var("OUT_DIR").context("OUT_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")?;
    let shared = root.join("target/bpf").join(arch);
    fs::create_dir_all(&shared).with_context(|| format!("creating {}", shared.display()))?;
    let lock = File::create(shared.join("build.lock")).context("creating build.lock")?;
    lock.lock().context("waiting for another build's object")?;
    // SAFETY: a build script's main thread, before any other thread exists.
    unsafe {
        env::set_var("PATH", joined);
        env::set_var("OUT_DIR", &shared);
    }

    // The nightly that setup chose; `nightly` where setup never ran.
    let chosen = root.join("target/tools/nightly");
    println!("cargo:rerun-if-changed={}", chosen.display());
    let nightly = fs::read_to_string(&chosen).unwrap_or_else(|_| "nightly".to_owned());

    let ebpf = root.join("tracer-ebpf");
    let root_dir = ebpf.to_str().context("the workspace path is UTF-8")?;
    aya_build::build_ebpf(
        [Package {
            name: "tracer-ebpf",
            root_dir,
            ..Package::default()
        }],
        Toolchain::Custom(nightly.trim()),
    )
    .context("building the BPF object; `cargo xtask setup` installs what it needs")?;
    let object = fs::read(shared.join("tracer-ebpf")).context("reading the BPF object")?;
    // A tenth of it, and read once a run.
    let packed = zstd::encode_all(&*strip(&object)?, 19).context("compressing the BPF object")?;
    fs::write(out.join("tracer-ebpf.zst"), packed).context("writing the BPF object")
}

/// The version, of a release build with its commit: `0.1.0 (ade302f 2026-11-30)`. A build outside
/// a checkout takes it from `TRACER_COMMIT`. Development builds go without, or each commit would
/// compile the whole program again.
fn version(root: &Path) -> Result<String> {
    println!("cargo:rerun-if-env-changed=TRACER_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").context("CARGO_PKG_VERSION")?;
    if env::var("PROFILE").context("PROFILE")? != "release" {
        return Ok(version);
    }
    let commit = if root.join(".git").exists() {
        commit(root)
    } else {
        env::var("TRACER_COMMIT").ok()
    };
    Ok(match commit {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    })
}

/// HEAD and its day; `None` without git, or where git does not trust the folder's owner.
fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| said.trim().to_owned())
    };
    let head = git(&["rev-parse", "--symbolic-full-name", "HEAD"])?;
    for name in ["HEAD", &head, "packed-refs"] {
        let file = root.join(git(&["rev-parse", "--git-path", name])?);
        // Cargo takes a file that is not there for one that has changed.
        if file.exists() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    // Abbreviated by hand: git's own length grows with the repository.
    let said = git(&["log", "-1", "--format=%H %cs"])?;
    let (hash, day) = said.split_once(' ')?;
    Some(format!("{} {day}", hash.get(..7)?))
}

/// Takes away what debuggers alone read, four fifths of the object: the linker made the kernel's
/// BTF of it.
fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut built = Builder::read(object)?;
    for section in &mut built.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug") || name.starts_with(b".rel.debug");
    }
    // LLVM has the sections' names among the symbols', this writer apart.
    let names = built.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    built.write(&mut stripped)?;
    Ok(stripped)
}
