//! The service without a door: it answers filters that run in this very process.
//!
//! What is asked goes the same way as through a listener, mark and metrics included; only
//! the connection is missing.

use super::Site;
use super::clock::Clock;
use super::door::Use;
use super::revoking::Kept;
use super::routes::{self, Reply};
use super::store::Predecessor;
use crate::config::{Http, Provider};
use crate::plugins::Plugins;
use crate::revocations::Wall;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// One store for all threads of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Embedded(Arc<Site>);

/// Nothing here waits for a network: more asks at once than this are a runaway.
const BOUNDS: Http = Http {
    // There are no connections, but as many polls of workers may wait.
    connections_max: 1_024,
    in_flight_max: 100_000,
    streams_max: 0,
    request_timeout: Duration::from_secs(1),
};

impl Embedded {
    /// A store in memory, of at most `keys_max` keys.
    pub(crate) fn in_memory(keys_max: u32, plugins: Plugins) -> Self {
        Self::by(Clock::of_this_machine(), Wall::of_this_machine(), keys_max, plugins)
    }

    /// The same, on a clock that counts nanoseconds as `nanos` says, from `start_ms` of Unix
    /// time on.
    pub(crate) fn on_clock(
        nanos: Arc<AtomicU64>,
        start_ms: u64,
        keys_max: u32,
        plugins: Plugins,
    ) -> Self {
        let (clock, wall) = (Clock::given(nanos.clone()), Wall::given(start_ms, nanos));
        Self::by(clock, wall, keys_max, plugins)
    }

    fn by(clock: Clock, wall: Wall, keys_max: u32, plugins: Plugins) -> Self {
        let memory = Provider::Memory { keys_max };
        let kept = Kept::in_memory(wall);
        // Whoever holds leases of it is in this process too.
        let site = Site::new(&memory, &BOUNDS, clock, Predecessor::None, kept, plugins);
        Self(Arc::new(Site { is_embedded: true, ..site }))
    }

    /// What is revoked, for those who revoke in this process.
    #[cfg(test)]
    pub(crate) fn revocations(&self) -> Option<&Arc<crate::revocations::Revocations>> {
        self.0.revocations.get()
    }

    /// Answers a request as the door for asks does.
    pub(crate) async fn answer(&self, request: Request<Full<Bytes>>) -> Reply {
        routes::answer(&self.0, Use::Asks, request).await
    }

    /// From now on `/readyz` says that this process is about to end.
    pub(crate) fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Its counters, as OpenMetrics text with an end mark.
    pub(crate) fn write_metrics(&self, page: &mut String) {
        // Writing into a `String` does not fail.
        let _ = self.0.metrics.write(&self.0, page);
    }
}

#[cfg(test)]
mod tests;
