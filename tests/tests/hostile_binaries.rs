//! Programs of any user with nginx's title, made to keep whoever reads them busy: failures of a
//! real nginx are reported in time, and the tracer's memory stays what it was. Followed is every
//! nginx of the host, as these programs would not be looked at otherwise.
#![cfg(target_arch = "x86_64")]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::client::get;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

const NOBODY: u32 = 65534;
/// KiB that programs of others may cost the tracer.
const MEMORY: u64 = 24 << 10;
/// A busy machine needs some time for a verdict; a bomb took ten times this.
const SOON: Duration = Duration::from_secs(3);
/// A program is looked at some times in its first two seconds.
const LOOKED_AT: Duration = Duration::from_secs(3);

/// `pause()` for ever.
const PAUSE: &[u8] = b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7";
/// Maps `libc.so.6` of its folder as code, unlinks it and makes a FIFO in its place; then as
/// [`PAUSE`].
const MAP: &[u8] =
    b"\x48\x8d\x3d\x57\0\0\0\xbe\x02\0\0\0\xb8\x02\0\0\0\x0f\x05\x41\x89\xc0\x31\xff\
    \xbe\0\x10\0\0\xba\x05\0\0\0\x41\xba\x02\0\0\0\x45\x31\xc9\xb8\x09\0\0\0\x0f\x05\
    \x48\x8d\x3d\x25\0\0\0\xb8\x57\0\0\0\x0f\x05\
    \x48\x8d\x3d\x17\0\0\0\xbe\xb6\x11\0\0\x31\xd2\xb8\x85\0\0\0\x0f\x05\
    \xb8\x22\0\0\0\x0f\x05\xeb\xf7libc.so.6\0";
/// By this a program passes for nginx.
const VERSION: &[u8] = b"\0nginx version: nginx/1.22.1\0";
const MIB: u64 = 1 << 20;

const DYNSYM: u32 = 11;
const STRTAB: u32 = 3;
const PROGBITS: u32 = 1;

/// Name, kind, offset, size, index of the section with its names.
type Section = (&'static str, u32, u64, u64, u32);

/// Writes a program: its code, at 1 MiB these bytes, at 64 MiB the table of its sections, then
/// nothing up to `length`.
fn program(
    path: &Path,
    code: &[u8],
    bytes: &[u8],
    sections: &[Section],
    count: Option<u64>,
    length: u64,
) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let base = 0x40_0000_u64;
    let loaded = 64 + 56 + code.len() as u64;
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    let mut names = vec![0];
    let mut table = vec![0; 64];
    let names_at = 65 * MIB;
    for (name, kind, offset, size, link) in
        sections
            .iter()
            .copied()
            .chain([(".shstrtab", STRTAB, names_at, 256, 0)])
    {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend(kind.to_le_bytes());
        table.extend([0; 16]);
        table.extend(offset.to_le_bytes());
        table.extend(size.to_le_bytes());
        table.extend(link.to_le_bytes());
        table.extend([0; 12]);
        table.extend(24_u64.to_le_bytes());
        names.extend(name.bytes());
        names.push(0);
    }
    let own = sections.len() as u64 + 1;
    let (shown, index) = match count {
        Some(count) => {
            table[32..40].copy_from_slice(&count.to_le_bytes());
            table[40..44].copy_from_slice(&(own as u32).to_le_bytes());
            (0, 0xffff)
        }
        None => (own as u16 + 1, own as u16),
    };
    for half in [2_u16, 62] {
        head.extend(half.to_le_bytes());
    }
    head.extend(1_u32.to_le_bytes());
    for long in [base + 120, 64, 64 * MIB] {
        head.extend(long.to_le_bytes());
    }
    head.extend([0; 4]);
    for half in [64, 56, 1, 64, shown, index] {
        head.extend(half.to_le_bytes());
    }
    head.extend(1_u32.to_le_bytes());
    head.extend(5_u32.to_le_bytes());
    for long in [0, base, base, loaded, loaded, 0x1000] {
        head.extend(long.to_le_bytes());
    }
    head.extend(code);
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    file.write_all_at(bytes, MIB)?;
    file.write_all_at(&table, 64 * MIB)?;
    file.write_all_at(&names, names_at)?;
    file.set_len(length.max(names_at + 256))?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    Ok(())
}

/// A program that runs as nobody, and ends with its value.
struct Fake(Child);

impl Fake {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg0("nginx: master process x")
            .current_dir(folder)
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        process::end(&mut self.0, libc::SIGKILL);
    }
}

/// Programs that claim to be much: sections of a gigabyte that is not there, as many sections,
/// names that are all parts of one long name, and what is looked for over and over.
fn bombs(folder: &Path) -> Result<Vec<Fake>> {
    let names = MIB + 4096 * 24;
    let mut overlapping: Vec<u8> = Vec::new();
    for name in 0..4096_u32 {
        overlapping.extend(name.to_le_bytes());
        overlapping.extend([2, 0, 1, 0]);
        overlapping.extend([0; 16]);
    }
    overlapping.resize(overlapping.len() + (64 << 10), b'a');
    let nearly = b"ngx_".repeat(2 << 20);
    let says = b" version: nginx/".repeat(1 << 20);
    let far = 1_000 * MIB;
    let mut fakes = Vec::new();
    let mut add = |bytes: &[u8], sections: &[Section], count, length| {
        let path = folder.join(format!("bomb{}", fakes.len()));
        program(&path, PAUSE, bytes, sections, count, length)?;
        fakes.push(Fake::start(&path, folder)?);
        Ok::<_, anyhow::Error>(())
    };
    add(
        &[],
        &[(".rodata", PROGBITS, MIB, 60 * MIB, 0)],
        None,
        100 * MIB,
    )?;
    add(
        &[],
        &[
            (".dynsym", DYNSYM, 100 * MIB, 300 * MIB, 2),
            (".dynstr", STRTAB, 400 * MIB, 600 * MIB, 0),
            (".rodata", PROGBITS, 100 * MIB, 900 * MIB, 0),
        ],
        None,
        far,
    )?;
    add(
        &overlapping,
        &[
            (".dynsym", DYNSYM, MIB, 4096 * 24, 2),
            (".dynstr", STRTAB, names, 64 << 10, 0),
        ],
        None,
        0,
    )?;
    add(
        &nearly,
        &[
            (".dynsym", DYNSYM, MIB, 8 * MIB, 2),
            (".dynstr", STRTAB, MIB, 8 * MIB, 0),
        ],
        None,
        0,
    )?;
    add(&says, &[(".rodata", PROGBITS, MIB, 16 * MIB, 0)], None, 0)?;
    add(
        &[],
        &[(".rodata", PROGBITS, MIB, 2 * MIB, 0)],
        Some(14 << 20),
        far,
    )?;
    Ok(fakes)
}

