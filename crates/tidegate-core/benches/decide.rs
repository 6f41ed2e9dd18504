//! Nanoseconds per decision, on this machine: `cargo bench -p tidegate-core`.
//!
//! Each decision comes a little later than the one before, so time passes as it does in
//! service; half of those on one key are refused.

use divan::{Bencher, black_box};
use serde_json::{Value, json};
use tidegate_core::ask::{Ask, Item, LimitTag, MemoryStore};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::gate::{Gate, Ground, Step};
use tidegate_core::key::Key;
use tidegate_core::lease::HolderId;
use tidegate_core::limit::token_bucket::{Chunk, draw};
use tidegate_core::limit::{Algorithm, Quota, State};
use tidegate_core::policy::Policy;
use tidegate_core::table::{Conflict, SET_BYTES, Set, Slots, Table};
use tidegate_core::time::{Instant, Span};
use tidegate_core::verdict::Verdict;
use tidegate_core::wire::{decode_ask, decode_reply, encode_ask, encode_reply};
use tidegate_policy::resolve::resolve;
use tidegate_policy::text::Document;

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
    let item = |number| Item { key: key(number), limit: LimitTag(number), quota, cost: 1, owed: 0 };
    Ask { items: (1..=items).map(item).collect() }
}

/// A whole request, let through: match, make keys, decide. So many local limits in the policy, of
/// which one is for all requests and, of more than one, another for this request's path.
#[divan::bench(args = [1, 10, 100], sample_size = 1_000)]
fn gate_on_request(bencher: Bencher<'_, '_>, limits: usize) {
    let policy = policy(limits);
    let (mut request, mut process) = (Request::new(&policy), Process::new());
    let mut gate = Gate::new(policy, &[7; 16], HolderId::new(1, 0));
    bencher.bench_local(|| {
        let step = gate.on_request(&mut process, black_box(&mut request));
        assert!(matches!(step, Step::Answer(Verdict::Allow(_))));
    });
}

fn policy(limits: usize) -> Policy {
    let area = |number| {
        json!({ "name": format!("area-{number}"), "when": { "path": format!("/area-{number}/*") },
                "key": ["client_ip"], "rate": "1000000000/1s" })
    };
    let mut list: Vec<Value> = (1..limits).map(area).collect();
    list.push(json!({ "name": "all", "key": [{ "header": "x-key" }], "rate": "1000000000/1s" }));
    let document = json!({ "tidegate": 1, "domain": "bench", "limits": list });
    let document: Document = serde_json::from_value(document).expect("a document");
    let resolved = resolve(&document);
    resolved.policy.unwrap_or_else(|| panic!("{:#?}", resolved.diagnostics))
}

/// What the policy wants to know of one request, looked up before.
struct Request(Vec<&'static [u8]>);

impl Request {
    fn new(policy: &Policy) -> Self {
        let value = |want: &Want| match want {
            Want::Header(name) if &**name == ":path" => &b"/area-5/items?page=2"[..],
            Want::ClientAddress => b"192.0.2.1:4711",
            _ => b"some-client",
        };
        Self(policy.wants.iter().map(value).collect())
    }
}

impl Facts for Request {
    fn read(&mut self, id: WantId, _: &Want) -> Option<&[u8]> {
        self.0.get(usize::from(id.0)).copied()
    }
}

/// Shared data of a process with one worker, which never loses a race.
struct Process {
    sets: Vec<([u8; SET_BYTES], u32)>,
    now: Instant,
}

impl Process {
    fn new() -> Self {
        Self { sets: Vec::new(), now: Instant(1_700_000_000_000_000_000) }
    }

    fn set(&mut self, number: u32) -> &mut ([u8; SET_BYTES], u32) {
        let number = number as usize;
        if self.sets.len() <= number {
            self.sets.resize(number + 1, ([0; SET_BYTES], 0));
        }
        &mut self.sets[number]
    }
}

impl Slots for Process {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        let (bytes, version) = self.set(set);
        into.copy_from_slice(bytes);
        *version
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        *self.set(set) = (*bytes, version + 1);
        Ok(())
    }
}

impl Ground for Process {
    fn now(&mut self) -> Instant {
        self.now = self.now.after(Span::from_micros(500));
        self.now
    }
}
