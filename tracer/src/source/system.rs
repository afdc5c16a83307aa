//! What names this system in a capture's header. What can not be read stays empty.

use std::{fs, path::Path};

use crate::{capture::Kernel, process};

/// A name that no other run has: 128 random bits in hexadecimal.
#[must_use]
pub(crate) fn random_name() -> String {
    random().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random bytes of the kernel's.
#[must_use]
pub(crate) fn random() -> [u8; 16] {
    process::random()
}

/// The host's name.
#[must_use]
pub(crate) fn host() -> String {
    line("/proc/sys/kernel/hostname")
}

/// The boot's id.
#[must_use]
pub(crate) fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// Seconds east of UTC now.
#[must_use]
pub(crate) fn utc_offset() -> i32 {
    let now = jiff::Timestamp::now();
    jiff::tz::TimeZone::system().to_offset(now).seconds()
}

/// The kernel, and its BTF by size and checksum.
#[must_use]
pub(crate) fn kernel(btf: &Path) -> Kernel {
    let btf = fs::read(btf).map_or(String::new(), |bytes| {
        format!("{:x}-{:08x}", bytes.len(), crc32fast::hash(&bytes))
    });
    Kernel {
        release: line("/proc/sys/kernel/osrelease"),
        machine: std::env::consts::ARCH.to_owned(),
        btf,
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or(String::new(), |text| text.trim().to_owned())
}
