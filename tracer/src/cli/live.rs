//! `tracer live`: verdicts as they happen. stdout carries only verdicts.

use anyhow::Result;

use super::{
    serving::Serving,
    session::{self, Following},
};

/// Arguments of `tracer live`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    following: Following,
    #[command(flatten)]
    serving: Serving,
}

const EXAMPLES: &str = "Examples:
  sudo tracer live
  sudo tracer live --format json --duration 5m > verdicts.jsonl
  sudo tracer live --cause no-listener --upstream 127.0.0.1:3000
  sudo tracer live --master 812
  sudo tracer live --metrics :9464        then: curl http://127.0.0.1:9464/metrics
  sudo tracer live --otlp http://127.0.0.1:4318";

/// Runs it.
///
/// # Errors
/// Not permitted, this kernel cannot, or stdout cannot be written.
pub(super) fn run(args: Args) -> Result<()> {
    let served = args.serving.open()?;
    session::run(args.following, None, served)
}
