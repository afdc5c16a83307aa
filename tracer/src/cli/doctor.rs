//! `tracer doctor`: what this kernel, host and nginx allow. The line that matters comes first.

use std::{fs, io::Write};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::{found::found, session::Kernel};
use crate::{
    causes::catalogue,
    chain, clean,
    kernel::Btf,
    nginx::{self, Binaries, Master},
    plural::count,
    probe::{ICMP_RECEIVE, LoadError, Outcome, Probes, SIGHTS, Sight, Sizes, State, Tally, Way},
    say::{self, Lines},
    source::{Described, host::IcmpListener, try_seccomp},
};

/// Arguments of `tracer doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How the findings are written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    kernel: Kernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object; its members are stable
    Json,
}

const EXAMPLES: &str = "Examples:
  sudo tracer doctor
  sudo tracer doctor | head -1                   is this host ready?
  sudo tracer doctor --format json | jq .ready

A hook is attached, a fallback (attached in another way, or what it shows comes from elsewhere), or missing.";

/// All that was found out. The names are a contract; others may be added.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// Failures of every nginx that runs can be explained here, or of one to come.
    ready: bool,
    /// The line that matters.
    summary: String,
    kernel: String,
    /// Where the kernel's BTF was read.
    btf: String,
    /// BPF may not read kernel memory.
    lockdown: bool,
    seccomp: bool,
    limits: Limits,
    counts: Counts,
    /// Causes that are `inferred` at most, or not always proven.
    not_provable: Vec<&'static str>,
    hooks: Vec<Hook>,
    notes: Vec<String>,
    nginx: Vec<Nginx>,
}

/// What tracer keeps to, by this host's size.
#[derive(Debug, Default, Serialize)]
struct Limits {
    ring_bytes: u64,
    memory_bytes: u64,
    connections: u64,
    requests: u64,
}

/// How many hooks are in each state; those that wait for an nginx are in none.
#[derive(Debug, Default, Serialize)]
struct Counts {
    attached: usize,
    fallback: usize,
    missing: usize,
}

#[derive(Debug, Serialize)]
struct Hook {
    name: &'static str,
    /// `attached`, `fallback`, `missing`; `null` before there is an nginx.
    state: Option<&'static str>,
    /// Where it is attached, or would be; or what is used instead.
    by: String,
    shows: &'static str,
    /// Attached once an nginx needs it.
    deferred: bool,
    /// What is lost; `null` if nothing.
    lost: Option<&'static str>,
    /// The better ways, and why they are not attached.
    not_by: Vec<NotBy>,
}

#[derive(Debug, Serialize)]
struct NotBy {
    by: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Nginx {
    master: u32,
    version: Option<String>,
    binary: String,
    workers: Vec<u32>,
    logs: Vec<String>,
    /// Why its failures are not visible; `null` if they are.
    blind: Option<String>,
    notes: Vec<String>,
}

/// Not ready: all was said.
#[derive(Debug, thiserror::Error)]
#[error("not ready")]
pub(super) struct NotReady;

/// Runs it.
///
/// # Errors
/// Not permitted, or this kernel cannot; what was found out was printed.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut findings = Findings::default();
    let done = findings.find(&args.kernel);
    if let Err(error) = &done {
        findings.summary = format!("not ready: {}", chain::text(error));
    }
    match args.format {
        Format::Json => {
            let json = clean::escaped(serde_json::to_string(&findings)?);
            writeln!(say::rendered().lock(), "{json}")?;
        }
        Format::Text => findings.write(&mut Lines::to_stdout(), done.is_ok())?,
    }
    done.map_err(|_| NotReady.into())
}

