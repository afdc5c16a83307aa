//! The on-demand hook where nginx closes connections: not attached while the configuration says
//! that nginx logs what fails, attached once it turns out otherwise.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::client::Front;
use tests::counters::Counters;
use tests::expected::Expected;
use tests::faults::unix_files::allow;
use tests::folder::Folder;
use tests::holdings::Holdings;
use tests::process;
use tests::service::Service;
use tests::site::Site;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};

const NO_FAULTS: Load = Load {
    failing: 0,
    healthy: 5,
    concurrency: 1,
    front: Front::Http,
};
const FAULTS: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 4,
    front: Front::Http,
};

/// How often the hook ran, and that others did.
fn closings(counters: &Counters, tracer: &Tracer) -> Result<u64> {
    let runs = counters.of(tracer.pid())?;
    ensure!(runs["set_state"] > 0, "{runs:?}");
    Ok(runs["closed_at_once"])
}

/// Waits until it runs, and in all workers: the kernel sets a breakpoint in one process after the
/// other, and gives the link once it has. `links`: how many there were before what has it attached.
fn stands(
    site: &Site,
    counters: &Counters,
    tracer: &Tracer,
    links: usize,
    load: Load,
) -> Result<()> {
    until("the hook where connections are closed", PATIENCE, || {
        site.send(load)?;
        let is_linked = Holdings::of(tracer.pid())?.links > links;
        Ok((is_linked && closings(counters, tracer)? > 0).then_some(()))
    })
}

fn prohibited(stage: &Stage) -> Result<Expected> {
    stage.netns.ip("route add prohibit 10.66.1.1")?;
    Ok(Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"))
}

#[test]
fn what_fails_at_once_is_told_where_it_is_logged() -> Result<()> {
    let stage = Stage::new()?;
    let counters = Counters::new()?;
    let expected = prohibited(&stage)?;
    let bound = Expected::new("bind-failed", "127.0.0.1:8000", "EADDRNOTAVAIL").status(500);
    let faults = vec![
        Fault::proxy(expected, ""),
        Fault::proxy(bound, "proxy_bind 203.0.113.7;"),
    ];
    let site = stage.start(faults)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(FAULTS)?;
    site.verdict_lines(&sent, &tracer)?;
    let runs = closings(&counters, &tracer)?;
    ensure!(runs == 0, "it stands, and ran {runs} times");
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_reload_that_quiets_the_log_is_noticed() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.join("logs.conf");
    std::fs::write(&file, "")?;
    let mut stage = Stage::new()?;
    // A folder of its own: nginx makes it, and a folder that changed may have another
    // configuration.
    let logs = Folder::new()?;
    stage.config.error_log = Some(format!("{} error", logs.join("error.log").display()));
    stage.config.http = format!("include {}/l*.conf;", folder.path().display());
    let expected = prohibited(&stage)?.or_errno(None);
    let site = stage.start(vec![Fault::proxy(expected, "")])?;
    let counters = Counters::new()?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let aside = || -> Result<()> {
        site.send(NO_FAULTS)?;
        let runs = closings(&counters, &tracer)?;
        ensure!(runs == 0, "it stands, and ran {runs} times");
        Ok(())
    };
    aside()?;
    // Nothing is another: it is read again, without the privileges of the start.
    site.nginx.reload()?;
    site.nginx.settled()?;
    aside()?;
    std::fs::write(&file, "error_log /dev/null crit;")?;
    let links = Holdings::of(tracer.pid())?.links;
    site.nginx.reload()?;
    stands(&site, &counters, &tracer, links, NO_FAULTS)?;
    let sent = site.send(FAULTS)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_configuration_that_is_another_by_now_is_not_believed() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.join("logs.conf");
    std::fs::write(&file, "error_log /dev/null crit;")?;
    let mut stage = Stage::new()?;
    stage.config.error_log = Some(format!("{} error", folder.join("error.log").display()));
    stage.config.http = format!("include {};", file.display());
    let expected = prohibited(&stage)?.or_errno(None);
    let site = stage.start(vec![Fault::proxy(expected, "")])?;
    // A process's start is known to a tick of 10 ms, and a file's time to another.
    let started = process::started(site.nginx.master)?;
    until("a configuration younger than nginx", PATIENCE, || {
        std::fs::write(&file, "")?;
        let written = std::fs::metadata(&file)?.modified()?;
        Ok((written > started + Duration::from_millis(30)).then_some(()))
    })?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(FAULTS)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_unix_upstream_that_the_configuration_does_not_show_is_noticed() -> Result<()> {
    let folder = Folder::new()?;
    let (unread, healthy) = (folder.join("unread.sock"), folder.join("healthy.sock"));
    let unix = format!("unix:{}", unread.display());
    let mut stage = Stage::new()?;
    let _service = Service::start(&stage.netns, &[&unix, "unread"])?;
    allow(&unread, 0o666)?;
    let pass = |path: &Path| {
        let path = path.display();
        format!("set $kind un; proxy_pass http://${{kind}}ix:{path}:/;")
    };
    stage.healthy = pass(&healthy);
    stage.config.http = format!(
        "server {{ listen unix:{}; return 200; }}",
        healthy.display()
    );
    let expected = Expected::reset("backend-reset", &unix);
    let site = stage.start(vec![Fault::location(pass(&unread), expected)])?;
    let counters = Counters::new()?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let runs = counters.of(tracer.pid())?["closed_at_once"];
    ensure!(runs == 0, "it stands, and ran {runs} times");
    let links = Holdings::of(tracer.pid())?.links;
    stands(&site, &counters, &tracer, links, NO_FAULTS)?;
    let sent = site.send(FAULTS)?;
    site.check(&sent, tracer).map(drop)
}
