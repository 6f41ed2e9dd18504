//! Virtual time: proxies, a store, and a network between them that loses, delays, overtakes
//! and repeats.

use crate::clock::Clock;
use crate::judge::Judge;
use crate::memory::Memory;
use crate::proxy::{Deeds, Proxy, policy};
use crate::rng::Rng;
use crate::scenario::{Demand, Fault, Scenario};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use tidegate_core::ask::{self, Answer, NoAnswer};
use tidegate_core::gate::{Answered, Asked, Question, QuestionId};
use tidegate_core::lease::{
    Ask, Away, Grant, Heard, Place, RECORD_BYTES, Record, Replays, Reply, Want,
};
use tidegate_core::limit::Standing;
use tidegate_core::time::Span;
use tidegate_core::wire::{
    decode_lease_ask, decode_lease_reply, encode_lease_ask, encode_lease_reply,
};

const TICK_NS: u64 = 25_000_000;

enum Event {
    Arrival {
        comes: bool,
    },
    /// An arrival that waited for a proxy to wake up.
    Request {
        proxy: usize,
        worker: usize,
        cost: u32,
    },
    Tick {
        proxy: usize,
        worker: usize,
    },
    Deadline(Asker),
    ToStore {
        asker: Asker,
        bytes: Vec<u8>,
    },
    ToProxy {
        asker: Asker,
        bytes: Vec<u8>,
    },
    /// A question about the limit that admits all is there, or is answered.
    Exact {
        asker: Asker,
        is_back: bool,
    },
    Probed {
        proxy: usize,
        worker: usize,
    },
    Fault(Fault),
}

/// Who asked what.
#[derive(Clone, Copy)]
struct Asker {
    proxy: usize,
    worker: usize,
    question: QuestionId,
}

/// What happens first is the greatest: what of one moment was planned first.
struct Planned {
    at: u64,
    number: u64,
    event: Event,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Planned {}

pub(crate) struct World<D> {
    rng: Rng,
    now: u64,
    steps: u64,
    events: BinaryHeap<Planned>,
    planned: u64,
    proxies: Vec<Proxy>,
    scenario: Scenario,
    demand: D,
    /// The key, as a server keeps it.
    record: [u8; RECORD_BYTES],
    snapshot: [u8; RECORD_BYTES],
    /// Of the host, which lives and dies apart from the server.
    replays: Replays,
    /// Of the host as well: what each proxy has wanted lately, and when it said so.
    wanted: Vec<(f64, u64)>,
    is_down: bool,
    stamp: u64,
    began: Option<tidegate_core::time::Instant>,
    clock: Clock,
    /// The store's clock at the last look, and what passed on it in all.
    shown: u64,
    passed: u64,
    pub(crate) judge: Judge,
    pub(crate) operations: u64,
}

impl<D: Demand> World<D> {
    pub(crate) fn new(seed: u64, scenario: Scenario, demand: D) -> Self {
        let mut rng = Rng::new(seed);
        let how = (scenario.on_error, scenario.at_once);
        let policy = policy(scenario.quota, scenario.reserve, scenario.proxies as u32, how);
        let drift = |rng: &mut Rng| {
            rng.below(2 * scenario.drift_ppm + 1) as i64 - scenario.drift_ppm as i64
        };
        let proxies = (0..scenario.proxies).map(|_| {
            let clock = Clock { zero_ns: rng.below(1 << 50), drift_ppm: drift(&mut rng) };
            let process = rng.next();
            let memory = Memory::new(scenario.conflicts_ppm, process);
            Proxy::new(clock, process, &policy, scenario.workers, memory)
        });
        let proxies = proxies.collect();
        let clock =
            Clock { zero_ns: 100_000_000_000 + rng.below(1 << 50), drift_ppm: drift(&mut rng) };
        let mut judge = Judge::new(scenario.quota);
        judge.tolerance_units = scenario.tolerance_units;
        let mut world = Self {
            now: 0,
            steps: 0,
            events: BinaryHeap::new(),
            planned: 0,
            proxies,
            demand,
            record: [0; RECORD_BYTES],
            snapshot: [0; RECORD_BYTES],
            replays: Replays::default(),
            wanted: vec![(0.0, 0); scenario.proxies],
            is_down: false,
            stamp: rng.next(),
            began: None,
            shown: clock.at(0).0,
            passed: 0,
            clock,
            judge,
            operations: 0,
            rng,
            scenario,
        };
        world.start();
        world
    }

