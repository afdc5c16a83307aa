//! nginx in network, pid and mount namespaces of its own, and in a cgroup: the tracer on the host
//! gives the same verdicts, with the host's pids, and names the cgroup.

use anyhow::{Result, ensure};
use tests::expected::Expected;
use tests::faults::cgroup::Cgroup;
use tests::faults::firewall;
use tests::faults::unix_files::{allow, listener, stale};
use tests::folder::Folder;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

#[test]
fn a_contained_nginx_gets_the_same_verdicts() -> Result<()> {
    let cgroup = Cgroup::new()?;
    let image = Folder::new()?;
    let mut stage = Stage::new()?;
    stage.contain(image.path());
    stage.prepare(cgroup.placing()?);
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let tcp = |cause, upstream, errno| Fault::proxy(Expected::new(cause, upstream, errno), "");
    let unix = |name: &str, cause, errno| {
        let upstream = format!("unix:{}", image.join(name).display());
        let expected = Expected::new(cause, &upstream, errno);
        Fault::location(format!("proxy_pass http://{upstream}:/;"), expected)
    };
    let site = stage.start(vec![
        tcp("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        tcp("firewall-reject", "127.0.0.1:9002", "ECONNREFUSED"),
        tcp("route-prohibit", "10.66.1.1:80", "EACCES"),
        unix("missing.sock", "unix-socket-missing", "ENOENT"),
        unix("left.sock", "unix-socket-stale", "ECONNREFUSED"),
        unix("closed.sock", "unix-socket-permission", "EACCES"),
    ])?;
    // These files are in the container's file system alone.
    let inside = |name: &str| {
        let path = image.join(name);
        std::path::PathBuf::from(format!(
            "/proc/{}/root{}",
            site.nginx.master,
            path.display()
        ))
    };
    stale(&inside("left.sock"))?;
    let _closed = listener(&inside("closed.sock"))?;
    allow(&inside("closed.sock"), 0o600)?;
    ensure!(
        !image.join("left.sock").exists(),
        "the host sees into the container's file system"
    );

    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(Load::default())?;
    // Its cgroup has no container's name, and is not shown.
    for verdict in site.check(&sent, tracer)? {
        let text = verdict.to_string();
        ensure!(!text.contains(cgroup.name()), "a bare cgroup: {text}");
    }
    Ok(())
}
