//! Captures that are small and make much of it: what reads one stays within its memory and time,
//! and writes few files, whoever made it.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::crafted::{Crafted, connections, difference, number, piece, section};
use tests::folder::Folder;
use tests::presented::files;
use tests::programs;

/// Resident memory that no capture takes more of (MiB): the largest budget, filled, and as much for
/// all else.
const MEMORY: i64 = 128;
/// CPU seconds; a loaded machine must not count.
const CPU: u64 = 40;

const HOUR: i64 = 3_600_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// How a command ended.
struct Ended {
    status: ExitStatus,
    /// Most that it held, in MiB.
    memory: i64,
    stderr: String,
}

/// Runs tracer with ceilings that it must not reach.
fn run(arguments: &[&Path]) -> Result<Ended> {
    let stderr = tempfile(arguments)?;
    let mut command = Command::new(programs::tracer()?);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&stderr)?);
    // SAFETY: setrlimit is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for (what, most) in [(libc::RLIMIT_CPU, CPU), (libc::RLIMIT_AS, 4 << 30)] {
                let limit = libc::rlimit {
                    rlim_cur: most,
                    rlim_max: most,
                };
                if libc::setrlimit(what, &raw const limit) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    // The child begins as a copy of this process, which is counted as its own.
    // SAFETY: it only gives freed memory back.
    unsafe { libc::malloc_trim(0) };
    let child = command.spawn().context("tracer")?;
    let mut status = 0;
    // SAFETY: plain integers, which the kernel fills in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for writes; the child is this process's own and waited for only here.
    let pid = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    ensure!(pid == child.id() as i32, "{}", io::Error::last_os_error());
    Ok(Ended {
        status: ExitStatus::from_raw(status),
        memory: usage.ru_maxrss >> 10,
        stderr: std::fs::read_to_string(&stderr)?,
    })
}

/// A path next to the capture.
fn tempfile(arguments: &[&Path]) -> Result<std::path::PathBuf> {
    let capture = arguments.get(1).context("a capture")?;
    Ok(capture.with_extension("stderr"))
}

/// Explains, reports, charts and exports it: each has to end well, within the memory.
fn bears(folder: &Folder, name: &str, capture: Crafted) -> Result<()> {
    let path = folder.join(name);
    let size = capture.write(&path)?;
    bears_file(folder, name, &[&path], size)
}

fn bears_file(folder: &Folder, name: &str, captures: &[&Path], size: usize) -> Result<()> {
    let out = folder.join(&format!("{name}.out"));
    let trace = folder.join(&format!("{name}.json"));
    let path = Path::new;
    for (command, arguments) in [
        ("explain", vec![]),
        ("report", vec![path("-o"), &out]),
        ("chart", vec![path("-o"), &out]),
        (
            "export",
            vec![path("--parquet"), &out, path("--perfetto"), &trace],
        ),
    ] {
        let began = Instant::now();
        let ended = run(&[&[path(command)], captures, &arguments].concat())?;
        println!(
            "{name}, {size} bytes, {command}: {} MiB, {:?}",
            ended.memory,
            began.elapsed()
        );
        ensure!(
            ended.status.success() && ended.memory < MEMORY,
            "{name}, {size} bytes, {command}: {}, {} MiB: {}",
            ended.status,
            ended.memory,
            ended.stderr
        );
    }
    let written = files(&out)?;
    ensure!(written.len() < 300, "{name}: {} files", written.len());
    std::fs::remove_dir_all(&out)?;
    std::fs::remove_file(&trace)?;
    Ok(())
}

fn blank() -> Result<Crafted> {
    Crafted::new(&json!({}))
}

/// Kind and JSON.
type Row = (u64, String);

fn of_rows(rows: impl IntoIterator<Item = Row>) -> Result<Crafted> {
    let mut capture = blank()?;
    capture.rows(rows)?;
    Ok(capture)
}

const FAILURE: u64 = 16;
const ANSWER: u64 = 18;
const LOG_CALL: u64 = 19;
const PROCESS: u64 = 23;
const WORKER: u64 = 24;
const DNS: u64 = 27;
const FACT: u64 = 29;
const LOST: u64 = 31;
const HOOKS: u64 = 32;
const TICK: u64 = 33;

/// No two numbers that follow each other are alike: what a real stream has, and what does not pack
/// to nothing.
fn mixed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn log_call(request: u64, text: &str) -> Row {
    let at = 20 + request;
    let row = format!(
        r#"{{"at":{at},"worker":7,"level":4,"errno":111,"connection":{request},"request":{request},"stream":false,"format":"connect() failed","resolved":null,"text":"{text}"}}"#
    );
    (LOG_CALL, row)
}

