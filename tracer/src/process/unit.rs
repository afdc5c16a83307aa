//! The systemd unit or container that a process's cgroup names (`/proc/PID/cgroup`).
//!
//! Names come from cgroup paths alone: no runtime is asked. A container wins over a unit inside it.
//! Any other cgroup names nothing: its path is often a hash.

use super::read_start;

/// Returns what runs a process: a container's short id (as `docker ps` shows it) or name, or a
/// systemd unit. `None` if its cgroup is neither's, or the process is gone.
#[must_use]
pub(crate) fn unit(pid: u32) -> Option<String> {
    named(&cgroups(pid)?)
}

/// The same by the path of a cgroup: for a process that is gone.
#[must_use]
pub(crate) fn unit_of(path: &str) -> Option<String> {
    named(&format!("0::{path}"))
}

/// The process's cgroup v2 path (`0::/…`), relative to the root of tracer's cgroup namespace.
#[must_use]
pub(crate) fn unified_path(pid: u32) -> Option<String> {
    cgroups(pid)?
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

fn cgroups(pid: u32) -> Option<String> {
    let bytes = read_start(format!("/proc/{pid}/cgroup"), 64 * 1024).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn named(cgroups: &str) -> Option<String> {
    // `hierarchy:controllers:path`; v2 and systemd's own hierarchy tell most, so they are looked at
    // first.
    let mut paths: Vec<(&str, &str)> = cgroups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .filter(|(_, path)| *path != "/")
        .collect();
    paths.sort_by_key(|(controllers, _)| !matches!(*controllers, "" | "name=systemd"));
    let first = |pick: fn(&str) -> Option<String>| paths.iter().find_map(|(_, path)| pick(path));
    first(container).or_else(|| first(service))
}

fn container(path: &str) -> Option<String> {
    let components: Vec<&str> = path.split('/').collect();
    components
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, component)| {
            let stem = component.strip_suffix(".scope").unwrap_or(component);
            // docker-ID, cri-containerd-ID, crio-ID, libpod-ID, nerdctl-ID; under a plain cgroup
            // driver the ID alone.
            let id = stem.rsplit(['-', ':']).next().unwrap_or(stem);
            if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Some(id[..12].to_owned());
            }
            if let Some(name) = component.strip_prefix("lxc.payload.") {
                return Some(name.to_owned());
            }
            let under_lxc = at > 0 && components[at - 1] == "lxc";
            (under_lxc && !component.is_empty()).then(|| (*component).to_owned())
        })
}

fn service(path: &str) -> Option<String> {
    path.rsplit('/')
        .find(|component| component.ends_with(".service"))
        .map(str::to_owned)
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = (named(text), unit_of(text));
}

#[cfg(test)]
mod tests {
    use super::named;

    const ID: &str = "3f2a1bc4d5e60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";

    #[test]
    fn every_runtime_s_cgroup_names_its_container_or_unit() {
        for (path, name) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/docker-ID.scope", Some("3f2a1bc4d5e6")),
            ("/docker/ID", Some("3f2a1bc4d5e6")),
            (
                "/docker/ID/system.slice/nginx.service",
                Some("3f2a1bc4d5e6"),
            ),
            (
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
                Some("3f2a1bc4d5e6"),
            ),
            ("/kubepods/burstable/pod1/ID", Some("3f2a1bc4d5e6")),
            (
                "/system.slice/k3s.service/kubepods-pod1.slice:cri-containerd:ID",
                Some("3f2a1bc4d5e6"),
            ),
            (
                "/machine.slice/libpod-ID.scope/container",
                Some("3f2a1bc4d5e6"),
            ),
            ("/kubepods.slice/crio-ID.scope", Some("3f2a1bc4d5e6")),
            ("/lxc.payload.web1/system.slice/nginx.service", Some("web1")),
            ("/lxc/web1", Some("web1")),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/shop.service",
                Some("shop.service"),
            ),
            ("/proxies/edge", None),
            ("/8828777f3a0c41d2b7e5", None),
            ("/", None),
        ] {
            let cgroups = format!("0::{}\n", path.replace("ID", ID));
            assert_eq!(named(&cgroups).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn on_a_hybrid_host_the_hierarchy_that_knows_the_unit_tells_it() {
        let cgroups = "4:memory:/docker\n1:name=systemd:/system.slice/nginx.service\n0::/\n";
        assert_eq!(named(cgroups).as_deref(), Some("nginx.service"));
    }
}
