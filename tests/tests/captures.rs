//! Captures: what was recorded is explained, whatever ended the recording. That a whole capture
//! gives the very verdicts of the live run is checked by every test that follows nginx, see
//! `tests::tracer`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::site::{Sent, Site};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{Ended, Tracer, explain, explained, record};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

fn refused() -> Result<Site> {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    Stage::new()?.start(vec![Fault::proxy(expected, "")])
}

fn failing(count: usize) -> Load {
    Load {
        failing: count,
        healthy: count / 2,
        concurrency: 8,
        ..Load::default()
    }
}

/// Starts a recording with these further arguments; returns once all hooks are attached.
fn recording(site: &Site, file: &Path, arguments: &[&str]) -> Result<Tracer> {
    let mut command = record(site.nginx.master, file)?;
    let mut tracer = Tracer::start(command.args(arguments))?;
    tracer.tracing()?;
    Ok(tracer)
}

fn ended_well(ended: Ended) -> Result<Ended> {
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(ended)
}

/// What tracer itself said, apart from the summary.
fn said(ended: &Ended) -> Vec<&str> {
    let lines = ended.stderr.lines();
    lines.filter(|line| line.starts_with("tracer: ")).collect()
}

fn lines(verdicts: &[Value]) -> BTreeSet<&str> {
    verdicts
        .iter()
        .filter_map(|verdict| verdict["request"]["line"].as_str())
        .collect()
}

/// What a verdict says that does not wait for the host's answers.
fn core(verdict: &Value) -> [&Value; 6] {
    ["time", "cause", "status", "request", "upstream", "attempts"].map(|name| &verdict[name])
}

/// Nanoseconds since midnight of a verdict.
fn nanoseconds(verdict: &Value) -> Result<u64> {
    let time = verdict["time"].as_str().unwrap_or_default();
    let time = time.get(11..29).context("no time")?;
    let [hour, minute, second] = [&time[..2], &time[3..5], &time[6..8]].map(str::parse::<u64>);
    Ok(((hour? * 60 + minute?) * 60 + second?) * 1_000_000_000 + time[9..].parse::<u64>()?)
}

/// A case waits a second at most for the host's answers (`PATIENCE` in `tracer/src/correlate`),
/// until the next tick of a loaded host.
const PATIENT: u64 = 1_400_000_000;

/// Fails unless the explained verdicts are the first of the live ones. Those still open where the
/// capture ends come in the order in which they failed, not in that of the host's answers, and
/// without the answers that were not recorded.
fn begins_like(explained: &[Value], live: &[Value]) -> Result<()> {
    let times: Vec<u64> = explained.iter().map(nanoseconds).collect::<Result<_>>()?;
    let newest = times.iter().max().copied().unwrap_or_default();
    let name = |one: &Value| ["time", "worker", "connection"].map(|name| one[name].to_string());
    let pairs = explained.iter().zip(live);
    let same = pairs.take_while(|(one, other)| one == other).count();
    let mut later: HashMap<_, _> = live[same..].iter().map(|one| (name(one), one)).collect();
    for (one, time) in explained.iter().zip(&times).skip(same) {
        ensure!(
            time + PATIENT >= newest,
            "{same} are the same, then comes, long closed:\n{one}\n{:?}",
            live.get(same)
        );
        let other = later
            .remove(&name(one))
            .with_context(|| format!("not live, or twice: {one}"))?;
        ensure!(core(one) == core(other), "{one}\n{other}");
    }
    Ok(())
}

/// Numbers that differ from run to run; a failure names the first.
struct Chance(u64);

