//! The backend's process ends while it serves a request: it crashes, exits, is killed, or runs out
//! of memory; one child of many or the whole service.

use anyhow::Result;
use tests::expected::Expected;
use tests::faults::memory::{self, Memory};
use tests::folder::Folder;
use tests::programs;
use tests::service::{Fate, Service};
use tests::site::{Sent, Site};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

/// A process that ends closes its sockets: the request was read, so by FIN.
fn died(upstream: &str) -> Expected {
    let logged = "upstream prematurely closed connection while reading response header";
    Expected::connected("backend-died", upstream, logged).says("backend")
}

fn proxied(expected: Expected) -> Fault {
    let upstream = expected.upstream.clone().unwrap_or_default();
    match upstream.strip_prefix("unix:") {
        Some(_) => Fault::location(format!("proxy_pass http://{upstream}:/;"), expected),
        None => Fault::proxy(expected, ""),
    }
}

/// A preforking service on each address, whose children end as the mode says.
fn prefork(modes: &[(&str, Expected)], fate: Fate) -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    for (mode, expected) in modes {
        let address = expected.upstream.as_deref().unwrap_or_default();
        let words = [address, mode, "--prefork", "2"];
        let service = Service::start_with(&stage.netns, &words, fate, |_| Ok(()))?;
        services.push(service);
    }
    let faults = modes.iter().map(|(_, expected)| proxied(expected.clone()));
    stage.check(faults.collect()).map(drop)
}

#[test]
fn a_child_that_crashes_or_exits() -> Result<()> {
    prefork(
        &[
            ("segv", died("127.0.0.1:9001").says("SIGSEGV")),
            ("abort", died("127.0.0.1:9002").says("SIGABRT")),
            ("exit", died("[::1]:9001").says("code 1")),
        ],
        Fate::Lives,
    )
}

#[test]
fn a_child_behind_a_unix_socket() -> Result<()> {
    let folder = Folder::new()?;
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    prefork(
        &[
            ("segv", died(&at("segv.sock")).says("SIGSEGV")),
            ("exit", died(&at("exit.sock")).says("code 1")),
        ],
        Fate::Lives,
    )
}

#[test]
fn a_child_that_is_killed_names_who_did_it() -> Result<()> {
    let sender = std::process::id().to_string();
    let killed = |at: &str, signal: &str| died(at).says(signal).says(sender.clone());
    prefork(
        &[("wait", killed("127.0.0.1:9001", "SIGKILL"))],
        Fate::Signalled(libc::SIGKILL),
    )?;
    prefork(
        &[("wait", killed("127.0.0.1:9001", "SIGTERM"))],
        Fate::Signalled(libc::SIGTERM),
    )
}

/// Every request meets a service that was started for it, and each verdict names that process.
fn whole_service(
    expected: Expected,
    mode: &str,
    fate: Fate,
    end: impl Fn(&mut Service) -> Result<()> + Send + Sync,
) -> Result<()> {
    let stage = Stage::new()?;
    let address = expected.upstream.clone().unwrap_or_default();
    let site = stage.start(vec![proxied(expected)])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut sent = Sent::default();
    let mut pids = Vec::new();
    for _ in 0..5 {
        let mut service = Service::start_with(&site.netns, &[&address, mode], fate, |_| Ok(()))?;
        pids.push(service.pid().to_string());
        sent.extend(one(&site, || end(&mut service))?);
        service.ended()?;
    }
    let verdicts = site.check(&sent, tracer)?;
    for pid in pids {
        let named = verdicts.iter().filter(|v| {
            v["evidence"].to_string().contains(&pid) || v["summary"].to_string().contains(&pid)
        });
        anyhow::ensure!(named.count() >= 1, "no verdict names process {pid}");
    }
    Ok(())
}

/// One failing and one healthy request, while `end` does what it does to the service.
fn one(site: &Site, end: impl FnOnce() -> Result<()> + Send) -> Result<Sent> {
    let load = Load {
        failing: 1,
        healthy: 1,
        ..Load::default()
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| site.send(load));
        let ended = end();
        let sent = sender
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked")));
        ended.and(sent)
    })
}

#[test]
fn a_whole_service_that_crashes_or_exits() -> Result<()> {
    let segv = died("127.0.0.1:9001").says("SIGSEGV");
    whole_service(segv, "segv", Fate::Lives, |_| Ok(()))?;
    let exit = died("127.0.0.1:9001").says("code 1");
    whole_service(exit, "exit", Fate::Lives, |_| Ok(()))
}

#[test]
fn a_whole_service_killed_by_another_program() -> Result<()> {
    let killed = died("127.0.0.1:9001").says("SIGKILL").says("sh");
    whole_service(killed, "wait", Fate::Lives, |service| {
        service.says("serving", 1)?;
        let kill = format!("kill -9 {}", service.pid());
        programs::output(programs::command("sh")?.args(["-c", &kill])).map(drop)
    })
}

#[test]
fn a_whole_service_stopped_by_its_manager() -> Result<()> {
    let sender = std::process::id().to_string();
    let killed = died("127.0.0.1:9001").says("SIGTERM").says(sender);
    let fate = Fate::Signalled(libc::SIGTERM);
    whole_service(killed, "wait", fate, |_| Ok(()))
}

#[test]
fn a_child_that_the_oom_killer_takes() -> Result<()> {
    oom(
        "a_child_that_the_oom_killer_takes",
        "127.0.0.1:9001",
        32 << 20,
    )
}

#[test]
fn a_child_behind_a_unix_socket_that_the_oom_killer_takes() -> Result<()> {
    let folder = Folder::new()?;
    let upstream = format!("unix:{}", folder.join("hog.sock").display());
    let name = "a_child_behind_a_unix_socket_that_the_oom_killer_takes";
    oom(name, &upstream, 48 << 20)
}

fn oom(test: &str, upstream: &str, limit: u64) -> Result<()> {
    if let Some(reason) = memory::missing() {
        println!("SKIPPED: {test}: {reason}");
        return Ok(());
    }
    let memory = Memory::new(limit)?;
    let expected = Expected {
        cause: "backend-oom-killed",
        ..died(upstream)
            .says(format!("the cgroup {} held", memory.name()))
            .says(format!("of the {}.0 MiB that it may", limit >> 20))
    };
    let stage = Stage::new()?;
    let words = [upstream, "hog", "--prefork", "1"];
    let _service = Service::start_with(&stage.netns, &words, Fate::Lives, |command| {
        memory.place(command)
    })?;
    stage.check(vec![proxied(expected)]).map(drop)
}
