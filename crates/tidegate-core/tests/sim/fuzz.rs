//! Made-up histories: every step of every one must keep the promise.

use crate::request::LIMITS_MAX;
use crate::rng::Rng;
use crate::scenario::{Demand, Fault, Net, Replacement, Scenario};
use crate::world::World;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::policy::OnError;
use tidegate_core::time::Span;

/// Histories of a normal run.
const SEEDS: u64 = 1_500;

/// Requests that come in waves, each with its own favourites among the proxies.
pub(crate) struct Waves {
    waves: Vec<Wave>,
    length_ns: u64,
}

struct Wave {
    rate: f64,
    /// Of this many proxies only.
    proxies: u64,
}

impl Demand for Waves {
    fn rate(&mut self, now_ns: u64) -> f64 {
        self.wave(now_ns).rate
    }

    fn pick(&mut self, now_ns: u64, rng: &mut Rng) -> usize {
        rng.below(self.wave(now_ns).proxies) as usize
    }
}

impl Waves {
    fn wave(&self, now_ns: u64) -> &Wave {
        let at = (now_ns / self.length_ns) as usize;
        &self.waves[at.min(self.waves.len() - 1)]
    }
}

fn quota(algorithm: Algorithm, rng: &mut Rng) -> Quota {
    let rate = rng.one_of(&[2, 10, 50, 200, 1_000]);
    match algorithm {
        Algorithm::TokenBucket => {
            let burst = rng.within(1, rate * 2).max(1) as u32;
            Quota::new(algorithm, rate as u32, Span::from_secs(1), burst).unwrap()
        }
        _ => {
            let secs = rng.within(2, 5);
            let count = (rate * secs) as u32;
            Quota::new(algorithm, count, Span::from_secs(secs), count).unwrap()
        }
    }
}

/// What goes wrong in a history: nothing, one thing again and again, or a bit of all.
fn faults(rng: &mut Rng, proxies: usize, length_ns: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let theme = rng.below(8);
    let times = if theme == 7 { 3 } else { rng.within(1, 12) };
    let mut free_at = 0;
    for _ in 0..if theme == 0 { 0 } else { times } {
        let at = rng.within(300_000_000, length_ns);
        let away = rng.within(50, 1_500) * 1_000_000;
        match if theme == 7 { rng.within(1, 6) } else { theme } {
            1 | 2 => {
                let ms =
                    if rng.below(2) == 0 { rng.within(900, 1_600) } else { rng.within(1, 2_500) };
                let proxy = rng.below(proxies as u64) as usize;
                if rng.below(2) == 0 {
                    faults.push((at, Fault::Pause { proxy, ms }));
                    rush(&mut faults, at + ms * 1_000_000);
                } else {
                    faults.push((at, Fault::PauseMidAsk { proxy, ms }));
                }
            }
            3 => {
                let restarts = (0..40).map(|number| (at + number * 5_000_000, Fault::RestartHost));
                faults.extend(restarts);
                rush(&mut faults, at + 100_000_000 + rng.below(150_000_000));
            }
            4 if at > free_at => {
                free_at = at + away + 1_000_000_000;
                let lost = rng.below(1_000_000_000);
                let clock_ms = rng.one_of(&[0, 3, -3, 700, -700]);
                faults.push((at.saturating_sub(lost), Fault::Snapshot));
                faults.push((at, Fault::Down));
                faults.push((at + away, Fault::Failover { clock_ms }));
                faults.push((at + away, Fault::Up));
                rush(&mut faults, at + away + rng.below(20_000_000));
            }
            5 if at > free_at => {
                free_at = at + away + 1_000_000_000;
                // What is held is spent in its last moments, and lapses unheard.
                let away = rng.within(1_000, 1_400) * 1_000_000;
                let spent_at = at + rng.within(700, 990) * 1_000_000;
                faults.push((at, Fault::Down));
                faults.push((spent_at, Fault::Rush));
                faults.push((at + away, Fault::Up));
                rush(&mut faults, at + away + rng.below(150_000_000));
            }
            6 if rng.below(2) == 0 => faults.push((at, Fault::Reshard)),
            _ => faults.push((at, Fault::StepClock { ms: -(rng.below(900) as i64) })),
        }
    }
    // Whoever holds too much shows it when all is spent: some time after a fault, or whenever.
    for _ in 0..rng.within(1, 4) {
        let after = faults.get(rng.below(12) as usize).map_or(0, |(at, _)| *at);
        let after = if after == 0 { rng.below(length_ns) } else { after };
        rush(&mut faults, after + (rng.below(1_400_000_000) >> rng.below(8)));
    }
    faults
}

