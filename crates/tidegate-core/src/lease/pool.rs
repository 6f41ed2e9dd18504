//! The holders of one process, of all its keys, and the asks that they share.
//!
//! For a shell whose workers share memory as objects: the host on behalf of its proxies, a
//! proxy with one worker, the simulator. Where workers share bytes only, each keeps purses,
//! and the holders are [packed](Holder::to_bytes).

use super::{Ask, Away, Flight, Grant, Holder, HolderId, Reply, Served, Terms, WANTS_MAX};
use crate::ask::LimitTag;
use crate::key::Key;
use crate::lease::Due;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

/// Holders that are looked at to make room for a new one, or to see what is due, at once: it
/// bounds the time of one call.
const LOOKED_AT_MAX: usize = 256;

/// The holders of one process.
pub struct Pool {
    me: HolderId,
    seq: u64,
    keys_max: usize,
    held: BTreeMap<Key, Held>,
    /// Where the next look for what is due begins.
    next: Key,
}

struct Held {
    limit: LimitTag,
    terms: Terms,
    holder: Holder,
}

/// One key that is to be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whose budget.
    pub key: Key,
    /// Units that requests wait for.
    pub waiting: u32,
    /// What the first of them costs.
    pub least: u32,
    /// See [`Holder::ask`].
    pub at_once: bool,
}

/// An ask of several keys on its way: keep it until its fate is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Flights {
    seq: u64,
    of: Vec<(Key, Flight)>,
}

impl Pool {
    /// A pool of at most `keys_max` holders, about 350 bytes each. `me` is drawn at random.
    pub const fn new(me: HolderId, keys_max: usize) -> Self {
        Self { me, seq: 0, keys_max, held: BTreeMap::new(), next: Key([0; 16]) }
    }

    /// The holder of a key. `None` if there is no place for one more: then its requests must
    /// be asked for one by one, as if it were not leased.
    ///
    /// A holder that holds nothing, owes nothing and refuses nobody makes room.
    pub fn holder(
        &mut self,
        now: Instant,
        key: Key,
        limit: LimitTag,
        terms: &Terms,
    ) -> Option<&mut Holder> {
        if !self.held.contains_key(&key) && self.held.len() >= self.keys_max {
            let is_idle =
                |held: &Held| held.holder.may_be_dropped(now) && held.holder.left(now) == 0;
            let after = self.held.range((Excluded(key), Unbounded)).take(LOOKED_AT_MAX);
            let idle =
                after.chain(self.held.iter().take(LOOKED_AT_MAX)).find(|(_, it)| is_idle(it));
            let idle = idle.map(|(key, _)| *key)?;
            self.held.remove(&idle);
        }
        let held = self.held.entry(key).or_insert_with(|| Held {
            limit,
            terms: *terms,
            holder: Holder::default(),
        });
        // The terms of a key change with its policy; what is held stays good.
        held.terms = *terms;
        Some(&mut held.holder)
    }

    /// One ask for up to [`WANTS_MAX`] keys that have holders, none of them twice. `None` if
    /// there is none to ask for.
    pub fn ask(&mut self, now: Instant, calls: &[Call]) -> Option<(Ask, Flights)> {
        let mut ask = Ask { holder: self.me, seq: self.seq.saturating_add(1), wants: Vec::new() };
        let mut of = Vec::new();
        for Call { key, waiting, least, at_once } in calls.iter().take(WANTS_MAX) {
            let Some(held) = self.held.get_mut(key) else { continue };
            let waits = (*waiting, *least);
            let what = (*key, held.limit);
            let (want, flight) = held.holder.ask(now, &held.terms, what, waits, *at_once);
            ask.wants.push(want);
            of.push((*key, flight));
        }
        if of.is_empty() {
            return None;
        }
        self.seq = ask.seq;
        let seq = ask.seq;
        Some((ask, Flights { seq, of }))
    }

    /// One ask for keys of which something is due though no request waits. Call it at each
    /// tick, of about 25 ms, until it gives `None`; a large pool is gone through over several
    /// ticks.
    pub fn ask_due(&mut self, now: Instant) -> Option<(Ask, Flights)> {
        let mut calls = Vec::new();
        for (key, held) in self.held.range_mut((Excluded(self.next), Unbounded)).take(LOOKED_AT_MAX)
        {
            self.next = *key;
            if held.holder.due(now, &held.terms) != Due::Nothing {
                calls.push(Call { key: *key, waiting: 0, least: 0, at_once: false });
                if calls.len() == WANTS_MAX {
                    break;
                }
            }
        }
        if calls.is_empty() {
            self.next = Key([0; 16]);
        }
        self.ask(now, &calls)
    }

    /// Learns what an ask brought, and says what it served to those who wait, key by key, or that
    /// a key's store is away: of that key it is as if the ask were lost. A reply to another ask,
    /// or to other keys, is none: `false`, and it is as if all of it were lost.
    pub fn on_reply(
        &mut self,
        now: Instant,
        flights: Flights,
        reply: &Reply,
        mut serve: impl FnMut(Key, Result<Served, Away>),
    ) -> bool {
        if reply.seq != flights.seq || reply.grants.len() != flights.of.len() {
            self.on_lost(flights);
            return false;
        }
        for ((key, flight), grant) in flights.of.into_iter().zip(&reply.grants) {
            let Some(held) = self.held.get_mut(&key) else { continue };
            let by = (self.me, flights.seq);
            let served = match grant {
                Ok(grant) => Ok(held.learn(now, flight, by, grant)),
                Err(away) => {
                    held.holder.on_lost(flight);
                    Err(*away)
                }
            };
            serve(key, served);
        }
        true
    }

    /// Learns that an ask was given up: a reply to it must not be looked at any more.
    pub fn on_lost(&mut self, flights: Flights) {
        for (key, flight) in flights.of {
            if let Some(held) = self.held.get_mut(&key) {
                held.holder.on_lost(flight);
            }
        }
    }

    /// Forgets up to [`WANTS_MAX`] holders, and returns what they held. `None` when there are no
    /// more: for the end of a process, or of a policy.
    pub fn drain(&mut self, now: Instant) -> Option<Ask> {
        let mut wants = Vec::new();
        while let Some((key, mut held)) = self.held.pop_first() {
            wants.extend(held.holder.drain(now, &held.terms, (key, held.limit)));
            if wants.len() == WANTS_MAX {
                break;
            }
        }
        if wants.is_empty() {
            return None;
        }
        self.seq = self.seq.saturating_add(1);
        Some(Ask { holder: self.me, seq: self.seq, wants })
    }

    /// How many keys have holders.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Held {
    fn learn(
        &mut self,
        now: Instant,
        flight: Flight,
        by: (HolderId, u64),
        grant: &Grant,
    ) -> Served {
        self.holder.on_reply(now, &self.terms, flight, by, grant)
    }
}
