//! How it is with what is revoked, read when the page is made.

use crate::revocations::{Revocations, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::revoke::Kind;

/// The revocations that are looked at.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Arc<Revocations>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// What is told: name, meaning, and where it stands.
type Told = (&'static str, &'static str, fn(&Stats) -> f64);

const TOLD: &[Told] = &[
    ("revocations_lifted", "Liftings that are kept until they can be forgotten", |s| {
        s.lifted as f64
    }),
    ("revocations_held", "Revocations that wait for the shared log", |s| s.held as f64),
    ("revocation_log_entries", "Entries of the log up to where it is known here", |s| {
        s.position.number as f64
    }),
    (
        "revocation_age_seconds",
        "For how long this host may not have heard of revocations; -1 if it has not begun to",
        |s| seconds(s.age),
    ),
    ("revocation_ledger_bytes", "The size of the file, with what is free in it", |s| {
        s.file_bytes as f64
    }),
    ("revocation_ledger_up", "Whether the files can be written, and are whole", |s| {
        f64::from(u8::from(s.fault.is_none()))
    }),
    ("revocation_images", "Images that proxies fetch, one for each generation", |s| {
        s.images.as_ref().map_or(0.0, |images| images.generations.len() as f64)
    }),
    ("revocation_images_bytes", "Bytes of these", |s| {
        let bytes = |images: &crate::revocations::Images| {
            images.generations.iter().map(|g| g.bytes as f64).sum()
        };
        s.images.as_ref().map_or(0.0, bytes)
    }),
    ("revocation_images_age_seconds", "How long ago these were made; -1 if there are none", |s| {
        seconds(s.images.as_ref().map(|images| images.age))
    }),
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let help = "Live revocations, by kind";
        let mut by_kind =
            encoder.encode_descriptor("revocations", help, None, MetricType::Gauge)?;
        for (kind, count) in Kind::ALL.iter().zip(stats.records) {
            let label = KindLabel { kind: kind.name() };
            let encoder = by_kind.encode_family(&label)?;
            ConstGauge::new(count as f64).encode(encoder)?;
        }
        for (name, help, value) in TOLD {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value(&stats)).encode(encoder)?;
        }
        Ok(())
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(-1.0, |time| time.as_secs_f64())
}
