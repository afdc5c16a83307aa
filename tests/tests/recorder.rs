//! The always-on recorder: a ring that is written to a file for each burst of failures, and by
//! `tracer dump`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::backend::{Backend, Protocol};
use tests::client::{self, Front, Question};
use tests::expected::Expected;
use tests::failing::Failing;
use tests::folder::Folder;
use tests::nginx::{Form, Nginx};
use tests::site::Site;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::tracer::{Ended, Tracer, explained, record};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

const WROTE: &str = "wrote ";

fn refused() -> Result<Site> {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    Stage::new()?.start(vec![Fault::proxy(expected, "")])
}

fn failing(count: usize) -> Load {
    Load {
        failing: count,
        healthy: 0,
        concurrency: 8,
        ..Load::default()
    }
}

/// A recorder whose files are in a folder, and where it can be asked.
struct Recorder {
    tracer: Tracer,
    folder: PathBuf,
    runtime: Folder,
    /// Requests that failed so far.
    failed: Cell<usize>,
}

impl Recorder {
    /// Starts one with these further arguments.
    fn start(master: u32, folder: &Path, arguments: &[&str]) -> Result<Self> {
        let runtime = Folder::new()?;
        let mut command = record(master, folder)?;
        command
            .args(arguments)
            .env("RUNTIME_DIRECTORY", runtime.path());
        let mut tracer = Tracer::start(&mut command)?;
        tracer.tracing()?;
        Ok(Self {
            tracer,
            folder: folder.canonicalize()?,
            runtime,
            failed: Cell::new(0),
        })
    }

    /// Has so many requests fail, and waits for their verdicts.
    fn fail(&self, site: &Site, count: usize) -> Result<()> {
        site.send(failing(count))?;
        self.failed.set(self.failed.get() + count);
        self.tracer.verdict_lines(self.failed.get()).map(drop)
    }

    /// The files that its lines name, in that order.
    fn named(&self) -> Vec<PathBuf> {
        let said = self.tracer.said().into_iter();
        said.filter_map(|line| named(&line.text)).collect()
    }

    /// Waits until it has named so many.
    fn names(&self, count: usize) -> Result<Vec<PathBuf>> {
        until("a line that names a file", PATIENCE, || {
            Ok(Some(self.named()).filter(|named| named.len() >= count))
        })
        .with_context(|| format!("{:?}", self.tracer.said()))
    }

    /// `tracer dump`, asking it alone.
    fn dump(&self) -> Result<std::process::Output> {
        let mut command = Command::new(programs::tracer()?);
        command
            .arg("dump")
            .env("RUNTIME_DIRECTORY", self.runtime.path());
        Ok(command.output()?)
    }

    /// The same, which has to give a file.
    fn dumped(&self) -> Result<PathBuf> {
        let output = self.dump()?;
        let said = String::from_utf8(output.stdout)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {errors}", output.status);
        ensure!(said.lines().count() == 1, "{said}");
        Ok(said.trim_end().into())
    }

    /// What is in its folder, by name.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?;
        let mut files: Vec<PathBuf> = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        Ok(files)
    }
}

/// The file that a line names.
fn named(line: &str) -> Option<PathBuf> {
    let (path, _) = line.strip_prefix(WROTE)?.split_once(" (")?;
    Some(path.into())
}

fn is_burst(file: &Path) -> bool {
    file.display().to_string().ends_with("-burst.trc")
}

/// Explains whole files.
fn explain<P: AsRef<Path>>(files: &[P]) -> Result<Vec<Value>> {
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let ended = explained(&files)?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let troubles = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("tracer: "));
    ensure!(troubles.count() == 0, "{}", ended.stderr);
    Ok(ended.verdicts)
}

fn paths(verdicts: &[Value]) -> Vec<&str> {
    let lines = verdicts
        .iter()
        .filter_map(|one| one["request"]["line"].as_str());
    let mut paths: Vec<&str> = lines.filter_map(|line| line.split(' ').nth(1)).collect();
    paths.sort_unstable();
    paths
}

/// When connections to this upstream began in a capture, in microseconds.
fn connections(file: &Path, upstream: &str) -> Result<Vec<f64>> {
    let folder = Folder::new()?;
    let trace = folder.join("trace.json");
    let mut export = Command::new(programs::tracer()?);
    programs::output(export.args(["export", "--perfetto"]).arg(&trace).arg(file))?;
    let trace: Value = serde_json::from_slice(&fs::read(trace)?)?;
    let events = trace["traceEvents"].as_array().context("no events")?;
    let begun = events
        .iter()
        .filter(|event| event["cat"] == "connection" && event["name"] == upstream);
    Ok(begun.filter_map(|event| event["ts"].as_f64()).collect())
}

