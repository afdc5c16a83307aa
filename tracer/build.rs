//! Compiles the BPF object with nightly and the bpf-linker that `cargo xtask setup` built under `target/`.

use std::{
    env, fs,
    path::{Path, PathBuf},
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
    let tools = root.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools).chain(env::split_paths(&path));
    let joined = env::join_paths(paths)?;
    // SAFETY: a build script's main thread, before any other thread exists.
    unsafe { env::set_var("PATH", joined) };

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
    let object = PathBuf::from(env::var("OUT_DIR").context("OUT_DIR")?).join("tracer-ebpf");
    strip(&object).with_context(|| format!("stripping {}", object.display()))
}

/// Takes away what debuggers alone read, four fifths of the object: the linker made the kernel's BTF of it.
fn strip(object: &Path) -> Result<()> {
    let bytes = fs::read(object)?;
    let mut built = Builder::read(bytes.as_slice())?;
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
    Ok(fs::write(object, stripped)?)
}
