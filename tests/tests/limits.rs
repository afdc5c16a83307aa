//! nginx's own resources and addresses: ports, descriptors, source addresses, impossible targets.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use tests::expected::Expected;
use tests::faults::listeners;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};
use tests::{client, veth};

/// Which of them makes no difference to what nginx itself lacks.
const UPSTREAMS: [&str; 2] = ["127.0.0.1:9001", "unix:/nowhere/backend.sock"];

#[test]
fn no_ephemeral_port_is_left() -> Result<()> {
    let stage = Stage::new()?;
    let upstreams = ["127.0.0.1:9001", "[::1]:9001"];
    let mut held = Vec::new();
    let mut faults = Vec::new();
    for upstream in upstreams {
        held.push(listeners::exhaust_ports(&stage.netns, upstream, 64)?);
        let expected = Expected::new("ports-exhausted", upstream, "EADDRNOTAVAIL");
        faults.push(Fault::proxy(expected.says("40000"), ""));
    }
    stage.check(faults).map(drop)
}

#[test]
fn the_source_address_is_not_ours() -> Result<()> {
    let expected = Expected::new("bind-failed", "127.0.0.1:9001", "EADDRNOTAVAIL").status(500);
    let fault = Fault::proxy(expected.says("10.99.99.99"), "proxy_bind 10.99.99.99;");
    Stage::new()?.check(vec![fault]).map(drop)
}

#[test]
fn an_address_that_no_connect_can_take() -> Result<()> {
    let stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    let invalid = |upstream: &str, errno| Expected::new("address-invalid", upstream, errno);
    let broadcast = format!("{}:80", veth::BROADCAST);
    stage
        .check(vec![
            Fault::proxy(invalid("[fe80::1]:80", "EINVAL"), ""),
            // The kernel does not show the type of the route that it found.
            Fault::proxy(invalid(&broadcast, "ENETUNREACH").exactly_inferred(), ""),
        ])
        .map(drop)
}

#[test]
fn ipv6_switched_off_is_no_lack_of_ports() -> Result<()> {
    let mut stage = Stage::new()?;
    // nginx starts with its listener on [::1], then IPv6 goes.
    stage.config.workers = 1;
    let expected = Expected::new("address-invalid", "[::1]:9001", "EADDRNOTAVAIL").at_best_proven();
    let site = stage.start(vec![Fault::proxy(expected, "")])?;
    site.netns.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(Load::default())?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn no_descriptor_is_left() -> Result<()> {
    const LIMIT: usize = 40;
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    stage.config.main = format!("worker_rlimit_nofile {LIMIT};");
    // A healthy answer may need no second descriptor either.
    stage.healthy = "return 200 ok;".into();
    let faults = UPSTREAMS.map(|upstream| {
        let expected = Expected::new("fd-limit", upstream, "EMFILE").status(500);
        Fault::proxy(expected.says(LIMIT.to_string()), "")
    });
    let site = stage.start(faults.into())?;
    let worker = *site.nginx.worker_pids().first().context("no worker")?;
    // Below the limit only: what nginx inherited may have any number.
    let used = || -> Result<usize> {
        let open = std::fs::read_dir(format!("/proc/{worker}/fd"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<usize>().ok());
        Ok(open.filter(|number| *number < LIMIT).count())
    };
    // Idle clients take all descriptors but the one that a client to come needs.
    let mut idle = Vec::new();
    while used()? < LIMIT - 1 {
        let before = used()?;
        let mut stream = site.netns.enter(|| client::dial("127.0.0.1:80"))?;
        write!(stream, "GET /ready HTTP/1.1\r\nHost: idle\r\n\r\n")?;
        let mut answer = [0u8; 1024];
        let length = stream.read(&mut answer)?;
        assert_eq!(client::status(&answer[..length])?, 200);
        assert!(used()? > before, "an idle client holds no descriptor");
        idle.push(stream);
    }
    let tracer = Tracer::follow(site.nginx.master)?;
    until("one descriptor left", PATIENCE, || {
        Ok((used()? == LIMIT - 1).then_some(()))
    })?;
    let load = Load {
        concurrency: 1,
        ..Load::default()
    };
    let sent = site.send(load)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn no_connection_slot_is_left() -> Result<()> {
    const SLOTS: usize = 32;
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    stage.config.events = format!("worker_connections {SLOTS};");
    stage.config.server = "location /full { proxy_pass http://127.0.0.1:9001; }\n".into();
    // A healthy answer may need no second slot either.
    stage.healthy = "return 200 ok;".into();
    let faults = UPSTREAMS.map(|upstream| {
        let mut expected = Expected::new("worker-connections", upstream, "EMFILE").status(500);
        expected.errno = None;
        expected.logged = vec!["worker_connections are not enough while connecting".into()];
        Fault::proxy(expected, "")
    });
    let site = stage.start(faults.into())?;
    // Clients that nginx waits for and does not drop to make room, until one slot is left.
    let mut held = Vec::new();
    while site.netns.enter(|| client::get("/full"))? == 502 {
        assert!(held.len() < SLOTS, "nginx has more slots than it was given");
        let mut stream = site.netns.enter(|| client::dial("127.0.0.1:80"))?;
        stream.write_all(
            b"POST /full HTTP/1.1\r\nHost: held\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        )?;
        let mut answer = [0u8; 1024];
        let length = stream.read(&mut answer)?;
        assert_eq!(client::status(&answer[..length])?, 100);
        held.push(stream);
    }
    let tracer = Tracer::follow(site.nginx.master)?;
    let load = Load {
        concurrency: 1,
        ..Load::default()
    };
    let sent = site.send(load)?;
    site.check(&sent, tracer).map(drop)
}
