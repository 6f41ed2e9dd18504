//! Virtual time: proxies, a store, and a network between them that loses, delays, overtakes
//! and repeats.

use crate::clock::Clock;
use crate::judge::Judge;
use crate::memory::Memory;
use crate::proxy::{At, Deeds, Proxy};
use crate::request::{Request, policy};
use crate::rng::Rng;
use crate::scenario::{Demand, Fault, Scenario};
use crate::server::Server;
use crate::watch::Watch;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use tidegate_core::ask::{self, NoAnswer};
use tidegate_core::gate::{Answered, Asked, Question, QuestionId, Ticket};
use tidegate_core::lease::{LIFE, Reply};
use tidegate_core::limit::Standing;
use tidegate_core::policy::{OnError, Policy};
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
        request: Request,
    },
    /// A request that waited is not there any more.
    Gone {
        proxy: usize,
        at: At,
        ticket: Ticket,
        is_told: bool,
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
        at: At,
    },
    /// A worker has the new policy.
    Configure {
        proxy: usize,
        worker: usize,
    },
    /// What was held under the old policy has lapsed.
    Configured,
    Fault(Fault),
}

/// Who asked what.
#[derive(Clone, Copy)]
struct Asker {
    proxy: usize,
    at: At,
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
    /// The policy of those who have it, and how many do.
    replacement: Option<(Policy, usize)>,
    server: Server,
    /// The store's clock at the last look, and what passed on it in all.
    shown: u64,
    passed: u64,
    /// By limit.
    watches: Vec<Watch>,
    admitted: u64,
}

impl<D: Demand> World<D> {
    pub(crate) fn new(seed: u64, scenario: Scenario, demand: D) -> Self {
        let mut rng = Rng::new(seed);
        let before = policy(&scenario, &scenario.quotas);
        let drift = |rng: &mut Rng| {
            rng.below(2 * scenario.drift_ppm + 1) as i64 - scenario.drift_ppm as i64
        };
        let proxies = (0..scenario.proxies).map(|_| {
            let clock = Clock { zero_ns: rng.below(1 << 50), drift_ppm: drift(&mut rng) };
            let process = rng.next();
            let memory = Memory::new(scenario.conflicts_ppm, process);
            Proxy::new(clock, process, &before, scenario.workers, memory)
        });
        let proxies = proxies.collect();
        let clock =
            Clock { zero_ns: 100_000_000_000 + rng.below(1 << 50), drift_ppm: drift(&mut rng) };
        let after = scenario.replacement.as_ref().map(|it| &it.quotas).unwrap_or(&scenario.quotas);
        let has_shares = scenario.on_error == OnError::LocalShare;
        let watch = |(before, after): (&_, &_)| Watch::new(*before, *after, has_shares);
        let watches = scenario.quotas.iter().zip(after).map(watch).collect();
        let replacement = scenario.replacement.as_ref();
        let mut world = Self {
            now: 0,
            steps: 0,
            events: BinaryHeap::new(),
            planned: 0,
            proxies,
            demand,
            replacement: replacement.map(|it| (policy(&scenario, &it.quotas), 0)),
            shown: clock.at(0).0,
            passed: 0,
            server: Server::new(clock, rng.next(), scenario.proxies),
            watches,
            admitted: 0,
            rng,
            scenario,
        };
        world.start();
        world
    }

