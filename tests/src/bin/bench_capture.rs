//! `cargo xtask bench capture`: what a capture costs on disk, how fast it is explained and
//! reported.
//!
//! A real nginx serves healthy requests, a new upstream connection each; `tracer record` and
//! tcpdump see the same traffic. The capture's connections are then multiplied (by the program that
//! `MULTIPLY` names), explained and reported on one core. Prints each figure with its target; ends
//! with 1 where one is missed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tests::folder::Folder;
use tests::stage::{Load, Stage};
use tests::tracer::{Tracer, record};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

/// Requests of the real traffic.
const REQUESTS: usize = 20_000;
/// Connections of the multiplied capture.
const CONNECTIONS: u64 = 10_000_000;
/// Bytes a healthy connection may take.
const BYTES: f64 = 40.0;
/// Connection records a second on one core.
const SPEED: f64 = 2e6;
/// MiB that explaining and reporting may need.
const MEMORY: f64 = 64.0;
/// Seconds that the report may take.
const REPORTED: f64 = 30.0;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let folder = Folder::new()?;
    let real = folder.join("real.trc");
    let headers = folder.join("headers.pcap");
    traffic(&real, &headers)?;
    let size = |path: &Path| -> Result<f64> { Ok(fs::metadata(path)?.len() as f64) };
    let recorded = size(&real)? / REQUESTS as f64;
    println!("{REQUESTS} healthy requests, a new upstream connection each");
    let mut met = told(
        "a connection in the capture",
        recorded,
        "bytes",
        recorded <= BYTES,
        "<= 40",
    );
    let dumped = size(&headers)? / REQUESTS as f64;
    println!(
        "  {:40} {dumped:>12.1} bytes",
        "the same in tcpdump -s 96 -w (headers)"
    );

    let large = folder.join("large.trc");
    let program = std::env::var_os("MULTIPLY").context("MULTIPLY names no program")?;
    let made = Command::new(program)
        .arg(&real)
        .arg(CONNECTIONS.to_string())
        .arg(&large)
        .status()?;
    ensure!(made.success(), "multiply ended with {made}");
    println!(
        "{CONNECTIONS} connections of the same, {:.0} MB",
        size(&large)? / 1e6
    );
    let explained = on_one_core(tests::tracer::explain(&[&large])?)?;
    // By CPU time: others may use this machine too.
    let speed = CONNECTIONS as f64 / explained.cpu_seconds;
    println!("  {:40} {:>12.1} s", "explaining took", explained.seconds);
    met &= told(
        "explained",
        speed,
        "records/s",
        speed >= SPEED,
        ">= 2,000,000",
    );
    met &= fits("explaining needed", &explained);
    let mut report = Command::new(programs::tracer()?);
    report
        .args(["report", "--force"])
        .arg(&large)
        .arg("-o")
        .arg(folder.path());
    let reported = on_one_core(report)?;
    met &= told(
        "the report took",
        reported.seconds,
        "s",
        reported.seconds <= REPORTED,
        "<= 30",
    );
    met &= fits("the report needed", &reported);
    Ok(met)
}

fn told(what: &str, value: f64, unit: &str, met: bool, target: &str) -> bool {
    let word = if met { "ok" } else { "MISSED" };
    println!("  {what:40} {value:>12.1} {unit}   target {target}  {word}");
    met
}

fn fits(what: &str, used: &Used) -> bool {
    let met = used.mebibytes <= MEMORY;
    told(what, used.mebibytes, "MiB", met, "<= 64")
}

/// Real traffic, recorded and dumped.
fn traffic(capture: &Path, headers: &Path) -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let mut tcpdump = site
        .netns
        .command("tcpdump")?
        .args(["-i", "lo", "-s", "96", "-U", "-Z", "root", "-w"])
        .arg(headers)
        .args(["tcp", "port", "8000"])
        .stderr(Stdio::null())
        .spawn()
        .context("tcpdump")?;
    // Its file's own header comes first.
    until("tcpdump's file", PATIENCE, || {
        Ok(fs::metadata(headers)
            .is_ok_and(|file| file.len() >= 24)
            .then_some(()))
    })?;
    let mut tracer = Tracer::start(&mut record(site.nginx.master, capture)?)?;
    tracer.tracing()?;
    let sent = site.send(Load {
        failing: 0,
        healthy: REQUESTS,
        concurrency: 8,
        ..Load::default()
    });
    let ended = tracer.stop(libc::SIGINT);
    process::end(&mut tcpdump, libc::SIGINT);
    sent?;
    let ended = ended?;
    ensure!(ended.status.success(), "tracer: {}", ended.stderr);
    ensure!(ended.verdicts.is_empty(), "healthy requests have verdicts");
    Ok(())
}

/// What a command took.
struct Used {
    seconds: f64,
    cpu_seconds: f64,
    mebibytes: f64,
}

/// Runs a command of tracer's on the first core, what it says thrown away.
fn on_one_core(mut command: Command) -> Result<Used> {
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut cores);
            match libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let started = Instant::now();
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: plain integers that the kernel fills in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for writes; the child is ours and not waited for elsewhere.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    if waited != pid || status != 0 {
        bail!("{command:?} ended with {status}");
    }
    Ok(Used {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        mebibytes: usage.ru_maxrss as f64 / 1024.0,
    })
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}
