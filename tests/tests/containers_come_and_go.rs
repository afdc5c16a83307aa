//! Containers with nginx begin and end while tracer runs: what was held for one goes with it, and
//! no failed request is missed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use tests::client::{self, Answer};
use tests::counters::Counters;
use tests::failing::Failing;
use tests::folder::Folder;
use tests::holdings::Holdings;
use tests::mount::Mount;
use tests::netns::Netns;
use tests::nginx::{Form, Nginx};
use tests::programs;
use tests::tracer::Tracer;
use tests::tun::{self, Host, Tun};
use tests::unscoped::{self, Unscoped};
use tests::veth;
use tests::wait::{PATIENCE, until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An nginx in network and pid namespaces of its own, its binary on a file system of its own.
struct Container {
    mount: Mount,
    failing: Failing,
    nginx: Nginx,
    /// The cable's end in the network that is looked from.
    cable: String,
}

impl Container {
    fn start(mount: Mount, like: &Failing, outside: &Netns) -> Result<Self> {
        let mut failing = Failing::like(like)?;
        failing.config.program = Some(mount.join("nginx"));
        let cable = format!("cable{}", COUNT.fetch_add(1, Ordering::Relaxed));
        veth::tether(outside, &cable, &failing.netns)?;
        Ok(Self {
            nginx: failing.start()?,
            mount,
            failing,
            cable,
        })
    }

    /// Waits until tracer says that it follows this nginx.
    fn followed_by(&self, tracer: &Unscoped) -> Result<()> {
        tracer.names(self.nginx.master).map(drop)
    }

    /// Ends it; fails unless its file system can be unmounted and its network goes after it. The
    /// kernel dismantles networks one after the other, those of other tests too.
    fn end(mut self, outside: &Netns) -> Result<()> {
        self.nginx.stop(libc::SIGTERM)?;
        drop((self.nginx, self.failing));
        self.mount.unmount()?;
        until("the end of the container's network", PATIENCE, || {
            Ok((!veth::has(outside, &self.cable)?).then_some(()))
        })
    }
}

fn nginx() -> Result<PathBuf> {
    Ok(programs::command("nginx")?.get_program().into())
}

fn come_and_go(rounds: usize) -> Result<()> {
    let model = Failing::new(Form::Boxed)?;
    let outside = Netns::new()?;
    let tracer = Unscoped::start(&model)?;
    let mut sent: Vec<Answer> = Vec::new();
    let mut first = None;
    let mut faults = Vec::new();
    for round in 0..rounds {
        let mount = Mount::tmpfs()?;
        std::fs::copy(nginx()?, mount.join("nginx"))?;
        let container = Container::start(mount, &model, &outside)?;
        container.followed_by(&tracer)?;
        let asked = container.failing.send(3)?;
        tracer.reported(&asked)?;
        sent.extend(asked);
        if let Err(fault) = container.end(&outside) {
            faults.push(format!("container {round}: {fault:#}"));
        }
        if round == 0 {
            first = Some(Holdings::of(tracer.pid())?);
        }
    }
    let first = first.context("no container")?;
    // Others' nginx may come in between, and go: less than one thing for each container is no leak.
    let bound = first.plus(rounds / 4);
    let mut last = first;
    let flat = until("what the tracer holds to be as at first", PATIENCE, || {
        last = Holdings::of(tracer.pid())?;
        Ok(last.is_within(&bound).then_some(()))
    });
    println!("NOTE: after one container {first:?}, after {rounds} {last:?}");
    ensure!(
        faults.is_empty(),
        "{} faults, first {}; after one container {first:?}, after {rounds} {last:?}",
        faults.len(),
        faults[0]
    );
    flat.with_context(|| format!("after one container {first:?}, after {rounds} {last:?}"))?;
    let bound = first.memory + first.memory / 4 + 4096;
    ensure!(
        last.memory <= bound,
        "it grew from {} to {} KiB",
        first.memory,
        last.memory
    );
    tracer.check(&sent).map(drop)
}

/// What the other tests find held is not held by these tests themselves.
#[test]
fn a_container_that_nobody_follows_leaves_nothing_behind() -> Result<()> {
    let model = Failing::new(Form::Boxed)?;
    let outside = Netns::new()?;
    let mount = Mount::tmpfs()?;
    std::fs::copy(nginx()?, mount.join("nginx"))?;
    let container = Container::start(mount, &model, &outside)?;
    container.failing.send(3)?;
    ensure!(veth::has(&outside, &container.cable)?, "there is no cable");
    container.end(&outside)
}

#[test]
fn twenty_containers_leave_nothing_behind() -> Result<()> {
    come_and_go(20)
}

#[test]
#[ignore = "several minutes"]
fn two_hundred_containers_leave_nothing_behind() -> Result<()> {
    come_and_go(200)
}

/// Three containers of one image: the kernel has one file for all of them, each mount another
/// device.
#[test]
fn containers_of_one_image_share_its_breakpoints() -> Result<()> {
    const EACH: usize = 10;
    let model = Failing::new(Form::Boxed)?;
    let outside = Netns::new()?;
    let image = Folder::new()?;
    std::fs::copy(nginx()?, image.join("nginx"))?;
    let layers = [Folder::new()?, Folder::new()?, Folder::new()?];
    let mut containers = Vec::new();
    for layer in &layers {
        let mount = Mount::overlay(image.path(), layer)?;
        containers.push(Container::start(mount, &model, &outside)?);
    }
    let counters = Counters::new()?;
    // Theirs alone: the counts are of all that is followed.
    let masters: Vec<String> = containers
        .iter()
        .flat_map(|container| ["--master".to_owned(), container.nginx.master.to_string()])
        .collect();
    let masters: Vec<&str> = masters.iter().map(String::as_str).collect();
    let tracer = Unscoped::start_with(&model, &masters)?;
    let mut sent = Vec::new();
    let mut faults = Vec::new();
    // Whichever of them it attached through, that one ends too.
    while !containers.is_empty() {
        for container in &containers {
            sent.extend(container.failing.send(EACH)?);
        }
        tracer.reported(&sent)?;
        let runs = counters.of(tracer.pid())?;
        let of = |program: &str| {
            let found = runs
                .iter()
                .find(|(name, _)| program.starts_with(name.as_str()));
            found.map_or(0, |(_, runs)| *runs as usize)
        };
        ensure!(
            of("special_response") == sent.len(),
            "the breakpoint of {} failed requests ran {} times",
            sent.len(),
            of("special_response")
        );
        let ending = containers.remove(0);
        let left = containers.len();
        if let Err(fault) = ending.end(&outside) {
            faults.push(format!("with {left} others: {fault:#}"));
        }
    }
    ensure!(faults.is_empty(), "{faults:?}");
    tracer.check(&sent).map(drop)
}

/// The second container starts when tracer already follows the first, and outlives it.
#[test]
fn a_later_container_of_the_same_image_outlives_the_first() -> Result<()> {
    let model = Failing::new(Form::Boxed)?;
    let outside = Netns::new()?;
    let image = Folder::new()?;
    std::fs::copy(nginx()?, image.join("nginx"))?;
    let layers = [Folder::new()?, Folder::new()?];
    let mount = Mount::overlay(image.path(), &layers[0])?;
    let first = Container::start(mount, &model, &outside)?;
    let tracer = Unscoped::start(&model)?;
    let mut sent = first.failing.send(5)?;
    let mount = Mount::overlay(image.path(), &layers[1])?;
    let second = Container::start(mount, &model, &outside)?;
    second.followed_by(&tracer)?;
    sent.extend(second.failing.send(5)?);
    tracer.reported(&sent)?;
    first.end(&outside)?;
    sent.extend(second.failing.send(5)?);
    tracer.reported(&sent)?;
    second.end(&outside)?;
    tracer.check(&sent).map(drop)
}

/// Networks come and go, more than tracer listens in at a time: it listens in the last as in the
/// first.
#[test]
fn a_router_s_answer_is_read_however_many_networks_came_before() -> Result<()> {
    let model = Failing::new(Form::Foreground)?;
    let _stays = model.start()?;
    let tracer = Unscoped::start(&model)?;
    for _ in 0..36 {
        let failing = Failing::like(&model)?;
        let nginx = failing.start()?;
        tracer.names(nginx.master)?;
        tracer.reported(&failing.send(1)?)?;
    }
    let mut failing = Failing::new(Form::Foreground)?;
    let _link = Tun::new(&failing.netns, &[Host::Unreachable(1)])?;
    failing.config.server = format!("location / {{ proxy_pass http://{}:80; }}", tun::address(0));
    let nginx = failing.start()?;
    tracer.names(nginx.master)?;
    let path = format!("/router/{}", std::process::id());
    failing.netns.enter(|| client::get(&path))?;
    let verdict = tracer.verdict_on(&path)?;
    ensure!(
        verdict["cause"] == "icmp-unreachable" && verdict["confidence"] == "proven",
        "{verdict}"
    );
    Ok(())
}

/// `tracer live` with these limits of descriptors, soft and hard.
fn limited(soft: u64, hard: u64) -> Result<Command> {
    let whole = unscoped::live()?;
    let mut command = programs::command("prlimit")?;
    command
        .arg(format!("--nofile={soft}:{hard}"))
        .arg(whole.get_program())
        .args(whole.get_args());
    Ok(command)
}

#[test]
fn it_takes_as_many_descriptors_as_it_may() -> Result<()> {
    let mut tracer = Tracer::start(&mut limited(512, 4096)?)?;
    tracer.tracing()?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", tracer.pid()))?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let line = line.context("no limit")?;
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    ensure!(numbers == ["4096", "4096"], "{line}");
    Ok(())
}

/// Each container takes some: the one that finds none left is not followed in silence.
#[test]
fn descriptors_that_run_short_are_said() -> Result<()> {
    let model = Failing::new(Form::Boxed)?;
    let outside = Netns::new()?;
    let mut tracer = Tracer::start(&mut limited(110, 110)?)?;
    tracer.tracing()?;
    let tracer = Unscoped::of(tracer, &model);
    let mut containers = Vec::new();
    for _ in 0..24 {
        let mount = Mount::tmpfs()?;
        std::fs::copy(nginx()?, mount.join("nginx"))?;
        containers.push(Container::start(mount, &model, &outside)?);
    }
    tracer.says("that descriptors run short", |line| {
        line.contains("descriptor") && (line.contains("limit") || line.contains("not followed"))
    })?;
    Ok(())
}
