//! Metrics. Names begin with `componentlease_`; labels come from enums and configuration only,
//! never from error texts, so that their number is bounded.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// What `/metrics` answers with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry that says which version of the program it speaks for.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("componentlease");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The program that answers", build);
    registry
}

/// The registry as text.
#[must_use]
pub fn encode(registry: &Registry) -> String {
    let mut page = String::new();
    // Writing to a string fails only if a collector does, and none of ours can.
    let _ = text::encode(&mut page, registry);
    page
}

/// One number read at the scrape; what `labels` and `value` belong to is said by the [`Family`].
#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    Counter(u64),
    Gauge(f64),
    /// The sum, and of each bucket its upper bound and how many are in it alone.
    Histogram(f64, Vec<(f64, u64)>),
}

/// Samples that share a name. Not empty.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

impl Family {
    #[must_use]
    pub fn of(name: &'static str, help: &'static str) -> Self {
        Self { name, help, samples: Vec::new() }
    }

    /// Adds a counter.
    #[must_use]
    pub fn count(mut self, labels: &[(&'static str, &str)], value: u64) -> Self {
        self.samples.push(Sample { labels: owned(labels), value: Value::Counter(value) });
        self
    }

    /// Adds a histogram.
    #[must_use]
    pub fn histogram(mut self, labels: &[(&'static str, &str)], sum: f64, buckets: Vec<(f64, u64)>) -> Self {
        self.samples.push(Sample { labels: owned(labels), value: Value::Histogram(sum, buckets) });
        self
    }

    /// A family of one gauge.
    #[must_use]
    pub fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) -> Self {
        Self { name, help, samples: vec![Sample { labels: owned(labels), value: Value::Gauge(value) }] }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Numbers that are kept elsewhere (plain atomics of a library that knows no metrics) and read at the scrape.
pub struct ReadAtScrape<F>(pub F);

impl<F> fmt::Debug for ReadAtScrape<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadAtScrape")
    }
}

impl<F> Collector for ReadAtScrape<F>
where
    F: Fn() -> Vec<Family> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in (self.0)() {
            let Some(first) = family.samples.first() else { continue };
            let kind = match first.value {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
                Value::Histogram(..) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in &family.samples {
                // A family without labels would be written with empty braces.
                if sample.labels.is_empty() {
                    encode_one(&mut metric, &sample.value)?;
                } else {
                    encode_one(&mut metric.encode_family(&sample.labels)?, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_one(metric: &mut MetricEncoder<'_>, value: &Value) -> Result<(), fmt::Error> {
    match value {
        Value::Counter(value) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        Value::Gauge(value) => metric.encode_gauge(value),
        Value::Histogram(sum, buckets) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_the_scrape_and_named_after_us() {
        let mut registry = registry();
        registry.register_collector(Box::new(ReadAtScrape(|| {
            vec![
                Family::of("renewals", "Renewals").count(&[("outcome", "applied")], 7),
                Family::of("took", "Calls").histogram(
                    &[("call", "look")],
                    3.5,
                    vec![(0.1, 2), (f64::INFINITY, 1)],
                ),
                Family::gauge("leader", "Whether it leads", &[("component", "c")], 1.0),
                Family::gauge("acting", "Whether it acts", &[], 1.0),
            ]
        })));
        let page = encode(&registry);
        assert!(page.contains("componentlease_renewals_total{outcome=\"applied\"} 7\n"), "{page}");
        for line in [
            "bucket{le=\"0.1\",call=\"look\"} 2",
            "bucket{le=\"+Inf\",call=\"look\"} 3",
            "sum{call=\"look\"} 3.5",
            "count{call=\"look\"} 3",
        ] {
            assert!(page.contains(&format!("componentlease_took_{line}\n")), "{line}: {page}");
        }
        assert!(page.contains("componentlease_leader{component=\"c\"} 1.0\n"), "{page}");
        assert!(page.contains("componentlease_acting 1.0\n"), "{page}");
        assert!(page.contains("componentlease_build_info{version="), "{page}");
    }
}