impl Findings {
    fn find(&mut self, kernel: &Kernel) -> Result<(), LoadError> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        self.kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let lockdown = read("/sys/kernel/security/lockdown");
        self.lockdown = lockdown.contains("[confidentiality]");
        let sizes = Sizes::of_host(None);
        self.limits = Limits {
            ring_bytes: sizes.ring.into(),
            memory_bytes: sizes.memory(),
            connections: sizes.connections.into(),
            requests: sizes.requests.into(),
        };
        self.seccomp = match try_seccomp() {
            Ok(()) => true,
            Err(error) => {
                self.notes.push(format!("no seccomp filter: {error}"));
                false
            }
        };
        Btf::read(&kernel.btf).map_err(LoadError::NoBtf)?;
        self.btf = kernel.btf.display().to_string();
        let mut probes = Probes::load(&kernel.btf, 0, &kernel.without, &sizes, false)?;
        let masters = attach(&mut probes, kernel);
        let deaf = deaf(kernel, &masters);
        let mut tally = probes.tally();
        tally.add(icmp_state(deaf.as_deref()));
        self.counts = Counts {
            attached: tally.attached,
            fallback: tally.fallback,
            missing: tally.missing,
        };
        self.hooks = SIGHTS.iter().map(|sight| hook(&probes, sight)).collect();
        self.hooks.push(icmp(deaf));
        let missing = probes.missing_members().iter();
        self.notes
            .extend(missing.map(|member| format!("this kernel has no {member}")));
        let describe = |master: &Master| describe(master, &probes, kernel);
        self.nginx = masters.iter().map(describe).collect();
        self.conclude();
        Ok(())
    }

    fn conclude(&mut self) {
        let sights = SIGHTS.iter().chain([&ICMP_RECEIVE]);
        let lost = sights
            .zip(&self.hooks)
            .filter(|(_, hook)| hook.lost.is_some())
            .flat_map(|(sight, _)| sight.proves);
        let lost: Vec<&str> = lost.copied().collect();
        let all = catalogue::all().iter().map(|cause| cause.id);
        self.not_provable = all.filter(|id| lost.contains(id)).collect();
        let blind: Vec<&Nginx> = self
            .nginx
            .iter()
            .filter(|one| one.blind.is_some())
            .collect();
        self.ready = blind.is_empty();
        self.summary = match (blind.first(), self.not_provable.len()) {
            (Some(first), _) => {
                let more = match blind.len() {
                    1 => String::new(),
                    several => format!(" (and of {} more)", several - 1),
                };
                format!(
                    "not ready: failures of master {}{more} are not visible: {}",
                    first.master,
                    first.blind.as_deref().unwrap_or_default()
                )
            }
            (None, 0) => "ready: every cause provable here".to_owned(),
            (None, several) => format!(
                "ready: every cause provable here but {several}: {}",
                self.not_provable.join(", ")
            ),
        };
    }

    fn write(&self, out: &mut Lines<impl Write>, is_whole: bool) -> Result<()> {
        writeln!(out, "{}", self.summary)?;
        writeln!(out)?;
        writeln!(out, "kernel   {}", self.kernel)?;
        if !self.btf.is_empty() {
            writeln!(out, "BTF      {}", self.btf)?;
        }
        if self.lockdown {
            writeln!(
                out,
                "lockdown confidentiality: BPF may not read kernel memory; boot with lockdown=integrity"
            )?;
        }
        let limits = &self.limits;
        writeln!(
            out,
            "limits   ring buffer {} MiB (--kernel-buffer), memory {} MiB (--max-memory), {} open connections, {} requests in flight",
            limits.ring_bytes >> 20,
            limits.memory_bytes >> 20,
            limits.connections,
            limits.requests
        )?;
        for note in &self.notes {
            writeln!(out, "note     {note}")?;
        }
        if !is_whole {
            return Ok(());
        }
        writeln!(out)?;
        writeln!(out, "hooks    {}", Tally::from(&self.counts))?;
        for hook in &self.hooks {
            hook.write(out)?;
        }
        writeln!(out)?;
        writeln!(out, "nginx")?;
        if self.nginx.is_empty() {
            writeln!(out, "  none is running; `tracer live` waits for one")?;
        }
        for nginx in &self.nginx {
            nginx.write(out)?;
        }
        Ok(())
    }
}

