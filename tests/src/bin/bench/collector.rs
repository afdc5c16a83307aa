//! The collector itself: how soon it sees, how soon a verdict is read, how soon it ends, and what
//! it holds.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::client;
use tests::folder::Folder;
use tests::tracer::{self, Tracer};

use crate::Length;
use crate::figures::{Target, median, quantile, told};
use crate::load;
use crate::scene::{Kind, Scene, aside};
use crate::throughput::lost;
use crate::{cpu, scene};

/// Requests that fail while others are served.
const FAILING: usize = 200;
/// Open upstream connections.
const OPEN: usize = 10_000;

/// exec to `tracing`, the 502 to its verdict, Ctrl-C to the end: while the proxy is idle, and under
/// load.
pub(crate) fn waiting(length: &Length) -> Result<()> {
    let scene = Scene::new(Kind::Fresh, None)?;
    let mut idle = Waits::default();
    let mut busy = Waits::default();
    for _ in 0..length.repetitions {
        wait(&scene, &mut idle)?;
        std::thread::scope(|scope| -> Result<()> {
            let load = scope.spawn(|| load::wrk(&scene, 6, &[]));
            wait(&scene, &mut busy)?;
            load.join()
                .map_err(|_| anyhow::anyhow!("wrk's thread panicked"))??;
            Ok(())
        })?;
    }
    let limit = Target::AtMost(300.0);
    for (what, waits) in [("the proxy idle", idle), ("the proxy under load", busy)] {
        println!("\nwhat a user waits for, {what}; {} CPUs", scene::cpus());
        told("exec to tracing, median", median(waits.starts), "ms", limit);
        told("Ctrl-C to the end, median", median(waits.ends), "ms", limit);
        let verdicts = waits.verdicts;
        told(
            "502 to verdict, median",
            median(verdicts.iter().copied()),
            "ms",
            Target::None,
        );
        told(
            "502 to verdict, p99",
            quantile(verdicts, 0.99),
            "ms",
            Target::AtMost(50.0),
        );
    }
    Ok(())
}

/// Milliseconds of each wait.
#[derive(Default)]
struct Waits {
    starts: Vec<f64>,
    ends: Vec<f64>,
    verdicts: Vec<f64>,
}

/// One tracer, from exec to its end.
fn wait(scene: &Scene, waits: &mut Waits) -> Result<()> {
    // On all CPUs, as a user starts it.
    let mut tracer = Tracer::start(&mut tracer::live(scene.proxy.master)?)?;
    waits.starts.push(tracer.tracing()?.as_secs_f64() * 1e3);
    waits.verdicts.extend(delays(scene, &tracer)?);
    let asked = Instant::now();
    let ended = tracer.stop(libc::SIGINT)?;
    waits.ends.push(asked.elapsed().as_secs_f64() * 1e3);
    ensure!(ended.status.success(), "tracer: {}", ended.stderr);
    Ok(())
}