/// An error answer of a request without an upstream, or of this one, watched or not.
fn answer(at: u64, worker: u64, request: Option<u64>, watched: Option<u64>) -> Row {
    let none = || "null".to_owned();
    let request = request.map_or_else(none, |number| number.to_string());
    let watched = watched.map_or_else(none, |address| {
        format!(r#"{{"address":{address},"connection":4}}"#)
    });
    let row = format!(
        r#"{{"at":{at},"worker":{worker},"status":502,"request":{request},"client":null,"connection":null,"head":null,"client_status":null,"watched":{watched}}}"#
    );
    (ANSWER, row)
}

fn failure(at: u64, request: u64, upstream: &Value) -> Row {
    let row = format!(
        r#"{{"start":{at},"at":{at},"worker":7,"request":{request},"upstream":{upstream},"source":null,"code":-1,"errno":111,"syn_sent":false,"routes":{{"lookups":0,"error":0,"kind":0}}}}"#
    );
    (FAILURE, row)
}

fn asked(at: u64, worker: u64, name: &str) -> Row {
    let row = format!(
        r#"{{"at":{at},"worker":{worker},"server":"127.0.0.53:53","over_tcp":true,"step":"Asked","id":1,"name":"{name}"}}"#
    );
    (DNS, row)
}

fn tick(at: u64) -> Row {
    (TICK, at.to_string())
}

#[test]
fn a_page_of_nothing_but_texts() -> Result<()> {
    let folder = Folder::new()?;
    let (mut capture, texts) = (blank()?, (16 << 20) - 100);
    let many = [number(0), number(texts), vec![0; texts as usize]].concat();
    capture.page(2, 0, &section(2, &many))?;
    bears(&folder, "texts", capture)
}

#[test]
fn texts_and_lists_longer_than_a_live_run_writes() -> Result<()> {
    let folder = Folder::new()?;
    let long = "A".repeat(60_000);
    let calls = (0..120).flat_map(|request| (0..32).map(move |_| request));
    let capture = of_rows(calls.map(|request| log_call(5_000 + request, &long)))?;
    bears(&folder, "long-log-calls", capture)?;
    let hooks = |names: usize| format!(r#"{{"at":1,"absent":[{}""]}}"#, r#""","#.repeat(names));
    let capture = of_rows((0..1).map(|_| (HOOKS, hooks(5_000_000))))?;
    bears(&folder, "hooks", capture)?;
    // What held before; and an index that is no use.
    let mut capture = blank()?;
    capture.page(TICK, 1, &section(TICK, &piece(b"5")))?;
    let order = section(0, &[number(HOOKS), number(2600)].concat());
    let rows = piece(hooks(2000).as_bytes()).repeat(2600);
    capture.frame(2, 2600, &[order, section(HOOKS, &rows)].concat())?;
    drop(rows);
    let entry = r#"{"offset":0,"sequence":0,"events":0,"from":0,"to":0},"#;
    let end = format!(r#"{{"index":[{}null]}}"#, entry.repeat(300_000));
    capture.frame(3, 0, end.as_bytes())?;
    drop(end);
    bears(&folder, "standing", capture)
}

#[test]
fn requests_that_never_end() -> Result<()> {
    let folder = Folder::new()?;
    // Each with as many calls as are kept, each with a text as long as it may be.
    let text = "t".repeat(250);
    let calls = (0..400_000).map(|call| log_call(mixed(call / 32), &text));
    bears(&folder, "log-calls", of_rows(calls)?)?;
    // Each with an attempt, no tick between them.
    let mut capture = blank()?;
    let count = 100_000;
    for page in 0..4u64 {
        let mut requests = Vec::new();
        for one in 0..count {
            requests.extend(number(1 + 2 * mixed(page * count + one)));
        }
        let all = vec![1; count as usize];
        let columns = [(5, requests), (8, all.clone())];
        capture.page(2, count, &connections(count, &["127.0.0.1:80"], &columns))?;
    }
    bears(&folder, "attempts", capture)
}

#[test]
fn cases_that_wait() -> Result<()> {
    let folder = Folder::new()?;
    // For the host, no tick between them.
    let answers = (0..400_000).map(|one| answer(mixed(one), one % 5000, None, None));
    bears(&folder, "open", of_rows(answers)?)?;
    // For their clients: the host has answered, no time passes.
    let log = r#"{"at":999999999999999,"question":{"Log":{"worker":7}},"finding":{"Ok":"Log"}}"#;
    let known = (FACT, log.to_owned());
    let at = SECOND as u64;
    let waiting = (0..300_000u64).flat_map(|one| {
        let now = (one % 1000 == 0).then(|| tick(at));
        [answer(at, 7, None, Some(mixed(one)))]
            .into_iter()
            .chain(now)
    });
    bears(
        &folder,
        "replies",
        of_rows([known.clone()].into_iter().chain(waiting))?,
    )?;
    // All of one client's request, each with a failed attempt.
    let path = format!("/{}", "u".repeat(400));
    let upstream = json!({"Unix": path});
    let unix = format!(
        r#"{{"at":999999999999999,"question":{{"UnixPath":{{"worker":7,"path":"{path}"}}}},"finding":{{"Err":"no"}}}}"#
    );
    let joined = (0..80_000u64).flat_map(|one| {
        let at = at + one * 6_000_000;
        let tried = failure(at, at, &upstream);
        [tried, answer(at, 7, Some(at), Some(5)), tick(at)]
    });
    let known = [known, (FACT, unix)];
    bears(&folder, "joined", of_rows(known.into_iter().chain(joined))?)?;
    // Each with all that is known of its worker, given away at once.
    let name = "n".repeat(390);
    let steps = (0..100u64).map(|one| asked(one, 7, &name));
    let earlier = (0..20u64).flat_map(|one| {
        let tried = failure(one + 1, one + 1, &upstream);
        [tried, answer(one + 1, 7, Some(one + 1), None)]
    });
    let none = (0..60_000u64).map(|one| answer(30 + one, 7, None, None));
    let end = [tick(5_000_000_000)];
    let capture = of_rows(steps.chain(earlier).chain(none).chain(end))?;
    bears(&folder, "copies", capture)
}

#[test]
fn workers_and_what_is_remembered_of_each() -> Result<()> {
    let folder = Folder::new()?;
    let unit = "u".repeat(900);
    let workers = (0..200_000u64).map(|pid| {
        let version = mixed(pid);
        let row = format!(
            r#"{{"at":{pid},"pid":{pid},"own_pid":3,"master":1,"uid":33,"gid":33,"netns":1,"unit":"{unit}","version":"{version}"}}"#
        );
        (WORKER, row)
    });
    bears(&folder, "workers", of_rows(workers)?)?;
    let name = "n".repeat(300);
    let steps = (0..200_000u64).map(|worker| asked(mixed(worker), worker, &name));
    bears(&folder, "resolver", of_rows(steps)?)?;
    let owner = json!({"pid": 42, "name": "n".repeat(40), "since": 1, "unit": "app.service"});
    let listener =
        json!({"address": "[::1]:3000", "v6_only": true, "queue": 1, "limit": 2, "owner": owner});
    let exact = json!(vec![listener; 60]).to_string();
    let facts = (0..20_000u64).map(|one| {
        let (worker, mixed) = (one / 16, mixed(one) as u32);
        let row = format!(
            r#"{{"at":17,"question":{{"Listener":{{"worker":{worker},"address":"127.0.0.1:3000"}}}},"finding":{{"Ok":{{"Listener":{{"local":true,"silent_neighbor":null,"exact":{exact},"same_port":[],"bound":[],"nearby":[],"somaxconn":{mixed}}}}}}}}}"#
        );
        (FACT, row)
    });
    bears(&folder, "facts", of_rows(facts)?)
}

#[test]
fn what_the_kernel_skipped_and_lost_without_end() -> Result<()> {
    let folder = Folder::new()?;
    let most = u64::MAX;
    let losses = (0..5000u64).map(|one| {
        let skipped: Vec<String> = (0..100)
            .map(|hook| format!(r#"{{"hook":"{hook}-{one}","runs":{most},"since":0}}"#))
            .collect();
        let skipped = skipped.join(",");
        let row = format!(
            r#"{{"at":{one},"events":{most},"healthy":{most},"bare":{most},"unexplained":{most},"skipped":[{skipped}]}}"#
        );
        (LOST, row)
    });
    let died = (0..10u64).map(|pid| {
        let row = format!(r#"{{"at":{pid},"pid":{pid},"kind":{{"Exited":{{"code":11}}}}}}"#);
        (PROCESS, row)
    });
    let failed = [answer(1, 7, None, None)];
    bears(&folder, "lost", of_rows(losses.chain(died).chain(failed))?)
}

/// Two connections to each of so many upstreams, which took a nanosecond and 90 hours, in each of
/// so many hours.
fn upstreams(capture: &mut Crafted, each: u64, hours: i64) -> Result<()> {
    let names: Vec<String> = (0..each)
        .map(|one| format!("10.0.{}.{}:80", one / 256, one % 256))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = each * 2;
    let times = || [1, 90 * HOUR].into_iter().cycle().take(count as usize);
    // Optional cells: one more than the difference.
    let took: Vec<u8> = times()
        .flat_map(|took| number(took as u64 * 2 + 1))
        .collect();
    let start: Vec<u8> = times().flat_map(|took| difference(-took)).collect();
    let remote: Vec<u8> = (0..count).flat_map(|one| number(1 + one / 2)).collect();
    for hour in 100..100 + hours {
        let closed = [difference(hour * HOUR), vec![0; count as usize - 1]].concat();
        let columns = [
            (1, closed),
            (4, start.clone()),
            (5, vec![1; count as usize]),
            (8, remote.clone()),
            (10, took.clone()),
            (12, vec![1; count as usize]),
        ];
        capture.page(2, count, &connections(count, &names, &columns))?;
    }
    Ok(())
}

#[test]
fn upstreams_with_durations_of_all_lengths() -> Result<()> {
    let folder = Folder::new()?;
    let mut capture = blank()?;
    upstreams(&mut capture, 2000, 59)?;
    bears(&folder, "upstreams", capture)?;
    // Names as long as they may be, of which the report counts the different ones.
    let paths = (0..150_000u64).map(|one| {
        let path = format!("/{}/{:x}", "p".repeat(300), mixed(one));
        failure(one + 1, one + 1, &json!({"Unix": path}))
    });
    bears(&folder, "names", of_rows(paths)?)
}

#[test]
fn times_that_lead_nowhere() -> Result<()> {
    let folder = Folder::new()?;
    let clocks = [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)];
    for (boot, wall) in clocks {
        let mut capture = Crafted::new(&json!({"clock": {"boot": boot, "wall": wall}}))?;
        let times = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let rows = times.into_iter().flat_map(|at| {
            let request = at.max(1);
            let upstream = json!({"Inet": "127.0.0.1:80"});
            [
                failure(at, request, &upstream),
                answer(at, 7, Some(request), Some(3)),
                tick(at),
            ]
        });
        capture.rows(rows)?;
        let ends: [i64; 4] = [i64::MAX, i64::MIN, -1, 1];
        let cells: Vec<u8> = ends.into_iter().flat_map(difference).collect();
        let columns =
            [1, 4, 5, 10, 11, 12, 13, 14, 15, 16, 23, 32, 33].map(|column| (column, cells.clone()));
        let columns: Vec<_> = columns.into_iter().chain([(8, vec![1; 4])]).collect();
        capture.page(2, 4, &connections(4, &["127.0.0.1:80"], &columns))?;
        bears(&folder, "times", capture)?;
    }
    // Verdicts of several runs wait for each other.
    let mut paths = Vec::new();
    for run in ["one", "two"] {
        let mut capture = Crafted::new(&json!({"run": run}))?;
        capture.rows(
            (0..100_000u64).map(|one| answer(u64::MAX / 4 + mixed(one), one % 50, None, None)),
        )?;
        let path = folder.join(run);
        capture.write(&path)?;
        paths.push(path);
    }
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    bears_file(&folder, "runs", &paths, 0)
}

#[test]
fn a_table_has_few_files_whatever_the_order_of_its_rows() -> Result<()> {
    let folder = Folder::new()?;
    let count = 3000;
    let alternating = |step: i64| {
        let mut closed = difference(10 * HOUR);
        for one in 1..count {
            closed.extend(difference(if one % 2 == 0 { -step } else { step }));
        }
        closed
    };
    let advancing = difference(HOUR).repeat(count as usize);
    for (name, closed, most) in [
        ("two-hours", alternating(HOUR), 3),
        ("hours", advancing, 60),
        ("far-hours", alternating(100 * HOUR), 3),
    ] {
        let mut capture = blank()?;
        let columns = [(1, closed), (8, vec![1; count as usize])];
        capture.page(2, count, &connections(count, &["127.0.0.1:80"], &columns))?;
        let (path, out) = (folder.join(name), folder.join("tables"));
        capture.write(&path)?;
        let ended = run(&[Path::new("export"), &path, Path::new("--parquet"), &out])?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        let written = files(&out)?;
        ensure!(written.len() <= most, "{name}: {} files", written.len());
        // What has no place with its hour is said, and there.
        let others = |path: &std::path::PathBuf| path.to_string_lossy().contains("hour=other");
        let other = written.iter().filter(|path| others(path)).count();
        let said = ended
            .stderr
            .contains("rows out of order in time: in the partition hour=other");
        ensure!(
            said == (other == 1) && (said || most == 3),
            "{name}: {other}, {}",
            ended.stderr
        );
        std::fs::remove_dir_all(&out)?;
    }
    Ok(())
}

#[test]
fn more_events_than_bytes() -> Result<()> {
    let folder = Folder::new()?;
    // Ten thousand a byte.
    let mut capture = blank()?;
    for _ in 0..50 {
        capture.page(1, 10_000_000, &section(1, &[40].repeat(10_000_000)))?;
    }
    bears(&folder, "ticks", capture)
}