fn rush(faults: &mut Vec<(u64, Fault)>, at: u64) {
    faults.extend((0..10).map(|round| (at + round * 3_000_000, Fault::Rush)));
}

pub(crate) fn scenario(seed: u64, algorithm: Algorithm) -> (Scenario, Waves) {
    let mut rng = Rng::new(seed);
    let quota = quota(algorithm, &mut rng);
    let proxies = rng.within(1, 12) as usize;
    let length_ns = rng.within(3, 7) * 1_000_000_000;
    let per_second = f64::from(quota.count()) * 1e9 / quota.period().0 as f64;
    // A calm fleet holds much while the store is full: the most that can come at once.
    let is_calm = rng.below(3) == 0;
    let waves = (0..16).map(|_| {
        let of_rate = match is_calm {
            true => rng.one_of(&[0.0, 0.1, 0.2, 0.4, 0.7]),
            false => rng.one_of(&[0.0, 0.3, 0.7, 0.95, 1.5, 3.0, 10.0]),
        };
        let proxies = if rng.below(3) == 0 { 1 } else { rng.within(1, proxies as u64) };
        Wave { rate: (per_second * of_rate).min(1_500.0), proxies }
    });
    let waves = Waves { waves: waves.collect(), length_ns: rng.within(100, 1_500) * 1_000_000 };
    let may_reserve = algorithm == Algorithm::TokenBucket && proxies as u32 <= quota.burst() / 8;
    let mut scenario = Scenario {
        quotas: vec![quota],
        replacement: None,
        proxies,
        workers: rng.within(1, 4) as usize,
        length_ns,
        reserve: if may_reserve && rng.below(2) == 0 { proxies as u32 } else { 0 },
        on_error: OnError::Closed,
        at_once: rng.below(4) > 0,
        conflicts_ppm: rng.one_of(&[0, 0, 0, 0, 0, 0, 0, 0, 100_000, 100_000, 500_000, 950_000]),
        net: Net {
            loss_ppm: rng.one_of(&[0, 0, 10_000, 100_000]),
            twice_ppm: rng.one_of(&[0, 0, 50_000, 300_000]),
            late_ppm: rng.one_of(&[0, 0, 20_000, 200_000]),
            away_ppm: 0,
        },
        drift_ppm: rng.one_of(&[0, 100, 2_000]),
        faults: faults(&mut rng, proxies, length_ns),
        cost_max: rng.one_of(&[1, 1, 1, 3]).min(quota.burst()),
        deaths_ppm: 0,
    };
    if scenario.faults.iter().any(|(_, fault)| matches!(fault, Fault::RestartHost)) {
        // Who forgets whose messages it has had, is shown by those that come twice.
        (scenario.net.twice_ppm, scenario.net.late_ppm) = (300_000, 300_000);
    }
    widen(&mut scenario, algorithm, seed);
    (scenario, waves)
}

/// Now and then: shares in an outage, several limits, another policy, requests that die. Drawn
/// apart, so that without them a history is what it is.
fn widen(scenario: &mut Scenario, algorithm: Algorithm, seed: u64) {
    let mut rng = Rng::new(seed ^ 0x7769_6465);
    if scenario.reserve == 0 && rng.below(5) == 0 {
        scenario.on_error = OnError::LocalShare;
    }
    if rng.below(5) == 0 {
        for _ in 0..rng.within(1, LIMITS_MAX as u64 - 1) {
            scenario.quotas.push(near(scenario.quotas[0], algorithm, &mut rng));
        }
    }
    if rng.below(5) == 0 {
        let quotas = match may_change_quota(scenario) && rng.below(3) > 0 {
            true => scenario.quotas.iter().map(|it| near(*it, algorithm, &mut rng)).collect(),
            false => scenario.quotas.clone(),
        };
        let at_ns = rng.within(200_000_000, scenario.length_ns * 2 / 3);
        let until_ns = at_ns + (rng.below(2_000_000_000) >> rng.below(10));
        scenario.replacement = Some(Replacement { quotas, at_ns, until_ns });
    }
    if rng.below(4) == 0 {
        scenario.deaths_ppm = rng.one_of(&[20_000, 200_000, 700_000]);
    }
    let bursts = scenario.all_quotas().map(|quota| quota.burst());
    scenario.cost_max = scenario.cost_max.min(bursts.min().unwrap_or(1));
    if scenario.reserve > 0 && scenario.all_quotas().any(|it| scenario.reserve > it.burst() / 8) {
        scenario.reserve = 0;
    }
}

