//! Families of series, as Prometheus reads them.
//!
//! May not know what is counted.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::{BOUNDS_US, Distribution};

/// A label of a family, and its value.
pub(super) type Label = (&'static str, String);

/// A family without labels.
pub(super) fn one(value: u64) -> [(Vec<Label>, u64); 1] {
    [(Vec::new(), value)]
}

/// A family whose rows have a reason each.
pub(super) fn by_reason<const N: usize>(counts: [(&str, u64); N]) -> [(Vec<Label>, u64); N] {
    counts.map(|(reason, count)| (vec![("reason", reason.to_owned())], count))
}

/// Writes families.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

/// A family whose rows are written by `$write`.
macro_rules! family {
    ($name:ident, $value:ty, $kind:expr, $encode:expr) => {
        pub(super) fn $name(
            &mut self,
            name: &str,
            help: &str,
            rows: &[(Vec<Label>, $value)],
        ) -> fmt::Result {
            let mut family = self.0.encode_descriptor(name, help, None, $kind)?;
            for (labels, value) in rows {
                let mut metric = family.encode_family(labels)?;
                $encode(&mut metric, *value)?;
            }
            Ok(())
        }
    };
}

type Metric<'a> = prometheus_client::encoding::MetricEncoder<'a>;

impl Families<'_> {
    family!(
        counter,
        u64,
        MetricType::Counter,
        |metric: &mut Metric<'_>, value: u64| metric
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    );
    family!(
        counter_f64,
        f64,
        MetricType::Counter,
        |metric: &mut Metric<'_>, value: f64| metric
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    );
    family!(
        gauge,
        u64,
        MetricType::Gauge,
        |metric: &mut Metric<'_>, value: u64| metric.encode_gauge(&value)
    );
    family!(
        gauge_f64,
        f64,
        MetricType::Gauge,
        |metric: &mut Metric<'_>, value: f64| metric.encode_gauge(&value)
    );

    pub(super) fn histogram(&mut self, name: &str, help: &str, read: Distribution) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds = BOUNDS_US
            .iter()
            .map(|us| *us as f64 / 1e6)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(read.buckets).collect();
        let sum = read.sum_ns as f64 / 1e9;
        family.encode_histogram::<NoLabelSet>(sum, read.count(), &buckets, None)
    }
}
