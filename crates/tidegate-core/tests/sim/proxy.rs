//! One proxy: workers, each with a till, a queue and an ask; and what they share. It only
//! carries; the tills decide.

use crate::clock::Clock;
use crate::memory::Memory;
use std::collections::VecDeque;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Ask, Budget, Due, HolderId, Outage, Queue, Reply, Sent, Served, Shelf, Take, Terms, Till,
};
use tidegate_core::time::{Instant, Span};

const KEY: Key = Key([7; 16]);
pub(crate) const DEADLINE: Span = Span::from_millis(20);
const PROBE_EVERY: Span = Span::from_millis(100);

/// What a request does while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    Closed,
    Share,
}

pub(crate) struct Proxy {
    pub(crate) clock: Clock,
    pub(crate) paused_until: u64,
    pub(crate) pause_mid_ask: Option<Span>,
    pub(crate) waited: u64,
    budget: Budget,
    on_error: OnError,
    /// Whether whatever comes for requests that wait is for them alone.
    at_once: bool,
    memory: Memory,
    workers: Vec<Worker>,
    away: Option<Away>,
}

struct Worker {
    till: Till,
    queue: VecDeque<Waiting>,
    sent: Option<(u64, Sent)>,
}

struct Waiting {
    cost: u32,
    until: Instant,
}

/// The store is away.
struct Away {
    next_probe: Instant,
    outage: Option<Outage>,
}

/// What a proxy did with what came to it.
#[derive(Default)]
pub(crate) struct Deeds {
    /// Costs of the requests let through.
    pub(crate) admitted: Vec<u32>,
    /// Which worker asks.
    pub(crate) ask: Option<(usize, Ask)>,
}

impl Proxy {
    pub(crate) fn new(
        clock: Clock,
        process: u64,
        terms: Terms,
        (on_error, at_once): (OnError, bool),
        workers: usize,
        memory: Memory,
    ) -> Self {
        let shelf = Shelf::new(5, 16);
        let worker = |number: usize| Worker {
            till: Till::new(HolderId::new(process, number as u8), workers as u32, shelf),
            queue: VecDeque::new(),
            sent: None,
        };
        Self {
            clock,
            paused_until: 0,
            pause_mid_ask: None,
            waited: 0,
            budget: Budget { key: KEY, limit: LimitTag(7), terms },
            on_error,
            at_once,
            memory,
            workers: (0..workers).map(worker).collect(),
            away: None,
        }
    }

    pub(crate) fn on_request(&mut self, now: Instant, at: usize, cost: u32) -> Deeds {
        self.memory.now = now;
        let mut deeds = Deeds::default();
        let (take, due) = self.workers[at].till.take(&mut self.memory, &self.budget, cost);
        self.follow(at, take, Waiting { cost, until: now.after(DEADLINE) }, &mut deeds);
        if due != Due::Nothing && self.away.is_none() {
            self.ask(at, &mut deeds);
        }
        deeds
    }

    pub(crate) fn on_reply(&mut self, now: Instant, at: usize, reply: &Reply) -> Deeds {
        self.memory.now = now;
        let mut deeds = Deeds::default();
        let Worker { till, queue, sent } = &mut self.workers[at];
        let Some((_, sent)) = sent.take_if(|(seq, _)| *seq == reply.seq) else { return deeds };
        if reply.grants[0].is_ok()
            && let Some(outage) = self.away.take().and_then(|away| away.outage)
        {
            till.owe(&mut self.memory, &self.budget, outage.debt(now));
        }
        let mut served = None;
        assert!(till.on_reply(&mut self.memory, sent, reply, |_, it| served = it.ok()));
        let Some(Served { units: mut served }) = served else {
            self.on_away(now, at, &mut deeds);
            return deeds;
        };
        for waiting in std::mem::take(queue) {
            if waiting.cost <= served {
                served -= waiting.cost;
                deeds.admitted.push(waiting.cost);
                continue;
            }
            let till = &mut self.workers[at].till;
            let take = till.take_again(&mut self.memory, &self.budget, waiting.cost);
            self.follow(at, take, waiting, &mut deeds);
        }
        deeds
    }

    /// The deadline of an ask is over.
    pub(crate) fn on_deadline(&mut self, now: Instant, at: usize, seq: u64) -> Deeds {
        self.memory.now = now;
        let mut deeds = Deeds::default();
        let Worker { till, sent, .. } = &mut self.workers[at];
        let Some((_, sent)) = sent.take_if(|(of, _)| *of == seq) else { return deeds };
        till.on_lost(&mut self.memory, sent);
        self.on_away(now, at, &mut deeds);
        deeds
    }

    /// Nobody could say what became of an ask.
    fn on_away(&mut self, now: Instant, at: usize, deeds: &mut Deeds) {
        let Worker { till, queue, .. } = &mut self.workers[at];
        let (_, ppm) = till.standing(&mut self.memory, &self.budget);
        let away = self.away.get_or_insert_with(|| {
            let quota = self.budget.terms.quota();
            let shares = self.on_error == OnError::Share;
            let outage = shares.then(|| Outage::new(now, quota, ppm * 9 / 10));
            Away { next_probe: now, outage }
        });
        away.next_probe = now.after(PROBE_EVERY);
        for waiting in std::mem::take(queue) {
            self.decide_alone(waiting.cost, deeds);
        }
    }

    pub(crate) fn on_tick(&mut self, now: Instant, at: usize) -> Deeds {
        self.memory.now = now;
        let mut deeds = Deeds::default();
        let due = self.workers[at].till.on_tick(&mut self.memory);
        let asks = match &mut self.away {
            None => !due.is_empty(),
            Some(away) => {
                let probes = now >= away.next_probe;
                if probes {
                    away.next_probe = now.after(PROBE_EVERY);
                }
                probes
            }
        };
        if asks {
            self.ask(at, &mut deeds);
        }
        deeds
    }

    fn follow(&mut self, at: usize, take: Take, waiting: Waiting, deeds: &mut Deeds) {
        let decides_alone = self.away.is_some() || self.memory.now >= waiting.until;
        match take {
            Take::Admitted => deeds.admitted.push(waiting.cost),
            Take::Trusted => {
                deeds.admitted.push(waiting.cost);
                if self.away.is_none() {
                    self.ask(at, deeds);
                }
            }
            Take::Denied { .. } | Take::Never => {}
            Take::Waits | Take::Asks if decides_alone => self.decide_alone(waiting.cost, deeds),
            Take::Waits | Take::Asks => {
                self.waited += 1;
                self.workers[at].queue.push_back(waiting);
                if take == Take::Asks {
                    self.ask(at, deeds);
                }
            }
        }
    }

    fn decide_alone(&mut self, cost: u32, deeds: &mut Deeds) {
        let outage = self.away.as_mut().and_then(|away| away.outage.as_mut());
        if outage.is_some_and(|outage| outage.take(self.memory.now, cost)) {
            deeds.admitted.push(cost);
        }
    }

    fn ask(&mut self, at: usize, deeds: &mut Deeds) {
        let Worker { till, queue, sent } = &mut self.workers[at];
        if sent.is_some() {
            return;
        }
        let queue = Queue {
            budget: self.budget,
            waiting: queue.iter().map(|waiting| waiting.cost).sum(),
            least: queue.front().map_or(0, |waiting| waiting.cost),
            at_once: self.at_once,
        };
        let (ask, on_its_way) = till.ask(&mut self.memory, &[queue]).unwrap();
        *sent = Some((ask.seq, on_its_way));
        deeds.ask = Some((at, ask));
    }
}
