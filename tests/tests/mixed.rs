//! Many requests at once, of several causes on equal errnos, also across reloads: none is missed,
//! none is mixed up.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use tests::backend::listen;
use tests::client::Front;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::faults::unix_files::{allow, listener, stale};
use tests::folder::Folder;
use tests::site::Sent;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

/// A stage with three causes of errno 111 and two of errno 13; what must be held comes along.
fn stage() -> Result<(Stage, Vec<Fault>, impl Sized)> {
    let stage = Stage::new()?;
    let folder = Folder::new()?;
    let behind = listen(&stage.netns, "127.0.0.1:9002")?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let left = folder.join("left.sock");
    stale(&left)?;
    let closed = folder.join("closed.sock");
    let listener = listener(&closed)?;
    allow(&closed, 0o600)?;
    let unix = |path: &std::path::Path, cause, errno| {
        let upstream = format!("unix:{}", path.display());
        let expected = Expected::new(cause, &upstream, errno);
        Fault::location(format!("proxy_pass http://{upstream}:/;"), expected)
    };
    let tcp = |cause, upstream, errno| Fault::proxy(Expected::new(cause, upstream, errno), "");
    let faults = vec![
        tcp("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        tcp("firewall-reject", "127.0.0.1:9002", "ECONNREFUSED"),
        unix(&left, "unix-socket-stale", "ECONNREFUSED"),
        tcp("route-prohibit", "10.66.1.1:80", "EACCES"),
        unix(&closed, "unix-socket-permission", "EACCES"),
    ];
    Ok((stage, faults, (folder, behind, listener)))
}

#[test]
fn five_causes_and_healthy_requests_at_concurrency_20_five_times_in_a_row() -> Result<()> {
    for _ in 0..5 {
        let (stage, faults, _held) = stage()?;
        let load = Load {
            failing: 50,
            healthy: 250,
            concurrency: 20,
            front: Front::Http,
        };
        let verdicts = stage.check_with(faults, load)?;
        assert_eq!(verdicts.len(), 250);
    }
    Ok(())
}

#[test]
fn three_reloads_under_load_miss_nothing() -> Result<()> {
    let (stage, faults, _held) = stage()?;
    let site = stage.start(faults)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let load = Load {
        failing: 10,
        healthy: 50,
        concurrency: 10,
        front: Front::Http,
    };
    let reloaded = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| -> Result<Sent> {
        let sender = scope.spawn(|| -> Result<Sent> {
            let mut sent = Sent::default();
            loop {
                // The last batch meets the workers of the last reload.
                let last = reloaded.load(Ordering::Relaxed);
                sent.extend(site.send(load)?);
                if last {
                    return Ok(sent);
                }
            }
        });
        let reloads: Result<()> = (0..3).try_for_each(|_| {
            site.nginx.reload()?;
            site.nginx.settled()
        });
        reloaded.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
        reloads.and(sent)
    })?;
    site.check(&sent, tracer).map(drop)
}
