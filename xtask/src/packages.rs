//! The Debian and Ubuntu packages that the demo and the tests run. They are unpacked under
//! `target/root` with what they depend on, never installed: installing nginx would start a server
//! on port 80.

/// A package to unpack.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// What it is for, as setup says it.
    pub(crate) purpose: &'static str,
    /// A release without it still passes setup; the tests that need it then say that they skip.
    pub(crate) optional: bool,
}

const fn required(name: &'static str, purpose: &'static str) -> Package {
    Package {
        name,
        purpose,
        optional: false,
    }
}

/// What the demo runs.
pub(crate) const DEMO: [Package; 3] = [
    required("nginx", "the server under test"),
    required("nftables", "firewall faults"),
    required("iproute2", "network namespaces and routing faults"),
];

/// What is unpacked, first to last.
pub(crate) const PACKAGES: [Package; 9] = [
    DEMO[0],
    DEMO[1],
    DEMO[2],
    required("libnginx-mod-stream", "nginx's TCP and UDP proxy"),
    required("openssl", "certificates of TLS upstreams"),
    required("valgrind", "instructions a connection takes"),
    required("tmux", "the terminal of `tracer top`"),
    Package {
        name: "bpftool",
        purpose: "faults made by BPF programs",
        // Ubuntu before 24.10 has it only as a part of each kernel's own tools.
        optional: true,
    },
    Package {
        name: "tcpdump",
        purpose: "what `cargo xtask bench` compares captures with",
        optional: true,
    },
];

/// What `cargo xtask bench` loads nginx with, and what an operator would take instead of tracer;
/// unpacked under `target/alternatives` when the first benchmark runs. What a release does not have
/// is left out of the table.
pub(crate) const ALTERNATIVES: [&str; 6] = [
    "wrk",
    "bpftrace",
    "libbpf-tools",
    "strace",
    "tcpdump",
    "linux-perf",
];

/// Dependencies that are left out of the tree.
///
/// libc6 belongs to the host's loader: another libc next to it breaks every program that the tree's
/// libraries are offered to. Its symbols are for valgrind's memory checker. The others serve
/// maintainer scripts, which are never run here; every Debian has them.
pub(crate) const LEFT_OUT: [&str; 8] = [
    "libc6",
    "libc6-dbg",
    "libc-bin",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "perl-base",
    "tar",
];

/// Debian's suites whose nginx is tested too; each is unpacked under `target/nginx` with all that
/// it depends on, also libc, and runs in a mount namespace of its own.
pub(crate) const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];

/// The suite and the packages of the real backends that the tests put behind nginx; unpacked under
/// `target/backends`.
pub(crate) const BACKENDS_SUITE: &str = "bookworm";
pub(crate) const BACKENDS: [&str; 16] = [
    "coreutils",
    "dash",
    "gunicorn",
    "uwsgi-core",
    "uwsgi-plugin-python3",
    "uvicorn",
    "python3-h2",
    "python3-cryptography",
    "php8.2-fpm",
    "nodejs",
    "apache2-bin",
    "puma",
    "openjdk-17-jre-headless",
    "libtomcat10-java",
    "socat",
    "systemd",
];

/// What reads tracer's metrics in the tests, with what it is linked to and nothing else; unpacked
/// under `target/monitoring`.
pub(crate) const MONITORING: [&str; 2] = ["prometheus", "libc6"];

/// The suite whose programs run in the guests of `cargo xtask test --vm`, and whose qemu runs them.
pub(crate) const GUEST_SUITE: &str = "bookworm";

/// What a guest has, besides its kernel and what is tested.
pub(crate) const GUEST: [&str; 12] = [
    "busybox",
    "dash",
    "kmod",
    "util-linux",
    "nginx",
    "libnginx-mod-stream",
    "nftables",
    "iproute2",
    "openssl",
    "bpftool",
    // With C.UTF-8, which tmux needs.
    "libc-bin",
    "tmux",
];

/// The suite whose AppArmor parser can deny connect() alone, and the parser with what it is linked
/// to.
pub(crate) const APPARMOR_SUITE: &str = "trixie";
pub(crate) const APPARMOR: [&str; 4] = ["apparmor", "libc6", "libgcc-s1", "libstdc++6"];

/// What runs the guests.
pub(crate) const EMULATOR: [&str; 1] = ["qemu-system-x86"];
