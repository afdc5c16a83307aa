//! `--metrics` and `--otlp`: to whom else a run's verdicts go.

use anyhow::{Context as _, Result};

use crate::{
    metrics::{self, Address, Door},
    otlp::{self, Endpoint},
};

/// Whether and where metrics are served, and verdicts sent.
#[derive(Debug, clap::Args)]
pub(super) struct Serving {
    /// Serve metrics for Prometheus on this address, without a password: `:9464` (on 127.0.0.1),
    /// `10.0.0.7:9464`, or `unix:/run/tracer.sock` (mode 0600)
    #[arg(long, value_name = "ADDRESS", value_parser = metrics::parse)]
    metrics: Option<Address>,
    /// Number of upstreams with a label of their own in metrics, 1 to 1000; the rest share `other`
    #[arg(
        long = "metrics-upstreams",
        value_name = "N",
        default_value_t = 200,
        requires = "metrics",
        hide_short_help = true,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    upstreams: u16,
    /// Send verdicts and notices as logs, and failed requests as traces, to this OpenTelemetry
    /// collector (OTLP/HTTP with JSON, no TLS): `http://127.0.0.1:4318`
    #[arg(long, value_name = "ENDPOINT", value_parser = otlp::parse)]
    otlp: Option<Endpoint>,
}

/// The same, opened.
#[derive(Debug)]
pub(super) struct Served {
    /// With the number of upstreams that have a label of their own.
    pub(super) metrics: Option<(Door, u16)>,
    pub(super) otlp: Option<Endpoint>,
}

impl Serving {
    /// Listens, while this process still may, and before anything is written.
    ///
    /// # Errors
    /// The address is in use, or cannot be listened on.
    pub(super) fn open(self) -> Result<Served> {
        let open = |address: &Address| -> Result<(Door, u16)> {
            let door = Door::open(address);
            let door = door.with_context(|| format!("serving metrics on {address}"))?;
            Ok((door, self.upstreams))
        };
        Ok(Served {
            metrics: self.metrics.as_ref().map(open).transpose()?,
            otlp: self.otlp,
        })
    }
}
