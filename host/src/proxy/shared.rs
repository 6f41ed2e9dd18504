//! What all threads of the proxy share.

use super::access_log::AccessLog;
use super::guard::Party;
use super::metrics::LaneCounts;
use super::plan::Plan;
use crate::plugins::Plugins;
use crate::service::embedded::Embedded;
use proxy_wasm_host::worker::Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One for the process.
pub(super) struct Shared {
    pub(super) process: Arc<Process>,
    /// What all guards have in common.
    pub(super) party: Party,
    /// Who answers policies' asks, unless a host does.
    pub(super) embedded: Embedded,
    pub(super) plugins: Plugins,
    pub(super) access_log: AccessLog,
    /// One for each lane, written by that alone.
    pub(super) lanes: Vec<Arc<LaneCounts>>,
    /// What lanes run before their first plan.
    pub(super) empty_plan: Arc<Plan>,
    pub(super) reloads_taken: AtomicU64,
    pub(super) reloads_refused: AtomicU64,
    is_stopping: AtomicBool,
    connections: AtomicU64,
    start: Instant,
}

impl Shared {
    pub(super) fn new(
        embedded: Embedded,
        plugins: Plugins,
        access_log: AccessLog,
        empty_plan: Plan,
    ) -> Self {
        let lanes = (0..empty_plan.settings.workers).map(|_| Arc::default()).collect();
        Self {
            process: Process::new(),
            party: Party::new(),
            embedded,
            plugins,
            access_log,
            lanes,
            empty_plan: Arc::new(empty_plan),
            reloads_taken: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// From now on probes are told to send requests elsewhere.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.embedded.stop();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// A number for a connection, never given twice.
    pub(super) fn connection_id(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Nanoseconds since this process began.
    pub(super) fn monotonic_ns(&self) -> u64 {
        super::time::nanos(self.start.elapsed())
    }

    /// The moment that [`Shared::monotonic_ns`] calls so.
    pub(super) fn instant(&self, monotonic_ns: u64) -> Instant {
        self.start + Duration::from_nanos(monotonic_ns)
    }
}
