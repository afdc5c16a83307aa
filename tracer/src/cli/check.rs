//! `tracer check`: what will fail, before it does.

use std::{
    collections::BTreeSet,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    check::{
        self, CONFIG_CHANGED, CONFIG_UNREADABLE, Finding, NAME_CHANGED, Options, Report, Severity,
    },
    clean,
    nginx::{self, Binaries, Master},
    plural::count,
    say::{self, Lines},
};

/// Arguments of `tracer check`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Check this configuration file as the nginx that runs it would; if none runs it, from
    /// tracer's own namespaces, as root
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check only the nginx with this master (may be repeated)
    #[arg(long, value_name = "PID")]
    master: Vec<u32>,
    /// How the findings are written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Exit with 4 if a finding is at least as severe as this
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "warning")]
    fail_on: FailOn,
    /// Print nothing; the exit status is the answer
    #[arg(long, short)]
    quiet: bool,
    /// Print and count only findings of this cause, see `tracer causes`; also config-changed,
    /// config-unreadable and name-changed (may be repeated)
    #[arg(long, value_name = "ID", value_parser = only)]
    only: Vec<String>,
    /// Wait this long for a peer's answer: 0.05 to 60 seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    timeout: Duration,
    /// Send HEAD / to each HTTP peer without TLS; otherwise tracer only connects, and sends a
    /// ClientHello where nginx speaks TLS
    #[arg(long)]
    http: bool,
    /// Measure how long backends keep idle connections if the upstream block has keepalive: sends
    /// HEAD /, and waits up to keepalive_timeout
    #[arg(long)]
    idle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object per line: each finding, then the counts
    Json,
    /// Annotations of a GitHub workflow
    Github,
}

/// What counts for the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Requests fail now
    Error,
    /// Some requests fail, or all do under load
    Warning,
    /// Anything
    Note,
}

impl FailOn {
    const fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
        }
    }
}

const EXAMPLES: &str = "Examples:
  sudo tracer check                                      every nginx that runs
  sudo tracer check --config /etc/nginx/nginx.conf       one configuration
  sudo tracer check --http --format json                 also HEAD requests; JSON
  sudo tracer check --only no-listener                   the findings of one cause
  sudo tracer check --fail-on error && sudo nginx -s reload   after an edit

Exit status: 0 no such finding, 1 failed, 2 usage, 3 not permitted, 4 findings (see --fail-on).
After an edit, config-changed is a warning until nginx reloads.";

/// Findings of no cause.
const OWN: [&str; 3] = [CONFIG_CHANGED, CONFIG_UNREADABLE, NAME_CHANGED];

fn only(text: &str) -> Result<String, String> {
    let is_known = OWN.contains(&text) || crate::causes::catalogue::find(text).is_some();
    match is_known {
        true => Ok(text.to_owned()),
        false => Err("neither a cause (`tracer causes` lists them) nor config-changed, config-unreadable or name-changed".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.05..=60.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("0.05 to 60 seconds".to_owned()),
    }
}

/// Something is wrong; it was printed.
#[derive(Debug, thiserror::Error)]
#[error("there are findings")]
pub(super) struct Found;

/// It may not look.
#[derive(Debug, thiserror::Error)]
#[error("not permitted: {0}")]
pub(super) struct NotPermitted(String);

/// Runs it.
///
/// # Errors
/// [`Found`] where something is wrong; [`NotPermitted`]; it could not be done.
pub(super) fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let config = match &args.config {
        Some(path) => Some(std::path::absolute(path).context("the configuration's path")?),
        None => None,
    };
    let masters = masters(args, config.as_deref())?;
    let options = Options {
        timeout: args.timeout,
        http: args.http,
        idle: args.idle,
        config,
    };
    let bar = bar();
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let report = check::run(&masters, &options, &progress).map_err(refused);
    bar.finish_and_clear();
    let mut report = report?;
    if !args.only.is_empty() {
        let wanted: BTreeSet<&str> = args.only.iter().map(String::as_str).collect();
        report.findings.retain(|one| wanted.contains(one.cause));
    }
    if !args.quiet {
        let took = began.elapsed();
        match args.format {
            Format::Text => text(&report, took, &mut Lines::to_stdout()),
            Format::Json => json(&report, took, &mut say::rendered().lock()),
            Format::Github => github(&report, took, &mut Lines::to_stdout()),
        }
        .context("writing the findings")?;
    }
    match report.has(args.fail_on.severity()) {
        true => Err(Found.into()),
        false => Ok(()),
    }
}

/// How many peers were tried, for people who wait: on a terminal's stderr.
fn bar() -> ProgressBar {
    if !say::is_terminal_aside() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{pos} of {len} peers tried") {
        bar.set_style(style);
    }
    bar
}

