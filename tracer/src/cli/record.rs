//! `tracer record`: a flight recorder. It is `live`, and keeps every event in a file.

use std::path::PathBuf;

use anyhow::Result;
use jiff::Zoned;

use super::{
    recording::Recording,
    session::{self, Following},
};
use crate::capture::Plan;

/// Arguments of `tracer record`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The capture to write, readable by its owner alone; it must not exist. By default
    /// tracer-DATE-TIME.trc in this folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Limit a file's size: 500K, 100M, 2G. Then recording ends, or continues in another file
    /// (--rotate)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep this many files: FILE is the newest, FILE.1 the one before
    #[arg(long, value_name = "N", requires = "max_size", value_parser = clap::value_parser!(u16).range(2..))]
    rotate: Option<u16>,
    /// Keep only the latest events, in this much memory: written to FILE at the end, on SIGUSR1,
    /// and at the first burst of 502s
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "max_size")]
    ring: Option<u64>,
    /// Replace client addresses and request lines in the capture, consistently; live verdicts show
    /// them
    #[arg(long)]
    anonymize: bool,
    #[command(flatten)]
    following: Following,
}

const EXAMPLES: &str = "Examples:
  sudo tracer record                                             to tracer-20261120-101523.trc
  sudo tracer record -o incident.trc
  sudo tracer record -o incident.trc --duration 10m
  sudo tracer record -o proxy.trc --max-size 200M --rotate 5     at most 1 GB, always the newest
  sudo tracer record -o proxy.trc --ring 64M                     the last 64 MB before the first burst
  sudo tracer record --ring 64M --metrics unix:/run/tracer.sock  the same, watched by Prometheus";

/// The least that a file or a ring holds: several pages.
const LEAST: u64 = 256 << 10;

fn size(text: &str) -> Result<u64, String> {
    super::size::at_least(LEAST, text)
}

/// Runs it.
///
/// # Errors
/// As `live`; also: the file exists, cannot be created, or could not be written to the end.
pub(super) fn run(args: Args) -> Result<()> {
    let door = args.following.metrics.open()?;
    let is_named = args.output.is_some();
    let mut recording = Recording::create(
        Plan {
            path: args.output.unwrap_or_else(default_name),
            max_size: args.max_size,
            files: args.rotate.map_or(1, usize::from),
            ring: args.ring,
        },
        args.following.kernel.btf.clone(),
        args.anonymize,
    )?;
    if !is_named {
        recording.announce();
    }
    session::run(args.following, Some(recording), door)
}

/// `tracer-20261120-101523.trc`, in local time.
fn default_name() -> PathBuf {
    Zoned::now()
        .strftime("tracer-%Y%m%d-%H%M%S.trc")
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_names_itself_by_the_time() {
        let name = default_name().display().to_string();
        let digits = name
            .strip_prefix("tracer-")
            .and_then(|name| name.strip_suffix(".trc"));
        let (date, time) = digits.and_then(|name| name.split_once('-')).expect(&name);
        assert_eq!((date.len(), time.len()), (8, 6), "{name}");
        assert!(
            date.bytes()
                .chain(time.bytes())
                .all(|byte| byte.is_ascii_digit()),
            "{name}"
        );
    }
}
