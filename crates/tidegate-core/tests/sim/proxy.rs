//! One proxy: workers with purses, one holder, a queue behind its ask, a breaker. It only
//! carries; the holder decides.

use crate::clock::Clock;
use std::collections::VecDeque;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Ask, Due, Flight, Holder, HolderId, Outage, Purse, Reply, Take, Terms, Want,
};
use tidegate_core::time::{Instant, Span};

pub(crate) const KEY: Key = Key([7; 16]);
pub(crate) const LIMIT: LimitTag = LimitTag(7);
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
    pub(crate) id: HolderId,
    pub(crate) terms: Terms,
    pub(crate) on_error: OnError,
    pub(crate) paused_until: u64,
    pub(crate) pause_mid_ask: Option<Span>,
    holder: Holder,
    purses: Vec<Purse>,
    queue: VecDeque<Waiting>,
    flight: Option<(u64, Flight)>,
    seq: u64,
    away_since: Option<Instant>,
    next_probe: Instant,
    outage: Option<Outage>,
    pub(crate) waited: u64,
}

struct Waiting {
    cost: u32,
    until: Instant,
}

/// What a proxy did with what came to it.
#[derive(Default)]
pub(crate) struct Deeds {
    /// Costs of the requests let through.
    pub(crate) admitted: Vec<u32>,
    pub(crate) ask: Option<Ask>,
}

impl Proxy {
    pub(crate) fn new(
        clock: Clock,
        id: HolderId,
        terms: Terms,
        on_error: OnError,
        workers: usize,
    ) -> Self {
        Self {
            clock,
            id,
            terms,
            on_error,
            paused_until: 0,
            pause_mid_ask: None,
            holder: Holder::default(),
            purses: vec![Purse::default(); workers],
            queue: VecDeque::new(),
            flight: None,
            seq: 0,
            away_since: None,
            next_probe: Instant(0),
            outage: None,
            waited: 0,
        }
    }

    pub(crate) fn on_request(&mut self, now: Instant, worker: usize, cost: u32) -> Deeds {
        let mut deeds = Deeds::default();
        let workers = self.purses.len() as u32;
        let purse = &mut self.purses[worker];
        if purse.take(now, cost) {
            deeds.admitted.push(cost);
            return deeds;
        }
        if purse.denies(now, cost).is_some() {
            return deeds;
        }
        let take = self.holder.exchange(now, &self.terms, purse, cost, workers);
        self.follow(now, take, Waiting { cost, until: now.after(DEADLINE) }, &mut deeds);
        if take == Take::Admitted && self.may_ask(now) {
            self.ask_if_due(now, &mut deeds);
        }
        deeds
    }

    pub(crate) fn on_reply(&mut self, now: Instant, reply: &Reply) -> Deeds {
        let mut deeds = Deeds::default();
        let Some((_, flight)) = self.flight.take_if(|(seq, _)| *seq == reply.seq) else {
            return deeds;
        };
        if self.away_since.take().is_some()
            && let Some(outage) = self.outage.take()
        {
            self.holder.owe(outage.debt(now));
        }
        let by = (self.id, reply.seq);
        let served = self.holder.on_reply(now, &self.terms, flight, by, &reply.grants[0]);
        let mut served = served.units;
        for waiting in std::mem::take(&mut self.queue) {
            if waiting.cost <= served {
                served -= waiting.cost;
                deeds.admitted.push(waiting.cost);
                continue;
            }
            let take = self.holder.take_again(now, &self.terms, waiting.cost);
            self.follow(now, take, waiting, &mut deeds);
        }
        deeds
    }

    /// The deadline of an ask is over.
    pub(crate) fn on_deadline(&mut self, now: Instant, seq: u64) -> Deeds {
        let mut deeds = Deeds::default();
        if let Some((_, flight)) = self.flight.take_if(|(of, _)| *of == seq) {
            self.holder.on_lost(flight);
            self.next_probe = now.after(PROBE_EVERY);
            if self.away_since.is_none() {
                self.away_since = Some(now);
                if self.on_error == OnError::Share {
                    let ppm = self.holder.share_ppm(now);
                    self.outage = Some(Outage::new(now, self.terms.quota(), ppm * 9 / 10));
                }
            }
            for waiting in std::mem::take(&mut self.queue) {
                self.decide_alone(now, waiting.cost, &mut deeds);
            }
        }
        deeds
    }

    pub(crate) fn on_tick(&mut self, now: Instant) -> Deeds {
        let mut deeds = Deeds::default();
        for purse in &mut self.purses {
            self.holder.empty(now, purse);
        }
        if self.away_since.is_some() {
            if now >= self.next_probe && self.flight.is_none() {
                self.next_probe = now.after(PROBE_EVERY);
                self.ask(now, &mut deeds);
            }
        } else if self.may_ask(now) {
            self.ask_if_due(now, &mut deeds);
        }
        deeds
    }

    fn follow(&mut self, now: Instant, take: Take, waiting: Waiting, deeds: &mut Deeds) {
        let is_away = self.away_since.is_some() || now >= waiting.until;
        match take {
            Take::Admitted => deeds.admitted.push(waiting.cost),
            Take::Denied { .. } | Take::Never => {}
            Take::Waits | Take::Asks if is_away => self.decide_alone(now, waiting.cost, deeds),
            Take::Waits => {
                self.waited += 1;
                self.queue.push_back(waiting);
            }
            Take::Asks => {
                self.waited += 1;
                self.queue.push_back(waiting);
                self.ask(now, deeds);
            }
            Take::Trusted => {
                deeds.admitted.push(waiting.cost);
                if self.may_ask(now) {
                    self.ask(now, deeds);
                }
            }
        }
    }

    fn decide_alone(&mut self, now: Instant, cost: u32, deeds: &mut Deeds) {
        if let Some(outage) = &mut self.outage
            && outage.take(now, cost)
        {
            deeds.admitted.push(cost);
        }
    }

    fn may_ask(&self, _now: Instant) -> bool {
        self.flight.is_none() && self.away_since.is_none()
    }

    fn ask_if_due(&mut self, now: Instant, deeds: &mut Deeds) {
        if self.holder.due(now, &self.terms) != Due::Nothing {
            self.ask(now, deeds);
        }
    }

    fn ask(&mut self, now: Instant, deeds: &mut Deeds) {
        if self.flight.is_some() {
            return;
        }
        let waiting = self.queue.iter().map(|waiting| waiting.cost).sum();
        let least = self.queue.front().map_or(0, |waiting| waiting.cost);
        let (want, flight): (Want, Flight) =
            self.holder.ask(now, &self.terms, (KEY, LIMIT), (waiting, least), true);
        self.seq += 1;
        self.flight = Some((self.seq, flight));
        deeds.ask = Some(Ask { holder: self.id, seq: self.seq, wants: vec![want] });
    }
}
