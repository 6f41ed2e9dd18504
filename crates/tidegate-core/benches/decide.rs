//! Nanoseconds per decision, on this machine: `cargo bench -p tidegate-core`.
//!
//! Each decision comes a little later than the one before, so time passes as it does in
//! service; half of those on one key are refused.

use divan::{Bencher, black_box};
use tidegate_core::ask::{Ask, Item, LimitTag, MemoryStore};
use tidegate_core::key::Key;
use tidegate_core::limit::token_bucket::{Chunk, draw};
use tidegate_core::limit::{Algorithm, Quota, State};
use tidegate_core::table::{Set, Table};
use tidegate_core::time::{Instant, Span};
use tidegate_core::wire::{decode_ask, decode_reply, encode_ask, encode_reply};

fn main() {
    divan::main();
}

const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter];

/// 1000 a second, asked 2000 times a second.
fn quota(algorithm: Algorithm) -> Quota {
    Quota::new(algorithm, 1_000, Span::from_secs(1), 1_000).expect("possible")
}

/// A clock that moves on by half a millisecond at each reading.
fn clock() -> impl FnMut() -> Instant {
    let mut now = Instant(1_700_000_000_000_000_000);
    move || {
        now = now.after(Span::from_micros(500));
        now
    }
}

/// A key for each number, spread as a hash would spread it.
fn key(number: u64) -> Key {
    Key(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes())
}

#[divan::bench(args = ALGORITHMS)]
fn check(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (quota, mut state, mut clock) = (quota(algorithm), State::default(), clock());
    quota.take(&mut state, clock(), 500).expect("room");
    bencher.bench_local(|| quota.check(black_box(&state), clock(), 1));
}

#[divan::bench(args = ALGORITHMS)]
fn take(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (quota, mut state, mut clock) = (quota(algorithm), State::default(), clock());
    bencher.bench_local(|| quota.take(black_box(&mut state), clock(), 1));
}

#[divan::bench]
fn draw_a_chunk_of_8(bencher: Bencher<'_, '_>) {
    let (quota, mut state) = (quota(Algorithm::TokenBucket), State::default());
    let (mut clock, mut chunk) = (clock(), Chunk::default());
    bencher.bench_local(|| {
        chunk.left = 0;
        let (next, said) = draw(&quota, black_box(&mut state), clock(), chunk, 1, 8);
        chunk = next;
        said
    });
}

/// As a request does it on a worker's own copy of a set: find, take, weigh, put.
#[divan::bench(args = ALGORITHMS)]
fn take_through_a_set(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (quota, mut set, mut clock) = (quota(algorithm), Set::empty(), clock());
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 1) % 8;
        let (key, now) = (key(number), clock());
        let mut state = set.state(&key);
        let said = quota.take(&mut state, now, 1);
        set.put(&key, &state, quota.weight(&state, now), now);
        said
    });
}

/// The same, over a table of 65,536 keys in 6 MB, each request on another of 60,000 keys.
#[divan::bench(args = ALGORITHMS, sample_size = 1_000)]
fn take_through_a_table(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (quota, table, mut clock) = (quota(algorithm), Table::new(65_536), clock());
    let mut sets = vec![Set::empty(); table.sets() as usize];
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 7_919) % 60_000;
        let (key, now) = (key(number), clock());
        let set = &mut sets[table.set_of(&key) as usize];
        let mut state = set.state(&key);
        let said = quota.take(&mut state, now, 1);
        set.put(&key, &state, quota.weight(&state, now), now);
        said
    });
}

#[divan::bench(args = [1, 4, 16], sample_size = 1_000)]
fn answer_from_memory(bencher: Bencher<'_, '_>, items: u64) {
    let (mut store, mut clock, ask) = (MemoryStore::new(65_536), clock(), ask(items));
    bencher.bench_local(|| store.answer(clock(), black_box(&ask)));
}

#[divan::bench(args = [1, 4, 16])]
fn ask_to_bytes_and_back(bencher: Bencher<'_, '_>, items: u64) {
    let ask = ask(items);
    bencher.bench_local(|| decode_ask(&encode_ask(black_box(&ask))));
}

#[divan::bench(args = [1, 4, 16])]
fn reply_to_bytes_and_back(bencher: Bencher<'_, '_>, items: u64) {
    let reply = MemoryStore::new(64).answer(Instant(1), &ask(items));
    bencher.bench_local(|| decode_reply(&encode_reply(black_box(&reply))));
}

fn ask(items: u64) -> Ask {
    let quota = quota(Algorithm::TokenBucket);
    let item = |number| Item { key: key(number), limit: LimitTag(number), quota, cost: 1 };
    Ask { items: (1..=items).map(item).collect() }
}
