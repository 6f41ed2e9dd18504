//! The contract of leases: a real Redis gives to the bit the replies of core's records, and
//! keeps their very bytes.
//!
//! Both are asked the same random sequences at the same times: token buckets and sliding
//! windows, small, odd and huge; holders that tell the truth, late, twice, or nonsense; clocks
//! that stand still, leap and run backwards; stores that fail over; keys whose quota changes
//! under them. A failure prints its seed; `TIDEGATE_SEED=N` replays that one alone, and
//! `TIDEGATE_SEEDS=N` runs so many instead of the usual.

mod leasing;
mod quotas;
mod server;

use leasing::{LIMIT, client, connected, name};
use quotas::quotas;
use redis::aio::MultiplexedConnection;
use server::Server;
use std::collections::HashMap;
use std::sync::Arc;
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Ask, Grant, HOLDERS_MAX, Heard, HolderId, Place, RECORD_BYTES, Record, Replays, SETTLED_MAX,
    Settled, Terms, Want,
};
use tidegate_core::limit::{Algorithm, EXACT_MAX, PERIOD_MAX, Quota};
use tidegate_core::time::{Instant, Span};
use tidegate_redis::Store;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const SEEDS: u64 = 600;
const STEPS: usize = 60;

/// So many sequences at a time: enough to fill batches, and few enough that no record expires
/// between two steps.
const AT_ONCE: usize = 48;

/// A store remembers only so many holders' asks, and each sequence has its own.
const SEEDS_A_STORE: usize = HOLDERS_MAX / HOLDERS as usize;

/// Few keys, so that they meet many quotas.
const KEYS: u64 = 3;

/// Few holders, so that each comes often.
const HOLDERS: u64 = 5;

/// As far as clocks go: four of the longest periods more, and microseconds would no longer be
/// exact in a double.
const CLOCK_MAX_US: u64 = EXACT_MAX - 4 * PERIOD_MAX.micros();

/// Where clocks start: at their zero, today, and near their end.
const STARTS_US: [u64; 3] = [1, 1_763_000_000_000_000, CLOCK_MAX_US - 2 * PERIOD_MAX.micros() - 1];

#[tokio::test]
async fn redis_grants_as_the_record_to_the_bit_and_keeps_its_bytes() {
    let Some(server) = Server::start() else { return };
    let seeds: Vec<_> = match (number("TIDEGATE_SEED"), number("TIDEGATE_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(SEEDS)).collect(),
    };
    let mut all = Seen::default();
    for seeds in seeds.chunks(SEEDS_A_STORE) {
        let store = connected(&server).await;
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut sequences = JoinSet::new();
        for seed in seeds {
            let connection = client(&server).await;
            let (sequence, room) = (Sequence::new(*seed, store.clone(), connection), room.clone());
            sequences.spawn(async move {
                let _permit = room.acquire().await;
                sequence.run().await
            });
        }
        while let Some(seen) = sequences.join_next().await {
            all.add(&seen.unwrap());
        }
    }
    println!("{all:?}");
    // Sequences in which nothing happens would compare little.
    if seeds.len() >= 100 {
        let least = all.steps / 20;
        assert!(all.granted > least && all.refused > least, "{all:?}");
        assert!(all.settled > least && all.forgotten > least / 2, "{all:?}");
    }
}

/// What happened in sequences.
#[derive(Debug, Default)]
struct Seen {
    steps: usize,
    granted: usize,
    refused: usize,
    /// Wants that settled some of what is outstanding.
    settled: usize,
    /// Eras begun with nothing to grant.
    forgotten: usize,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.granted += other.granted;
        self.refused += other.refused;
        self.settled += other.settled;
        self.forgotten += other.forgotten;
    }
}

/// One random life of a few keys.
struct Sequence {
    seed: u64,
    dice: fastrand::Rng,
    store: Arc<Store>,
    connection: MultiplexedConnection,
    quotas: Vec<Quota>,
    now_us: u64,
    stamp: u64,
    began_us: Option<u64>,
    seqs: [u64; HOLDERS as usize],
    /// By key: the twin, and what was granted lately.
    records: HashMap<u64, (Record, Vec<Grant>)>,
    replays: Replays,
    seen: Seen,
}