impl From<&Counts> for Tally {
    fn from(counts: &Counts) -> Self {
        Self {
            attached: counts.attached,
            fallback: counts.fallback,
            missing: counts.missing,
        }
    }
}

/// Attaches to every nginx that runs. One that exits meanwhile says nothing about this host.
fn attach(probes: &mut Probes, kernel: &Kernel) -> Vec<Master> {
    let masters = nginx::scan(|_, _| true, &mut Binaries::default());
    for master in &masters {
        let described = Described::of(master.clone(), kernel.layout);
        described.attach(probes, master.shown(), true);
    }
    let (masters, gone): (Vec<Master>, _) = masters
        .into_iter()
        .partition(|master| fs::read_link(&master.exe_access).is_ok());
    for master in gone {
        let id = master.binary.id;
        if masters.iter().all(|other| other.binary.id != id) {
            probes.release(id, |_| None);
        }
    }
    masters
}

/// By which way something is seen, and why not by a better one.
fn hook(probes: &Probes, sight: &Sight) -> Hook {
    let state = probes.state(sight);
    let used = probes.way(sight);
    let way = sight.ways[used.unwrap_or(0)];
    let is_lost = state.is_some() && used.is_none();
    let why = |way: &Way| {
        let why = way
            .iter()
            .find_map(|hook| match probes.outcome(hook.program) {
                Some(Outcome::Missing(why)) => Some(why.clone()),
                _ => None,
            });
        why.map(|why| NotBy {
            by: place(way),
            why,
        })
    };
    Hook {
        name: sight.name,
        state: state.map(State::name),
        by: match sight.instead {
            Some(instead) if is_lost => instead.to_owned(),
            _ => place(way),
        },
        shows: sight.gives,
        deferred: way
            .iter()
            .any(|hook| probes.outcome(hook.program) == Some(&Outcome::Deferred)),
        lost: is_lost.then_some(sight.without),
        not_by: sight.ways.iter().filter_map(why).collect(),
    }
}

impl Hook {
    fn write(&self, out: &mut Lines<impl Write>) -> Result<()> {
        let (name, by, shows) = (self.name, &self.by, self.shows);
        // Nothing is attached to nginx before there is one.
        let state = self.state.unwrap_or("-");
        writeln!(out, "  {state:<8}  {name:<16} {by}: {shows}")?;
        if self.deferred {
            writeln!(
                out,
                "              deferred: each error_log lets errors through, and no upstream is a unix socket"
            )?;
        }
        for NotBy { by, why } in &self.not_by {
            writeln!(out, "              not by {by}: {why}")?;
        }
        if let Some(lost) = self.lost {
            writeln!(out, "              so {lost}")?;
        }
        Ok(())
    }
}

/// Why ICMP errors are not received here, or where nginx runs.
fn deaf(kernel: &Kernel, masters: &[Master]) -> Option<String> {
    let name = ICMP_RECEIVE.name;
    if kernel.without.iter().any(|word| word == name) {
        return Some(format!("left out by --without {name}"));
    }
    let mut listener = IcmpListener::default();
    listener.follow(std::process::id());
    for master in masters {
        listener.follow(master.pid);
    }
    listener.deaf().map(ToOwned::to_owned)
}

fn icmp_state(deaf: Option<&str>) -> State {
    match deaf {
        Some(_) => State::Missing,
        None => State::Attached,
    }
}

fn icmp(deaf: Option<String>) -> Hook {
    let by = "raw ICMP sockets".to_owned();
    Hook {
        name: ICMP_RECEIVE.name,
        state: Some(icmp_state(deaf.as_deref()).name()),
        shows: ICMP_RECEIVE.gives,
        deferred: false,
        lost: deaf.is_some().then_some(ICMP_RECEIVE.without),
        not_by: deaf
            .map(|why| NotBy {
                by: by.clone(),
                why,
            })
            .into_iter()
            .collect(),
        by,
    }
}

