//! Steady load on a store, and what came of it: when nothing was answered, and for how long.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_redis::Store;
use tokio::task::JoinSet;

/// One ask for each of these times, whether or not the last one was answered.
const EVERY: Duration = Duration::from_millis(5);

/// Asks that are sent until it is told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// When an ask was sent, when it was answered, and why it was not.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub sent: Instant,
    pub came: Instant,
    pub error: Option<&'static str>,
    pub key: u64,
    pub admitted: bool,
}

/// What came of it.
pub struct Report(Vec<Answer>);

impl Load {
    /// Asks about each of `keys` in turn.
    pub fn start(store: &Arc<Store>, keys: Vec<u64>) -> Self {
        Self::start_with(store, keys, |key| one(key, u32::MAX))
    }

    /// Asks what `ask` says, about each of `keys` in turn.
    pub fn start_with(
        store: &Arc<Store>,
        keys: Vec<u64>,
        ask: impl Fn(u64) -> Ask + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let (store, told, noted) = (store.clone(), stop.clone(), answers.clone());
        let task = tokio::spawn(async move {
            let mut asks = JoinSet::new();
            let mut ticks = tokio::time::interval(EVERY);
            for key in keys.iter().cycle().copied() {
                ticks.tick().await;
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let (store, noted, ask) = (store.clone(), noted.clone(), ask(key));
                asks.spawn(async move {
                    let sent = Instant::now();
                    let reply = store.answer(ask).await;
                    let answer = Answer {
                        sent,
                        came: Instant::now(),
                        error: reply.as_ref().err().map(|error| error.kind()),
                        key,
                        admitted: reply.is_ok_and(|reply| reply.admits()),
                    };
                    noted.lock().unwrap().push(answer);
                });
            }
            asks.join_all().await;
        });
        Self { stop, task, answers }
    }

    /// Waits until some asks sent after `moment` were answered well.
    pub async fn answered_after(&self, moment: Instant) {
        self.answered(20, |answer| answer.sent > moment).await;
    }

    /// Waits until some asks about `key` sent after `moment` were answered well.
    pub async fn answered_about(&self, key: u64, moment: Instant) {
        self.answered(5, |answer| answer.key == key && answer.sent > moment).await;
    }

    async fn answered(&self, count: usize, which: impl Fn(&Answer) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let good = |answer: &&Answer| answer.error.is_none() && which(answer);
            if self.answers.lock().unwrap().iter().filter(good).count() >= count {
                return;
            }
            assert!(Instant::now() < end, "no answers again");
            tokio::time::sleep(EVERY).await;
        }
    }

    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let mut answers = std::mem::take(&mut *self.answers.lock().unwrap());
        answers.sort_by_key(|answer| answer.came);
        Report(answers)
    }
}

impl Report {
    /// The same of some keys only.
    pub fn of(&self, keys: impl Fn(u64) -> bool) -> Self {
        Self(self.0.iter().filter(|answer| keys(answer.key)).copied().collect())
    }

    /// The longest time without a good answer.
    pub fn outage(&self) -> Duration {
        let good: Vec<_> = self.0.iter().filter(|a| a.error.is_none()).map(|a| a.came).collect();
        good.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some good answers")
    }

    /// The longest time that anybody waited, whatever for.
    pub fn slowest(&self) -> Duration {
        self.0.iter().map(|answer| answer.came - answer.sent).max().expect("some answers")
    }

    pub fn errors(&self) -> BTreeMap<&'static str, usize> {
        let mut errors = BTreeMap::new();
        for error in self.0.iter().filter_map(|answer| answer.error) {
            *errors.entry(error).or_default() += 1;
        }
        errors
    }

    pub fn admitted(&self) -> usize {
        self.0.iter().filter(|answer| answer.admitted).count()
    }
}

/// An ask for one unit of a bucket that refills within days.
pub fn one(key: u64, burst: u32) -> Ask {
    Ask { items: vec![item(key, burst)] }
}

/// An ask for one unit of each of these.
pub fn all(keys: &[u64], burst: u32) -> Ask {
    Ask { items: keys.iter().map(|key| item(*key, burst)).collect() }
}

/// One unit of a bucket that refills within days.
pub fn item(key: u64, burst: u32) -> Item {
    let day = Span::from_secs(86_400);
    let quota = Quota::new(Algorithm::TokenBucket, 1, day, burst.min(60_000)).unwrap();
    Item { key: Key(u128::from(key).to_be_bytes()), limit: LimitTag(9), quota, cost: 1, owed: 0 }
}

/// An ask that only looks at such a bucket.
pub fn none(key: u64) -> Ask {
    let mut ask = one(key, u32::MAX);
    ask.items[0].cost = 0;
    ask
}

/// Odd, with ones and zeros all over.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Asks about one to four of a few budgets, which are small enough to refuse.
pub struct Sequence(Vec<Quota>);

impl Sequence {
    pub fn new(dice: &mut fastrand::Rng) -> Self {
        const ALGORITHMS: [Algorithm; 3] =
            [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter];
        let quota = |number: usize| {
            let (count, period) = (dice.u32(3..40), Span::from_millis(dice.u64(50..2_000)));
            let burst = dice.u32(1..40);
            Quota::new(ALGORITHMS[number % 3], count, period, burst).unwrap()
        };
        Self((0..9).map(quota).collect())
    }

    /// One ask; a key always has the same quota.
    pub fn ask(&self, dice: &mut fastrand::Rng) -> Ask {
        let mut keys: Vec<usize> = (0..self.0.len()).collect();
        dice.shuffle(&mut keys);
        keys.truncate(dice.usize(1..=4));
        let item = |number: usize| Item {
            // Keys are hashes: a store in memory spreads them by their first bytes.
            key: Key((number as u128 + 1).wrapping_mul(SPREAD).to_be_bytes()),
            limit: LimitTag(9),
            quota: self.0[number],
            cost: dice.u32(0..4),
            owed: dice.u32(0..8).saturating_sub(5),
        };
        Ask { items: keys.into_iter().map(item).collect() }
    }
}
