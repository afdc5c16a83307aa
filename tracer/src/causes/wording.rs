//! How processes, listeners, durations and commands are put into words.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use super::scene::Scene;
use crate::event::{
    Time,
    fact::{Inode, Listener, Owner},
};
pub(super) use crate::plural::count;

/// A duration as a person says it: `0.06 ms`, `340 ms`, `3.1 s`, `4 min`, `2 h`, `3 days`.
pub(super) fn duration(nanoseconds: u64) -> String {
    let ms = nanoseconds as f64 / 1e6;
    let s = ms / 1e3;
    match nanoseconds {
        0..10_000_000 => format!("{ms:.2} ms"),
        10_000_000..1_000_000_000 => format!("{ms:.0} ms"),
        1_000_000_000..100_000_000_000 => format!("{s:.1} s"),
        100_000_000_000..7_200_000_000_000 => format!("{:.0} min", s / 60.0),
        7_200_000_000_000..172_800_000_000_000 => format!("{:.0} h", s / 3600.0),
        _ => format!("{:.0} days", s / 86_400.0),
    }
}

/// The command that asks an upstream as nginx does.
pub(super) fn fetch(upstream: &str) -> String {
    match upstream.strip_prefix("unix:") {
        Some(path) => format!("curl -sv -o /dev/null --unix-socket {path} http://localhost/"),
        None => format!("curl -sv -o /dev/null http://{upstream}/"),
    }
}

/// Memory as a person says it: `4096 bytes`, `48.0 MiB`, `1.5 GiB`.
pub(super) fn bytes(number: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    let mib = number as f64 / MIB;
    match number {
        0..1_048_576 => count(number, "byte"),
        1_048_576..1_073_741_824 => format!("{mib:.1} MiB"),
        _ => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// `node (pid 4242, started 25.0 s ago)`, as of the failure at `now`.
pub(super) fn owner(owner: &Owner, now: Time) -> String {
    let age = if owner.since > now {
        format!("started {} later", duration(owner.since.since(now)))
    } else {
        format!("started {} ago", duration(now.since(owner.since)))
    };
    let name = &owner.name;
    match owner.unit.as_deref().map(unit) {
        Some(unit) => format!("{name} (pid {}, {unit}, {age})", owner.pid),
        None => format!("{name} (pid {}, {age})", owner.pid),
    }
}

/// `node (pid 4242, app.service)`, where its age does not matter.
pub(super) fn process(name: &str, pid: u32, of: Option<&str>) -> String {
    match of.map(unit) {
        Some(unit) => format!("{name} (pid {pid}, {unit})"),
        None => format!("{name} (pid {pid})"),
    }
}

/// A unit's or container's name; a container's id is no name by itself.
pub(super) fn unit(unit: &str) -> Cow<'_, str> {
    if unit.len() == 12 && unit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Cow::Owned(format!("container {unit}"))
    } else {
        Cow::Borrowed(unit)
    }
}

/// Who holds a listener, as far as it is known.
pub(super) fn holder(listener: &Listener, now: Time) -> String {
    listener.owner.as_ref().map_or_else(
        || "a process that could not be found".to_owned(),
        |it| owner(it, now),
    )
}

/// A holder's short name: `node`, else `it`.
pub(super) fn holder_name(listener: &Listener) -> &str {
    listener
        .owner
        .as_ref()
        .map_or("it", |owner| owner.name.as_str())
}

/// `root:www-data, mode 0660`, as the worker sees it, and the host's numbers where those are
/// others.
pub(super) fn owner_and_mode(inode: &Inode) -> String {
    let id = |name: &Option<String>, number: Option<u32>| {
        let number = || number.map_or_else(|| "unmapped".to_owned(), |number| number.to_string());
        name.clone().unwrap_or_else(number)
    };
    let (uid, gid) = match inode.inside {
        Some(inside) => (inside.uid, inside.gid),
        None => (Some(inode.uid), Some(inode.gid)),
    };
    let (host, unmapped) = match (uid, gid) {
        (Some(uid), Some(gid)) if (uid, gid) == (inode.uid, inode.gid) => (String::new(), ""),
        (uid, gid) => (
            format!(" ({}:{} on the host", inode.uid, inode.gid),
            match (uid, gid) {
                (Some(_), Some(_)) => ")",
                _ => "; not mapped in the worker's user namespace)",
            },
        ),
    };
    format!(
        "{}:{}, mode {:04o}{host}{unmapped}",
        id(&inode.user, uid),
        id(&inode.group, gid),
        inode.mode & 0o7777
    )
}

/// A path or a name as a shell takes it.
pub(super) fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@:+-".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// nginx's directive that points at an address, by the scheme its log shows: `proxy_pass
/// http://[::1]:3000`.
pub(super) fn pass(scene: &Scene<'_>, address: SocketAddr) -> String {
    let logged = scene
        .case
        .sure_lines()
        .find_map(|line| line.upstream.as_deref());
    let scheme = logged
        .and_then(|upstream| upstream.split_once("://"))
        .map(|(scheme, _)| scheme);
    match scheme {
        Some("fastcgi") => format!("fastcgi_pass {address}"),
        Some("uwsgi") => format!("uwsgi_pass {address}"),
        Some("scgi") => format!("scgi_pass {address}"),
        Some("grpc") => format!("grpc_pass grpc://{address}"),
        Some("grpcs") => format!("grpc_pass grpcs://{address}"),
        Some("https") => format!("proxy_pass https://{address}"),
        _ => format!("proxy_pass http://{address}"),
    }
}

/// The command that shows who listens on a port, where the backend is.
pub(super) fn see_port(scene: &Scene<'_>, port: u16) -> String {
    let command = format!("ss -ltnp 'sport = :{port}'");
    format!("see: {}", scene.there(&command))
}

/// The commands that show what an address is translated to.
pub(super) fn see_translation(remote: SocketAddr) -> String {
    let ip = remote.ip();
    format!("nft list ruleset; conntrack -L -d {ip}; ipvsadm -Ln")
}

/// Whose network namespace has the upstream's address: `app (pid 42, container 3f2a1bc4d5e6,
/// started 3.0 s ago)`.
pub(super) fn container(container: &Owner, ip: IpAddr, now: Time) -> String {
    if container.pid == 1 {
        return format!("{ip} is an address of the host itself; nginx runs in a container of it");
    }
    format!(
        "{ip} is the address of a container on this host: the network namespace of {}",
        owner(container, now)
    )
}