/// `fentry tcp_v4_send_reset, tcp_v6_send_reset`.
fn place(way: Way) -> String {
    let kind = way.first().map_or("", |hook| hook.place.kind());
    let mut names: Vec<&str> = way.iter().map(|hook| hook.place.name()).collect();
    names.dedup();
    format!("{kind} {}", names.join(", "))
}

fn describe(master: &Master, probes: &Probes, kernel: &Kernel) -> Nginx {
    let mut notes = Vec::new();
    let workers = master.workers.iter().copied();
    if workers
        .clone()
        .next()
        .or(Some(master.pid))
        .and_then(nginx::errno_offset)
        .is_none()
    {
        notes.push(
            "errno was not found in its libc: connect() failures need error_log at `error`"
                .to_owned(),
        );
    }
    let logs = workers.clone().next().map(nginx::appended);
    notes.extend(found(master, kernel.layout));
    Nginx {
        master: master.pid,
        version: master.version.clone(),
        binary: master.exe.display().to_string(),
        workers: workers.collect(),
        logs: logs
            .unwrap_or_default()
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        blind: probes.blindness(master.binary.id),
        notes,
    }
}

impl Nginx {
    fn write(&self, out: &mut Lines<impl Write>) -> Result<()> {
        let version = self.version.as_deref().unwrap_or("unknown version");
        writeln!(
            out,
            "  master {}: {version}, {}, {}",
            self.master,
            count(self.workers.len(), "worker"),
            self.binary
        )?;
        if let Some(why) = &self.blind {
            writeln!(out, "    blind: its failures are not visible: {why}")?;
        }
        match self.logs.as_slice() {
            [] => writeln!(
                out,
                "    no log file is open: verdicts have no request lines (--error-log adds one)"
            )?,
            logs => writeln!(out, "    logs {}", logs.join(", "))?,
        }
        for note in &self.notes {
            writeln!(out, "    {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hook_proves_is_in_the_catalogue() {
        for sight in SIGHTS.iter().chain([&ICMP_RECEIVE]) {
            for id in sight.proves {
                assert!(catalogue::find(id).is_some(), "{}: {id}", sight.name);
            }
            // A fallback that is no hook proves less.
            if sight.instead.is_some() {
                assert!(!sight.proves.is_empty(), "{}", sight.name);
            }
        }
    }

    fn nginx(blind: Option<&str>) -> Nginx {
        Nginx {
            master: 812,
            version: Some("nginx/1.22.1".to_owned()),
            binary: "/usr/sbin/nginx".to_owned(),
            workers: vec![813],
            logs: Vec::new(),
            blind: blind.map(str::to_owned),
            notes: Vec::new(),
        }
    }

    fn summary(lost: &[&str], nginx: Vec<Nginx>) -> String {
        let hook = |sight: &Sight| Hook {
            name: sight.name,
            state: None,
            by: String::new(),
            shows: sight.gives,
            deferred: false,
            lost: lost.contains(&sight.name).then_some(sight.without),
            not_by: Vec::new(),
        };
        let mut findings = Findings {
            hooks: SIGHTS.iter().chain([&ICMP_RECEIVE]).map(hook).collect(),
            nginx,
            ..Findings::default()
        };
        findings.conclude();
        assert_eq!(findings.ready, findings.summary.starts_with("ready: "));
        findings.summary
    }

    #[test]
    fn the_first_line_says_what_cannot_be_proven_or_seen() {
        assert_eq!(
            summary(&[], vec![nginx(None)]),
            "ready: every cause provable here"
        );
        assert_eq!(
            summary(&["overflow", "security"], Vec::new()),
            "ready: every cause provable here but 2: accept-queue-full, lsm-denied"
        );
        assert_eq!(
            summary(&["overflow"], vec![nginx(None), nginx(Some("why"))]),
            "not ready: failures of master 812 are not visible: why"
        );
    }
}
