//! Local limits: one budget for all workers of a process, at little cost.

use crate::proxy::{Process, Request, limits};
use proptest::prelude::*;
use serde_json::json;
use tidegate_core::time::Span;

#[test]
fn workers_share_one_budget_exactly() {
    let process = Process::default();
    let policy = limits(json!([{ "name": "a", "key": [{ "header": "x-key" }], "rate": "20/1m" }]));
    let mut workers = process.workers(&policy, 4);
    let request = Request::key("k");
    let admitted: u32 = (0..100).map(|at| workers[at % 4].admitted(&request, 1)).sum();
    assert_eq!(admitted, 20);
    process.pass(Span::from_secs(3));
    let admitted: u32 = (0..100).map(|at| workers[at % 4].admitted(&request, 1)).sum();
    assert_eq!(admitted, 1, "one more each 3 s");
}

#[test]
fn a_hot_key_touches_shared_state_and_clock_for_few_requests() {
    let process = Process::default();
    let policy =
        limits(json!([{ "name": "a", "key": [{ "header": "x-key" }], "rate": "100000/1s" }]));
    let mut worker = process.worker(&policy);
    assert_eq!(worker.admitted(&Request::key("k"), 50_000), 50_000);
    assert!(process.loads.get() < 500, "{} loads", process.loads.get());
    assert!(process.clock_reads.get() < 500, "{} reads", process.clock_reads.get());
}

#[test]
fn a_refused_flood_touches_shared_state_once_in_a_while() {
    let process = Process::default();
    let policy = limits(json!([
        { "name": "a", "key": [{ "header": "x-key" }], "rate": "5/1m", "algorithm": "sliding_window" }
    ]));
    let mut worker = process.worker(&policy);
    assert_eq!(worker.admitted(&Request::key("k"), 10_000), 5);
    assert!(process.loads.get() <= 6, "{} loads", process.loads.get());
}

#[test]
fn what_a_worker_holds_ahead_goes_back_when_it_rests() {
    let process = Process::default();
    let policy =
        limits(json!([{ "name": "a", "key": [{ "header": "x-key" }], "rate": "1000/1d" }]));
    let (mut busy, mut other) = (process.worker(&policy), process.worker(&policy));
    let request = Request::key("k");
    let first = busy.admitted(&request, 200);
    assert_eq!(first, 200);
    let stranded = 800 - other.admitted(&request, 2_000);
    assert!(stranded > 0, "nothing was held ahead, so this test shows nothing");
    assert!(stranded <= 1_000 / 16, "{stranded} stranded: more than a sixteenth");
    assert!(!busy.tick() && !busy.tick(), "there is no store to probe");
    process.pass(Span::from_millis(200));
    assert_eq!(other.admitted(&request, 2_000), stranded);
}

#[test]
fn several_limits_are_all_or_nothing() {
    let process = Process::default();
    let policy = limits(json!([
        { "name": "wide", "rate": "10/1d" },
        { "name": "narrow", "key": [{ "header": "x-key" }], "rate": "3/1d" },
        { "name": "ring", "rate": "100/1d", "algorithm": "sliding_window" },
    ]));
    let mut worker = process.worker(&policy);
    assert_eq!(worker.admitted(&Request::key("greedy"), 50), 3);
    // The 47 that `narrow` refused took nothing of `wide`: 7 are left.
    assert_eq!(worker.admitted(&Request::key("b"), 3), 3);
    assert_eq!(worker.admitted(&Request::key("c"), 3), 3);
    assert_eq!(worker.admitted(&Request::key("d"), 3), 1);
    assert_eq!(worker.denial(&Request::key("e")).limit.0, 0);
}

#[test]
fn the_refusal_that_holds_longest_is_told() {
    let policy = limits(json!([
        { "name": "second", "rate": "1/1s" }, { "name": "hour", "rate": "1/1h" },
    ]));
    let mut worker = Process::default().worker(&policy);
    assert!(worker.admits(&Request::new()));
    let denial = worker.denial(&Request::new());
    assert_eq!((denial.limit.0, denial.retry_after), (1, Some(Span::from_secs(3600))));
    assert_eq!(denial.standings.len(), 2);
}