/// An nginx that waits to be started on a thread of its own; its master's pid is known before.
struct Later {
    go: mpsc::Sender<()>,
    pid: u32,
}

/// Three bursts of an nginx whose log is rotated after the first, that is reloaded after the
/// second, and restarted before the third.
#[test]
fn each_burst_has_a_file_with_what_came_before_it_whatever_happens_to_nginx() -> Result<()> {
    let mut site = Failing::new(Form::Foreground)?;
    site.config.server = format!(
        "location /ok/ {{ proxy_pass http://{HEALTHY}; }} {}",
        site.config.server
    );
    let _backend = Backend::new(&site.netns, HEALTHY, Protocol::Http)?;
    let mut first = site.start()?;
    std::thread::scope(|scope| {
        let (say, heard) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (done, is_done) = mpsc::channel::<()>();
        let (netns, config) = (site.netns.clone(), site.config.clone());
        scope.spawn(move || -> Result<()> {
            let _second = Nginx::start_after(&netns, &config, |pid| {
                say.send(pid)?;
                Ok(wait.recv()?)
            })?;
            say.send(0)?;
            // Until the test is over.
            let _ = is_done.recv();
            Ok(())
        });
        let later = Later {
            pid: heard.recv()?,
            go,
        };
        let result = three_bursts(&site, &mut first, &later, &heard);
        drop(done);
        result
    })
}

fn three_bursts(
    site: &Failing,
    nginx: &mut Nginx,
    later: &Later,
    started: &mpsc::Receiver<u32>,
) -> Result<()> {
    let folder = Folder::new()?;
    let second = later.pid.to_string();
    let arguments = ["--ring", "1M", "--keep-going", "--master", &second];
    let recorder = Recorder::start(nginx.master, folder.path(), &arguments)?;
    let mut bursts = Vec::new();
    for round in 0..3 {
        healthy(site, round)?;
        bursts.push(site.send(20)?);
        recorder.names(round + 1)?;
        match round {
            0 => {
                let log = nginx.folder().join("error.log");
                fs::rename(&log, nginx.folder().join("error.log.1"))?;
                process::signal(nginx.master, libc::SIGUSR1);
                until("the new log", PATIENCE, || Ok(log.exists().then_some(())))?;
                nginx.reload()?;
                nginx.settled()?;
            }
            1 => {
                nginx.stop(libc::SIGQUIT)?;
                later.go.send(())?;
                started.recv().context("nginx did not start again")?;
            }
            _ => {}
        }
    }
    let named = recorder.named();
    ensure!(recorder.files()? == named, "{named:?}");
    let live = well(recorder.tracer.stop(libc::SIGTERM)?)?.verdicts;
    for (file, sent) in named.iter().zip(&bursts) {
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(file)?);
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
        let verdicts = explain(&[file])?;
        let mut wanted: Vec<&str> = sent.iter().map(|answer| answer.path.as_str()).collect();
        wanted.sort_unstable();
        ensure!(paths(&verdicts) == wanted, "{verdicts:?}");
        for verdict in &verdicts {
            ensure!(live.contains(verdict), "not as live: {verdict}");
        }
        let before = connections(file, HEALTHY)?;
        let after = connections(file, &site.upstream)?;
        ensure!(
            before.len() >= 20 && after.len() >= 20,
            "{before:?} {after:?}"
        );
        let burst = after.iter().copied().fold(f64::MAX, f64::min);
        ensure!(before.iter().all(|one| *one < burst), "{before:?} {burst}");
    }
    // Together they are one stream.
    ensure!(explain(&named)? == live);
    Ok(())
}

/// Requests that are served.
fn healthy(site: &Failing, round: usize) -> Result<()> {
    let questions: Vec<Question> = (0..20)
        .map(|number| Question::get(format!("/ok/{round}/{number}")))
        .collect();
    let answers = site
        .netns
        .enter(|| client::send(Front::Http, &questions, 4))?;
    ensure!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    Ok(())
}

fn well(ended: Ended) -> Result<Ended> {
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(ended)
}