    /// Plays it to the end, or to the first broken promise.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        self.play_until(self.scenario.length_ns)
    }

    pub(crate) fn play_until(&mut self, end: u64) -> Result<(), String> {
        while self.events.peek().is_some_and(|next| next.at <= end)
            && let Some(Planned { at, event, .. }) = self.events.pop()
        {
            assert!(at >= self.now, "time runs forward");
            self.now = at;
            self.steps += 1;
            self.happen(event).and_then(|()| self.look_for_hangs()).map_err(|what| {
                format!("step {} at {:.6} s: {what}", self.steps, self.now as f64 / 1e9)
            })?;
        }
        Ok(())
    }

    /// Of the first limit.
    pub(crate) fn judge(&self) -> &Judge {
        self.watches[0].judge()
    }

    /// Units of the first limit that were let through on shares and that no store knows of.
    pub(crate) fn on_trust(&self) -> u64 {
        self.watches[0].on_trust()
    }

    /// How often the store was asked.
    pub(crate) fn operations(&self) -> u64 {
        self.server.operations
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
        let Some(it) = &self.scenario.replacement else { return };
        let (first, last) = (it.at_ns, it.until_ns);
        for proxy in 0..self.proxies.len() {
            for worker in 0..self.scenario.workers {
                let at = self.rng.within(first, last);
                self.at(at, Event::Configure { proxy, worker });
            }
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
            Event::Request { proxy, worker, request } => {
                if self.is_paused(proxy) {
                    let at = self.proxies[proxy].paused_until;
                    self.at(at, Event::Request { proxy, worker, request });
                    return Ok(());
                }
                let now = self.proxies[proxy].clock.at(self.now);
                let deeds = self.proxies[proxy].on_request(now, worker, request);
                self.carry_out(proxy, deeds)
            }
            Event::Gone { proxy, at, ticket, is_told } => {
                if self.is_paused(proxy) {
                    let gone = Event::Gone { proxy, at, ticket, is_told };
                    self.at(self.proxies[proxy].paused_until, gone);
                    return Ok(());
                }
                let now = self.proxies[proxy].clock.at(self.now);
                let deeds = self.proxies[proxy].on_gone(now, at, ticket, is_told);
                self.carry_out(proxy, deeds)
            }
            Event::Tick { proxy, worker } => {
                self.at(self.now + TICK_NS, Event::Tick { proxy, worker });
                if self.is_paused(proxy) {
                    return Ok(());
                }
                let now = self.proxies[proxy].clock.at(self.now);
                let deeds = self.proxies[proxy].on_tick(now, worker);
                self.carry_out(proxy, deeds)
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
                if !self.server.is_down {
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
                let answers = vec![ask::Answer { outcome, share_ppm: 0 }];
                self.reply(asker, Ok(Answered::Exact(ask::Reply { answers })))
            }
            Event::Probed { proxy, at } => {
                let now = self.proxies[proxy].clock.at(self.now);
                let is_ready = !self.server.is_down || self.scenario.net.away_ppm > 0;
                self.proxies[proxy].on_probe(now, at, is_ready);
                Ok(())
            }
            Event::Configure { proxy, worker } => self.configure(proxy, worker),
            Event::Configured => {
                self.watches.iter_mut().for_each(Watch::end_change);
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
        let limits = match self.watches.len() {
            1 => 1,
            several => self.rng.within(1, (1 << several) - 1) as u8,
        };
        self.ask_for(proxy, worker, Request { cost, limits })
    }

    /// In small pieces, so that what is left over when the store says no is little.
    fn rush(&mut self) -> Result<(), String> {
        let bursts = self.scenario.all_quotas().map(|quota| quota.burst());
        let piece = bursts.min().unwrap_or(1).div_ceil(64);
        let all = (1 << self.watches.len()) - 1;
        // Each limit by itself, and all together, in one order or the other.
        let mut kinds: Vec<u8> = (0..self.watches.len()).map(|limit| 1 << limit).collect();
        if all > 1 {
            kinds.insert(if self.rng.below(2) == 0 { 0 } else { kinds.len() }, all);
        }
        for proxy in 0..self.proxies.len() {
            for limits in &kinds {
                for cost in [piece, 1] {
                    for worker in 0..self.scenario.workers {
                        while self.rushes(proxy, worker, Request { cost, limits: *limits })? {}
                    }
                }
                for _ in 0..8 {
                    self.rushes(proxy, 0, Request { cost: piece, limits: *limits })?;
                }
            }
        }
        Ok(())
    }

    /// Whether such a request is admitted at once.
    fn rushes(&mut self, proxy: usize, worker: usize, request: Request) -> Result<bool, String> {
        if self.is_paused(proxy) {
            return Ok(false);
        }
        let before = self.admitted;
        self.ask_for(proxy, worker, request)?;
        Ok(self.admitted > before)
    }

    fn ask_for(&mut self, proxy: usize, worker: usize, request: Request) -> Result<(), String> {
        for (limit, watch) in self.watches.iter_mut().enumerate() {
            if request.meets(limit) {
                watch.attempt(self.passed, request.cost);
            }
        }
        self.happen(Event::Request { proxy, worker, request })
    }

    fn carry_out(&mut self, proxy: usize, deeds: Deeds) -> Result<(), String> {
        for request in deeds.admitted {
            self.admitted += 1;
            for (limit, watch) in self.watches.iter_mut().enumerate() {
                if request.meets(limit) {
                    let is_on_trust = deeds.on_trust >> limit & 1 > 0;
                    let admitted = watch.admit(self.passed, request.cost, is_on_trust);
                    admitted.map_err(|what| format!("limit {limit}: {what}"))?;
                }
            }
        }
        if let Some(at) = deeds.probes {
            self.at(self.now + 1_000_000, Event::Probed { proxy, at });
        }
        if let Some((at, ticket)) = deeds.held
            && self.rng.chance_ppm(self.scenario.deaths_ppm)
        {
            let is_told = self.rng.below(2) == 0;
            let when = self.now + self.rng.below(2_000_000) * self.rng.within(1, 10);
            self.at(when, Event::Gone { proxy, at, ticket, is_told });
        }
        for (at, Question { id, ask, waits }) in deeds.questions {
            if let Some(pause) = self.proxies[proxy].pause_mid_ask.take() {
                self.proxies[proxy].paused_until = self.now + pause.0;
                for round in 0..10 {
                    self.at(self.now + pause.0 + round * 3_000_000, Event::Fault(Fault::Rush));
                }
            }
            let asker = Asker { proxy, at, question: id };
            self.at(self.now + waits.0, Event::Deadline(asker));
            match ask {
                Asked::Leases(ask) => {
                    let bytes = encode_lease_ask(&ask);
                    self.send(|bytes| Event::ToStore { asker, bytes }, bytes);
                }
                Asked::Exact(_) => {
                    self.send(|_| Event::Exact { asker, is_back: false }, Vec::new());
                }
                Asked::Check(_) | Asked::News(_) | Asked::Chunk(_) | Asked::Resolve(_) => {
                    return Err("asked about what no limit needs".to_owned());
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, asker: Asker, reply: Result<Answered, NoAnswer>) -> Result<(), String> {
        let Asker { proxy, at, question } = asker;
        let now = self.proxies[proxy].clock.at(self.now);
        let deeds = self.proxies[proxy].on_reply(now, at, question, reply);
        self.carry_out(proxy, deeds)
    }

    fn configure(&mut self, proxy: usize, worker: usize) -> Result<(), String> {
        if self.is_paused(proxy) {
            self.at(self.proxies[proxy].paused_until, Event::Configure { proxy, worker });
            return Ok(());
        }
        let workers = self.proxies.len() * self.scenario.workers;
        let Some((policy, configured)) = &mut self.replacement else { return Ok(()) };
        let now = self.proxies[proxy].clock.at(self.now);
        let deeds = self.proxies[proxy].on_configure(now, worker, policy);
        *configured += 1;
        if *configured == 1 {
            self.watches.iter_mut().for_each(Watch::begin_change);
        }
        if *configured == workers {
            // The last asks under the old policy, as long as they may be on their way; and what
            // they bring.
            let late = if self.scenario.net.late_ppm > 0 { 1_600_000_000 } else { 0 };
            self.at(self.now + late + LIFE.0 * 5 / 4, Event::Configured);
        }
        self.carry_out(proxy, deeds)
    }

    fn look_for_hangs(&self) -> Result<(), String> {
        match self.proxies.iter().position(Proxy::hangs) {
            Some(proxy) => Err(format!("a request of proxy {proxy} waits for nothing")),
            None => Ok(()),
        }
    }

    fn answer(&mut self, asker: Asker, bytes: &[u8]) {
        let ask = decode_lease_ask(bytes).unwrap();
        let (away_ppm, is_down) = (self.scenario.net.away_ppm, self.server.is_down);
        let is_away = away_ppm > 0 && (is_down || self.rng.chance_ppm(away_ppm));
        let is_heard = !is_down && (!is_away || self.rng.chance_ppm(500_000));
        let mut grants = Server::is_away(&ask);
        if is_heard {
            let Some(answer) = self.server.hear(self.now, asker.proxy, &ask) else { return };
            for (limit, units) in answer.charged {
                self.watches[limit].charge(self.passed, units);
            }
            grants = if is_away { grants } else { answer.grants };
        }
        if is_heard || is_away {
            let bytes = encode_lease_reply(&Reply { seq: ask.seq, grants });
            self.send(|bytes| Event::ToProxy { asker, bytes }, bytes);
        }
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
            Fault::Down => self.server.is_down = true,
            Fault::Up => self.server.is_down = false,
            Fault::RestartHost => self.server.restart_host(),
            Fault::Snapshot => self.server.take_snapshot(),
            Fault::Failover { clock_ms } => {
                self.server.fail_over(self.now, clock_ms, &mut self.rng);
                self.begin_history();
            }
            Fault::Reshard => {
                self.server.reshard(0, &mut self.rng);
                self.begin_history();
            }
            Fault::StepClock { ms } => self.server.step_clock(ms),
            Fault::Pause { proxy, ms } => {
                self.proxies[proxy].paused_until = self.now + Span::from_millis(ms).0;
            }
            Fault::PauseMidAsk { proxy, ms } => {
                self.proxies[proxy].pause_mid_ask = Some(Span::from_millis(ms));
            }
        }
    }

    fn begin_history(&mut self) {
        self.watches.iter_mut().for_each(Watch::forget);
        // Another clock, not one that was set: time goes on.
        self.shown = self.server.clock.at(self.now).0;
    }

    /// Time passes as the store's clock runs; when it is set back it does not.
    fn look_at_clock(&mut self) {
        let shown = self.server.clock.at(self.now).0;
        self.passed += shown.saturating_sub(self.shown);
        self.shown = shown;
    }

    fn is_paused(&self, proxy: usize) -> bool {
        self.proxies[proxy].paused_until > self.now
    }
}
