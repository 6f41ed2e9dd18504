//! How it is with the log that hosts share, read when the page is made.

use crate::revocations::{Counts, SharedLog};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;

/// The log that is looked at.
pub(super) struct Collected(pub(super) Arc<SharedLog>);

/// What is told: name, meaning, and where it stands.
type Told = (&'static str, &'static str, fn(&Counts) -> u64);

const TOLD: &[Told] = &[
    (
        "revocation_log_losses",
        "Times that the shared log lacked what this host knew of it: fail-overs, flushes, evictions",
        Counts::losses,
    ),
    (
        "revocation_log_damages",
        "Times that the shared log had a gap, and this host began another in its place",
        Counts::damages,
    ),
    ("revocation_log_begun", "Shared logs that this host began", Counts::begun),
    (
        "revocation_log_mended",
        "Times that this host saw to it that the shared log lacks nothing",
        Counts::mended,
    ),
    (
        "revocation_log_put_back_records",
        "Records that this host put back into the shared log",
        Counts::put_back,
    ),
    (
        "revocation_log_appended_records",
        "Records accepted here and appended to the shared log",
        Counts::appended,
    ),
    (
        "revocation_log_append_failures",
        "Attempts to append to the shared log that came to nothing",
        Counts::not_appended,
    ),
    (
        "revocation_log_followed_records",
        "Records of the shared log that this host took in",
        Counts::followed,
    ),
    (
        "revocation_log_unknown_records",
        "Records of the shared log that only a newer version understands",
        Counts::unknown,
    ),
    ("revocation_log_cut_entries", "Entries that this host cut from the head", Counts::cut),
    (
        "revocation_log_carried_records",
        "Records that this host appended again so that others could be cut",
        Counts::carried,
    ),
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        for (name, help, count) in TOLD {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count(counts)).encode(encoder)?;
        }
        let is_up = u64::from(self.0.trouble().is_none());
        for (name, help, value) in [
            ("revocation_log_up", "Whether the shared log is followed", is_up),
            (
                "revocation_log_kept_entries",
                "Entries that the shared log has; 0 until this host has looked",
                counts.entries(),
            ),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as f64).encode(encoder)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collected").field(self.0.counts()).finish()
    }
}