    /// Plays it to the end, or to the first broken promise.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        while let Some(Planned { at, event, .. }) = self.events.pop() {
            if at > self.scenario.length_ns {
                break;
            }
            assert!(at >= self.now, "time runs forward");
            self.now = at;
            self.steps += 1;
            self.happen(event).and_then(|()| self.look_for_hangs()).map_err(|what| {
                format!("step {} at {:.6} s: {what}", self.steps, self.now as f64 / 1e9)
            })?;
        }
        Ok(())
    }

    pub(crate) fn waited(&self) -> u64 {
        self.proxies.iter().map(|proxy| proxy.waited).sum()
    }

    fn start(&mut self) {
        self.plan_arrival();
        for proxy in 0..self.proxies.len() {
            for worker in 0..self.scenario.workers {
                let first = self.rng.below(TICK_NS);
                self.at(first, Event::Tick { proxy, worker });
            }
        }
        for (at, fault) in self.scenario.faults.clone() {
            self.at(at, Event::Fault(fault));
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.events.push(Planned { at, number: self.planned, event });
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        self.look_at_clock();
        match event {
            Event::Arrival { comes } => {
                self.plan_arrival();
                if comes { self.arrive() } else { Ok(()) }
            }
            Event::Request { proxy, worker, cost } => {
                if self.is_paused(proxy) {
                    let at = self.proxies[proxy].paused_until;
                    self.at(at, Event::Request { proxy, worker, cost });
                    return Ok(());
                }
                let now = self.proxies[proxy].clock.at(self.now);
                let deeds = self.proxies[proxy].on_request(now, worker, cost);
                self.carry_out(proxy, worker, deeds)
            }
            Event::Tick { proxy, worker } => {
                self.at(self.now + TICK_NS, Event::Tick { proxy, worker });
                if self.is_paused(proxy) {
                    return Ok(());
                }
                let now = self.proxies[proxy].clock.at(self.now);
                let deeds = self.proxies[proxy].on_tick(now, worker);
                self.carry_out(proxy, worker, deeds)
            }
            Event::Deadline(asker) => {
                if self.is_paused(asker.proxy) {
                    self.at(self.proxies[asker.proxy].paused_until, Event::Deadline(asker));
                    return Ok(());
                }
                self.reply(asker, Err(NoAnswer::Unreachable))
            }
            Event::ToStore { asker, bytes } => {
                self.answer(asker, &bytes);
                Ok(())
            }
            Event::ToProxy { asker, bytes } => {
                if self.is_paused(asker.proxy) {
                    let at = self.proxies[asker.proxy].paused_until;
                    self.at(at, Event::ToProxy { asker, bytes });
                    return Ok(());
                }
                let reply = decode_lease_reply(&bytes).unwrap();
                self.reply(asker, Ok(Answered::Leases(reply)))
            }
            Event::Exact { asker, is_back: false } => {
                if !self.is_down {
                    self.send(|_| Event::Exact { asker, is_back: true }, Vec::new());
                }
                Ok(())
            }
            Event::Exact { asker, is_back: true } => {
                if self.is_paused(asker.proxy) {
                    let at = self.proxies[asker.proxy].paused_until;
                    self.at(at, Event::Exact { asker, is_back: true });
                    return Ok(());
                }
                let outcome = Ok(Standing { remaining: 1, reset: Span::ZERO });
                let answers = vec![Answer { outcome, share_ppm: 0 }];
                self.reply(asker, Ok(Answered::Exact(ask::Reply { answers })))
            }
            Event::Probed { proxy, worker } => {
                let now = self.proxies[proxy].clock.at(self.now);
                let is_ready = !self.is_down || self.scenario.net.away_ppm > 0;
                self.proxies[proxy].on_probe(now, worker, is_ready);
                Ok(())
            }
            Event::Fault(Fault::Rush) => self.rush(),
            Event::Fault(fault) => {
                self.befall(fault);
                Ok(())
            }
        }
    }

    /// Plans the next arrival, if it is near; otherwise looks again later: without memory, to
    /// draw again changes nothing but the rate.
    fn plan_arrival(&mut self) {
        const LOOK_AGAIN_NS: f64 = 10e6;
        let rate = self.demand.rate(self.now);
        let gap = if rate > 0.0 { self.rng.exponential(1e9 / rate) } else { f64::INFINITY };
        let comes = gap <= LOOK_AGAIN_NS;
        self.at(self.now + gap.min(LOOK_AGAIN_NS) as u64, Event::Arrival { comes });
    }

    fn arrive(&mut self) -> Result<(), String> {
        let proxy = self.demand.pick(self.now, &mut self.rng);
        let worker = self.rng.below(self.scenario.workers as u64) as usize;
        let cost = self.rng.within(1, self.scenario.cost_max.into()) as u32;
        self.judge.attempt(self.passed, cost);
        self.happen(Event::Request { proxy, worker, cost })
    }

    /// In small pieces, so that what is left over when the store says no is little.
    fn rush(&mut self) -> Result<(), String> {
        let piece = self.scenario.quota.burst().div_ceil(64);
        for proxy in 0..self.proxies.len() {
            for cost in [piece, 1] {
                for worker in 0..self.scenario.workers {
                    while self.rushes(proxy, worker, cost)? {}
                }
            }
            for _ in 0..8 {
                self.rushes(proxy, 0, piece)?;
            }
        }
        Ok(())
    }

    /// Whether a request of so much is admitted at once.
    fn rushes(&mut self, proxy: usize, worker: usize, cost: u32) -> Result<bool, String> {
        if self.is_paused(proxy) {
            return Ok(false);
        }
        let before = self.judge.admitted;
        self.judge.attempt(self.passed, cost);
        self.happen(Event::Request { proxy, worker, cost })?;
        Ok(self.judge.admitted > before)
    }

    fn carry_out(&mut self, proxy: usize, worker: usize, deeds: Deeds) -> Result<(), String> {
        for cost in deeds.admitted {
            self.judge.admit(self.passed, cost)?;
        }
        if deeds.probes {
            self.at(self.now + 1_000_000, Event::Probed { proxy, worker });
        }
        for Question { id, ask, waits } in deeds.questions {
            if let Some(pause) = self.proxies[proxy].pause_mid_ask.take() {
                self.proxies[proxy].paused_until = self.now + pause.0;
                for round in 0..10 {
                    self.at(self.now + pause.0 + round * 3_000_000, Event::Fault(Fault::Rush));
                }
            }
            let asker = Asker { proxy, worker, question: id };
            self.at(self.now + waits.0, Event::Deadline(asker));
            match ask {
                Asked::Leases(ask) => {
                    let bytes = encode_lease_ask(&ask);
                    self.send(|bytes| Event::ToStore { asker, bytes }, bytes);
                }
                Asked::Exact(_) => {
                    self.send(|_| Event::Exact { asker, is_back: false }, Vec::new());
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, asker: Asker, reply: Result<Answered, NoAnswer>) -> Result<(), String> {
        let Asker { proxy, worker, question } = asker;
        let now = self.proxies[proxy].clock.at(self.now);
        let deeds = self.proxies[proxy].on_reply(now, worker, question, reply);
        self.carry_out(proxy, worker, deeds)
    }

    fn look_for_hangs(&self) -> Result<(), String> {
        match self.proxies.iter().position(Proxy::hangs) {
            Some(proxy) => Err(format!("a request of proxy {proxy} waits for nothing")),
            None => Ok(()),
        }
    }

    fn answer(&mut self, asker: Asker, bytes: &[u8]) {
        let ask = decode_lease_ask(bytes).unwrap();
        let away_ppm = self.scenario.net.away_ppm;
        let is_away = away_ppm > 0 && (self.is_down || self.rng.chance_ppm(away_ppm));
        let is_heard = !self.is_down && (!is_away || self.rng.chance_ppm(500_000));
        let mut grants = vec![Err(Away(Span::ZERO)); ask.wants.len()];
        if is_heard {
            let share_ppm = self.share(asker.proxy, &ask);
            let Some(heard) = self.hear(&ask, share_ppm) else { return };
            grants = if is_away { grants } else { heard };
        }
        if is_heard || is_away {
            let bytes = encode_lease_reply(&Reply { seq: ask.seq, grants });
            self.send(|bytes| Event::ToProxy { asker, bytes }, bytes);
        }
    }

    /// A proxy's share as hosts tell it: nine tenths by demand, the rest evenly.
    fn share(&mut self, proxy: usize, ask: &Ask) -> u32 {
        const HALF_LIFE_NS: f64 = 10e9;
        let now = self.now;
        let units =
            |(units, at): &(f64, u64)| units * 0.5_f64.powf((now - at) as f64 / HALF_LIFE_NS);
        let tried: u32 = ask.wants.iter().map(|want| want.tried).sum();
        self.wanted[proxy] = (units(&self.wanted[proxy]) + f64::from(tried), now);
        let all: f64 = self.wanted.iter().map(units).sum();
        let by_demand = if all > 0.0 { self.wanted[proxy].0 / all } else { 0.0 };
        ((by_demand * 0.9 + 0.1 / self.wanted.len() as f64) * 0.95 * 1e6) as u32
    }

    /// The store's answer; `None` if it has had this ask.
    fn hear(&mut self, ask: &Ask, share_ppm: u32) -> Option<Vec<Result<Grant, Away>>> {
        self.operations += 1;
        let place = Place { now: self.clock.at(self.now), stamp: self.stamp, began: self.began };
        let may_settle = match self.replays.hear(place.now, ask.holder, ask.seq) {
            Heard::First => true,
            Heard::Perhaps => false,
            Heard::Again => return None,
        };
        let mut record = Record::from_bytes(&self.record);
        let grant = |want: &Want| {
            let grant = record.answer(&place, ask.holder, want, may_settle);
            Ok(Grant { share_ppm, ..grant })
        };
        let grants = ask.wants.iter().map(grant).collect();
        self.record = record.to_bytes();
        Some(grants)
    }

    fn send(&mut self, event: impl Fn(Vec<u8>) -> Event, bytes: Vec<u8>) {
        let net = self.scenario.net;
        let times = 1 + usize::from(self.rng.chance_ppm(net.twice_ppm));
        for _ in 0..times {
            if self.rng.chance_ppm(net.loss_ppm) {
                continue;
            }
            let mut delay = 500_000 + self.rng.exponential(150_000.0) as u64;
            if self.rng.chance_ppm(net.late_ppm) {
                delay += self.rng.below(1_500_000_000) >> self.rng.below(10);
            }
            self.at(self.now + delay, event(bytes.clone()));
        }
    }

    fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::Rush => {}
            Fault::Down => self.is_down = true,
            Fault::Up => self.is_down = false,
            Fault::RestartHost => self.replays = Replays::default(),
            Fault::Snapshot => self.snapshot = self.record,
            Fault::Failover { clock_ms } => {
                self.record = self.snapshot;
                self.reshard(clock_ms);
                self.began = Some(self.clock.at(self.now));
            }
            Fault::Reshard => self.reshard(0),
            Fault::StepClock { ms } => self.step_clock(ms),
            Fault::Pause { proxy, ms } => {
                self.proxies[proxy].paused_until = self.now + Span::from_millis(ms).0;
            }
            Fault::PauseMidAsk { proxy, ms } => {
                self.proxies[proxy].pause_mid_ask = Some(Span::from_millis(ms));
            }
        }
    }

    fn reshard(&mut self, clock_ms: i64) {
        self.stamp = self.rng.next();
        self.step_clock(clock_ms);
        // Another clock, not one that was set: time goes on.
        self.shown = self.clock.at(self.now).0;
    }

    fn step_clock(&mut self, ms: i64) {
        self.clock.zero_ns = self.clock.zero_ns.saturating_add_signed(ms * 1_000_000);
    }

    /// Time passes as the store's clock runs; when it is set back it does not.
    fn look_at_clock(&mut self) {
        let shown = self.clock.at(self.now).0;
        self.passed += shown.saturating_sub(self.shown);
        self.shown = shown;
    }

    fn is_paused(&self, proxy: usize) -> bool {
        self.proxies[proxy].paused_until > self.now
    }
}
