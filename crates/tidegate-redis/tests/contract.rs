//! The contract: a real Redis gives to the bit the replies of the memory store.
//!
//! Both are asked the same random sequences at the same times: every algorithm, one to four
//! budgets at once, costs from zero to beyond the burst, clocks that stand still, leap and
//! run backwards, and keys whose quota changes under them, to every other kind. A failure
//! prints its seed; `TIDEGATE_SEED=N` replays that one alone.

mod quotas;
mod server;

use quotas::quotas;
use server::Server;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::ask::{Ask, Item, LimitTag, MemoryStore};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, EXACT_MAX, PERIOD_MAX, Quota};
use tidegate_core::time::{Instant, Span};
use tidegate_redis::{Settings, Store};
use tokio::task::JoinSet;

const SEEDS: u64 = 400;
const STEPS: usize = 60;

/// Few keys, so that they meet many quotas.
const KEYS: u64 = 5;

const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter];

/// As far as clocks go: four of the longest periods more, and microseconds would no longer be
/// exact in a double. On Redis's clock that is in the year 2251.
const CLOCK_MAX_US: u64 = EXACT_MAX - 4 * PERIOD_MAX.micros();

/// Where clocks start: at their zero, today, and near their end.
const STARTS_US: [u64; 3] = [1, 1_763_000_000_000_000, CLOCK_MAX_US - 2 * PERIOD_MAX.micros() - 1];

#[tokio::test]
async fn redis_replies_as_the_memory_store_to_the_bit() {
    let Some(server) = Server::start() else { return };
    let store = Arc::new(connected(&server).await);
    let seeds = match std::env::var("TIDEGATE_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=SEEDS,
    };
    // All at once: no two share a key, and together they fill batches.
    let mut sequences: JoinSet<_> = seeds.map(|seed| sequence(store.clone(), seed)).collect();
    let (mut admitted, mut refused) = (0, 0);
    while let Some(counted) = sequences.join_next().await {
        let counted = counted.unwrap();
        admitted += counted.0;
        refused += counted.1;
    }
    // Sequences that only admit, or only refuse, would compare little.
    assert!(admitted > 10 && refused > 10, "{admitted} admitted, {refused} refused");
}

/// Holds the stores together for one seed; how many asks were admitted, and refused.
async fn sequence(store: Arc<Store>, seed: u64) -> (usize, usize) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut memory = MemoryStore::new(4096);
    let quotas = quotas(&mut dice, &ALGORITHMS, 20, |_| true);
    let mut now_us = STARTS_US[dice.usize(..STARTS_US.len())];
    let mut admitted = 0;
    for step in 0..STEPS {
        now_us = later(&mut dice, now_us, &quotas);
        let ask = ask(&mut dice, seed, &quotas);
        let wanted = memory.answer(Instant(now_us * 1_000), &ask);
        let found = store.answer_at(ask.clone(), now_us).await;
        let found = found.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error:?}"));
        assert_eq!(found, wanted, "TIDEGATE_SEED={seed}, step {step}, now {now_us}: {ask:?}");
        admitted += usize::from(wanted.admits());
    }
    (admitted, STEPS - admitted)
}

#[tokio::test]
async fn the_largest_numbers_are_counted_alike() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let largest = ALGORITHMS.iter().flat_map(|algorithm| {
        [Span::from_millis(1), Span::from_secs(1), PERIOD_MAX]
            .map(|period| (*algorithm, largest_count(*algorithm, period), period))
    });
    for (number, (algorithm, count, period)) in largest.enumerate() {
        let quota = Quota::new(algorithm, count, period, count).unwrap();
        let mut memory = MemoryStore::new(64);
        let start = STARTS_US[2];
        let period_us = period.micros();
        for (elapsed, cost) in [
            (0, count),
            (0, 1),
            (1, 1),
            (period_us / 3, count / 3),
            (period_us, 1),
            (period_us + 1, count - 1),
            (period_us * 2, count),
            (period_us * 2, 0),
        ] {
            let item = Item { owed: cost / 2, ..item(number as u64, quota, cost) };
            let (now_us, ask) = (start + elapsed, Ask { items: vec![item] });
            let wanted = memory.answer(Instant(now_us * 1_000), &ask);
            let found = store.answer_at(ask, now_us).await.unwrap();
            assert_eq!(found, wanted, "{quota} at +{elapsed} us, cost {cost}");
        }
    }
}