impl Chance {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(Self(now.as_nanos() as u64 | 1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn a_capture_is_its_owners_alone_and_never_overwritten() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let file = folder.join("one.trc");
    let tracer = recording(&site, &file, &[])?;
    let mode = fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
    ended_well(tracer.stop(libc::SIGTERM)?)?;
    let before = fs::read(&file)?;
    let again = Tracer::start(&mut record(site.nginx.master, &file)?)?.ended()?;
    ensure!(again.status.code() == Some(1), "{}", again.status);
    ensure!(
        again.stderr.lines().count() == 1 && again.stderr.contains("exists"),
        "{}",
        again.stderr
    );
    ensure!(fs::read(&file)? == before);
    Ok(())
}

/// A recorder and the moment when it is killed.
struct Doomed {
    file: PathBuf,
    tracer: Tracer,
    /// How often its file has grown by then.
    flushes: usize,
    /// How many batches of requests came after that.
    batches: usize,
}

/// Writes of one flush come closer together, flushes further apart.
const APART: Duration = Duration::from_millis(500);

impl Doomed {
    /// Kills it at its moment; returns when its file had grown.
    fn kill(&self, batches: &AtomicUsize) -> Result<Vec<Instant>> {
        let (mut length, mut grown) = (0, Vec::<Instant>::new());
        let mut last = None;
        until("its moment", 2 * PATIENCE, || {
            let now = fs::metadata(&self.file).map_or(0, |file| file.len());
            if now != length {
                length = now;
                let is_new = |before: &Instant| before.elapsed() >= APART;
                if grown.last().is_none_or(is_new) {
                    grown.push(Instant::now());
                }
            }
            let sent = batches.load(Ordering::Relaxed);
            if last.is_none() && grown.len() >= self.flushes {
                last = Some(sent + self.batches);
            }
            Ok(last.is_some_and(|last| sent >= last).then_some(()))
        })?;
        process::signal(self.tracer.pid(), libc::SIGKILL);
        Ok(grown)
    }
}

/// Kills each at its moment, under load; returns what was sent, and when each file had grown.
fn kill_under_load(site: &Site, doomed: &[Doomed]) -> Result<(Sent, Vec<Vec<Instant>>)> {
    let (is_over, batches) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<Sent> {
            let mut all = Sent::default();
            while !is_over.load(Ordering::Relaxed) {
                all.extend(site.send(failing(20))?);
                batches.fetch_add(1, Ordering::Relaxed);
            }
            Ok(all)
        });
        let killers: Vec<_> = doomed
            .iter()
            .map(|one| scope.spawn(|| one.kill(&batches)))
            .collect();
        let grown: Vec<_> = killers
            .into_iter()
            .map(|killer| killer.join().expect("no killer panics"))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        let sent = load.join().expect("the load does not panic")?;
        Ok((sent, grown.into_iter().collect::<Result<_>>()?))
    })
}

/// All that was flushed is in the file, and nothing else is said of it than that it has no end.
fn lost_a_second(file: &Path, sent: &Sent, flushed: Option<Instant>) -> Result<()> {
    let explained = ended_well(explained(&[file])?)?;
    let due = sent.failed().filter(|one| Some(one.asked) < flushed);
    let found = lines(&explained.verdicts);
    let missing: Vec<String> = due
        .map(|answer| format!("GET {} HTTP/1.1", answer.path))
        .filter(|line| !found.contains(line.as_str()))
        .collect();
    ensure!(
        missing.is_empty(),
        "{} verdicts, missing {missing:?}; {}",
        explained.verdicts.len(),
        explained.stderr
    );
    let told = said(&explained);
    ensure!(
        told.len() == 1 && told[0].contains("has no end"),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn killed_at_any_moment_it_loses_no_more_than_a_second() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let mut chance = Chance::new()?;
    let mut intervals = Vec::new();
    for round in 0..5 {
        let doomed = (0..4)
            .map(|index| {
                let file = folder.join(&format!("{round}-{index}.trc"));
                Ok(Doomed {
                    tracer: recording(&site, &file, &[])?,
                    file,
                    flushes: chance.below(4) as usize,
                    batches: chance.below(40) as usize,
                })
            })
            .collect::<Result<Vec<Doomed>>>()?;
        let (sent, grown) = kill_under_load(&site, &doomed)?;
        for (one, grown) in doomed.iter().zip(grown) {
            let (flushes, batches) = (one.flushes, one.batches);
            // What was asked before the last but one is flushed by the last.
            let flushed = grown.iter().rev().nth(1).copied();
            lost_a_second(&one.file, &sent, flushed)
                .with_context(|| format!("killed {batches} batches after {flushes} flushes"))?;
            intervals.extend(grown.windows(2).map(|two| two[1] - two[0]));
        }
    }
    // The least of them: a loaded machine delays a flush, and never hastens one.
    let least = intervals.iter().min().context("no two flushes")?;
    ensure!(
        *least < Duration::from_millis(1200),
        "flushed each {least:?}"
    );
    Ok(())
}

/// Fails unless the first `length` bytes of a capture give the first of its verdicts, and one line
/// about the rest.
fn tells_what_is_whole(cut: &Path, whole: &[u8], length: usize, live: &[Value]) -> Result<()> {
    fs::write(cut, &whole[..length])?;
    let explained = explained(&[cut])?;
    let told = said(&explained);
    ensure!(told.len() == 1, "{}", explained.stderr);
    if explained.status.success() {
        return begins_like(&explained.verdicts, live);
    }
    ensure!(length < 4096, "{}", explained.stderr);
    Ok(())
}

#[test]
fn cut_off_anywhere_a_large_capture_gives_what_is_whole() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let file = folder.join("whole.trc");
    let tracer = recording(&site, &file, &[])?;
    for _ in 0..5 {
        let sent = site.send(failing(200))?;
        site.verdict_lines(&sent, &tracer)?;
    }
    let live = ended_well(tracer.stop(libc::SIGINT)?)?.verdicts;
    let (bytes, mut chance) = (fs::read(&file)?, Chance::new()?);
    let lengths: Vec<usize> = (0..200)
        .map(|_| chance.below(bytes.len() as u64) as usize)
        .collect();
    let (bytes, live, folder) = (&bytes, &live, &folder);
    std::thread::scope(|scope| {
        let halves: Vec<_> = lengths
            .chunks(lengths.len() / 2)
            .enumerate()
            .map(|(index, half)| {
                let cut = folder.join(&format!("cut-{index}.trc"));
                scope.spawn(move || {
                    half.iter().try_for_each(|&length| {
                        tells_what_is_whole(&cut, bytes, length, live)
                            .with_context(|| format!("cut off at {length}"))
                    })
                })
            })
            .collect();
        halves
            .into_iter()
            .try_for_each(|half| half.join().expect("cutting does not panic"))
    })
}