/// Where the store forgets what was granted under a larger quota, it takes no more to be
/// outstanding than a burst of the one that it is asked about next. And what is owed is charged
/// under the quota that it was used under.
fn may_change_quota(scenario: &Scenario) -> bool {
    let forgets = |fault: &Fault| matches!(fault, Fault::Failover { .. } | Fault::Reshard);
    let is_kept = !scenario.faults.iter().any(|(_, fault)| forgets(fault));
    is_kept && scenario.on_error != OnError::LocalShare
}

/// A quota of at least half and at most twice the size: a budget keeps count of what is taken of it
/// up to twice its burst, for those who still have the old policy.
fn near(quota: Quota, algorithm: Algorithm, rng: &mut Rng) -> Quota {
    let about = |count: u32, rng: &mut Rng| {
        let count = u64::from(count);
        rng.within(count.div_ceil(2), count * 2) as u32
    };
    match algorithm {
        Algorithm::TokenBucket => {
            let (count, burst) = (about(quota.count(), rng), about(quota.burst(), rng));
            Quota::new(algorithm, count, quota.period(), burst).unwrap()
        }
        _ => {
            let period = Span::from_secs(rng.within(2, 5));
            let period = if rng.below(2) == 0 { period } else { quota.period() };
            let count = about(quota.count(), rng);
            Quota::new(algorithm, count, period, count).unwrap()
        }
    }
}

/// Plays one history; panics, with the command to play it again, if it breaks the promise.
pub(crate) fn play(seed: u64, algorithm: Algorithm) {
    let test = match algorithm {
        Algorithm::TokenBucket => "fuzz::no_bucket_is_ever_overdrawn",
        _ => "fuzz::no_window_is_ever_overfull",
    };
    play_with(seed, algorithm, 0, test);
}

fn play_with(seed: u64, algorithm: Algorithm, away_ppm: u32, test: &str) {
    let (mut scenario, waves) = scenario(seed, algorithm);
    scenario.net.away_ppm = away_ppm;
    let mut world = World::new(seed, scenario.clone(), waves);
    if let Err(what) = world.play() {
        panic!(
            "seed {seed}: {what}\n{scenario:?}\nagain: TIDEGATE_SIM_SEED={seed} \
             cargo test -p tidegate-core --test sim -- --exact {test}"
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a whole number")))
}

fn run(usual: u64, play: impl Fn(u64)) {
    if let Some(seed) = number("TIDEGATE_SIM_SEED") {
        return play(seed);
    }
    let seeds = number("TIDEGATE_SIM_SEEDS").unwrap_or(usual);
    let first = number("TIDEGATE_SIM_FIRST").unwrap_or(1);
    (first..first + seeds).for_each(play);
}

#[test]
fn no_bucket_is_ever_overdrawn() {
    run(SEEDS, |seed| play(seed, Algorithm::TokenBucket));
}

#[test]
fn no_window_is_ever_overfull() {
    run(SEEDS, |seed| play(seed, Algorithm::SlidingWindow));
}

#[test]
fn a_host_that_cannot_say_what_its_store_did_breaks_no_promise() {
    const TEST: &str = "fuzz::a_host_that_cannot_say_what_its_store_did_breaks_no_promise";
    run(SEEDS / 3, |seed| {
        for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow] {
            play_with(seed, algorithm, 200_000, TEST);
        }
    });
}
