//! `tracer chart`: the charts of a capture as files.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::{
    playing::{self, Captures},
    verdicts, written,
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
    /// The folder to write the charts to; made if it does not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// What to write: SVG for pages, PNG for chats and slides
    #[arg(long, value_enum, default_value = "svg")]
    format: Format,
    /// Times in UTC instead of the local zone
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
/// A capture can not be read, or a file not be written.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut series = Series::default();
    let mut replay = args.captures.open()?;
    playing::gather(&mut replay, &mut series, |_, _| {})?;
    playing::tell_damages(&replay);
    written::folder(&args.output)?;
    let zone = verdicts::zone(args.utc);
    for chart in Chart::ALL {
        for size in Size::ALL {
            let drawing = chart.draw(&series, size, &zone);
            let (bytes, ending) = match args.format {
                Format::Svg => (chart::svg(&drawing).map(String::into_bytes), "svg"),
                Format::Png => (chart::png(&drawing), "png"),
            };
            let small = match size {
                Size::Wide => "",
                Size::Small => "-small",
            };
            let path = args
                .output
                .join(format!("{}{small}.{ending}", chart.name()));
            let bytes = bytes.with_context(|| format!("making {}", path.display()))?;
            written::file(&path, &bytes)?;
        }
    }
    Ok(())
}
