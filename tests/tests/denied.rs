//! connect() denied by a security module, a cgroup's program, or something that cannot be seen.

use std::path::Path;

use anyhow::Result;
use tests::backend::listen;
use tests::expected::Expected;
use tests::faults::cgroup::{Cgroup, Denial};
use tests::faults::unix_files::{allow, listener};
use tests::faults::{apparmor, landlock, lsm_program, seccomp};
use tests::folder::Folder;
use tests::kernel;
use tests::stage::{Fault, Load, Stage};
use tests::tun::{Host, Tun};
use tests::veth;

#[test]
fn landlock_is_no_prohibit_route_and_no_file_mode() -> Result<()> {
    let name = "landlock_is_no_prohibit_route_and_no_file_mode";
    if cannot(name, landlock::missing()) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    let _link = Tun::new(&stage.netns, &[Host::Refusing])?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let _listening = listen(&stage.netns, "127.0.0.1:9001")?;
    let folder = Folder::new()?;
    let path = folder.join("app.sock");
    let _listener = listener(&path)?;
    allow(&path, 0o600)?;
    let socket = format!("unix:{}", path.display());
    stage.prepare(|command| landlock::confine(command, &[8000, 80]));

    // Without securityfs nobody can know which modules there are.
    let has_list = Path::new("/sys/kernel/security/lsm").exists();
    let denied = |upstream: &str| {
        let expected = Expected::new("lsm-denied", upstream, "EACCES")
            .proven_if(kernel::shows_functions())
            .says(if has_list {
                "Landlock"
            } else {
                "a security module"
            });
        Fault::proxy(expected, "")
    };
    let faults = vec![
        denied("127.0.0.1:9001"),
        denied("[::1]:9001"),
        denied("10.88.0.2:9001"),
        denied("10.77.0.2:9001"),
        // Port 80 is allowed by Landlock, so that the route is what denies.
        Fault::proxy(
            Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
            "",
        ),
        Fault::location(
            format!("proxy_pass http://{socket}:/;"),
            Expected::new("unix-socket-permission", &socket, "EACCES"),
        ),
    ];
    stage.check(faults).map(drop)
}

/// Whether a test that needs a security module has to say that it cannot run.
fn cannot(test: &str, missing: Option<String>) -> bool {
    if let Some(reason) = &missing {
        println!("SKIPPED: {test}: {reason}");
    }
    missing.is_some()
}

#[test]
fn a_bpf_lsm_program_is_named() -> Result<()> {
    if cannot("a_bpf_lsm_program_is_named", lsm_program::missing()) {
        return Ok(());
    }
    // A port of its own: the program denies it to all.
    let _program = lsm_program::deny(9666)?;
    let denied = |upstream| {
        let expected = Expected::new("lsm-denied", upstream, "EACCES")
            .proven_if(kernel::shows_functions())
            .says("BPF LSM");
        Fault::proxy(expected, "")
    };
    let faults = ["127.0.0.1:9666", "[::1]:9666"].map(denied);
    Stage::new()?.check(faults.into()).map(drop)
}

#[test]
fn an_apparmor_profile_is_named() -> Result<()> {
    if cannot("an_apparmor_profile_is_named", apparmor::missing()) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let _listening = listen(&stage.netns, "[::1]:9001")?;
    stage.prepare(apparmor::confine);
    let expected = Expected::new("lsm-denied", "[::1]:9001", "EACCES")
        .proven_if(kernel::shows_functions())
        .says("AppArmor (tracer-test");
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}

fn denied_by_cgroup(denial: Denial, expected: Expected, directives: &str) -> Result<()> {
    let mut cgroup = Cgroup::new()?;
    cgroup.deny(9001, denial)?;
    let mut stage = Stage::new()?;
    let _listening = ["127.0.0.1:9001", "[::1]:9001"].map(|at| listen(&stage.netns, at));
    let load = Load {
        concurrency: 10,
        ..Load::default()
    };
    let site = {
        let place = cgroup.placing()?;
        stage.prepare(place);
        stage.start(vec![Fault::proxy(expected, directives)])
    };
    let site = site?;
    let tracer = tests::tracer::Tracer::follow(site.nginx.master)?;
    let sent = site.send(load)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_cgroup_program_denies_connect() -> Result<()> {
    let expected = Expected::new("cgroup-denied", "127.0.0.1:9001", "EPERM").exactly_inferred();
    denied_by_cgroup(Denial::Connect4, expected, "")
}

#[test]
fn a_cgroup_program_denies_connect_over_ipv6() -> Result<()> {
    let expected = Expected::new("cgroup-denied", "[::1]:9001", "EPERM").exactly_inferred();
    denied_by_cgroup(Denial::Connect6, expected, "")
}

#[test]
fn a_cgroup_program_that_says_refused_is_no_missing_listener() -> Result<()> {
    let name = "a_cgroup_program_that_says_refused_is_no_missing_listener";
    let missing = || "no cgroup program can choose its errno here (5.18 has bpf_set_retval)".into();
    if cannot(name, (!kernel::has("bpf_set_retval")).then(missing)) {
        return Ok(());
    }
    let expected =
        Expected::new("cgroup-denied", "127.0.0.1:9001", "ECONNREFUSED").exactly_inferred();
    denied_by_cgroup(Denial::Connect4Refused, expected, "")
}

#[test]
fn a_cgroup_program_that_drops_packets() -> Result<()> {
    let expected = if kernel::has("SKB_DROP_REASON_BPF_CGROUP_EGRESS") {
        Expected::timeout("cgroup-denied", "127.0.0.1:9001")
    } else {
        let reason = "this kernel does not say that a cgroup program drops packets: unexplained";
        kernel::lesser("a_cgroup_program_that_drops_packets", reason);
        Expected::timeout("unexplained", "127.0.0.1:9001").unknown()
    };
    denied_by_cgroup(Denial::Egress, expected, "proxy_connect_timeout 1500ms;")
}

#[test]
fn what_the_evidence_does_not_decide_is_unexplained() -> Result<()> {
    let mut stage = Stage::new()?;
    // connect() never reaches the kernel's network code: nothing but its errno is to be seen.
    stage.prepare(|command| {
        seccomp::fail_connect(command, libc::ENETDOWN);
        Ok(())
    });
    stage.healthy = "return 200 ok;".into();
    let expected = Expected::new("unexplained", "127.0.0.1:9001", "ENETDOWN").unknown();
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}
