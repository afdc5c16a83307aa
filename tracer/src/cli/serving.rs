//! `--metrics`: whether and where a run's metrics are served.

use anyhow::{Context as _, Result};

use crate::metrics::{Address, Door, parse};

/// Whether and where metrics are served.
#[derive(Debug, clap::Args)]
pub(super) struct Serving {
    /// Serve metrics for Prometheus on this address, without a password: `:9464` (on 127.0.0.1),
    /// `10.0.0.7:9464`, or `unix:/run/tracer.sock` (mode 0600)
    #[arg(long, value_name = "ADDRESS", value_parser = parse)]
    metrics: Option<Address>,
    /// So many upstreams have a label of their own in metrics; the rest share `other`
    #[arg(
        long = "metrics-upstreams",
        value_name = "N",
        default_value_t = 200,
        requires = "metrics",
        hide_short_help = true,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    upstreams: u16,
}

/// Where metrics are served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) door: Door,
    /// Upstreams that have a label of their own.
    pub(super) upstreams: u16,
}

impl Serving {
    /// Listens, while this process still may, and before anything is written.
    ///
    /// # Errors
    /// The address is in use, or cannot be listened on.
    pub(super) fn open(&self) -> Result<Option<Served>> {
        let open = |address: &Address| -> Result<Served> {
            let door = Door::open(address);
            Ok(Served {
                door: door.with_context(|| format!("serving metrics on {address}"))?,
                upstreams: self.upstreams,
            })
        };
        self.metrics.as_ref().map(open).transpose()
    }
}
