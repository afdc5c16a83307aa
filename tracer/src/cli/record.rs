//! `tracer record`: a flight recorder. It is `live`, and keeps every event in a file.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    recording::Recording,
    session::{self, Following},
};
use crate::capture::Plan;

/// Arguments of `tracer record`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The capture to write, readable by its owner alone; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A file grows no larger: 500K, 100M, 2G. Then recording ends, or goes on in another (--rotate)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep so many files: FILE is the newest, FILE.1 the one before
    #[arg(long, value_name = "N", requires = "max_size", value_parser = clap::value_parser!(u16).range(2..))]
    rotate: Option<u16>,
    /// Keep only the last so much, in memory: written to FILE at the end, on SIGUSR1, and at the first burst of 502s
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "max_size")]
    ring: Option<u64>,
    /// Replace client addresses and request lines in the capture, the same by the same; live verdicts show them
    #[arg(long)]
    anonymize: bool,
    #[command(flatten)]
    following: Following,
}

const EXAMPLES: &str = "Examples:
  sudo tracer record -o incident.trc
  sudo tracer record -o incident.trc --duration 10m
  sudo tracer record -o proxy.trc --max-size 200M --rotate 5     at most 1 GB, always the newest
  sudo tracer record -o proxy.trc --ring 64M                     the last 64 MB before the first burst";

/// The least that a file or a ring holds: several pages.
const LEAST: u64 = 256 << 10;

fn size(text: &str) -> Result<u64, String> {
    super::size::at_least(LEAST, text)
}

/// Runs it.
///
/// # Errors
/// As `live`; also: the file exists, can not be created, or could not be written to the end.
pub(super) fn run(args: Args) -> Result<()> {
    let recording = Recording::create(
        Plan {
            path: args.output,
            max_size: args.max_size,
            files: args.rotate.map_or(1, usize::from),
            ring: args.ring,
        },
        args.following.kernel.btf.clone(),
        args.anonymize,
    )?;
    session::run(args.following, Some(recording))
}
