//! nginx in a rootless container: a user namespace whose user 0 is the host's 100000, with its own
//! `/etc/passwd`. Users are named as there, with the host's numbers added, and advice says where it
//! is to be typed.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client;
use tests::faults::unix_files::{allow, listener};
use tests::faults::user_namespace::{FIRST, place};
use tests::folder::Folder;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::programs;
use tests::tracer::Tracer;

/// What nginx's `user nobody` is there.
const INSIDE: u32 = 65_534;
const HOST: u32 = FIRST + INSIDE;
const PASSWD: &str =
    "root:x:0:0::/:/bin/sh\nweb:x:65534:65534::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwebgroup:x:65534:\nnogroup:x:65534:\n";

struct Scene {
    folder: Folder,
    netns: Netns,
    nginx: Nginx,
}

/// A location for each of these sockets in a folder of the container's.
fn start(sockets: &[&str]) -> Result<Scene> {
    let folder = Folder::new()?;
    let netns = Netns::new()?;
    netns.sysctl("ipv4/ip_unprivileged_port_start", "0")?;
    let (passwd, group) = (folder.join("passwd"), folder.join("group"));
    std::fs::write(&passwd, PASSWD)?;
    std::fs::write(&group, GROUP)?;
    let locations = sockets.iter().map(|name| {
        let path = folder.join(name);
        format!(
            "location /{name} {{ proxy_pass http://unix:{}:/; }}\n",
            path.display()
        )
    });
    let config = Config {
        workers: 1,
        server: locations.collect(),
        ..Config::default()
    };
    let nginx = Nginx::start(&netns, &config, |command| place(command, &passwd, &group))?;
    Ok(Scene {
        folder,
        netns,
        nginx,
    })
}

impl Scene {
    /// The verdict on one request for this socket.
    fn verdict(&self, name: &str) -> Result<Value> {
        let tracer = Tracer::follow(self.nginx.master)?;
        let path = format!("/{name}");
        let status = self.netns.enter(|| client::get(&path))?;
        ensure!(status == 502, "got {status}");
        tracer.verdict_lines(1)?;
        let ended = tracer.stop(libc::SIGINT)?;
        let verdict = ended.verdicts.first().context("no verdict")?.clone();
        ensure!(
            verdict["cause"] == "unix-socket-permission" && verdict["confidence"] == "proven",
            "{verdict}"
        );
        ensure!(
            verdict["request"]["line"] == format!("GET {path} HTTP/1.1"),
            "{verdict}"
        );
        Ok(verdict)
    }
}

fn says(verdict: &Value, text: &str) -> Result<()> {
    ensure!(
        verdict.to_string().contains(text),
        "{text:?} is not in {verdict}"
    );
    Ok(())
}

/// The advice after these words.
fn advice(verdict: &Value, begin: &str) -> Result<String> {
    let lines = verdict["advice"].as_array().context("no advice")?;
    let mut lines = lines.iter().filter_map(Value::as_str);
    let line = lines.find_map(|line| line.strip_prefix(begin));
    Ok(line
        .with_context(|| format!("no advice {begin:?} in {verdict}"))?
        .to_owned())
}

/// Is the socket the worker's group's, to write to?
fn is_open_to_worker(path: &Path) -> Result<bool> {
    let metadata = std::fs::metadata(path)?;
    Ok(metadata.gid() == HOST && metadata.mode() & 0o020 != 0)
}

#[test]
fn users_are_named_as_in_the_container_and_advice_works_where_it_says() -> Result<()> {
    let scene = start(&["app.sock"])?;
    let path = scene.folder.join("app.sock");
    let _listener = listener(&path)?;
    let close = || -> Result<()> {
        chown(&path, Some(FIRST), Some(FIRST))?;
        allow(&path, 0o600)
    };
    close()?;
    let verdict = scene.verdict("app.sock")?;
    let shown = path.display();
    ensure!(
        verdict["summary"] == format!("user web may not write to {shown}"),
        "{verdict}"
    );
    says(
        &verdict,
        &format!("{shown} is root:root, mode 0600 ({FIRST}:{FIRST} on the host)"),
    )?;
    says(
        &verdict,
        &format!(
            "the worker runs as user web (uid {INSIDE}, gid {INSIDE} in its user namespace; uid {HOST}, gid {HOST} on the host)"
        ),
    )?;

    let inside = advice(&verdict, "inside the container: ")?;
    ensure!(inside.starts_with("chgrp webgroup "), "{inside}");
    let master = scene.nginx.master.to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &master, "--user", "--mount"]);
    nsenter.args(["--setuid", "0", "--setgid", "0", "sh", "-c", &inside]);
    programs::output(&mut nsenter)?;
    ensure!(is_open_to_worker(&path)?, "{inside} did not help");

    close()?;
    let on_host = advice(&verdict, "or on the host: ")?;
    programs::output(Command::new("sh").args(["-c", &on_host]))?;
    ensure!(is_open_to_worker(&path)?, "{on_host} did not help");
    Ok(())
}

#[test]
fn what_is_not_mapped_there_is_said_and_is_for_the_host_to_change() -> Result<()> {
    let scene = start(&["host.sock"])?;
    let path = scene.folder.join("host.sock");
    let _listener = listener(&path)?;
    allow(&path, 0o600)?;
    let verdict = scene.verdict("host.sock")?;
    says(
        &verdict,
        "unmapped:unmapped, mode 0600 (0:0 on the host; not mapped in the worker's user namespace)",
    )?;
    ensure!(
        advice(&verdict, "inside the container: ").is_err(),
        "the container's root cannot do it: {verdict}"
    );
    let on_host = advice(&verdict, "on the host: ")?;
    programs::output(Command::new("sh").args(["-c", &on_host]))?;
    ensure!(is_open_to_worker(&path)?, "{on_host} did not help");
    Ok(())
}
