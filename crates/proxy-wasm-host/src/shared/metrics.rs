//! Counters, gauges and histograms that modules define.
//!
//! Values are the process's: a name stands for one metric, whichever machine uses it. The
//! numbers by which modules know their metrics are each machine's own, as in Envoy, and start
//! anew with it; [`Ids`] is that table. It belongs to one thread and holds the metrics
//! themselves, so that counting is a look into a vector and one atomic addition.

mod text;

use crate::status::Status;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// All metrics of a process: a module that puts a client's address into names would never
/// end.
const METRICS_MAX: usize = 1 << 14;

/// The longest name, in bytes: as much as the labels that service meshes write into names.
const NAME_BYTES_MAX: usize = 4096;

/// The most numbers of each kind that one machine gives out. A module that defines the same
/// metric again with each request is given its first number from then on.
const IDS_MAX: usize = 1 << 14;

/// A histogram's upper bounds, those that Envoy has by default: its unit is the filter's.
const BUCKETS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// All metrics of a process.
pub(crate) struct Metrics {
    names: RwLock<Names>,
}

#[derive(Default)]
struct Names {
    counters: HashMap<Box<str>, Arc<AtomicU64>>,
    gauges: HashMap<Box<str>, Arc<AtomicU64>>,
    histograms: HashMap<Box<str>, Arc<Histogram>>,
}

/// The metrics that one machine has defined, by its numbers: a number's lowest two bits are
/// the kind (0 counter, 1 gauge, 2 histogram), and each kind counts up from 1 above them.
#[derive(Default)]
pub(crate) struct Ids {
    counters: Vec<Arc<AtomicU64>>,
    gauges: Vec<Arc<AtomicU64>>,
    histograms: Vec<Arc<Histogram>>,
}

#[derive(Default)]
struct Histogram {
    /// How many values fell at or below each bound but above the one before; the last are
    /// above all.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

impl Metrics {
    /// No metrics yet.
    pub(crate) fn new() -> Self {
        Self { names: RwLock::default() }
    }

    /// The value of a counter or gauge, by its name.
    pub(crate) fn value(&self, name: &str) -> Option<i64> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let found = names.counters.get(name).or_else(|| names.gauges.get(name))?;
        Some(found.load(Relaxed).cast_signed())
    }

    /// Adds to a counter by its name.
    pub(crate) fn count(&self, name: &str, by: u64) {
        if let Ok(counter) = self.find(name, |all| &mut all.counters) {
            counter.fetch_add(by, Relaxed);
        }
    }

    /// Adds to a gauge by its name, or takes from it.
    pub(crate) fn level(&self, name: &str, by: i64) {
        if let Ok(gauge) = self.find(name, |all| &mut all.gauges) {
            gauge.fetch_add(by.cast_unsigned(), Relaxed);
        }
    }

    /// Puts a value into a histogram by its name.
    pub(crate) fn sample(&self, name: &str, value: u64) {
        if let Ok(histogram) = self.find(name, |all| &mut all.histograms) {
            histogram.record(value);
        }
    }

    fn find<T: Default>(
        &self,
        name: &str,
        kind: impl FnOnce(&mut Names) -> &mut HashMap<Box<str>, Arc<T>>,
    ) -> Result<Arc<T>, Status> {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let known = names.counters.len() + names.gauges.len() + names.histograms.len();
        let metrics = kind(&mut names);
        if let Some(metric) = metrics.get(name) {
            return Ok(metric.clone());
        }
        if known >= METRICS_MAX || name.len() > NAME_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let metric = Arc::<T>::default();
        metrics.insert(name.into(), metric.clone());
        Ok(metric)
    }
}

impl Ids {
    /// A number for a metric of this name and kind. Defined once more it gets another number.
    ///
    /// # Errors
    ///
    /// `BadArgument` for a kind that is none; `InternalFailure` if there are too many, or the
    /// name is too long.
    pub(crate) fn define(
        &mut self,
        metrics: &Metrics,
        kind: u32,
        name: &str,
    ) -> Result<u32, Status> {
        match kind {
            COUNTER => add(&mut self.counters, metrics.find(name, |all| &mut all.counters)?, kind),
            GAUGE => add(&mut self.gauges, metrics.find(name, |all| &mut all.gauges)?, kind),
            HISTOGRAM => {
                add(&mut self.histograms, metrics.find(name, |all| &mut all.histograms)?, kind)
            }
            _ => Err(Status::BadArgument),
        }
    }

    /// Adds to a counter or gauge; takes from a gauge, if negative.
    ///
    /// # Errors
    ///
    /// `NotFound` for a number not given out; `BadArgument` if a counter would not go up, or
    /// for a histogram.
    pub(crate) fn increment(&self, id: u32, by: i64) -> Result<(), Status> {
        match id & 3 {
            COUNTER => {
                let counter = find(&self.counters, id)?;
                let by = u64::try_from(by).ok().filter(|by| *by > 0);
                counter.fetch_add(by.ok_or(Status::BadArgument)?, Relaxed);
            }
            GAUGE => {
                // Two's complement: adding it wraps to the difference.
                find(&self.gauges, id)?.fetch_add(by.cast_unsigned(), Relaxed);
            }
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }

    /// Adds to a counter, sets a gauge, or puts a value into a histogram.
    ///
    /// # Errors
    ///
    /// `NotFound` for a number not given out.
    pub(crate) fn record(&self, id: u32, value: u64) -> Result<(), Status> {
        match id & 3 {
            COUNTER => {
                find(&self.counters, id)?.fetch_add(value, Relaxed);
            }
            GAUGE => find(&self.gauges, id)?.store(value, Relaxed),
            HISTOGRAM => find(&self.histograms, id)?.record(value),
            _ => return Err(Status::NotFound),
        }
        Ok(())
    }

    /// What a counter or gauge stands at.
    ///
    /// # Errors
    ///
    /// `NotFound` for a number not given out; `BadArgument` for a histogram.
    pub(crate) fn get(&self, id: u32) -> Result<u64, Status> {
        match id & 3 {
            COUNTER => Ok(find(&self.counters, id)?.load(Relaxed)),
            GAUGE => Ok(find(&self.gauges, id)?.load(Relaxed)),
            _ => Err(Status::BadArgument),
        }
    }
}

impl Histogram {
    fn record(&self, value: u64) {
        let at = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Relaxed);
            self.sum.fetch_add(value, Relaxed);
        }
    }
}

fn add<T>(known: &mut Vec<Arc<T>>, metric: Arc<T>, kind: u32) -> Result<u32, Status> {
    let mut place = known.len();
    if place < IDS_MAX {
        known.push(metric);
    } else {
        let first = known.iter().position(|known| Arc::ptr_eq(known, &metric));
        place = first.ok_or(Status::InternalFailure)?;
    }
    let number = u32::try_from(place + 1).map_err(|_| Status::InternalFailure)?;
    Ok(number << 2 | kind)
}

fn find<T>(known: &[Arc<T>], id: u32) -> Result<&T, Status> {
    let place = (id >> 2).checked_sub(1).and_then(|place| known.get(place as usize));
    place.map(|metric| &**metric).ok_or(Status::NotFound)
}

#[cfg(test)]
mod tests;