fn refused(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            NotPermitted(format!("a worker's network namespace and root cannot be entered ({error}); try: sudo tracer check")).into()
        }
        _ => anyhow::Error::new(error).context("checking"),
    }
}

/// Whom to check: those that were named, those that run the file, or all.
fn masters(args: &Args, config: Option<&std::path::Path>) -> Result<Vec<Master>> {
    let mut found = nginx::scan(|_, _| true, &mut Binaries::default());
    found.retain(|master| master.pid != 0);
    if let Some(stranger) = args
        .master
        .iter()
        .find(|pid| found.iter().all(|master| master.pid != **pid))
    {
        let error = crate::source::StartError::NoNginx(format!(
            "process {stranger} is not an nginx master"
        ));
        return Err(error.into());
    }
    if !args.master.is_empty() {
        found.retain(|master| args.master.contains(&master.pid));
    } else if let Some(conf) = config {
        found.retain(|master| check::runs(master, conf));
    } else if found.is_empty() {
        if !rustix::process::geteuid().is_root() {
            let why = "other users' processes are not visible; try: sudo tracer check".to_owned();
            return Err(NotPermitted(why).into());
        }
        let none = "no nginx is running; name its file: tracer check --config FILE".to_owned();
        return Err(crate::source::StartError::NoNginx(none).into());
    }
    Ok(found)
}

/// `/etc/nginx/nginx.conf:12`.
fn place(finding: &Finding) -> String {
    match finding.at.line {
        0 => finding.at.file.to_string(),
        line => format!("{}:{line}", finding.at.file),
    }
}

fn summary(report: &Report, took: Duration) -> String {
    let of = |severity: Severity| count(report.count(severity), severity.name());
    let found = match report.findings.is_empty() {
        true => "nothing found".to_owned(),
        false => [Severity::Error, Severity::Warning, Severity::Note]
            .map(of)
            .join(", "),
    };
    let untried = match report.untried.len() {
        0 => String::new(),
        some => format!(", {some} not tried"),
    };
    let whom = match report.masters {
        0 => "one file".to_owned(),
        some => count(some, "master"),
    };
    format!(
        "{found}: {} of {whom} tried{untried}, {:.1} s",
        count(report.peers, "peer"),
        took.as_secs_f64()
    )
}

fn text(report: &Report, took: Duration, out: &mut Lines<impl Write>) -> std::io::Result<()> {
    for finding in &report.findings {
        let peer = finding
            .peer
            .as_ref()
            .map_or(String::new(), |peer| format!("  {peer}"));
        writeln!(
            out,
            "{:<8} {}{peer}  {}: {}",
            finding.severity.name(),
            place(finding),
            finding.cause,
            finding.text
        )?;
        writeln!(out, "  fix    {}", finding.fix)?;
    }
    for why in &report.untried {
        writeln!(out, "untried  {why}")?;
    }
    writeln!(out, "{}", summary(report, took))
}

/// One finding; the names are a contract, others may be added.
#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    severity: &'static str,
    master: Option<u32>,
    file: &'a str,
    line: Option<u32>,
    peer: Option<&'a str>,
    cause: &'static str,
    text: &'a str,
    fix: &'a str,
}

#[derive(Serialize)]
struct Counts<'a> {
    kind: &'static str,
    errors: usize,
    warnings: usize,
    notes: usize,
    masters: usize,
    peers: usize,
    untried: &'a [String],
    seconds: f64,
}

fn json(report: &Report, took: Duration, out: &mut impl Write) -> std::io::Result<()> {
    for finding in &report.findings {
        let entry = Entry {
            kind: "finding",
            severity: finding.severity.name(),
            master: Some(finding.master).filter(|pid| *pid != 0),
            file: &finding.at.file,
            line: Some(finding.at.line).filter(|line| *line != 0),
            peer: finding.peer.as_deref(),
            cause: finding.cause,
            text: &finding.text,
            fix: &finding.fix,
        };
        writeln!(out, "{}", clean::escaped(serde_json::to_string(&entry)?))?;
    }
    let counts = Counts {
        kind: "summary",
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        notes: report.count(Severity::Note),
        masters: report.masters,
        peers: report.peers,
        untried: &report.untried,
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
    };
    writeln!(out, "{}", clean::escaped(serde_json::to_string(&counts)?))
}

/// Workflow commands: <https://docs.github.com/actions/reference/workflow-commands>.
fn github(report: &Report, took: Duration, out: &mut Lines<impl Write>) -> std::io::Result<()> {
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    for finding in &report.findings {
        let level = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let line = match finding.at.line {
            0 => String::new(),
            line => format!(",line={line}"),
        };
        writeln!(
            out,
            "::{level} file={}{line},title={}::{}%0AFix: {}",
            property(&finding.at.file),
            finding.cause,
            data(&finding.text),
            data(&finding.fix)
        )?;
    }
    writeln!(out, "{}", summary(report, took))
}
