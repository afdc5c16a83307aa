//! The commands, one file each.

mod bursts;
mod cause_id;
mod causes;
mod chart;
mod check;
mod doctor;
mod dump;
mod dump_socket;
mod explain;
mod export;
mod fault;
mod found;
mod generate;
mod keyboard;
mod live;
mod moment;
mod outlet;
mod playing;
mod record;
mod recording;
mod report;
mod screen;
mod service;
mod serving;
mod session;
mod size;
mod top;
mod upstream;
mod verdicts;
mod written;

pub use self::fault::report_faults;

use std::{ffi::OsString, io, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{probe::LoadError, say, source::StartError};

/// Explains why nginx returned 502 or 504: one verdict per failed request, with evidence,
/// confidence and the fix
#[derive(Debug, Parser)]
#[command(name = "tracer", version = env!("TRACER_VERSION"), max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  sudo tracer live                       explain failures as they happen, until Ctrl-C
  sudo tracer live --format json         one JSON object per verdict
  sudo tracer top                        a live view: failures by upstream
  sudo tracer record -o FILE             as live, and write every event to a capture
  sudo tracer record --ring 64M -o DIR   always on: a capture for each burst of failures
  sudo tracer dump                       from that recorder: a capture of the last minutes
  tracer explain FILE                    the verdicts of a capture, as live printed them
  tracer report FILE -o DIR              a postmortem of it, one HTML file
  tracer chart FILE -o DIR               its charts, SVG or PNG
  tracer export FILE --parquet DIR       its tables, for queries across a fleet
  sudo tracer check                      what fails: every upstream, tried as nginx would
  sudo tracer doctor                     what this kernel, host and nginx allow
  tracer causes no-listener              what a verdict means, and the fix
  tracer causes 'LINE'                   the causes that can explain a line of nginx's error log";

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace nginx and print each verdict as it happens; a summary at the end
    Live(live::Args),
    /// Watch failures, latencies and accept queues by upstream, live or of captures
    Top(top::Args),
    /// Trace nginx as live does, and write every event to a capture file
    Record(record::Args),
    /// Make the running `record --ring` write a capture of the last minutes, and print its path
    Dump(dump::Args),
    /// Replay captures: the same verdicts as live printed
    Explain(explain::Args),
    /// Draw the charts of captures: failures, latencies, queues, by time and upstream
    Chart(chart::Args),
    /// Write a postmortem of captures: one HTML file with summary, causes, charts, requests
    Report(report::Args),
    /// Convert captures for other programs: Parquet tables, a Perfetto trace
    Export(export::Args),
    /// Describe each cause, or list those that can explain a line of nginx's error log
    Causes(causes::CausesArgs),
    /// Check this kernel, host and nginx: whether tracer is ready, each hook, what is lost without
    /// it
    Doctor(doctor::Args),
    /// Connect to every upstream as nginx would; report what fails now and what will under load
    Check(check::Args),
    /// Write shell completions and manual pages, for packages
    #[command(hide = true)]
    Generate(generate::Args),
}

/// Runs the command line.
///
/// # Errors
/// What the command could not do; [`Exit::of`] says what that means for the exit status. Usage
/// errors and `--help` end the process at once.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let command = Cli::parse_from(arguments).command;
    fault::caught(|| obey(command))
}

fn obey(command: Command) -> Result<()> {
    match command {
        Command::Live(args) => live::run(args),
        Command::Top(args) => top::run(args),
        Command::Record(args) => record::run(args),
        Command::Dump(args) => dump::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Chart(args) => chart::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Causes(args) => {
            let width = say::width().unwrap_or(PAGE).min(PAGE);
            causes::run(&args, width, &mut say::rendered().lock())
        }
        Command::Doctor(args) => doctor::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Generate(args) => generate::run(&args, Cli::command()),
    }
}

/// Columns of pages of text, where the terminal has so many.
const PAGE: usize = 80;

/// How a failed command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A failure of ours: 1.
    Failure,
    /// A process that is no nginx, a file that exists: 2, as for all usage errors.
    Usage,
    /// Not permitted, or this kernel cannot: 3.
    NotHere,
    /// A failure of ours that was reported when it happened: 1.
    Reported,
    /// The same, which `doctor` said: 3.
    NotReady,
    /// `check` has findings, which it printed: 4.
    Findings,
    /// The reader of stdout is gone, which is a normal end: 0.
    ClosedPipe,
}

impl Exit {
    /// What an error means for the exit status.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(error) = cause.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::BrokenPipe
            {
                return Self::ClosedPipe;
            }
            if cause.is::<check::Found>() {
                return Self::Findings;
            }
            if cause.is::<check::NotPermitted>() {
                return Self::NotHere;
            }
            if cause.is::<doctor::NotReady>() {
                return Self::NotReady;
            }
            if cause.is::<recording::EndedEarly>()
                || cause.is::<fault::Fault>()
                || cause.is::<causes::NoCause>()
            {
                return Self::Reported;
            }
            let no_nginx = |error: &StartError| matches!(error, StartError::NoNginx(_));
            if cause.is::<written::Exists>()
                || cause.is::<record::TooSmall>()
                || cause.is::<screen::NoTerminal>()
                || cause.downcast_ref::<StartError>().is_some_and(no_nginx)
            {
                return Self::Usage;
            }
            if cause.is::<dump::NotPermitted>() {
                return Self::NotHere;
            }
            if cause.is::<StartError>() || cause.is::<LoadError>() || cause.is::<session::Blind>() {
                return Self::NotHere;
            }
        }
        Self::Failure
    }

    /// The status.
    #[must_use]
    pub fn code(self) -> ExitCode {
        match self {
            Self::Failure | Self::Reported => ExitCode::from(1),
            Self::Usage => ExitCode::from(2),
            Self::NotHere | Self::NotReady => ExitCode::from(3),
            Self::Findings => ExitCode::from(4),
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}