/// A file system in memory, mounted on a folder of the test's.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Folder, size: &str) -> Result<Self> {
        let path = folder.join("small");
        fs::create_dir(&path)?;
        let options = format!("size={size}");
        programs::output(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(&path),
        )?;
        Ok(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_verdicts() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let small = Small::mount(&folder, "64k")?;
    let file = small.0.join("one.trc");
    let mut tracer = recording(&site, &file, &[])?;
    let mut sent = Sent::default();
    // Several times what fits.
    for _ in 0..10 {
        sent.extend(site.send(failing(200))?);
    }
    tracer.says("recording ends")?;
    // More than what may wait for a slow disk.
    for _ in 0..60 {
        sent.extend(site.send(failing(300))?);
    }
    site.verdict_lines(&sent, &tracer)?;
    let live = tracer.stop(libc::SIGINT)?;
    ensure!(live.status.code() == Some(1), "{}", live.status);
    let told = said(&live);
    ensure!(
        told.len() == 1 && told[0].contains("No space left"),
        "{told:?}"
    );
    ensure!(live.verdicts.len() == sent.failed().count());
    let explained = ended_well(explained(&[&file])?)?;
    ensure!(explained.verdicts.len() > 100, "{}", explained.stderr);
    begins_like(&explained.verdicts, &live.verdicts)?;
    Ok(())
}

#[test]
fn files_of_a_rotation_are_one_run_in_any_order() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let file = folder.join("run.trc");
    let tracer = recording(&site, &file, &["--max-size", "256K", "--rotate", "50"])?;
    let mut sent = Sent::default();
    let third = folder.join("run.trc.2");
    until("three files", Duration::from_secs(60), || {
        sent.extend(site.send(failing(300))?);
        site.verdict_lines(&sent, &tracer)?;
        Ok(third.exists().then_some(()))
    })?;
    // The newest file has some in any case.
    sent.extend(site.send(failing(3))?);
    site.verdict_lines(&sent, &tracer)?;
    let live = ended_well(tracer.stop(libc::SIGINT)?)?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    for file in &files {
        let size = fs::metadata(file)?.len();
        ensure!(size <= (256 << 10) + 4096, "{} has {size}", file.display());
    }
    files.sort();
    let mut all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    for _ in 0..2 {
        let explained = ended_well(explained(&all)?)?;
        ensure!(explained.verdicts == live.verdicts);
        ensure!(said(&explained).is_empty(), "{}", explained.stderr);
        all.reverse();
    }
    // Without the oldest: it begins later, and knows its workers all the same.
    let newest: Vec<&Path> = vec![&file];
    let explained = ended_well(explained(&newest)?)?;
    ensure!(explained.verdicts.len() < live.verdicts.len());
    // In another order perhaps: what the host said before, and is not asked again so soon, is
    // waited for.
    let last = explained.verdicts.last().context("no verdict")?;
    let same = live.verdicts.iter().find(|one| one["time"] == last["time"]);
    let same = same.context("a verdict that live did not give")?;
    ensure!(core(last) == core(same), "{last}\n{same}");
    Ok(())
}