#[test]
fn a_file_that_is_asked_for_is_named_and_explains() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let recorder = Recorder::start(site.nginx.master, folder.path(), &["--ring", "1M"])?;
    ensure!(recorder.files()?.is_empty());
    recorder.fail(&site, 5)?;
    let asked = recorder.dumped()?;
    ensure!(
        recorder.files()? == std::slice::from_ref(&asked),
        "{asked:?}"
    );
    ensure!(explain(&[&asked])?.len() == 5);
    ensure!(recorder.names(1)?[0] == asked);

    // In a burst: the burst's file ends there.
    recorder.fail(&site, 20)?;
    let burst = recorder.dumped()?;
    ensure!(is_burst(&burst), "{burst:?}");
    ensure!(explain(&[burst])?.len() == 20);

    // By the signal.
    recorder.fail(&site, 3)?;
    process::signal(recorder.tracer.pid(), libc::SIGUSR1);
    let signalled = recorder.names(3)?[2].clone();
    ensure!(explain(&[signalled])?.len() == 3);

    // Nothing else failed: the end writes none.
    let count = recorder.files()?.len();
    let Recorder {
        tracer,
        folder,
        runtime,
        ..
    } = recorder;
    well(tracer.stop(libc::SIGINT)?)?;
    ensure!(fs::read_dir(&folder)?.count() == count);
    ensure!(
        fs::read_dir(runtime.path())?.count() == 0,
        "the socket is left"
    );
    let mut command = Command::new(programs::tracer()?);
    let output = command
        .arg("dump")
        .env("RUNTIME_DIRECTORY", runtime.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(
        said.starts_with("tracer: no recorder runs") && said.lines().count() == 1,
        "{said}"
    );
    Ok(())
}

#[test]
fn what_failed_last_is_written_at_the_end() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let recorder = Recorder::start(site.nginx.master, folder.path(), &["--ring", "1M"])?;
    recorder.fail(&site, 5)?;
    let live = well(recorder.tracer.stop(libc::SIGTERM)?)?;
    let named: Vec<PathBuf> = live.stderr.lines().filter_map(named).collect();
    ensure!(named.len() == 1, "{}", live.stderr);
    ensure!(explain(&named)? == live.verdicts);
    Ok(())
}

#[test]
fn of_a_burst_longer_than_the_ring_its_beginning_and_its_end_are_kept() -> Result<()> {
    const RING: u64 = 256 << 10;
    let (site, folder) = (refused()?, Folder::new()?);
    let recorder = Recorder::start(site.nginx.master, folder.path(), &["--ring", "256K"])?;
    // Until the burst's file is full; as much again is more than the ring takes.
    let mut rounds = 0;
    until("the file's end", 2 * PATIENCE, || {
        rounds += 1;
        recorder.fail(&site, 300)?;
        Ok((!recorder.named().is_empty()).then_some(()))
    })?;
    let full = recorder.named();
    for _ in 0..rounds {
        recorder.fail(&site, 300)?;
    }
    let live = well(recorder.tracer.stop(libc::SIGINT)?)?;
    let files: Vec<PathBuf> = live.stderr.lines().filter_map(named).collect();
    ensure!(files.len() == 2 && files[0] == full[0], "{files:?}");
    for file in &files {
        ensure!(fs::metadata(file)?.len() <= 2 * RING, "{file:?}");
    }
    let ended = explained(&[&files[0], &files[1]])?;
    let explained = well(ended)?.verdicts;
    ensure!(
        explained.len() < live.verdicts.len(),
        "nothing was left out"
    );
    let names = |one: &Value| one["request"]["line"].to_string();
    let first = (explained.first(), live.verdicts.first());
    let last = (explained.last(), live.verdicts.last());
    for (explained, live) in [first, last] {
        let explained = explained.context("no verdict")?;
        ensure!(
            names(explained) == names(live.context("no verdict")?),
            "{explained}"
        );
    }
    let live: BTreeSet<String> = live.verdicts.iter().map(names).collect();
    // What was in flight where the ring begins may have its beginning before.
    let mut cut = 0;
    for verdict in &explained {
        ensure!(live.contains(&names(verdict)), "{verdict}");
        if verdict["cause"] != "no-listener" {
            ensure!(verdict["cause"] == "unexplained", "{verdict}");
            cut += 1;
        }
    }
    ensure!(
        cut <= failing(0).concurrency,
        "{cut} verdicts without a cause"
    );
    Ok(())
}

#[test]
fn a_folder_has_one_recorder() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let recorder = Recorder::start(site.nginx.master, folder.path(), &["--ring", "1M"])?;
    let mut command = record(site.nginx.master, folder.path())?;
    let second = Tracer::start(command.args(["--ring", "1M"]))?.ended()?;
    ensure!(second.status.code() == Some(1), "{}", second.status);
    ensure!(
        second.stderr.contains("another tracer records to"),
        "{}",
        second.stderr
    );
    ensure!(second.stderr.lines().count() == 1, "{}", second.stderr);
    well(recorder.tracer.stop(libc::SIGINT)?).map(drop)
}

