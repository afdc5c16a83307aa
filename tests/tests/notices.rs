//! Resources of nginx near their limits: reported once on stderr and as a line of JSON when that
//! begins, never as a verdict.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use tests::process;
use tests::programs;
use tests::schema::Contract;
use tests::service::Service;
use tests::stage::{Load, Stage};
use tests::tracer::Tracer;

/// This machine's name.
fn hostname() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_owned())
}

/// Connections to nginx that stay open.
fn clients(stage: &tests::site::Site, count: usize) -> Result<Vec<TcpStream>> {
    stage.netns.enter(|| {
        (0..count)
            .map(|_| TcpStream::connect("127.0.0.1:80").context("cannot reach nginx"))
            .collect()
    })
}

/// Ends the tracer: it gave no verdict, and said this once and no other notice. Its capture
/// explains to the same lines, which `Tracer::stop` has seen to.
fn said(mut tracer: Tracer, event: &str, texts: &[&str]) -> Result<()> {
    for text in texts {
        tracer.says(text)?;
    }
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.is_empty(), "verdicts: {:?}", ended.verdicts);
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("  notice"))
        .collect();
    let contract = Contract::read()?;
    let [notice] = &ended.notices[..] else {
        bail!("notices: {:#?}", ended.notices);
    };
    let errors = contract.errors(notice);
    ensure!(errors.is_empty(), "{errors:#?} in {notice}");
    let text = notice["text"].as_str().unwrap_or_default();
    ensure!(
        notice["event"] == event
            && notice["over"] == false
            && notice["pid"].is_u64()
            && notice["host"] == hostname()?
            && texts.iter().all(|part| text.contains(part)),
        "{notice}"
    );
    // When it happened, and in the summary.
    ensure!(
        lines.len() == 2 && lines[0] == lines[1],
        "notices: {lines:#?}"
    );
    Ok(())
}

#[test]
fn workers_that_do_not_accept_fill_nginxs_own_queue() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    stage.config.server = "listen 127.0.0.1:82 backlog=2;\n".into();
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let worker = *site.nginx.worker_pids().first().context("no worker")?;
    process::signal(worker, libc::SIGSTOP);
    let pushed = site.netns.enter(|| {
        let address = "127.0.0.1:82".parse()?;
        let briefly = std::time::Duration::from_millis(200);
        // Three wait, the others are dropped.
        let all = (0..6).map(|_| TcpStream::connect_timeout(&address, briefly));
        Ok(all.filter_map(Result::ok).collect::<Vec<_>>())
    });
    let told = said(
        tracer,
        "listen-queue",
        &[
            "nginx's listen queue on 127.0.0.1:82 ",
            "overflows: 3 of 2 in use",
            "backlog=2",
        ],
    );
    process::signal(worker, libc::SIGCONT);
    drop(pushed?);
    told
}

#[test]
fn a_worker_near_its_descriptor_limit() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    stage.config.main = "worker_rlimit_nofile 100;\n".into();
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let clients = clients(&site, 85)?;
    let told = said(
        tracer,
        "descriptors",
        &["is near its descriptor limit: ", " of 100;"],
    );
    drop(clients);
    told
}

/// Each request in flight takes two. Idle clients count for none: nginx would give them up.
#[test]
fn a_worker_near_its_worker_connections() -> Result<()> {
    busy(None)
}

/// nginx's own count lies elsewhere in each version.
#[test]
fn a_worker_near_its_worker_connections_in_every_version() -> Result<()> {
    for suite in ["bullseye", "bookworm", "trixie", "sid"] {
        match programs::suite(suite) {
            Some(tree) => {
                busy(Some(tree)).with_context(|| format!("the nginx of Debian {suite}"))?;
            }
            None => println!(
                "SKIPPED: a_worker_near_its_worker_connections_in_every_version: no nginx of Debian {suite}"
            ),
        }
    }
    Ok(())
}

fn busy(tree: Option<PathBuf>) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.tree = tree;
    stage.config.workers = 1;
    stage.config.events = "worker_connections 50;\n".into();
    stage.config.server = "location /slow { proxy_pass http://127.0.0.1:9001; }\n".into();
    let _slow = Service::start(&stage.netns, &["127.0.0.1:9001", "hold", ""])?;
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut clients = clients(&site, 22)?;
    for client in &mut clients {
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
    }
    let told = said(
        tracer,
        "connections",
        &["is near its worker_connections: ", " of 50 in use"],
    );
    drop(clients);
    told
}

#[test]
fn a_healthy_nginx_gives_none() -> Result<()> {
    let stage = Stage::new()?;
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let load = Load {
        failing: 0,
        healthy: 2000,
        concurrency: 50,
        ..Load::default()
    };
    let sent = site.send(load)?;
    let ended = site.check_all(&sent, tracer)?;
    ensure!(
        ended.notices.is_empty() && !ended.stderr.contains("notice"),
        "a notice: {}",
        ended.stderr
    );
    Ok(())
}
