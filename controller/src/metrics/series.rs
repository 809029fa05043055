//! One metric for each combination of label values, in the order of the values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Metrics of one name. Unlike the library's own family it is written out in a fixed order, and its
/// label values are words of the program, so that no input can add to them without bound.
#[derive(Debug)]
pub(super) struct Series<M, const N: usize> {
    names: [&'static str; N],
    make: fn() -> M,
    metrics: Arc<RwLock<BTreeMap<[&'static str; N], M>>>,
}

impl<M, const N: usize> Clone for Series<M, N> {
    fn clone(&self) -> Self {
        Self { names: self.names, make: self.make, metrics: Arc::clone(&self.metrics) }
    }
}

impl<M: Clone, const N: usize> Series<M, N> {
    /// No metric yet; each is made when it is first asked for.
    pub(super) fn new(names: [&'static str; N], make: fn() -> M) -> Self {
        Self { names, make, metrics: Arc::default() }
    }

    /// The same, with these from the start: a counter that appears only with its first count has no
    /// increase to see.
    pub(super) fn with(
        names: [&'static str; N],
        make: fn() -> M,
        values: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Self {
        let series = Self::new(names, make);
        for values in values {
            drop(series.of(values));
        }
        series
    }

    /// The metric of these label values, which is to be the only one.
    pub(super) fn only(&self, values: [&'static str; N]) -> M {
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        metrics.retain(|other, _| *other == values);
        metrics.entry(values).or_insert_with(self.make).clone()
    }

    /// The metric of these label values.
    pub(super) fn of(&self, values: [&'static str; N]) -> M {
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        metrics.entry(values).or_insert_with(self.make).clone()
    }
}

impl<M, const N: usize> EncodeMetric for Series<M, N>
where
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        for (values, metric) in metrics.iter() {
            let labels: Vec<(&str, &str)> =
                self.names.iter().copied().zip(values.iter().copied()).collect();
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.metrics.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
