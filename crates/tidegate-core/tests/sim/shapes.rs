//! The shapes of demand that a fleet sees, and what the store costs and loses in each.
//!
//! Sixty-four proxies of four workers against one key, as much as `rate` a second and as
//! large a burst. The tables print with
//!
//! ```text
//! cargo test -p tidegate-core --test sim -- --nocapture --test-threads 1 shapes
//! TIDEGATE_SIM_SECS=30 cargo test -p tidegate-core --test sim -- --ignored --nocapture shapes
//! ```

use crate::rng::Rng;
use crate::scenario::{CALM_NET, Demand, Fault, Scenario};
use crate::world::World;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::policy::OnError;
use tidegate_core::time::Span;

const PROXIES: usize = 64;
const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Steady,
    Over10,
    Bursty,
    Skew,
    Diurnal,
    Flash,
    StepUp,
    Hop,
    OutageCalm,
    OutageTwice,
    Failover,
    FailFast,
}

const SHAPES: [Shape; 12] = [
    Shape::Steady,
    Shape::Over10,
    Shape::Bursty,
    Shape::Skew,
    Shape::Diurnal,
    Shape::Flash,
    Shape::StepUp,
    Shape::Hop,
    Shape::OutageCalm,
    Shape::OutageTwice,
    Shape::Failover,
    Shape::FailFast,
];

struct Shaped {
    shape: Shape,
    rate: f64,
    length_ns: u64,
}

impl Shaped {
    /// How far through the run, of 30 parts.
    fn part(&self, now_ns: u64) -> f64 {
        now_ns as f64 * 30.0 / self.length_ns as f64
    }
}

impl Demand for Shaped {
    fn rate(&mut self, now_ns: u64) -> f64 {
        let secs = now_ns as f64 / SECOND as f64;
        let part = self.part(now_ns);
        self.rate
            * match self.shape {
                Shape::Steady | Shape::OutageCalm => 0.7,
                Shape::Over10 => 10.0,
                Shape::Bursty => f64::from(u8::from(secs % 5.0 < 0.5)) * 9.0,
                Shape::Skew => 1.5,
                Shape::Diurnal | Shape::Hop => 0.95,
                Shape::Flash => f64::from(u8::from(part > 10.0)) * 5.0,
                Shape::StepUp if (10.0..11.0).contains(&part) => 10.0,
                Shape::StepUp => 0.9,
                Shape::OutageTwice | Shape::Failover | Shape::FailFast => 2.0,
            }
    }

    fn pick(&mut self, now_ns: u64, rng: &mut Rng) -> usize {
        let all = PROXIES as u64;
        let at = match self.shape {
            Shape::Skew if rng.below(10) > 0 => 0,
            Shape::Hop => Rng::new(now_ns / SECOND).below(all),
            // A third of the fleet is awake, and another one later on.
            Shape::Diurnal => (now_ns * all / (20 * SECOND) + rng.below(all / 3)) % all,
            _ => rng.below(all),
        };
        at as usize
    }
}

/// What a shape must keep to.
struct Bounds {
    operations: f64,
    admitted: f64,
}

fn play(shape: Shape, quota: Quota, secs: u64, reserve: u32) -> World<Shaped> {
    let length_ns = secs * SECOND;
    let (third, tenth) = (length_ns / 3, SECOND / 10);
    let faults = match shape {
        Shape::OutageCalm | Shape::OutageTwice => {
            vec![(third, Fault::Down), (third * 2, Fault::Up)]
        }
        Shape::Failover | Shape::FailFast => {
            let away = if shape == Shape::Failover { SECOND * 3 / 2 } else { tenth };
            vec![
                (third - SECOND, Fault::Snapshot),
                (third, Fault::Down),
                (third + away, Fault::Failover { clock_ms: 3 }),
                (third + away, Fault::Up),
            ]
        }
        _ => Vec::new(),
    };
    let is_outage = matches!(shape, Shape::OutageCalm | Shape::OutageTwice);
    let scenario = Scenario {
        quotas: vec![quota],
        replacement: None,
        proxies: PROXIES,
        workers: 4,
        length_ns,
        reserve,
        on_error: if is_outage { OnError::LocalShare } else { OnError::Closed },
        at_once: true,
        conflicts_ppm: 0,
        net: CALM_NET,
        drift_ppm: 100,
        faults,
        cost_max: 1,
        deaths_ppm: 0,
    };
    let rate = f64::from(quota.count()) * 1e9 / quota.period().0 as f64;
    let mut world = World::new(7, scenario, Shaped { shape, rate, length_ns });
    if let Err(what) = world.play() {
        panic!("{shape:?} at {quota}: {what}");
    }
    world
}

