//! `tracer chart`: the charts of a capture as files.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::{
    playing::{self, Captures},
    verdicts,
    written::{self, Replacing, Total},
};
use crate::{
    render::chart::{self, Chart, Size},
    series::Series,
};

/// Arguments of `tracer chart`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
    /// The folder to write the charts to; created if absent
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
    /// The file format: SVG for pages, PNG for chats and slides
    #[arg(long, value_enum, default_value = "svg")]
    format: Format,
    /// Show times in UTC instead of the local zone
    #[arg(long)]
    utc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sharp at any size
    Svg,
    /// Pixels, twice as many as the SVG's size says
    Png,
}

const EXAMPLES: &str =
    "Each chart is written twice: failures.svg for a screen, failures-small.svg for a phone.

Examples:
  tracer chart incident.trc -o charts
  tracer chart --format png --utc incident.trc -o charts
  tracer chart web1.trc web2.trc -o charts               several hosts as one";

/// Runs it.
///
/// # Errors
/// A capture cannot be read, or a file exists or cannot be written.
pub(super) fn run(args: &Args) -> Result<()> {
    for (chart, size) in drawings() {
        args.replacing.check(&args.path(chart, size))?;
    }
    let mut series = Series::default();
    let mut replay = args.captures.open()?;
    playing::gather(&mut replay, &mut series, |_, _| {})?;
    playing::report_damages(&replay);
    written::folder(&args.output)?;
    let zone = verdicts::zone(args.utc);
    let mut total = Total::default();
    for (chart, size) in drawings() {
        let drawing = chart.draw(&series, size, &zone);
        let bytes = match args.format {
            Format::Svg => chart::svg(&drawing).map(String::into_bytes),
            Format::Png => chart::png(&drawing),
        };
        let path = args.path(chart, size);
        let bytes = bytes.with_context(|| format!("drawing {}", path.display()))?;
        written::file(&path, args.replacing, &bytes, &mut total)?;
    }
    total.say("chart", &args.output);
    Ok(())
}

fn drawings() -> impl Iterator<Item = (Chart, Size)> {
    let charts = Chart::ALL.into_iter();
    charts.flat_map(|chart| Size::ALL.into_iter().map(move |size| (chart, size)))
}

impl Args {
    fn path(&self, chart: Chart, size: Size) -> PathBuf {
        let small = match size {
            Size::Wide => "",
            Size::Small => "-small",
        };
        let ending = match self.format {
            Format::Svg => "svg",
            Format::Png => "png",
        };
        self.output
            .join(format!("{}{small}.{ending}", chart.name()))
    }
}
