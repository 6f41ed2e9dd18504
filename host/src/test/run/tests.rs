//! That leaving out ticks changes nothing, against the filter itself.

use super::*;
use crate::plugins::Plugins;
use crate::shipped::Build;
use crate::test::case::StoreChange;
use crate::test::read;
use proxy_wasm_host::engine::Engine;
use std::sync::OnceLock;

const FILE: &str = "
policy:
  tidegate: 1
  domain: ticks
  host: { cluster: tidegate, breaker: 300ms }
  headers: { send: always }
  limits:
    # Of a large bucket a worker holds some ahead.
    - { name: bucket, key: client_ip, rate: 1200/1m, burst: 400 }
    - { name: window, key: client_ip, rate: 500/20s, algorithm: sliding_window }
    - { name: counter, key: client_ip, rate: 500/30s, algorithm: sliding_counter }
    # Open: what a share lets through is charged when the store is found back, and that moment
    # hangs on the phase of probes.
    - { name: fleet, when: { path: /fleet }, rate: 50/1m, scope: global, on_error: open }
    - { name: shadow, when: { path: /fleet }, rate: 20/1m, scope: global, shadow: true }
cases:
  - name: any
    steps:
      - { expect: allowed }
      - { request: GET /fleet, expect: allowed }
";

/// Pauses between steps: within a tick, about one, and many of them.
const PAUSES_MS: [u64; 10] = [0, 0, 0, 1, 50, 99, 100, 450, 3_000, 20_000];

/// Longer than a filter needs to find its store.
const NOTICED: Span = Span::from_millis(700);

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// So many of the first step's requests, or one of the second's.
    Send(u32),
    SendToFleet,
    Store(StoreChange),
}

static COMPILED: OnceLock<Module> = OnceLock::new();

fn kit() -> Option<Kit> {
    let code = match Build::Standing.find(None).and_then(|source| source.code()) {
        Ok(code) => code,
        Err(missing) => {
            let must = std::env::var("TIDEGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
            assert!(!must, "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        }
    };
    let module = COMPILED.get_or_init(|| Engine::new(None).unwrap().load(&code).unwrap()).clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    Some(Kit { module, runtime })
}

fn file(text: &str) -> CaseFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ticks.test.yaml");
    std::fs::write(&path, text).unwrap();
    read::read(&path).unwrap()
}

/// A made-up history: requests in bunches, and a store that goes and comes.
fn history(seed: u64) -> Vec<(Instant, Deed)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut at, mut is_away, mut history) = (Instant::default(), false, Vec::new());
    for _ in 0..100 {
        at = at.after(Span::from_millis(PAUSES_MS[random.usize(..PAUSES_MS.len())]));
        match random.u8(..12) {
            0 => {}
            1..4 => {
                history.push((at, Deed::SendToFleet));
                continue;
            }
            _ => {
                history.push((at, Deed::Send(random.u32(1..60))));
                continue;
            }
        }
        let change = if is_away { StoreChange::Back } else { StoreChange::Away };
        is_away = !is_away;
        history.push((at, Deed::Store(change)));
        at = at.after(NOTICED);
    }
    history
}

/// What each request of a history gets, and in the end each counter.
fn outcomes(kit: &Kit, file: &CaseFile, seed: u64, skips_ticks: bool) -> Vec<String> {
    let mut run = Run::start(kit, (file, &Plugins::none()), &file.cases[0]).unwrap();
    if !skips_ticks {
        run.rests_after = Span(u64::MAX);
        run.rests_after_outage = Span(u64::MAX);
    }
    let [to_all, to_fleet] = [0, 1].map(|place| match &file.cases[0].steps[place].action {
        Action::Send(sending) => sending,
        _ => panic!("both steps send"),
    });
    let mut outcomes = Vec::new();
    for (at, deed) in history(seed) {
        run.pass_to(at);
        match deed {
            Deed::Store(change) => {
                run.store.change(change);
                run.active_at = run.now();
            }
            Deed::Send(times) => {
                for _ in 0..times {
                    let seen = run.exchange(to_all).unwrap();
                    outcomes.push(format!("{} {:?} {:?}", at.0, seen.details, seen.headers));
                }
            }
            Deed::SendToFleet => {
                let seen = run.exchange(to_fleet).unwrap();
                outcomes.push(format!("{} {:?} {:?}", at.0, seen.details, seen.headers));
            }
        }
    }
    run.pass_to(run.now().after(NOTICED));
    for limit in &file.policy.limits {
        for outcome in ["allowed", "limited", "shadowed", "degraded"] {
            let name = format!("{METRICS}.limit.{}.{outcome}", limit.name);
            let told = run.proxies.values().map(|proxy| proxy.process.metric(&name));
            outcomes.push(format!("{name} {:?}", told.collect::<Vec<_>>()));
        }
    }
    outcomes
}

#[test]
fn ticks_that_are_left_out_would_have_changed_nothing() {
    let Some(kit) = kit() else { return };
    let file = file(FILE);
    for seed in 0..3 {
        let skipping = outcomes(&kit, &file, seed, true);
        assert!(skipping.iter().any(|it| it.contains("limit=")), "seed {seed} limits nothing");
        let ticking = outcomes(&kit, &file, seed, false);
        let different =
            skipping.iter().zip(&ticking).find(|(skipping, ticking)| skipping != ticking);
        assert_eq!(different, None, "seed {seed}");
    }
}

/// After a gap the filter has just probed in vain: the longest that it can take.
const OUTAGE: &str = "
policy:
  tidegate: 1
  domain: outage
  host: { cluster: tidegate, breaker: 10s }
  headers: { send: always }
  limits: [{ name: all, rate: 10/1s, scope: global, on_error: closed }]
cases:
  - name: the store is found when a whole breaker period is over
    steps:
      - { store: away }
      - { expect: unavailable }
      - { at: 1d, store: back }
      - { at: +9999ms, expect: unavailable }
      - { at: +1ms, expect: allowed }
";

#[test]
fn after_a_long_outage_a_proxys_pauses_are_as_long_as_they_get() {
    let Some(kit) = kit() else { return };
    let file = file(OUTAGE);
    let ended = run(&kit, (&file, &Plugins::none()), &file.cases[0]);
    assert!(ended.is_ok(), "{ended:?}");
}