/// Milliseconds from each failed request's answer to its verdict's line.
fn delays(scene: &Scene, tracer: &Tracer) -> Result<Vec<f64>> {
    let answered = scene.netns.enter(|| {
        (0..FAILING / 10)
            .map(|number| {
                let status = client::get(&format!("/fail/{number}"))?;
                ensure!(status == 502, "a request was answered {status}");
                Ok(Instant::now())
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let lines = tracer.verdict_lines(answered.len())?;
    answered
        .iter()
        .enumerate()
        .map(|(number, at)| {
            let path = format!("/fail/{number} HTTP");
            let line = lines.iter().find(|line| line.text.contains(&path));
            let line = line.with_context(|| format!("no verdict on {path}"))?;
            Ok(line.at.saturating_duration_since(*at).as_secs_f64() * 1e3)
        })
        .collect()
}

/// Memory while ten thousand upstream connections are open and many more come and go; nothing may
/// be lost.
pub(crate) fn memory(length: &Length) -> Result<()> {
    println!("\nmemory of the collector, {OPEN} upstream connections open");
    raise_descriptors()?;
    for record in [false, true] {
        let scene = Scene::new(Kind::Held, None)?;
        let _listener = silent(&scene)?;
        let folder = Folder::new()?;
        let (name, mut command) = if record {
            (
                "record",
                tracer::record(scene.proxy.master, &folder.join("run.trc"))?,
            )
        } else {
            ("live", tracer::live(scene.proxy.master)?)
        };
        aside(&mut command);
        let mut tracer = Tracer::start(&mut command)?;
        tracer.tracing()?;
        let clients = scene.netns.enter(|| {
            (0..OPEN)
                .map(|_| {
                    let mut client = TcpStream::connect("127.0.0.1:80")?;
                    client.write_all(b"GET /bench/ HTTP/1.1\r\nHost: bench\r\n\r\n")?;
                    Ok(client)
                })
                .collect::<Result<Vec<_>>>()
        })?;
        let open = cpu::resident(tracer.pid()) as f64 / 1024.0;
        // As many events as an hour of a busy host has: other requests fail meanwhile, and are
        // given up.
        let start = Instant::now();
        let mut samples = vec![open];
        while start.elapsed() < Duration::from_secs(length.seconds * 6) {
            load::failing(&scene, length.seconds)?;
            samples.push(cpu::resident(tracer.pid()) as f64 / 1024.0);
        }
        drop(clients);
        let most = samples.iter().copied().fold(0.0, f64::max);
        let half = samples[samples.len() / 2];
        let last = samples.last().copied().unwrap_or(0.0);
        let ended = tracer.stop(libc::SIGINT)?;
        ensure!(ended.status.success(), "tracer: {}", ended.stderr);
        told(&format!("{name}: with all open"), open, "MiB", Target::None);
        told(
            &format!("{name}: most, under load as well"),
            most,
            "MiB",
            Target::AtMost(24.0),
        );
        told(
            &format!("{name}: end against half time"),
            last / half,
            "",
            Target::AtMost(1.05),
        );
        told(
            &format!("{name}: kernel records lost"),
            lost(&ended.stderr),
            "",
            Target::AtMost(0.0),
        );
    }
    Ok(())
}

/// Ten minutes (less with `--quick`) of `record` while the proxy is saturated.
pub(crate) fn soak(length: &Length) -> Result<()> {
    let seconds = if length.repetitions > 5 { 600 } else { 60 };
    println!("\nrecord while the proxy is saturated, {seconds} s");
    let scene = Scene::new(Kind::Fresh, None)?;
    let folder = Folder::new()?;
    let mut command = tracer::record(scene.proxy.master, &folder.join("run.trc"))?;
    aside(&mut command);
    let mut tracer = Tracer::start(&mut command)?;
    tracer.tracing()?;
    let pid = tracer.pid();
    let mut samples = Vec::new();
    let mut requests = 0.0;
    let before = cpu::of(pid);
    for _ in 0..seconds / 10 {
        requests += load::wrk(&scene, 10, &[])?.requests;
        samples.push(cpu::resident(pid) as f64 / 1024.0);
    }
    let used = (cpu::of(pid) - before) as f64;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.success(), "tracer: {}", ended.stderr);
    let log = scene.proxy.log()?;
    let half = samples[samples.len() / 2];
    let last = samples.last().copied().unwrap_or(0.0);
    told("requests", requests, "", Target::None);
    told(
        "collector's CPU a connection",
        used / requests / 1e3,
        "us",
        Target::AtMost(4.0),
    );
    told("memory at the end", last, "MiB", Target::AtMost(24.0));
    told(
        "memory, end against half time",
        last / half,
        "",
        Target::AtMost(1.05),
    );
    told(
        "kernel records lost",
        lost(&ended.stderr),
        "",
        Target::AtMost(0.0),
    );
    told(
        "lines in nginx's error log",
        log.len() as f64,
        "",
        Target::AtMost(0.0),
    );
    Ok(())
}

/// Every request fails at saturation for a minute: all are counted, and nothing grows; then the
/// same within a ceiling.
pub(crate) fn flood(length: &Length) -> Result<()> {
    let seconds = if length.repetitions > 5 { 60 } else { 15 };
    for ceiling in [None, Some(5.0)] {
        match ceiling {
            None => println!("\nevery request fails, {seconds} s at saturation"),
            Some(ceiling) => println!("\nthe same with --max-cpu {ceiling}%"),
        }
        let scene = Scene::new(Kind::Failing, None)?;
        let mut command = tracer::live(scene.proxy.master)?;
        if let Some(ceiling) = ceiling {
            command.arg("--max-cpu").arg(format!("{ceiling}%"));
        }
        let stretch = fails(&scene, &mut command, seconds)?;
        let used = stretch.used / seconds as f64 / 1e7;
        let limit = ceiling.map_or(Target::None, Target::AtMost);
        told("requests/s", stretch.load.rate, "", Target::None);
        told(
            "requests that failed",
            stretch.load.failed,
            "",
            Target::None,
        );
        told(
            "verdicts counted in the summary, and what it left out",
            stretch.counted + stretch.left_out,
            "",
            Target::AtLeast(stretch.load.failed),
        );
        told("  of them left out", stretch.left_out, "", Target::None);
        told(
            "verdicts written as JSON",
            stretch.written,
            "",
            Target::AtLeast(stretch.counted),
        );
        told("kernel records lost", stretch.lost, "", Target::AtMost(0.0));
        told("collector's CPU", used, "% of a CPU", limit);
        told(
            "collector's memory, most",
            stretch.memory,
            "MiB",
            Target::AtMost(64.0),
        );
    }
    Ok(())
}

/// A ring that holds next to nothing: what the kernel wrote came, and the rest was counted.
pub(crate) fn loss(length: &Length) -> Result<()> {
    println!("\nevery request fails, a ring of 16 KiB");
    let scene = Scene::new(Kind::Failing, None)?;
    let mut command = tracer::live(scene.proxy.master)?;
    command.args(["--kernel-buffer", "16K", "--debug"]);
    let stretch = fails(&scene, &mut command, length.seconds)?;
    let account = stretch
        .said
        .lines()
        .find_map(|line| line.strip_prefix("kernel records: "))
        .context("the tracer gave no account")?;
    let mut numbers = account
        .split(", ")
        .filter_map(|part| part.split(' ').next()?.parse::<f64>().ok());
    let mut next = || numbers.next().context("a number is missing");
    let (written, received, lost) = (next()?, next()?, next()?);
    told("records lost", lost, "", Target::AtLeast(1.0));
    told(
        "records written and not received",
        written - received,
        "",
        Target::AtMost(0.0),
    );
    told(
        "records lost, by the summary",
        stretch.lost - lost,
        "more",
        Target::AtMost(0.0),
    );
    Ok(())
}

/// A tracer while every request fails.
struct Failed {
    load: load::Stretch,
    /// Nanoseconds of CPU.
    used: f64,
    /// Most MiB it held.
    memory: f64,
    counted: f64,
    left_out: f64,
    written: f64,
    lost: f64,
    said: String,
}

fn fails(scene: &Scene, command: &mut Command, seconds: u64) -> Result<Failed> {
    aside(command);
    let mut tracer = Tracer::start(command)?;
    tracer.tracing()?;
    let pid = tracer.pid();
    let sampler = std::thread::spawn(move || {
        let mut most = 0;
        while tests::process::alive(pid) {
            most = most.max(cpu::resident(pid));
            std::thread::sleep(Duration::from_millis(100));
        }
        most as f64 / 1024.0
    });
    let load = load::wrk(scene, seconds, &[pid])?;
    let ended = tracer.stop(libc::SIGINT)?;
    let memory = sampler
        .join()
        .map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
    ensure!(ended.status.success(), "tracer: {}", ended.stderr);
    Ok(Failed {
        used: load.beside,
        memory,
        counted: number_before(&ended.stderr, "request").unwrap_or(0.0),
        left_out: number_before(&ended.stderr, "failed attempts").unwrap_or(0.0),
        written: ended.verdicts.len() as f64,
        lost: lost(&ended.stderr),
        said: ended.stderr,
        load,
    })
}

/// The number at the beginning of the first line that goes on with `word`.
fn number_before(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(' ')?;
        let number = number.replace(',', "").parse().ok()?;
        rest.starts_with(word).then_some(number)
    })
}

/// A listener that the kernel completes connections for and nobody accepts: they hold no
/// descriptor.
fn silent(scene: &Scene) -> Result<TcpListener> {
    let listener = scene
        .netns
        .enter(|| Ok(TcpListener::bind("127.0.0.1:8001")?))?;
    scene.netns.sysctl("core/somaxconn", "16384")?;
    // Called again it sets the queue's length.
    rustix::net::listen(&listener, 16_384).context("listen")?;
    Ok(listener)
}

/// As many descriptors as this process may have.
fn raise_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("setrlimit")?;
    Ok(())
}
