//! What may deny a worker's `connect()`: the answer to [`Question::Confinement`].
//!
//! It reports what could deny, never what did: a module's own log says that. What cannot be read is
//! left open.
//!
//! [`Question::Confinement`]: crate::event::Question::Confinement

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cgroup_programs;
use crate::{
    event::fact::ConfinementView,
    process::{self, read_start},
};

/// Looks at the worker now.
///
/// # Errors
/// The worker is gone.
pub(super) fn view(worker: u32) -> Result<ConfinementView> {
    let status = process::status(worker).with_context(|| format!("status of worker {worker}"))?;
    let modules = text(Path::new("/sys/kernel/security/lsm")).unwrap_or_default();
    let modules: Vec<String> = modules
        .split(',')
        .filter(|module| !module.is_empty())
        .map(str::to_owned)
        .collect();
    let label = text(&PathBuf::from(format!("/proc/{worker}/attr/current")));
    let selinux = text(Path::new("/sys/fs/selinux/enforce"));
    let cgroup = process::unified_path(worker);
    let directory = cgroup.as_deref().and_then(cgroup_directory);
    Ok(ConfinementView {
        enforcing: enforcing(label.as_deref(), selinux.as_deref()),
        modules,
        label,
        cgroup_programs: directory
            .and_then(|directory| cgroup_programs::on_connect(&directory).ok()),
        cgroup,
        seccomp: status.seccomp,
        no_new_privs: status.no_new_privs,
    })
}

fn text(path: &Path) -> Option<String> {
    let bytes = read_start(path, 4096).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches(['\0', '\n']).to_owned()).filter(|text| !text.is_empty())
}

/// AppArmor writes the profile's mode behind its name; `SELinux` has one switch for the host (a
/// permissive type is not distinguished).
fn enforcing(label: Option<&str>, selinux: Option<&str>) -> Option<bool> {
    if let Some(switch) = selinux {
        return Some(switch.starts_with('1'));
    }
    match label? {
        "unconfined" => Some(false),
        label if label.ends_with(" (enforce)") || label.ends_with(" (kill)") => Some(true),
        label if label.ends_with(')') => Some(false),
        _ => None,
    }
}

/// The directory of a v2 path; `None` where no v2 hierarchy is mounted, or the path lies outside
/// our namespace.
fn cgroup_directory(path: &str) -> Option<PathBuf> {
    let mounts = read_start("/proc/self/mounts", 1 << 20).ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let place = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then_some(place)
    })?;
    let inside = path.trim_start_matches('/');
    (!inside.starts_with("..")).then(|| Path::new(mount).join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_whether_its_module_enforces() {
        for (label, selinux, expected) in [
            (Some("docker-default (enforce)"), None, Some(true)),
            (Some("/usr/sbin/nginx (complain)"), None, Some(false)),
            (Some("unconfined"), None, Some(false)),
            (Some("system_u:system_r:httpd_t:s0"), Some("1"), Some(true)),
            (Some("system_u:system_r:httpd_t:s0"), Some("0"), Some(false)),
            (None, None, None),
        ] {
            assert_eq!(enforcing(label, selinux), expected, "{label:?}");
        }
    }

    #[test]
    fn this_process_s_confinement_is_reported() {
        let view = view(std::process::id()).unwrap();
        assert_eq!(view.cgroup, process::unified_path(std::process::id()));
        assert!(view.seccomp <= 2);
    }
}
