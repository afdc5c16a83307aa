//! `tracer report`: a postmortem of captures, one HTML file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{
    playing::{self, Captures, Privacy},
    verdicts, written,
};
use crate::{
    engine::{Played, Run},
    render::report::{Incident, Report, Source},
    series::Series,
};

/// Arguments of `tracer report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
    /// The folder to write report.html to; made if it does not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Times in UTC instead of the local zone
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
/// A capture can not be read, or the file not be written.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut replay = args.captures.open()?;
    args.privacy.apply(&mut replay);
    let Some(first) = replay.runs().first() else {
        return Ok(());
    };
    let shared = first.header().clock;
    let (mut series, mut incident) = (Series::default(), Incident::new(shared));
    playing::gather(&mut replay, &mut series, |run, told| {
        let own = run.header().clock;
        match told {
            Played::Event(event) => incident.event(event, own.translate(event.at(), shared)),
            Played::Verdict(verdict, _) if own == shared => incident.verdict(verdict),
            Played::Verdict(verdict, _) => {
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
    let path = args.output.join("report.html");
    let page = report
        .page()
        .with_context(|| format!("making {}", path.display()))?;
    written::folder(&args.output)?;
    written::file(&path, page.as_bytes())?;
    playing::tell_damages(&replay);
    Ok(())
}

fn source(run: &Run, anonymized: bool) -> Source {
    let header = run.header();
    let nginx = |one: &crate::capture::Nginx| {
        let version = one.version.as_deref().unwrap_or("nginx").replace('/', " ");
        format!(
            "{version}, {} (master {}, {} workers)",
            one.binary, one.master, one.workers
        )
    };
    Source {
        host: header.host.clone(),
        kernel: format!("{} {}", header.kernel.release, header.kernel.machine),
        nginx: header.nginx.iter().map(nginx).collect(),
        standing: header.hooks.standing.len(),
        absent: header.hooks.absent.clone(),
        tracer: header.tracer.clone(),
        command: header.command.join(" "),
        began: header.clock.wall,
        ended: run.unix_now(),
        events: run.events(),
        lost: run.lost(),
        given_up: run.untold().given_up,
        forgotten: run.untold().forgotten,
        damages: run
            .damages()
            .iter()
            .map(|(path, damage)| format!("{} {damage}", path.display()))
            .collect(),
        anonymized: anonymized || header.anonymized,
    }
}
