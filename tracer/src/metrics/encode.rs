//! Samples of each type, as [`super::exposition`] writes them.

use std::fmt;

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    },
    metrics::MetricType,
};

use super::durations::Durations;

/// A counter, its labels being set.
pub(super) fn counter(
    mut metric: MetricEncoder<'_>,
    value: &impl EncodeCounterValue,
) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(value, None)
}

/// Counters of one name, by the kinds of one label.
pub(super) fn kinds_of(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    kinds: &[(&str, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (kind, count) in kinds {
        counter(metric.encode_family(&[(label, *kind)])?, count)?;
    }
    Ok(())
}

/// A gauge without labels.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(value)
}

/// The durations of an upstream.
pub(super) fn histogram<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    upstream: &str,
    durations: &Durations<N>,
) -> fmt::Result {
    let labels = [("upstream", upstream)];
    let mut metric = metric.encode_family(&labels)?;
    let buckets = durations.buckets();
    metric.encode_histogram::<NoLabelSet>(durations.sum(), durations.count(), &buckets, None)
}
