//! Asks for leases go out together: what no request waits for gathers for a millisecond, what
//! one waits for never does.

mod leasing;
mod server;

use leasing::{PATIENCE, connected, want};
use server::Server;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_core::lease::{Ask, HolderId, Want};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_redis::Store;
use tokio::task::{JoinSet, yield_now};

const PROXIES: u64 = 16;
const KEYS: u64 = 4;

/// The proxies' tasks take turns with the one that sends, as they do where each has its own
/// connection: without a pause it would send each ask by itself.
#[tokio::test]
async fn what_proxies_tell_within_a_millisecond_is_one_write() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    ask(&store, 0, idle(0)).await;
    let reads = || server.info("total_reads_processed").parse::<u64>().unwrap();
    let batches = || store.stats().batches().iter().sum::<u64>();
    let (reads_before, batches_before) = (reads(), batches());
    let mut proxies = JoinSet::new();
    for proxy in 1..=PROXIES {
        let store = store.clone();
        proxies.spawn(async move { ask(&store, proxy, idle(proxy)).await });
        for _ in 0..4 {
            yield_now().await;
        }
    }
    proxies.join_all().await;
    let (reads, batches) = (reads() - reads_before, batches() - batches_before);
    // All in one, unless the machine stood still in between. To look at it is a read, and a
    // probe may be one.
    assert!((1..=PROXIES / 4).contains(&batches), "{PROXIES} asks in {batches} batches");
    assert!(reads <= batches + 4, "{batches} batches in {reads} reads");
}

#[tokio::test]
async fn only_what_no_request_waits_for_takes_its_time() {
    const LINGER: Duration = Duration::from_millis(1);
    const ASKS: u64 = 50;
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quickest = async |want: fn(u64) -> Want, keys: u64| {
        let mut quickest = PATIENCE;
        for number in 0..ASKS {
            let start = Instant::now();
            ask(&store, keys + number, want(keys)).await;
            quickest = quickest.min(start.elapsed());
        }
        quickest
    };
    let [told, leased, waited] =
        [quickest(idle, 100).await, quickest(hurried, 200).await, quickest(soon, 300).await];
    assert!(told >= LINGER, "{told:?}");
    // However long a round trip takes here, these take no more than that.
    assert!(told >= leased.max(waited) + LINGER / 2, "{told:?} {leased:?} {waited:?}");
}

/// One of several proxies asks for the first time.
async fn ask(store: &Arc<Store>, proxy: u64, first: Want) {
    let wants = (0..KEYS).map(|key| {
        let mut want = first.clone();
        want.key.0[0] = key as u8;
        want
    });
    let ask = Ask { holder: HolderId::new(proxy, 0), seq: 1, wants: wants.collect() };
    let grants = store.lease(ask, PATIENCE).await.unwrap();
    assert!(grants.iter().all(Result::is_ok), "{grants:?}");
}

fn idle(key: u64) -> Want {
    let quota = Quota::new(Algorithm::TokenBucket, 100, Span::from_secs(1), 100).unwrap();
    Want { least: 0, ..want(key, quota, 5) }
}

/// A request waits, and what is granted is held as a lease.
fn hurried(key: u64) -> Want {
    Want { least: 1, ..idle(key) }
}

fn soon(key: u64) -> Want {
    Want { soon: 1, ..idle(key) }
}
