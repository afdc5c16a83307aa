//! `tracer record`: a flight recorder. It is `live`, and keeps every event in a file.

use std::path::PathBuf;

use anyhow::Result;
use jiff::Zoned;
use thiserror::Error;

use super::{
    recording::Recording,
    serving::Serving,
    session::{self, Following},
    written,
};
use crate::capture::{Plan, RingPlan, Rotation};

/// Arguments of `tracer record`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The capture to write, readable by its owner alone; it must not exist. By default
    /// tracer-DATE-TIME.trc in the current folder. With --ring, the folder for captures: made if
    /// absent, by default the current folder
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Limit a file's size: 500K, 100M, 2G. At the limit recording ends and verdicts continue; with
    /// --rotate recording continues in another file
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep this many files, at least 2: FILE is the newest, FILE.1 the one before
    #[arg(long, value_name = "N", requires = "max_size", value_parser = clap::value_parser!(u16).range(2..))]
    rotate: Option<u16>,
    /// Keep the newest events in this much memory. Write them to a file in DIR for each burst of
    /// failed requests, on `tracer dump` and on SIGUSR1
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "max_size")]
    ring: Option<u64>,
    /// Limit all files of the ring in DIR: the oldest are removed. At least twice --ring; by
    /// default 16 times --ring
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "ring")]
    max_disk: Option<u64>,
    /// Replace client addresses and request lines in the capture, consistently; printed verdicts
    /// show them
    #[arg(long)]
    anonymize: bool,
    #[command(flatten)]
    following: Following,
    #[command(flatten)]
    serving: Serving,
}

const EXAMPLES: &str = "Examples:
  sudo tracer record                                             to tracer-20261120-101523.trc
  sudo tracer record -o incident.trc
  sudo tracer record -o incident.trc --duration 10m
  sudo tracer record -o proxy.trc --max-size 200M --rotate 5     at most 1 GB, always the newest
  sudo tracer record --ring 64M -o /var/lib/tracer               always on: a file for each burst
  sudo tracer record --ring 64M --metrics :9464                  the same, with Prometheus metrics";

/// The least that a file or a ring holds: several pages.
const LEAST: u64 = 256 << 10;

fn size(text: &str) -> Result<u64, String> {
    super::size::at_least(LEAST, text)
}

/// Files of a full ring that the disk holds by default.
const RINGS: u64 = 16;

/// Runs it.
///
/// # Errors
/// As `live`; also: the file exists, cannot be created, or could not be written to the end.
pub(super) fn run(args: Args) -> Result<()> {
    let served = args.serving.open()?;
    let is_named = args.output.is_some();
    let plan = match args.ring {
        Some(memory) => ring(args.output, memory, args.max_disk)?,
        None => Plan::Files(Rotation {
            path: args.output.unwrap_or_else(default_name),
            max_size: args.max_size,
            files: args.rotate.map_or(1, usize::from),
        }),
    };
    let mut recording = Recording::create(plan, args.following.kernel.btf.clone(), args.anonymize)?;
    if !is_named {
        recording.announce();
    }
    session::run(args.following, Some(recording), served)
}

fn ring(folder: Option<PathBuf>, memory: u64, disk: Option<u64>) -> Result<Plan> {
    let folder = folder.unwrap_or_else(|| ".".into());
    let disk = disk.unwrap_or_else(|| memory.saturating_mul(RINGS));
    if disk < memory.saturating_mul(2) {
        return Err(TooSmall.into());
    }
    written::folder(&folder)?;
    Ok(Plan::Ring(RingPlan {
        folder,
        memory,
        disk,
    }))
}

/// A file may be as large as twice the ring.
#[derive(Debug, Error)]
#[error(
    "--max-disk has to be at least twice --ring: a file holds the ring and as much of the burst"
)]
pub(super) struct TooSmall;

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
