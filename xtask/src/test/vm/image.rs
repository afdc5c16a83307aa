//! A guest's file system: one initramfs of three archives, as the kernel takes them one after the
//! other. The programs of Debian (the same for all guests), the kernel's modules, and what is
//! tested.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::kernels::Unpacked;
use crate::command;
use crate::packages::{APPARMOR, APPARMOR_SUITE, GUEST, GUEST_SUITE};
use crate::tree;
use crate::tree::apt::Apt;
use crate::tree::suites;
use crate::workspace::Workspace;

/// What is tested, by the name it has in the guest.
pub(super) struct Payload {
    pub(super) programs: Vec<(String, PathBuf)>,
    pub(super) tests: Vec<(String, PathBuf)>,
}

/// The modules that faults may need; a guest has neither disks nor network cards.
const MODULES: [&str; 6] = [
    "arch",
    "crypto",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "lib",
    "net",
];

/// Where things are mounted.
const MOUNTS: [&str; 6] = ["dev", "proc", "sys", "tmp", "run", "tests"];

/// What the guest does. The first line of each program and the last of all are read by
/// [`super::heard`] and [`super::machine`].
///
/// Left out are stress tests, whose faults hang on milliseconds, and another protocol's ways
/// through the same hooks.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t securityfs security /sys/kernel/security
mount -t tracefs tracing /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
modprobe tun
# Two tests that both load it first have one refused.
modprobe -a nfnetlink nf_tables
ip link set lo up
export TRACER_BIN=/tests/tracer TRACER_TEST_ROOT=/ OPENSSL_CONF=/etc/ssl/openssl.cnf CI=1
LEFT_OUT='--skip five_hundred --skip fastcgi'
filter=$(cat /tests/filter)
echo
for program in $(cat /tests/order); do
    echo "     Running $program"
    case $program in
        *"$filter"*) tests= ;;
        *) tests=$filter ;;
    esac
    /tests/deps/$program --show-output --test-threads=2 $LEFT_OUT $tests
done
echo "     All programs ran"
poweroff -f
"#;

/// Fetches the guest's programs unless they are there; returns their tree.
pub(super) fn base(workspace: &Workspace) -> Result<PathBuf> {
    let tree = workspace.target().join("vm/guest");
    let stamp = tree.join(".packages");
    let wanted = [GUEST.as_slice(), &APPARMOR].concat().join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return Ok(tree);
    }
    let apt = Apt::of_debian(workspace, &[GUEST_SUITE])?;
    apt.update()?;
    let archives = apt.resolve(&GUEST)?;
    eprintln!(
        "setup: unpacking the guests' programs, {} packages, under target/vm",
        archives.len()
    );
    let files = apt.download(&archives)?;
    let fresh = tree.with_extension("new");
    tree::unpack(&files, &fresh)?;
    for bulk in ["doc", "info", "locale", "man", "zoneinfo", "perl"] {
        let folder = fresh.join("usr/share").join(bulk);
        if folder.is_dir() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
    }
    suites::arrange(&fresh, &MOUNTS)?;
    // It has an apt state of its own in the same place.
    apt.forget()?;
    parser(workspace, &fresh.join("apparmor")).context("fetching AppArmor's parser")?;
    // kmod goes by the name it is called by; Debian makes some of these links in scripts.
    for name in ["modprobe", "depmod"] {
        let link = fresh.join("sbin").join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("removing {}", link.display()))?;
        }
        symlink("../bin/kmod", &link).with_context(|| format!("linking {}", link.display()))?;
    }
    fs::write(fresh.join(".packages"), &wanted).context("stamping the guests' programs")?;
    tree::replace(&tree, &fresh)?;
    Ok(tree)
}