/// Bytes of files together.
fn bytes(files: &[PathBuf]) -> Result<u64> {
    files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

#[test]
fn the_oldest_files_go_and_none_of_others() -> Result<()> {
    const LIMIT: u64 = 512 << 10;
    let (site, folder) = (refused()?, Folder::new()?);
    let others = [
        "tracer-20200101-101523.trc",
        "ring-20200101-101523.123Z-burst.trc",
    ];
    for other in others {
        fs::write(folder.join(other), "another's")?;
    }
    let arguments = ["--ring", "256K", "--max-disk", "512K"];
    let recorder = Recorder::start(site.nginx.master, folder.path(), &arguments)?;
    let own = || -> Result<Vec<PathBuf>> {
        let mut files = recorder.files()?;
        files.retain(|file| !others.iter().any(|other| file.ends_with(other)));
        Ok(files)
    };
    let mut made = Vec::new();
    until("the end of the oldest", 3 * PATIENCE, || {
        recorder.fail(&site, 200)?;
        made.push(recorder.dumped()?);
        let files = own()?;
        let bytes = bytes(&files)?;
        ensure!(bytes <= LIMIT, "{bytes} bytes in {files:?}");
        Ok((!made[0].exists()).then_some(()))
    })?;
    // What is left are the newest.
    let left = own()?;
    ensure!(
        made.ends_with(&left) && left.len() > 1,
        "{left:?} of {made:?}"
    );
    for file in &left {
        explain(&[file])?;
    }
    for other in others {
        ensure!(fs::read(folder.join(other))? == b"another's", "{other}");
    }
    well(recorder.tracer.stop(libc::SIGINT)?).map(drop)
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

    /// Takes all that is left.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.0.join("full"))?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("full"))?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_costs_no_burst_that_the_ring_still_holds() -> Result<()> {
    let (site, folder) = (refused()?, Folder::new()?);
    let small = Small::mount(&folder, "1m")?;
    let mut recorder = Recorder::start(site.nginx.master, &small.0, &["--ring", "256K"])?;
    let troubles = |recorder: &Recorder| {
        let said = recorder.tracer.said().into_iter();
        said.filter(|line| line.text.contains("No space left"))
            .count()
    };
    small.fill()?;
    recorder.fail(&site, 20)?;
    recorder.tracer.says("No space left")?;
    let output = recorder.dump()?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("No space left"), "{said}");
    ensure!(recorder.files()?.len() == 1, "half a file is left");
    small.empty()?;
    // Nothing was lost by that.
    ensure!(explain(&[recorder.dumped()?])?.len() == 20);
    let before = troubles(&recorder);
    ensure!(before == 2, "{:?}", recorder.tracer.said());

    // A disk that is full while a burst is written: the file ends there.
    recorder.fail(&site, 20)?;
    until("the burst in its file", PATIENCE, || {
        let files = recorder.files()?;
        let Some(open) = files.iter().find(|file| is_burst(file)) else {
            return Ok(None);
        };
        let begun = explained(&[open])?;
        Ok((begun.verdicts.len() >= 20).then_some(()))
    })?;
    small.fill()?;
    until("the file's end", 2 * PATIENCE, || {
        recorder.fail(&site, 200)?;
        Ok((troubles(&recorder) > before).then_some(()))
    })?;
    small.empty()?;
    let cut = recorder.names(2)?[1].clone();
    let begun = explained(&[&cut])?;
    ensure!(begun.status.success(), "{}", begun.stderr);
    let asked = recorder.dumped()?;
    let rest = explain(&[&asked])?;
    let counts = (begun.verdicts.len(), rest.len());
    ensure!(
        counts.0 >= 20 && counts.1 > 0,
        "{counts:?} {}",
        begun.stderr
    );
    well(recorder.tracer.stop(libc::SIGINT)?).map(drop)
}

#[test]
fn the_disk_is_no_smaller_than_what_a_file_may_take() -> Result<()> {
    let folder = Folder::new()?;
    let mut command = record(1, folder.path())?;
    let ended = Tracer::start(command.args(["--ring", "1M", "--max-disk", "1M"]))?.ended()?;
    ensure!(ended.status.code() == Some(2), "{}", ended.status);
    let said = ended.stderr.lines().next().context("no word")?;
    ensure!(said.contains("--max-disk"), "{said}");
    Ok(())
}