fn table(quota: Quota, secs: u64, reserve: u32, bounds: &Bounds) {
    println!("{quota}, {secs} s, 64 proxies x 4 workers, {reserve} in reserve");
    println!("shape        burst used  admitted/ideal  asks/admitted  asks/request  waited");
    let mut broken = Vec::new();
    for shape in SHAPES {
        let world = play(shape, quota, secs, reserve);
        let (judge, asks) = (world.judge(), world.operations() as f64);
        let per_admitted = asks / judge.admitted as f64;
        println!(
            "{:<12} {:>10.2} {:>15.3} {:>14.3} {:>13.3} {:>6.1}%",
            format!("{shape:?}"),
            judge.burst_used(),
            judge.admitted_of_ideal(),
            per_admitted,
            asks / judge.attempts as f64,
            world.waited() as f64 / judge.attempts as f64 * 100.0,
        );
        let is_away = matches!(
            shape,
            Shape::OutageCalm | Shape::OutageTwice | Shape::Failover | Shape::FailFast
        );
        if judge.burst_used() > 1.0 {
            broken.push(format!("{shape:?} over-admits"));
        }
        if per_admitted > bounds.operations {
            broken.push(format!("{shape:?} asks {per_admitted:.3} for each admitted"));
        }
        if judge.admitted_of_ideal() < bounds.admitted && !is_away {
            broken.push(format!("{shape:?} admits {:.3}", judge.admitted_of_ideal()));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

fn secs(normal: u64) -> u64 {
    std::env::var("TIDEGATE_SIM_SECS").map_or(normal, |secs| secs.parse().unwrap())
}

fn bucket(rate: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, rate, Span::from_secs(1), rate).unwrap()
}

fn window(count: u32) -> Quota {
    Quota::new(Algorithm::SlidingWindow, count, Span::from_secs(10), count).unwrap()
}

#[test]
#[ignore = "10,000 a second in 12 shapes: half a minute on a slow machine"]
fn ten_thousand_a_second() {
    table(bucket(10_000), secs(30), 0, &Bounds { operations: 0.15, admitted: 0.97 });
}

#[test]
fn a_thousand_a_second() {
    table(bucket(1_000), secs(15), 0, &Bounds { operations: 1.1, admitted: 0.97 });
}

#[test]
fn a_thousand_a_second_of_which_some_need_no_grant() {
    table(bucket(1_000), secs(15), 64, &Bounds { operations: 1.1, admitted: 0.9 });
}

#[test]
fn a_hundred_a_second() {
    table(bucket(100), secs(30), 0, &Bounds { operations: 2.2, admitted: 0.9 });
}

#[test]
fn ten_a_second() {
    table(bucket(10), secs(30), 0, &Bounds { operations: 6.5, admitted: 0.8 });
}

#[test]
#[ignore = "10,000 a second in 12 shapes: half a minute on a slow machine"]
fn a_hundred_thousand_in_any_ten_seconds() {
    table(window(100_000), secs(30), 0, &Bounds { operations: 0.15, admitted: 0.7 });
}

#[test]
fn a_thousand_in_any_ten_seconds() {
    table(window(1_000), secs(30), 0, &Bounds { operations: 2.2, admitted: 0.65 });
}
