//! What is counted, as text for Prometheus.
//!
//! Each lane counts for itself, in memory that only it writes, and the page adds up. Every
//! label has a fixed few values: nothing that a client sends becomes one.

use super::shared::Shared;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of response times, in microseconds.
const BOUNDS_MICROS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// How an exchange that got no response from its upstream failed.
pub(super) const FAILURES: [&str; 6] =
    ["connect", "connect_timeout", "reset", "protocol", "timeout", "cut_off"];

/// What one lane counts.
#[derive(Default)]
pub(super) struct LaneCounts {
    /// By the status's first digit; 0: none was sent.
    statuses: [AtomicU64; 6],
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    micros: AtomicU64,
    failures: [AtomicU64; FAILURES.len()],
    callouts: AtomicU64,
    callouts_failed: AtomicU64,
    callouts_under_way: AtomicI64,
    connections: AtomicI64,
    connections_total: AtomicU64,
    exchanges: AtomicI64,
    machines: AtomicU64,
    machine_restarts: AtomicU64,
}

/// A number that goes up and down, while this is kept.
pub(super) struct Held<'a>(&'a AtomicI64);

impl LaneCounts {
    /// An exchange ended.
    pub(super) fn exchange_ended(&self, status: Option<u16>, took: Duration) {
        let class = usize::from(status.unwrap_or(0) / 100);
        add(self.statuses.get(class).unwrap_or(&self.statuses[0]), 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound);
        add(&self.buckets[bucket.unwrap_or(BOUNDS_MICROS.len())], 1);
        add(&self.micros, micros);
    }

    /// An upstream gave no response; how is one of [`FAILURES`].
    pub(super) fn upstream_failed(&self, how: &str) {
        if let Some(place) = FAILURES.iter().position(|known| *known == how) {
            add(&self.failures[place], 1);
        }
    }

    /// A filter's call ended.
    pub(super) fn callout_ended(&self, is_answered: bool) {
        add(&self.callouts, 1);
        add(&self.callouts_failed, u64::from(!is_answered));
    }

    pub(super) fn machines(&self, alive: usize, restarts: u64) {
        self.machines.store(alive as u64, Ordering::Relaxed);
        self.machine_restarts.store(restarts, Ordering::Relaxed);
    }

    pub(super) fn callout_began(&self) {
        self.callouts_under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn callout_left(&self) {
        self.callouts_under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls of filters under way.
    pub(super) fn callouts(&self) -> usize {
        usize::try_from(self.callouts_under_way.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// A client's connection, until it ends.
    pub(super) fn connection(&self) -> Held<'_> {
        add(&self.connections_total, 1);
        Held::new(&self.connections)
    }

    pub(super) fn exchange_began(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn exchange_left(&self) {
        self.exchanges.fetch_sub(1, Ordering::Relaxed);
    }

    /// Exchanges under way.
    pub(super) fn exchanges(&self) -> usize {
        usize::try_from(self.exchanges.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl<'a> Held<'a> {
    fn new(number: &'a AtomicI64) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Only one thread adds to a lane's numbers: no bus lock is needed.
fn add(number: &AtomicU64, by: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// The page: the proxy's own numbers, the filters', and those of the store in this process.
pub(super) fn page(shared: &Shared) -> String {
    let mut page = String::new();
    let sum = |pick: &dyn Fn(&LaneCounts) -> &AtomicU64| -> u64 {
        shared.lanes.iter().map(|lane| pick(lane).load(Ordering::Relaxed)).sum()
    };
    let level = |pick: &dyn Fn(&LaneCounts) -> &AtomicI64| -> i64 {
        shared.lanes.iter().map(|lane| pick(lane).load(Ordering::Relaxed)).sum()
    };
    head(&mut page, "requests_total", "counter", "Exchanges that ended, by their status's class");
    for (class, label) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].iter().enumerate() {
        let count = sum(&|lane| &lane.statuses[class]);
        let _ = writeln!(page, "tidegate_proxy_requests_total{{status=\"{label}\"}} {count}");
    }
    head(&mut page, "request_seconds", "histogram", "From a request's head to its response's end");
    let mut below = 0;
    for (place, bound) in BOUNDS_MICROS.iter().enumerate() {
        below += sum(&|lane| &lane.buckets[place]);
        let seconds = *bound as f64 / 1e6;
        let _ = writeln!(page, "tidegate_proxy_request_seconds_bucket{{le=\"{seconds}\"}} {below}");
    }
    let count = below + sum(&|lane| &lane.buckets[BOUNDS_MICROS.len()]);
    let seconds = sum(&|lane| &lane.micros) as f64 / 1e6;
    let _ = writeln!(page, "tidegate_proxy_request_seconds_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(page, "tidegate_proxy_request_seconds_sum {seconds}");
    let _ = writeln!(page, "tidegate_proxy_request_seconds_count {count}");
    let help = "Exchanges that got no whole response from upstream, by reason";
    head(&mut page, "upstream_failures_total", "counter", help);
    for (place, reason) in FAILURES.iter().enumerate() {
        let count = sum(&|lane| &lane.failures[place]);
        let _ =
            writeln!(page, "tidegate_proxy_upstream_failures_total{{reason=\"{reason}\"}} {count}");
    }
    let reloads = |count: &AtomicU64| count.load(Ordering::Relaxed);
    head(&mut page, "reloads_total", "counter", "New configurations, by what became of them");
    for (outcome, count) in
        [("taken", reloads(&shared.reloads_taken)), ("refused", reloads(&shared.reloads_refused))]
    {
        let _ = writeln!(page, "tidegate_proxy_reloads_total{{outcome=\"{outcome}\"}} {count}");
    }
    for (name, kind, help, value) in [
        ("callouts_total", "counter", "Calls of filters", sum(&|lane| &lane.callouts)),
        (
            "callouts_failed_total",
            "counter",
            "Calls of filters without an answer",
            sum(&|lane| &lane.callouts_failed),
        ),
        ("machines", "gauge", "Machines alive", sum(&|lane| &lane.machines)),
        (
            "machine_restarts_total",
            "counter",
            "Machines started in place of failed ones",
            sum(&|lane| &lane.machine_restarts),
        ),
        (
            "access_log_lost_total",
            "counter",
            "Batches of log lines that came faster than they could be written",
            shared.access_log.lost(),
        ),
    ] {
        head(&mut page, name, kind, help);
        let _ = writeln!(page, "tidegate_proxy_{name} {value}");
    }
    for (name, help, value) in [
        ("callouts", "Calls of filters under way", level(&|lane| &lane.callouts_under_way)),
        ("connections", "Connections of clients", level(&|lane| &lane.connections)),
        ("exchanges", "Exchanges under way", level(&|lane| &lane.exchanges)),
    ] {
        head(&mut page, name, "gauge", help);
        let _ = writeln!(page, "tidegate_proxy_{name} {value}");
    }
    let help = "Connections of clients that each worker has had";
    head(&mut page, "worker_connections_total", "counter", help);
    for (worker, lane) in shared.lanes.iter().enumerate() {
        let count = lane.connections_total.load(Ordering::Relaxed);
        let name = "tidegate_proxy_worker_connections_total";
        let _ = writeln!(page, "{name}{{worker=\"{worker}\"}} {count}");
    }
    shared.process.write_metrics("wasmcustom_", &mut page);
    shared.embedded.write_metrics(&mut page);
    page
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP tidegate_proxy_{name} {help}");
    let _ = writeln!(page, "# TYPE tidegate_proxy_{name} {kind}");
}