impl Sequence {
    fn new(seed: u64, store: Arc<Store>, connection: MultiplexedConnection) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let quotas = leased_quotas(&mut dice);
        let now_us = STARTS_US[dice.usize(..STARTS_US.len())];
        Self {
            seed,
            store,
            connection,
            quotas,
            now_us,
            stamp: dice.u64(..),
            began_us: None,
            seqs: [0; HOLDERS as usize],
            records: HashMap::new(),
            replays: Replays::default(),
            seen: Seen::default(),
            dice,
        }
    }

    async fn run(mut self) -> Seen {
        for step in 0..STEPS {
            self.pass();
            let ask = self.ask();
            let place = self.place();
            let wanted = self.twin(&place, &ask);
            let found = self.store.lease_at(ask.clone(), place).await;
            let found = found.map(|grants| grants.into_iter().collect::<Result<Vec<_>, _>>());
            let found = found.transpose();
            let told = |what: &str| {
                format!("TIDEGATE_SEED={}, step {step}, {what}, {place:?}: {ask:#?}", self.seed)
            };
            let found = found.unwrap_or_else(|error| panic!("{}: {error:?}", told("no reply")));
            assert_eq!(found, wanted, "{}", told("replies"));
            for want in &ask.wants {
                let bytes = kept(&mut self.connection, want.key).await;
                let twin = self.records.get(&number_of(want.key));
                let record = twin.map(|(record, _)| *record).unwrap_or_default();
                assert_eq!(Record::from_bytes(&bytes), record, "{}", told("records"));
                assert_eq!(bytes, record.to_bytes(), "{}", told("bytes"));
            }
            self.seen.steps += 1;
        }
        self.seen
    }

    /// What core says to it.
    fn twin(&mut self, place: &Place, ask: &Ask) -> Option<Vec<Grant>> {
        let may_settle = match self.replays.hear(place.now, ask.holder, ask.seq) {
            Heard::First => true,
            Heard::Perhaps => false,
            Heard::Again => return None,
        };
        let mut grants = Vec::new();
        for want in &ask.wants {
            let (record, lately) = self.records.entry(number_of(want.key)).or_default();
            let before = *record;
            let grant = record.answer(place, ask.holder, want, may_settle);
            let is_new_era = before.to_bytes()[4..8] != record.to_bytes()[4..8];
            let was_seen = before != Record::default();
            self.seen.granted += usize::from(grant.units > 0);
            self.seen.refused += usize::from(grant.units == 0 && want.units > 0);
            self.seen.forgotten += usize::from(is_new_era && was_seen);
            let told = want.settled.iter().any(|settled| settled.spent > 0 || settled.returned > 0);
            self.seen.settled += usize::from(
                told && record.outstanding() < before.outstanding().saturating_add(grant.units),
            );
            lately.push(grant);
            if lately.len() > 6 {
                lately.remove(0);
            }
            grants.push(grant);
        }
        Some(grants)
    }

    fn place(&self) -> Place {
        let now = Instant(self.now_us * 1_000);
        let began = self.began_us.map(|began| Instant(began * 1_000));
        Place { now, stamp: self.stamp, began }
    }

    /// Mostly a little later; sometimes at once, a period on, long after, or earlier; now and
    /// then another store.
    fn pass(&mut self) {
        let dice = &mut self.dice;
        let quota = &self.quotas[dice.usize(..self.quotas.len())];
        let period_us = quota.period().micros();
        let step = match dice.u8(..14) {
            0 | 1 => 0,
            2..=5 => dice.u64(0..=60_000),
            6 | 7 => dice.u64(0..=400_000),
            8 => dice.u64(0..=2_000_000),
            9 => dice.u64(0..=period_us / u64::from(quota.count()) * 3 + 3),
            10 => dice.u64(0..=period_us),
            11 => dice.u64(0..=period_us * 3).min(40_000_000_000_000),
            12 => 1,
            _ => {
                self.now_us = self.now_us.saturating_sub(dice.u64(0..=period_us)).max(1);
                0
            }
        };
        self.now_us = (self.now_us + step).min(CLOCK_MAX_US);
        if dice.u8(..24) == 0 {
            self.stamp = dice.u64(..);
            self.began_us =
                dice.bool().then(|| self.now_us.saturating_sub(dice.u64(0..20_000_000)));
        }
    }

    fn ask(&mut self) -> Ask {
        let holder = self.dice.u64(..HOLDERS);
        let seq = &mut self.seqs[holder as usize];
        // Now and then again, or out of order.
        let seq = match self.dice.u8(..10) {
            0 => seq.saturating_sub(self.dice.u64(0..3)),
            1 => {
                *seq += 3;
                *seq - 1
            }
            _ => {
                *seq += 1;
                *seq
            }
        };
        let count = if self.dice.bool() { 1 } else { self.dice.u64(1..=KEYS) };
        let first = self.dice.u64(..KEYS);
        let keys = (0..count).map(|number| (first + number) % KEYS);
        let wants = keys.map(|key| self.want(key)).collect();
        Ask { holder: HolderId::new(self.seed << 8 | holder, 1), seq, wants }
    }

    fn want(&mut self, key: u64) -> Want {
        let number = self.seed << 8 | key;
        let dice = &mut self.dice;
        // A key mostly keeps its quota; now and then it is given another.
        let usual = key as usize % self.quotas.len();
        let quota = if dice.u8(..12) == 0 { dice.usize(..self.quotas.len()) } else { usual };
        let quota = self.quotas[quota];
        let reserve = Terms::new(quota, Span::ZERO, dice.u32(..4)).unwrap().reserve();
        let lately = self.records.get(&number).map_or(&[][..], |(_, lately)| &lately[..]);
        let known_grant = lately.get(dice.usize(..lately.len().max(1))).copied();
        let (mut era, mut version) = known_grant.map_or((0, 0), |g| (g.era, g.version));
        match dice.u8(..20) {
            0 => (era, version) = (0, 0),
            1 => (era, version) = (dice.u32(..), dice.u32(..)),
            2 => version = version.saturating_add(dice.u32(..20)),
            _ => {}
        }
        let mut settled = [Settled::default(); SETTLED_MAX];
        for settled in &mut settled {
            let Some(grant) = lately.get(dice.usize(..lately.len().max(1))) else { continue };
            *settled = match dice.u8(..8) {
                0 => Settled { epoch: dice.u32(..), spent: dice.u32(..), returned: dice.u32(..) },
                1 => Settled {
                    epoch: grant.epoch.wrapping_sub(dice.u32(..6)),
                    spent: dice.u32(..=quota.burst()),
                    returned: dice.u32(..=quota.burst()),
                },
                2..=5 => {
                    let leased = grant.units - grant.soon;
                    let spent = dice.u32(..=leased);
                    let returned = dice.u32(..=leased - spent);
                    Settled { epoch: grant.epoch, spent, returned }
                }
                _ => Settled::default(),
            };
        }
        let units = match dice.u8(..8) {
            0 => 0,
            1 | 2 => dice.u32(..=3),
            3 | 4 => dice.u32(..=quota.burst().min(50)),
            5 => quota.burst(),
            6 => dice.u32(..),
            _ => dice.u32(..=quota.burst()),
        };
        let soon = if dice.bool() { 0 } else { dice.u32(..=units) };
        let rarely = |dice: &mut fastrand::Rng, most: u32| match dice.u8(..24) {
            0 => dice.u32(..),
            1 | 2 => dice.u32(..=most),
            _ => 0,
        };
        Want {
            key: Key(u128::from(number).to_be_bytes()),
            limit: LIMIT,
            quota,
            reserve,
            era,
            version,
            settled,
            known: rarely(dice, quota.burst()),
            owed: rarely(dice, 3),
            units,
            soon,
            least: if dice.bool() { units.min(1) } else { dice.u32(..=units) },
            rate_milli: match dice.u8(..12) {
                0 => 0,
                1 => dice.u64(..),
                _ => dice.u64(..=u64::from(quota.count()) * 3_000),
            },
            tried: if dice.u8(..20) == 0 { dice.u32(..) } else { units.min(dice.u32(..500)) },
        }
    }
}

/// Quotas that can be leased.
fn leased_quotas(dice: &mut fastrand::Rng) -> Vec<Quota> {
    let is_leased = |quota: &Quota| Terms::new(*quota, Span::ZERO, 0).is_some();
    quotas(dice, &[Algorithm::TokenBucket, Algorithm::SlidingWindow], 2_020, is_leased)
}

fn number_of(key: Key) -> u64 {
    u64::try_from(u128::from_be_bytes(key.0)).unwrap()
}

/// What is kept of a key, filled up with zeros; from then on it does not expire, as its time
/// is not the server's.
async fn kept(connection: &mut MultiplexedConnection, key: Key) -> [u8; RECORD_BYTES] {
    let name = name(key);
    let mut both = redis::pipe();
    both.cmd("PERSIST").arg(&name).ignore().cmd("GET").arg(&name);
    let (bytes,): (Vec<u8>,) = both.query_async(connection).await.unwrap();
    let mut record = [0; RECORD_BYTES];
    record[..bytes.len()].copy_from_slice(&bytes);
    record
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}
