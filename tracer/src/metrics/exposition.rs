//! A snapshot as text: OpenMetrics, or the text format of Prometheus that came before it.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    counts::Failed,
    encode::{counter, gauge, histogram, kinds_of},
    snapshot::Snapshot,
};
use crate::{event::Time, source::Depth, verdict::Confidence};

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Text,
}

impl Format {
    /// Its `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// All that a page shows.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) queues: Arc<Vec<Depth>>,
    /// When it is read.
    pub(super) now: Time,
    /// CPU time of this process (nanoseconds).
    pub(super) cpu: u64,
    /// Its resident memory (bytes), where that is known.
    pub(super) resident: Option<u64>,
}

/// The page.
///
/// # Errors
/// None that a `String` makes.
pub(super) fn page(exposition: Exposition, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(exposition));
    let mut page = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut page, &registry)?,
        Format::Text => prometheus_text::encode(&mut page, &registry)?,
    }
    Ok(page)
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.failures(&mut encoder)?;
        self.attempts(&mut encoder)?;
        self.queues(&mut encoder)?;
        self.visibility(&mut encoder)?;
        self.own(&mut encoder)
    }
}

impl Exposition {
    fn failures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, counts) in [
            (
                "tracer_failed_requests",
                "Requests that nginx answered with an error, by cause.",
                &self.snapshot.failed,
            ),
            (
                "tracer_masked_failures",
                "Requests with a failed attempt whose client got a whole answer all the same.",
                &self.snapshot.masked,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (failed, count) in counts {
                let status = failed
                    .status
                    .map_or("unknown".into(), |one| one.to_string());
                let labels = [
                    ("cause", failed.cause),
                    ("status", &status),
                    ("confidence", confidence(failed)),
                    ("upstream", &failed.upstream),
                ];
                counter(metric.encode_family(&labels)?, count)?;
            }
        }
        Ok(())
    }

    fn attempts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let upstreams = &self.snapshot.upstreams;
        let mut metric = encoder.encode_descriptor(
            "tracer_attempts",
            "Attempts at an upstream that ended, by outcome; one of a kept-alive connection is \
             counted when that closes.",
            None,
            MetricType::Counter,
        )?;
        for (upstream, traffic) in upstreams {
            for (outcome, count) in traffic.attempts() {
                let labels = [("upstream", &**upstream), ("outcome", outcome.name())];
                counter(metric.encode_family(&labels)?, &count)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "tracer_connect_duration",
            "From connect() to the end of the handshake.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (upstream, traffic) in upstreams {
            histogram(&mut metric, upstream, &traffic.connect)?;
        }
        let mut metric = encoder.encode_descriptor(
            "tracer_first_byte_duration",
            "From connect(), or from the reuse of a kept-alive connection, to the first byte of \
             the response.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (upstream, traffic) in upstreams {
            histogram(&mut metric, upstream, &traffic.first_byte)?;
        }
        gauge(
            encoder,
            "tracer_folded_upstreams",
            "Upstreams that share the label `other`, as there are more than have one of their own.",
            &self.snapshot.folded,
        )
    }

    fn queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&Depth) -> u32;
        let depth: (_, _, Number) = (
            "tracer_accept_queue_depth",
            "Connections that wait for accept() at the fullest listener of an upstream on this \
             host.",
            |one| one.queue,
        );
        let limit: (_, _, Number) = (
            "tracer_accept_queue_limit",
            "The most that may wait there: the smaller of the backlog and somaxconn.",
            |one| one.limit,
        );
        for (name, help, number) in [depth, limit] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in self.queues.iter() {
                let labels = [("upstream", &one.upstream), ("listener", &one.listener)];
                let labels = labels.map(|(name, value)| (name, value.as_str()));
                metric.encode_family(&labels)?.encode_gauge(&number(one))?;
            }
        }
        Ok(())
    }

    fn visibility(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (run, gaps) = (&self.snapshot.run, &self.snapshot.gaps);
        let help = "1: the hook is attached in some way; 0: its evidence is missing.";
        let hooks = run
            .hooks
            .iter()
            .map(|(hook, is_attached)| ([("hook", *hook)], *is_attached));
        let mut metric =
            encoder.encode_descriptor("tracer_hook_attached", help, None, MetricType::Gauge)?;
        for (labels, is_attached) in hooks {
            metric
                .encode_family(&labels)?
                .encode_gauge(&u32::from(is_attached))?;
        }
        let is_blind = u32::from(run.is_blind);
        let help = "1: the failures of some nginx are not visible.";
        gauge(encoder, "tracer_blind", help, &is_blind)?;
        let help = "nginx processes that are followed.";
        let kinds = [("master", run.masters), ("worker", run.workers)];
        let mut metric =
            encoder.encode_descriptor("tracer_nginx_processes", help, None, MetricType::Gauge)?;
        for (kind, count) in kinds {
            metric
                .encode_family(&[("kind", kind)])?
                .encode_gauge(&count)?;
        }
        for (name, help, count) in [
            (
                "tracer_lost_records",
                "Kernel records that a full ring buffer dropped.",
                gaps.lost,
            ),
            (
                "tracer_skipped_hook_runs",
                "Runs of hooks that the kernel skipped.",
                gaps.skipped,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter(metric, &count)?;
        }
        kinds_of(
            encoder,
            "tracer_shed",
            "Left out on purpose: tracer had too much to do, or was near a limit of its own.",
            "what",
            &[
                ("healthy-connections", gaps.connections),
                ("request-details", gaps.details),
                ("failures", gaps.failures),
            ],
        )?;
        kinds_of(
            encoder,
            "tracer_unreported_requests",
            "Requests with a failed attempt that have no verdict.",
            "why",
            &[
                ("client-closed", run.unreported.given_up),
                ("too-many", run.unreported.forgotten),
            ],
        )
    }

    fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let age = self.now.since(self.snapshot.at) as f64 / 1e9;
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let help = "Age of what this page shows; it grows if the event loop hangs.";
        let mut metric =
            encoder.encode_descriptor("tracer_snapshot_age", help, seconds, MetricType::Gauge)?;
        metric.encode_gauge(&age)?;
        let help = "CPU time of tracer, all threads.";
        let metric =
            encoder.encode_descriptor("process_cpu", help, seconds, MetricType::Counter)?;
        counter(metric, &(self.cpu as f64 / 1e9))?;
        if let Some(resident) = self.resident {
            let help = "Resident memory of tracer.";
            let name = "process_resident_memory";
            let mut metric = encoder.encode_descriptor(name, help, bytes, MetricType::Gauge)?;
            metric.encode_gauge(&resident)?;
        }
        let help = "When this run of tracer started, since the Unix epoch.";
        let name = "process_start_time";
        let mut metric = encoder.encode_descriptor(name, help, seconds, MetricType::Gauge)?;
        metric.encode_gauge(&self.snapshot.started)?;
        let help = "The version of tracer that runs.";
        let mut metric = encoder.encode_descriptor("tracer_build", help, None, MetricType::Info)?;
        metric.encode_info(&[("version", env!("TRACER_VERSION"))])
    }
}

fn confidence(failed: &Failed) -> &'static str {
    match failed.confidence {
        Confidence::Proven => "proven",
        Confidence::Inferred => "inferred",
        Confidence::Unknown => "unknown",
    }
}