/// With a closed port of an address that no other test connects to: what is known of packets does
/// not name their namespace.
fn nginx(address: &str) -> Result<(Netns, Nginx)> {
    let netns = Netns::new()?;
    let config = Config {
        server: format!("location /refused/ {{ proxy_pass http://{address}; }}\n"),
        ..Config::default()
    };
    let nginx = Nginx::start(&netns, &config, |_| Ok(()))?;
    Ok((netns, nginx))
}

/// A tracer of every nginx.
fn tracer() -> Result<Tracer> {
    let mut command = Command::new(programs::tracer()?);
    Tracer::start(command.args(["live", "--format", "json"]))
}

/// How long it takes from a request that fails to its verdict.
fn delay(netns: &Netns, tracer: &Tracer, name: &str) -> Result<Duration> {
    let path = format!("/refused/{}/{name}", std::process::id());
    let asked = Instant::now();
    let status = netns.enter(|| get(&path))?;
    ensure!(status == 502, "{path}: {status}");
    let line = until(&format!("the verdict on {path}"), PATIENCE, || {
        let lines = tracer.verdict_lines(0)?;
        Ok(lines.into_iter().find(|line| line.text.contains(&path)))
    })?;
    ensure!(
        line.text.contains(r#""no-listener""#),
        "another verdict: {}",
        line.text
    );
    Ok(line.at - asked)
}

/// The most memory that it ever had (KiB).
fn most_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.context("no VmHWM")?.parse().context("no number")
}

#[test]
fn bombs_cost_neither_time_nor_memory() -> Result<()> {
    let (netns, _nginx) = nginx("127.16.7.1:9001")?;
    let mut usual = tracer()?;
    let usual_start = usual.tracing()?;
    delay(&netns, &usual, "usual")?;
    let memory = most_memory(usual.pid())?;

    // They come while it traces.
    let folder = Folder::new()?;
    let bombs = bombs(folder.path())?;
    let since = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    while since.elapsed() < LOOKED_AT {
        let delay = delay(&netns, &usual, &count.to_string())?;
        slowest = slowest.max(delay);
        count += 1;
    }
    let grown = most_memory(usual.pid())?.saturating_sub(memory);
    println!("{count} verdicts, the slowest after {slowest:?}, {grown} KiB more");
    ensure!(slowest < SOON, "a verdict after {slowest:?}");
    ensure!(grown < MEMORY, "{grown} KiB more");
    ensure!(usual.stop(libc::SIGINT)?.status.success(), "it failed");

    // They are there when it starts.
    let mut late = tracer()?;
    let start = late.tracing()?;
    let delay = delay(&netns, &late, "late")?;
    let grown = most_memory(late.pid())?.saturating_sub(memory);
    println!("tracing after {start:?}, a verdict after {delay:?}, {grown} KiB more");
    ensure!(start < usual_start + SOON, "{start:?}, not {usual_start:?}");
    ensure!(delay < SOON, "a verdict after {delay:?}");
    ensure!(grown < MEMORY, "{grown} KiB more");
    ensure!(late.stop(libc::SIGINT)?.status.success(), "it failed");
    drop(bombs);
    Ok(())
}

#[test]
fn a_fifo_that_took_the_place_of_a_libc_holds_nobody_up() -> Result<()> {
    let (netns, _nginx) = nginx("127.16.7.2:9001")?;
    let folder = Folder::new()?;
    let libc = folder.join("libc.so.6");
    fs::write(&libc, [0; 4096])?;
    for path in [folder.path(), &libc] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    let path = folder.join("fake");
    let sections = [(".rodata", PROGBITS, MIB, VERSION.len() as u64, 0)];
    program(&path, MAP, VERSION, &sections, None, 0)?;
    let mut running = tracer()?;
    running.tracing()?;

    let _fake = Fake::start(&path, folder.path())?;
    until("the FIFO", PATIENCE, || {
        use std::os::unix::fs::FileTypeExt as _;
        let found = fs::metadata(&libc).is_ok_and(|found| found.file_type().is_fifo());
        Ok(found.then_some(()))
    })?;
    let since = Instant::now();
    let mut count = 0;
    while since.elapsed() < LOOKED_AT {
        let delay = delay(&netns, &running, &count.to_string())?;
        ensure!(delay < SOON, "a verdict after {delay:?}");
        count += 1;
    }
    ensure!(running.stop(libc::SIGINT)?.status.success(), "it failed");

    let mut late = tracer()?;
    late.tracing()?;
    delay(&netns, &late, "late")?;
    ensure!(late.stop(libc::SIGINT)?.status.success(), "it failed");
    Ok(())
}
