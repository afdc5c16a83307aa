//! How the tracer starts, ends and fails: one clear line, the right exit status, no hook left
//! behind, and nginx none the worse.

use std::io::{PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::backend::listen;
use tests::client::{Front, dial};
use tests::counters::{all_programs, programs_of};
use tests::expected::Expected;
use tests::folder::Folder;
use tests::site::{Sent, Site};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{Tracer, live};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

fn closed_port() -> Fault {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    Fault::proxy(expected, "")
}

/// Runs a tracer that cannot work to its end: nothing on stdout, one line on stderr, this status.
fn fails(command: &mut Command, status: i32) -> Result<String> {
    let mut tracer = Tracer::start(command)?;
    let ended = tracer.ended()?;
    ensure!(
        ended.status.code() == Some(status),
        "ended with {}, not {status}: {}",
        ended.status,
        ended.stderr
    );
    ensure!(ended.verdicts.is_empty(), "stdout: {:?}", ended.verdicts);
    ensure!(
        ended.stderr.lines().count() == 1,
        "not one line: {:?}",
        ended.stderr
    );
    Ok(ended.stderr)
}

#[test]
fn without_root_it_says_so_and_ends_with_3() -> Result<()> {
    let folder = Folder::new()?;
    // Where it was built, others may not be let in.
    let copy = folder.join("tracer");
    std::fs::copy(programs::tracer()?, &copy)?;
    let mut command = Command::new(copy);
    let line = fails(command.arg("live").uid(65534).gid(65534), 3)?;
    ensure!(line.contains("root"), "it does not name root: {line}");
    Ok(())
}

#[test]
fn without_btf_it_says_so_and_ends_with_3() -> Result<()> {
    let mut command = live(std::process::id())?;
    let line = fails(command.env("TRACER_BTF_PATH", "/nonexistent/btf"), 3)?;
    ensure!(line.contains("BTF"), "it does not name BTF: {line}");
    Ok(())
}

#[test]
fn without_nginx_it_waits_says_so_and_follows_the_one_that_comes() -> Result<()> {
    let mut waiting = None;
    let site = Stage::new()?.start_after(vec![closed_port()], |pid| {
        let mut tracer = Tracer::follow_with(pid, &["--keep-going"])?;
        let line = tracer.says("no nginx")?;
        ensure!(
            line.text.contains("wait"),
            "it does not wait: {}",
            line.text
        );
        waiting = Some(tracer);
        Ok(())
    })?;
    let mut tracer = waiting.context("no tracer")?;
    tracer.says("workers of nginx")?;
    let sent = site.send(Load::default())?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_worker_that_dies_in_a_request_disturbs_nothing() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    stage.config.server = "location /hang { proxy_pass http://127.0.0.1:9009; }\n".into();
    let silent = listen(&stage.netns, "127.0.0.1:9009")?;
    let site = stage.start(vec![closed_port()])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let before = site.send(Load::default())?;

    let mut client = site.netns.enter(|| dial("127.0.0.1:80"))?;
    client.write_all(b"GET /hang HTTP/1.0\r\n\r\n")?;
    let _upstream = silent.accept()?;
    let dying = site.nginx.worker_pids();
    process::signal(dying[0], libc::SIGKILL);
    until("the next worker", PATIENCE, || {
        let workers = site.nginx.worker_pids();
        Ok((workers.len() == 1 && workers != dying).then_some(()))
    })?;

    let mut sent = site.send(Load::default())?;
    sent.extend(before);
    site.check(&sent, tracer).map(drop)
}

/// A tracer whose stdout is that pipe, and whose stderr goes into a file.
fn piped(site: &Site, stdout: PipeWriter, stderr: &Path) -> Result<Child> {
    let child = live(site.nginx.master)?
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(std::fs::File::create(stderr)?)
        .spawn()?;
    Ok(child)
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() -> Result<()> {
    let site = Stage::new()?.start(vec![closed_port()])?;
    let (reader, writer) = std::io::pipe()?;
    let folder = Folder::new()?;
    let said = folder.join("stderr");
    let mut child = piped(&site, writer, &said)?;
    let status = until("tracing", PATIENCE, || {
        Ok(std::fs::read_to_string(&said)?
            .contains("tracing")
            .then_some(()))
    })
    .and_then(|()| {
        drop(reader);
        site.send(Load::default())?;
        process::ended(&mut child, PATIENCE)
    });
    if status.is_err() {
        process::end(&mut child, libc::SIGKILL);
    }
    let said = std::fs::read_to_string(&said)?;
    ensure!(status?.code() == Some(0), "it said: {said}");
    ensure!(!said.contains("panicked"), "it said: {said}");
    Ok(())
}

#[test]
fn a_reader_that_stops_to_read_costs_no_record_and_does_not_hold_up_the_end() -> Result<()> {
    let load = Load {
        failing: 6000,
        healthy: 0,
        concurrency: 8,
        front: Front::Http,
    };
    let site = Stage::new()?.start(vec![closed_port()])?;
    let (reader, writer) = std::io::pipe()?;
    let folder = Folder::new()?;
    let said = folder.join("stderr");
    let told = || std::fs::read_to_string(&said);
    let mut child = piped(&site, writer, &said)?;
    let status = until("tracing", PATIENCE, || {
        Ok(told()?.contains("tracing").then_some(()))
    })
    .and_then(|()| {
        site.send(load)?;
        until("word that nobody reads", PATIENCE, || {
            Ok(told()?.contains("stdout is read too slowly").then_some(()))
        })?;
        process::signal(child.id(), libc::SIGINT);
        process::ended(&mut child, PATIENCE)
    });
    if status.is_err() {
        process::end(&mut child, libc::SIGKILL);
    }
    drop(reader);
    let said = told()?;
    ensure!(status?.code() == Some(1), "it said: {said}");
    for words in [
        "6000 requests failed",
        "counted, not written: stdout was not read",
        "nobody reads it",
    ] {
        ensure!(said.contains(words), "no {words:?}: {said}");
    }
    ensure!(!said.contains("lost: failures"), "it said: {said}");
    Ok(())
}

#[test]
fn on_sigterm_it_prints_its_summary_and_ends_with_0() -> Result<()> {
    let site = Stage::new()?.start(vec![closed_port()])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(Load::default())?;
    site.verdict_lines(&sent, &tracer)?;
    let ended = tracer.stop(libc::SIGTERM)?;
    ensure!(ended.status.code() == Some(0), "{ended:?}");
    ensure!(
        ended.stderr.contains("no-listener") && ended.stderr.contains('5'),
        "no summary: {}",
        ended.stderr
    );
    Ok(())
}

fn leaves_no_hook(signal: i32) -> Result<()> {
    let site = Stage::new()?.start(vec![closed_port()])?;
    let mut tracer = Tracer::follow(site.nginx.master)?;
    let hooks = programs_of(tracer.pid())?;
    let loaded = all_programs()?;
    ensure!(
        !hooks.is_empty() && hooks.is_subset(&loaded),
        "it holds {hooks:?}, bpftool lists {loaded:?}"
    );
    process::signal(tracer.pid(), signal);
    tracer.ended()?;
    // The kernel frees a program a grace period after its last user.
    until("the end of all its programs", PATIENCE, || {
        Ok(all_programs()?.is_disjoint(&hooks).then_some(()))
    })?;
    // nginx goes on: the uprobe in its code has gone too.
    let sent = site.send(Load::default())?;
    site.prove(&sent).map(drop)
}

#[test]
fn after_sigint_no_hook_is_left() -> Result<()> {
    leaves_no_hook(libc::SIGINT)
}

#[test]
fn after_sigkill_no_hook_is_left() -> Result<()> {
    leaves_no_hook(libc::SIGKILL)
}

#[test]
fn ten_thousand_healthy_requests_are_left_alone() -> Result<()> {
    let load = Load {
        failing: 0,
        healthy: 2_500,
        concurrency: 8,
        front: Front::Http,
    };
    let site = Stage::new()?.start(vec![closed_port()])?;
    // CPU time, and the least of four rounds: other tests cost elapsed time.
    let rounds = || -> Result<(Sent, Duration)> {
        let (mut all, mut least) = (Sent::default(), Duration::MAX);
        for _ in 0..4 {
            let before = workers_on_cpu(&site)?;
            all.extend(site.send(load)?);
            least = least.min(workers_on_cpu(&site)? - before);
        }
        Ok((all, least))
    };
    let (sent, untraced) = rounds()?;
    site.prove(&sent)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let (sent, traced) = rounds()?;
    let verdicts = site.check(&sent, tracer)?;
    assert!(verdicts.is_empty());
    println!("2,500 healthy requests: {untraced:?} of nginx's CPU, {traced:?} traced");
    ensure!(
        traced < untraced * 3 / 2,
        "{traced:?} instead of {untraced:?}"
    );
    Ok(())
}

fn workers_on_cpu(site: &Site) -> Result<Duration> {
    let workers = site.nginx.worker_pids();
    workers.into_iter().map(process::on_cpu).sum()
}