/// Puts AppArmor's parser with its libraries into a folder of its own: they are of a later suite
/// than all else.
fn parser(workspace: &Workspace, folder: &Path) -> Result<()> {
    let apt = Apt::of_debian(workspace, &[APPARMOR_SUITE])?;
    apt.update()?;
    let files = apt.download(&apt.alone(&APPARMOR)?)?;
    let tree = folder.with_extension("all");
    tree::unpack(&files, &tree)?;
    fs::create_dir_all(folder)?;
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    for library in [
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libgcc_s.so.1",
        "libm.so.6",
        "libstdc++.so.6",
    ] {
        fs::copy(libraries.join(library), folder.join(library))
            .with_context(|| format!("copying {library}"))?;
    }
    for part in ["usr/sbin/apparmor_parser", "etc/apparmor.d/abi"] {
        command::run(
            Command::new("cp")
                .arg("-a")
                .arg(tree.join(part))
                .arg(folder),
        )?;
    }
    fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    apt.forget()
}

/// A program of the tree, run here with the tree's own loader and libraries: this host may have
/// others.
pub(super) fn own(tree: &Path, program: &str) -> Command {
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .map(|folder| tree.join(folder).display().to_string())
        .join(":");
    let mut command = Command::new(tree.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
    command
        .args(["--library-path", &libraries])
        .arg(tree.join(program));
    command
}

/// Packs the image of one guest; gives its file.
pub(super) fn build(
    workspace: &Workspace,
    name: &str,
    kernel: &Unpacked,
    base: &Path,
    payload: &Payload,
    filter: Option<&str>,
) -> Result<PathBuf> {
    let work = workspace.target().join("vm/work").join(name);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    let modules = work.join("modules");
    stage_modules(kernel, base, &modules).context("staging the kernel's modules")?;
    let tested = work.join("tested");
    stage_payload(payload, &tested, filter).context("staging the tests")?;

    let image = work.join("initramfs");
    let mut file = File::create(&image).with_context(|| format!("making {}", image.display()))?;
    for folder in [base, &modules, &tested] {
        archive(base, folder, &mut file)
            .with_context(|| format!("packing {}", folder.display()))?;
    }
    Ok(image)
}

fn stage_modules(kernel: &Unpacked, base: &Path, into: &Path) -> Result<()> {
    let place = into.join("lib/modules").join(&kernel.release);
    fs::create_dir_all(place.join("kernel"))?;
    for entry in fs::read_dir(&kernel.modules)? {
        let path = entry?.path();
        let name = path.file_name().context("a module list's name")?;
        if name.to_string_lossy().starts_with("modules.") {
            fs::copy(&path, place.join(name))?;
        }
    }
    for part in MODULES {
        // Newer kernels compress them.
        for ending in ["", ".xz", ".zst"] {
            let from = kernel
                .modules
                .join("kernel")
                .join(format!("{part}{ending}"));
            if from.exists() {
                let to = place.join("kernel").join(part);
                let above = to.parent().context("a folder of modules")?;
                fs::create_dir_all(above)?;
                command::run(Command::new("cp").arg("-a").arg(&from).arg(above))?;
            }
        }
    }
    let mut depmod = own(base, "sbin/depmod");
    depmod.arg("-b").arg(into).arg(&kernel.release);
    command::output(&mut depmod).map(drop)
}

fn stage_payload(payload: &Payload, into: &Path, filter: Option<&str>) -> Result<()> {
    let tests = into.join("tests");
    fs::create_dir_all(tests.join("deps"))?;
    for (name, path) in &payload.programs {
        fs::copy(path, tests.join(name))?;
    }
    let mut order = String::new();
    for (name, path) in &payload.tests {
        fs::copy(path, tests.join("deps").join(name))?;
        order = format!("{order}{name}\n");
    }
    fs::write(tests.join("order"), order)?;
    fs::write(tests.join("filter"), filter.unwrap_or_default())?;
    let init = into.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Appends a folder as a `newc` archive that belongs to root.
fn archive(base: &Path, folder: &Path, into: &mut File) -> Result<()> {
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .context("running find")?;
    let names = find.stdout.take().context("find's output")?;
    let mut cpio = own(base, "bin/busybox");
    cpio.args(["cpio", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(folder)
        .stdin(names)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = cpio.spawn().context("running busybox cpio")?;
    let mut bytes = child.stdout.take().context("cpio's output")?;
    io::copy(&mut bytes, into).context("writing the archive")?;
    ensure!(child.wait()?.success(), "busybox cpio failed");
    ensure!(find.wait()?.success(), "find failed");
    Ok(())
}
