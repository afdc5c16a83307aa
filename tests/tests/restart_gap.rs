//! A tracer that is killed and started again at once: what was not watched in between is reported,
//! with its times, live, in the summary and by `tracer explain`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::client;
use tests::folder::Folder;
use tests::process;
use tests::stage::{Fault, Stage};
use tests::tracer::{self, Ended, Tracer};
use tests::wait::{PATIENCE, until};

/// Milliseconds.
const DAY: u64 = 86_400_000;
/// How often a tracer says that it watches.
const BEAT: u64 = 1_000;

const ENDED: &str = "ended without its summary";

/// Milliseconds of this day, UTC.
fn now() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())? % DAY)
}

/// Of `10:15:31.205`.
fn time(text: &str) -> Result<u64> {
    let (seconds, millis) = text.split_once('.').context("no milliseconds")?;
    let seconds = seconds
        .split(':')
        .try_fold(0, |sum, part| part.parse::<u64>().map(|one| sum * 60 + one))?;
    Ok(seconds * 1000 + millis.parse::<u64>()?)
}

/// How much later, across midnight too.
fn later(one: u64, than: u64) -> u64 {
    (one + DAY - than) % DAY
}

/// From when to when, by the lines that tell of a gap after the tracer `pid`.
fn gaps(stderr: &str, pid: u32) -> Result<Vec<(u64, u64)>> {
    let of = format!("tracer (pid {pid}) {ENDED}; failures between ");
    let told = stderr.lines().filter_map(|line| line.split_once(&of));
    told.map(|(_, rest)| {
        let mut words = rest.split(' ');
        let from = words.next().context("no time")?;
        let until = words.nth(1).context("no second time")?;
        Ok((time(from)?, time(until)?))
    })
    .collect()
}

/// A tracer whose run is known of in `folder`.
fn started(folder: &Path, command: &mut Command) -> Result<Tracer> {
    command.arg("--utc").env("RUNTIME_DIRECTORY", folder);
    let mut tracer = Tracer::start(command)?;
    tracer.tracing()?;
    Ok(tracer)
}

fn none(ended: &Ended) -> Result<()> {
    ensure!(!ended.stderr.contains(ENDED), "a gap: {}", ended.stderr);
    Ok(())
}

#[test]
fn what_was_not_watched_after_a_kill_is_told_with_its_times() -> Result<()> {
    let folder = Folder::new()?;
    let known = folder.join("run");
    fs::create_dir(&known)?;
    fs::set_permissions(&known, Permissions::from_mode(0o700))?;
    let mut stage = Stage::new()?;
    stage.config.server = "location /gone/ { proxy_pass http://127.0.0.1:9001; }\n".into();
    let site = stage.start(Vec::<Fault>::new())?;
    let fail = |path: &str| site.netns.enter(|| client::get(path));

    let mut first = started(&known, &mut tracer::live(site.nginx.master)?)?;
    let pid = first.pid();
    // It beats.
    let file = known.join(pid.to_string());
    let begun = fs::read(&file).context("no word of the run")?;
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o077 == 0);
    until("a beat", PATIENCE, || {
        Ok((fs::read(&file)? != begun).then_some(()))
    })?;
    fail("/gone/seen/")?;
    first.verdict_lines(1)?;
    let killed = now()?;
    process::signal(pid, libc::SIGKILL);
    first.ended()?;

    fail("/gone/unseen/")?;
    let failed = now()?;
    let capture = folder.join("run.trc");
    let mut second = started(&known, &mut tracer::record(site.nginx.master, &capture)?)?;
    second.says(ENDED)?;
    fail("/gone/again/")?;
    second.verdict_lines(1)?;
    // One that runs beside it is no gap to a third.
    let third = started(&known, &mut tracer::live(site.nginx.master)?)?;
    none(&third.stop(libc::SIGINT)?)?;
    let ended = second.stop(libc::SIGINT)?;

    let explained = tracer::explained(&[&capture])?;
    // Explained in local time unless it is asked otherwise; the gap's length is the same.
    for (whose, stderr) in [("live", &ended.stderr), ("explained", &explained.stderr)] {
        let gaps = gaps(stderr, pid)?;
        // When it happened, and in the summary.
        ensure!(gaps.len() == 2 && gaps[0] == gaps[1], "{whose}: {stderr}");
    }
    let (from, until) = gaps(&ended.stderr, pid)?[0];
    ensure!(
        later(killed, from) <= BEAT + 500,
        "watched until {from} at least, killed at {killed}"
    );
    ensure!(
        later(failed, from) <= later(until, from),
        "{failed} is not between {from} and {until}"
    );
    ensure!(ended.verdicts.len() == 1, "{:?}", ended.verdicts);

    // It ended with its summary: nothing is known of any run.
    ensure!(fs::read_dir(&known)?.count() == 0, "files are left");
    let fourth = started(&known, &mut tracer::live(site.nginx.master)?)?;
    none(&fourth.stop(libc::SIGINT)?)
}
