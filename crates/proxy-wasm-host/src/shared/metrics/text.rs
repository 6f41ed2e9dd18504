//! Metrics in Prometheus' text form.
//!
//! Names that modules give may hold anything; what the text form does not allow becomes `_`.
//! Two names that become one that way would be one metric told twice, which no reader
//! accepts: the later, by its own name, has `_` added until it differs.

use super::{BUCKETS, Histogram, Metrics};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

/// A metric, held while it is told, so that nobody waits for that.
enum Told {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Histogram>),
}

impl Metrics {
    /// Tells all metrics, each name with `prefix` before it, in the order of their names.
    pub(crate) fn write(&self, prefix: &str, to: &mut String) {
        let mut told = BTreeMap::new();
        for (name, metric) in self.by_name() {
            let mut shown: String = prefix.chars().chain(name.chars()).map(allowed).collect();
            if !shown.starts_with(|first: char| !first.is_ascii_digit()) {
                shown.insert(0, '_');
            }
            while told.contains_key(&shown) {
                shown.push('_');
            }
            told.insert(shown, metric);
        }
        for (name, metric) in told {
            // Writing to a string does not fail.
            let _ = tell(&name, &metric, to);
        }
    }

    fn by_name(&self) -> Vec<(Box<str>, Told)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let counters = names.counters.iter();
        let counters = counters.map(|(name, it)| (name.clone(), Told::Counter(it.clone())));
        let gauges = names.gauges.iter();
        let gauges = gauges.map(|(name, it)| (name.clone(), Told::Gauge(it.clone())));
        let histograms = names.histograms.iter();
        let histograms = histograms.map(|(name, it)| (name.clone(), Told::Histogram(it.clone())));
        let mut all: Vec<_> = counters.chain(gauges).chain(histograms).collect();
        drop(names);
        // Stable: of one name the counter comes first, then the gauge.
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

fn allowed(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '_' || letter == ':' { letter } else { '_' }
}

fn tell(name: &str, metric: &Told, to: &mut String) -> fmt::Result {
    match metric {
        Told::Counter(counter) => {
            writeln!(to, "# TYPE {name} counter\n{name} {}", counter.load(Relaxed))
        }
        Told::Gauge(gauge) => {
            writeln!(to, "# TYPE {name} gauge\n{name} {}", gauge.load(Relaxed).cast_signed())
        }
        Told::Histogram(histogram) => {
            writeln!(to, "# TYPE {name} histogram")?;
            let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            let mut sum = 0;
            for (bound, count) in bounds.zip(&histogram.counts) {
                sum += count.load(Relaxed);
                writeln!(to, "{name}_bucket{{le=\"{bound}\"}} {sum}")?;
            }
            writeln!(to, "{name}_sum {}\n{name}_count {sum}", histogram.sum.load(Relaxed))
        }
    }
}