#[test]
fn captures_of_two_runs_merge_by_time_and_filters_choose() -> Result<()> {
    let (site, other, folder) = (refused()?, refused()?, Folder::new()?);
    let (a, b) = (folder.join("a.trc"), folder.join("b.trc"));
    let (one, two) = (recording(&site, &a, &[])?, recording(&other, &b, &[])?);
    for _ in 0..3 {
        site.verdict_lines(&site.send(failing(3))?, &one)?;
        other.verdict_lines(&other.send(failing(3))?, &two)?;
    }
    let one = ended_well(one.stop(libc::SIGINT)?)?;
    let two = ended_well(two.stop(libc::SIGINT)?)?;
    let merged = ended_well(explained(&[&b, &a])?)?;
    let text = |verdicts: &[Value]| -> Vec<String> {
        verdicts
            .iter()
            .map(|one| one["time"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let times = text(&merged.verdicts);
    ensure!(times.is_sorted(), "{times:?}");
    let mut all = [one.verdicts.as_slice(), &two.verdicts].concat();
    all.sort_by_key(|verdict| verdict["time"].to_string());
    ensure!(merged.verdicts == all);

    let filtered = |arguments: &[&str]| -> Result<usize> {
        let mut command = explain(&[&a])?;
        let ended = ended_well(Tracer::start(command.args(arguments))?.ended()?)?;
        Ok(ended.verdicts.len())
    };
    let count = one.verdicts.len();
    ensure!(count == 9);
    ensure!(filtered(&["--cause", "no-listener"])? == count);
    ensure!(filtered(&["--cause", "syn-timeout"])? == 0);
    ensure!(filtered(&["--status", "502", "--upstream", "127.0.0.1:9001"])? == count);
    ensure!(filtered(&["--status", "504"])? == 0);
    let times = text(&one.verdicts);
    ensure!(filtered(&["--since", &times[3]])? == count - 3);
    ensure!(filtered(&["--until", &times[3]])? == 4);
    Ok(())
}

#[test]
fn an_anonymized_capture_tells_of_no_client() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let file = folder.join("one.trc");
    let tracer = recording(&site, &file, &["--anonymize"])?;
    let sent = site.send(failing(5))?;
    site.verdict_lines(&sent, &tracer)?;
    let live = ended_well(tracer.stop(libc::SIGINT)?)?;
    ensure!(live.stderr.lines().count() > 1);
    let explained = ended_well(explained(&[&file])?)?;
    ensure!(explained.verdicts.len() == live.verdicts.len());
    for (hidden, open) in explained.verdicts.iter().zip(&live.verdicts) {
        let text = hidden.to_string();
        ensure!(!text.contains("/fail0/"), "{text}");
        let line = hidden["request"]["line"].as_str().unwrap_or_default();
        ensure!(
            line.starts_with("GET /anon-") && line.ends_with(" HTTP/1.1"),
            "{text}"
        );
        ensure!(
            hidden["request"]["client"] != open["request"]["client"],
            "{text}"
        );
        for same in [
            "cause",
            "upstream",
            "time",
            "connection",
            "evidence",
            "attempts",
        ] {
            ensure!(hidden[same] == open[same], "{same}: {text}");
        }
    }
    ensure!(lines(&explained.verdicts).len() == live.verdicts.len());
    Ok(())
}

#[test]
fn what_is_no_capture_gets_one_clear_line() -> Result<()> {
    let folder = Folder::new()?;
    let cases: [(&str, &[u8], &str); 3] = [
        ("empty", b"", "is empty"),
        ("elf", b"\x7fELF\x02\x01\x01 and so on", "is not a capture"),
        (
            "next",
            b"\x93TRACE\r\n\x02\0\0\0\0\0\0\0\0\0\0\0",
            "format 2",
        ),
    ];
    for (name, bytes, words) in cases {
        let file = folder.join(name);
        fs::write(&file, bytes)?;
        let ended = explained(&[&file])?;
        ensure!(ended.status.code() == Some(1), "{name}: {}", ended.status);
        ensure!(
            ended.stderr.lines().count() == 1
                && ended.stderr.contains(words)
                && ended.stderr.contains(name),
            "{name}: {}",
            ended.stderr
        );
    }
    let missing = explained(&[&folder.join("missing")])?;
    ensure!(missing.status.code() == Some(1) && missing.stderr.contains("No such file"));
    Ok(())
}