#[test]
fn a_wait_that_was_told_is_enough() {
    for algorithm in ["token_bucket", "sliding_window", "sliding_counter"] {
        let process = Process::default();
        let policy = limits(json!([{ "name": "a", "rate": "7/10s", "algorithm": algorithm }]));
        let mut worker = process.worker(&policy);
        worker.admitted(&Request::new(), 20);
        for _ in 0..5 {
            process.pass(worker.denial(&Request::new()).retry_after.unwrap());
            assert!(worker.admits(&Request::new()), "{algorithm}");
            worker.admitted(&Request::new(), 20);
        }
    }
}

#[test]
fn a_shadow_counts_but_never_refuses() {
    let policy = limits(json!([{ "name": "a", "rate": "2/1d", "shadow": true }]));
    let mut worker = Process::default().worker(&policy);
    assert_eq!(worker.admitted(&Request::new(), 10), 10);
    let tally = worker.gate.take_tallies().next().unwrap().1;
    assert_eq!((tally.allowed, tally.shadowed, tally.limited), (2, 8, 0));
}

#[test]
fn a_new_policy_keeps_the_counts() {
    let process = Process::default();
    let before = limits(json!([{ "name": "a", "rate": "10/1d" }]));
    let mut old = process.worker(&before);
    assert_eq!(old.admitted(&Request::new(), 6), 6);
    old.gate.drain(&mut old.process);
    let after =
        limits(json!([{ "name": "new", "rate": "100/1d" }, { "name": "a", "rate": "10/1d" }]));
    assert_eq!(process.worker(&after).admitted(&Request::new(), 20), 4);
}

#[test]
fn lost_races_are_run_again_and_charge_once() {
    let process = Process::default();
    let policy = limits(json!([{ "name": "a", "rate": "10/1d" }]));
    let mut worker = process.worker(&policy);
    process.conflicts.set(5);
    assert_eq!(worker.admitted(&Request::new(), 20), 10);
}

#[test]
fn shared_state_that_cannot_be_written_refuses_and_never_hangs() {
    let process = Process::default();
    let mut worker = process.worker(&limits(json!([{ "name": "a", "rate": "10/1d" }])));
    process.conflicts.set(u64::MAX);
    assert!(worker.denial(&Request::new()).retry_after.is_some());
}

#[test]
fn a_cost_beyond_the_burst_is_refused_for_good() {
    let policy = limits(json!([
        { "name": "a", "rate": "10/1s", "cost": { "header": "x-cost", "default": 1, "max": 50 } }
    ]));
    let mut worker = Process::default().worker(&policy);
    assert_eq!(worker.denial(&Request::new().with("x-cost", "11")).retry_after, None);
    assert!(worker.admits(&Request::new().with("x-cost", "10")));
    assert!(
        worker.admits(&Request::new().with("x-cost", "0")),
        "free requests pass an empty bucket"
    );
    assert!(!worker.admits(&Request::new().with("x-cost", "nonsense")), "the default is 1");
    assert!(!worker.admits(&Request::new().with("x-cost", "99999999999999999999")));
}

proptest! {
    /// Whatever workers do and whenever they tick, the admitted stream conforms to the
    /// bucket in every window: the smallest burst it conforms to is at most the limit's.
    #[test]
    fn no_history_of_workers_over_admits(
        steps in prop::collection::vec((0_usize..4, 0_u32..40, 0_u64..300, any::<bool>()), 1..120),
        burst in prop::sample::select(vec![1_u32, 5, 60, 2_000]),
    ) {
        const RATE_PER_S: u64 = 100;
        let process = Process::default();
        let policy = limits(json!([
            { "name": "a", "rate": format!("{RATE_PER_S}/1s"), "burst": burst }
        ]));
        let mut workers = process.workers(&policy, 4);
        // The oracle: a bucket that may go below zero, in units of a nanosecond's refill.
        let (full, unit) = (i128::from(burst) * 1_000_000_000, 1_000_000_000_i128);
        let (mut level, mut last) = (full, process.now());
        for (worker, requests, wait_ms, ticks) in steps {
            process.pass(Span::from_millis(wait_ms));
            if ticks {
                workers[worker].tick();
            }
            let admitted = workers[worker].admitted(&Request::new(), requests);
            let refill = i128::from(process.now().since(last).0) * i128::from(RATE_PER_S);
            last = process.now();
            level = (level + refill).min(full) - i128::from(admitted) * unit;
            prop_assert!(level >= 0, "over-admitted by {} units", -level / unit);
        }
    }
}