#[tokio::test]
async fn keys_expire_when_they_say_nothing_more() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    // One unit of 60 a minute drains in 1 s; a window forgets within 11/10, a counter in 2.
    for (number, (algorithm, least, most)) in (0..).zip([
        (Algorithm::TokenBucket, 1_000, 1_000),
        (Algorithm::SlidingWindow, 60_000, 66_000),
        (Algorithm::SlidingCounter, 60_000, 120_000),
    ]) {
        let quota = Quota::new(algorithm, 60, Span::from_secs(60), 60).unwrap();
        let ask = Ask { items: vec![item(number, quota, 1)] };
        assert!(store.answer(ask).await.unwrap().admits());
        let name = format!("tidegate:{:016x}:{{{:032x}}}", 9, number);
        let ttl: i64 = server.command(&["PTTL", &name])[1..].parse().unwrap();
        let slack = 10_000;
        assert!((least + slack - 5_000..=most + slack).contains(&ttl), "{algorithm:?}: {ttl} ms");
    }
    // Looking and being refused leave nothing behind.
    let quota = Quota::new(Algorithm::TokenBucket, 1, Span::from_secs(60), 1).unwrap();
    for cost in [0, 2] {
        store.answer(Ask { items: vec![item(77, quota, cost)] }).await.unwrap();
    }
    assert_eq!(server.command(&["EXISTS", &format!("tidegate:{:016x}:{{{:032x}}}", 9, 77)]), ":0");
}

#[tokio::test]
async fn a_key_that_somebody_else_wrote_counts_as_never_seen() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quota = Quota::new(Algorithm::TokenBucket, 5, Span::from_secs(60), 5).unwrap();
    for (number, text) in [(1, ""), (2, "\u{1}"), (3, "hello"), (4, "\u{2}something longer")] {
        server.command(&["SET", &format!("tidegate:{:016x}:{{{:032x}}}", 9, number), text]);
        let reply = store.answer(Ask { items: vec![item(number, quota, 1)] }).await.unwrap();
        assert_eq!(reply.answers[0].outcome.as_ref().unwrap().remaining, 4, "{text:?}");
    }
    server.command(&["LPUSH", &format!("tidegate:{:016x}:{{{:032x}}}", 9, 5), "x"]);
    assert!(store.answer(Ask { items: vec![item(5, quota, 1)] }).await.unwrap().admits());
}

async fn connected(server: &Server) -> Store {
    let mut settings = Settings::standalone("127.0.0.1".to_owned(), server.port);
    // These tests hold sums together, not times.
    settings.read_timeout = Duration::from_secs(10);
    settings.pool_timeout = Duration::from_secs(10);
    settings.dial_timeout = Duration::from_secs(10);
    let store = Store::start(settings);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while let Some(trouble) = store.trouble() {
        assert!(std::time::Instant::now() < end, "{trouble}");
        tokio::task::yield_now().await;
    }
    store
}

fn item(key: u64, quota: Quota, cost: u32) -> Item {
    Item { key: Key(u128::from(key).to_be_bytes()), limit: LimitTag(9), quota, cost, owed: 0 }
}

/// Mostly a little later; sometimes at once, a period on, long after, or earlier.
fn later(dice: &mut fastrand::Rng, now_us: u64, quotas: &[Quota]) -> u64 {
    let quota = &quotas[dice.usize(..quotas.len())];
    let period_us = quota.period().micros();
    let step = match dice.u8(..12) {
        0 | 1 => 0,
        2..=6 => dice.u64(0..=period_us / u64::from(quota.count()) * 3 + 3),
        7 | 8 => dice.u64(0..=period_us),
        9 => dice.u64(0..=period_us * 3).min(40_000_000_000_000),
        10 => 1,
        _ => return now_us.saturating_sub(dice.u64(0..=period_us)).max(1),
    };
    (now_us + step).min(CLOCK_MAX_US)
}

fn ask(dice: &mut fastrand::Rng, seed: u64, quotas: &[Quota]) -> Ask {
    let first = dice.u64(..KEYS);
    let count = if dice.bool() { 1 } else { dice.u64(1..=4) };
    let items = (0..count).map(|n| {
        // A key mostly keeps its quota; now and then it is given another.
        let key = (first + n) % KEYS;
        let usual = key as usize % quotas.len();
        let quota = quotas[if dice.u8(..8) == 0 { dice.usize(..quotas.len()) } else { usual }];
        let cost = match dice.u8(..10) {
            0 => 0,
            1..=4 => 1,
            5 => dice.u32(0..=quota.burst().min(10)),
            6 | 7 => dice.u32(0..=quota.burst()),
            8 => quota.burst(),
            _ => quota.burst().saturating_add(dice.u32(0..=1)),
        };
        let owed = match dice.u8(..12) {
            0 => dice.u32(0..=quota.burst()),
            1 => dice.u32(0..=3),
            _ => 0,
        };
        Item { owed, ..item(seed << 8 | key, quota, cost) }
    });
    Ask { items: items.collect() }
}

/// The largest count of which a quota exists, by halving.
fn largest_count(algorithm: Algorithm, period: Span) -> u32 {
    let exists = |count: &u32| Quota::new(algorithm, *count, period, *count).is_ok();
    let mut count: u32 = 0;
    for bit in (0..32).rev() {
        let larger = count | 1 << bit;
        if exists(&larger) {
            count = larger;
        }
    }
    count
}
