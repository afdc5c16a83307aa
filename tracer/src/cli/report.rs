//! `tracer report`: a postmortem of captures, one HTML file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{
    playing::{self, Captures, Privacy},
    verdicts,
    written::{self, Replacing, Total},
};
use crate::{
    capture::shown,
    engine::{Played, Run},
    plural::count,
    probe::Tally,
    render::report::{Incident, Report, Source},
    series::Series,
};

/// Arguments of `tracer report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
    /// The folder to write report.html to; created if absent
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
    /// Show times in UTC instead of the local zone
    #[arg(long)]
    utc: bool,
    #[command(flatten)]
    privacy: Privacy,
}

const EXAMPLES: &str =
    "One file, report.html: it needs no network and no script, and can be printed.

Examples:
  tracer report incident.trc -o postmortem
  tracer report --utc web1.trc web2.trc -o postmortem     several hosts as one
  tracer report --anonymize incident.trc -o shared";

/// Runs it.
///
/// # Errors
/// A capture cannot be read, or the file exists or cannot be written.
pub(super) fn run(args: &Args) -> Result<()> {
    let path = args.output.join("report.html");
    args.replacing.check(&path)?;
    let mut replay = args.captures.open()?;
    args.privacy.apply(&mut replay);
    let Some(first) = replay.runs().first() else {
        return Ok(());
    };
    let shared = first.header().clock;
    let (mut series, mut incident) = (Series::default(), Incident::new(shared));
    playing::gather(&mut replay, &mut series, |run, played| {
        let own = run.header().clock;
        match played {
            Played::Event(event) => incident.event(event, own.translate(event.at(), shared)),
            Played::Verdict(verdict) if own == shared => incident.verdict(verdict),
            Played::Verdict(verdict) => {
                incident.verdict(&(*verdict).clone().on_clock(own, shared));
            }
            Played::Cut => {}
        }
    })?;
    incident.finish();
    let report = Report {
        sources: replay
            .runs()
            .iter()
            .map(|run| source(run, args.privacy.is_on()))
            .collect(),
        series: &series,
        incident: &incident,
        files: args.captures.names(),
        zone: verdicts::zone(args.utc),
    };
    let page = report
        .page()
        .with_context(|| format!("writing {}", path.display()))?;
    written::folder(&args.output)?;
    let mut total = Total::default();
    written::file(&path, args.replacing, page.as_bytes(), &mut total)?;
    playing::report_damages(&replay);
    total.say("", &path);
    Ok(())
}

fn source(run: &Run, anonymized: bool) -> Source {
    let header = run.header();
    let nginx = |one: &crate::capture::Nginx| {
        let version = one.version.as_deref().unwrap_or("nginx").replace('/', " ");
        format!(
            "{version}, {} (master {}, {})",
            one.binary,
            one.master,
            count(one.workers, "worker")
        )
    };
    Source {
        host: header.host.clone(),
        kernel: format!("{} {}", header.kernel.release, header.kernel.machine),
        nginx: header.nginx.iter().map(nginx).collect(),
        hooks: Tally::recorded(
            &header.hooks.standing,
            &header.hooks.absent,
            !header.nginx.is_empty(),
        )
        .to_string(),
        absent: header.hooks.absent.clone(),
        tracer: header.tracer.clone(),
        command: header.command.join(" "),
        began: header.clock.wall,
        ended: run.unix_now(),
        events: run.events(),
        lost: run.lost(),
        given_up: run.unreported().given_up,
        forgotten: run.unreported().forgotten,
        damages: run
            .damages()
            .iter()
            .map(|(path, damage)| format!("{} {damage}", shown(path)))
            .collect(),
        anonymized: anonymized || header.anonymized,
    }
}
