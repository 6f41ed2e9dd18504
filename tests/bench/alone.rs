//! Requests that were decided without the host, whose cost is another.

use anyhow::ensure;
use harness::Result;

/// So few of a hundred do not move a median.
const PERCENT_MAX: u64 = 3;

/// Tells of `alone` of a cell's requests, and fails if they are many.
pub(crate) fn are_few(name: &str, alone: u64, requests: u64) -> Result<()> {
    ensure!(
        alone * 100 <= requests * PERCENT_MAX,
        "the host did not answer in time for {alone} of {requests} requests of \"{name}\": \
         this machine is too busy to measure on"
    );
    if alone > 0 {
        eprintln!("{name}: the host did not answer in time for {alone} of {requests} requests");
    }
    Ok(())
}
