//! Whether what a request shows is revoked: known at once, or asked of the host.
//!
//! Nothing is asked about an id that neither image nor delta holds, as long as the news are
//! fresh; whether they are is looked at on ticks, so no request reads a clock for it. What an
//! image seems to hold is asked once, and remembered. While images are missing, or the news are
//! old, each request asks; where there is no answer, the policy's `on_error` decides.
//!
//! Making an id takes about a microsecond; a worker remembers those of lately by a quick hash of
//! their parts, under its process's secret seed ([`KnownKeys`]).

use super::pulls::Pulls;
use super::question::{Answered, Asked, Purpose};
use super::resolving::Open;
use super::sharing::Place;
use super::{Gate, Ground, Step, Ticket, Waiting};
use crate::ask::NoAnswer;
use crate::facts::Facts;
use crate::key::{Key, KnownKeys};
use crate::plan::{Applied, Planner};
use crate::policy::{Policy, Revocation};
use crate::revoke::identity::Parts;
use crate::revoke::images::SharedPage;
use crate::revoke::known::{Found, Known};
use crate::revoke::message::{CHECKED_MAX, Check};
use crate::revoke::{Id, Identity};
use crate::time::{Instant, Span};
use crate::token::{Reading, Unfit, WithClaims};
use crate::verdict::{Rejection, Verdict};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher as _;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The most requests of one worker that may wait for exact answers at once; what comes on top is
/// decided by `on_error`. Whoever sends made-up tokens that nobody verified first can have one in
/// 128 of them asked about, and fills this, not the host.
pub const CHECKS_MAX: usize = 1_024;

/// How often each thing happened to requests that showed something, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationTally {
    /// Nothing of it is revoked.
    pub clear: u64,
    /// It is revoked: refused.
    pub revoked: u64,
    /// It cannot be read, or lacks what is to be looked at: refused.
    pub unfit: u64,
    /// It was asked about, because an image seems to hold it: mistaken once in 256 times.
    pub asked_positive: u64,
    /// It was asked about, because images are missing or the news are old.
    pub asked_unsure: u64,
    /// Decided by `on_error`.
    pub degraded: u64,
}

/// How a worker's knowledge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationState {
    /// Whether it decides by what it knows.
    pub is_fresh: bool,
    /// Up to which entry it knows the log.
    pub number: u64,
    /// Bytes of images.
    pub image_bytes: usize,
    /// Ids that came since.
    pub deltas: usize,
}

/// What a look at a request says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing of it is revoked, or nothing is looked at.
    Clear,
    Rejected(Rejection),
    /// Only the host can tell.
    Unsure,
}

pub(super) struct Revocations {
    pub(super) known: Known,
    pub(super) pulls: Pulls,
    pub(super) copies_bytes_max: u64,
    /// As of the last tick.
    pub(super) is_fresh: bool,
    /// Of the request that is looked at.
    identity: Identity,
    hasher: SipHasher13,
    made: KnownKeys,
    checking: usize,
    tally: RevocationTally,
    /// From acceptance to here: of what came since it was last asked.
    pub(super) lags: Vec<Span>,
}

/// A request whose ids are asked about.
pub(super) struct Checking {
    plan: Vec<Applied>,
    /// Unless it is planned.
    open: Option<Box<Open>>,
    ids: Vec<Id>,
    issued_secs: Option<u64>,
    until: Instant,
}

/// A request that goes on to its limits after it has waited: it keeps its ticket, and what is
/// left of its deadline.
#[derive(Clone, Copy)]
pub(super) struct Resumed {
    pub(super) ticket: Ticket,
    pub(super) until: Instant,
}

impl Revocations {
    /// `seed` keys what ids are remembered by.
    pub(super) fn new(rules: &Revocation, pulls: Pulls, seed: &[u8; 16]) -> Self {
        Self {
            known: Known::default(),
            pulls,
            copies_bytes_max: rules.copies_bytes_max,
            is_fresh: false,
            identity: Identity::default(),
            hasher: SipHasher13::new_with_key(seed),
            made: KnownKeys::default(),
            checking: 0,
            tally: RevocationTally::default(),
            lags: Vec::new(),
        }
    }

    /// Finds out what of a request may be revoked; returns whether it shows anything.
    fn read<F: Facts>(
        &mut self,
        rules: &Revocation,
        policy: &Policy,
        facts: &mut F,
        reading: &mut Reading,
    ) -> Result<bool, Unfit> {
        let Self { identity, known, hasher, made, .. } = self;
        let mut make = |parts: Parts<'_>| {
            let quick = quick_key(*hasher, &parts);
            Id(made.key(quick, || Key(parts.id().0)).0)
        };
        identity.read(rules, (policy, facts), reading, known.id_keys(), &mut make)
    }

    /// What is known of what was read.
    fn look<G: Ground>(&mut self, ground: &mut G) -> Looked {
        let Identity { ids, issued_secs, expires_secs } = &self.identity;
        let mut seems_held = false;
        let mut read = |page: SharedPage, with: &mut dyn FnMut(&[u8])| {
            ground.shared(Place::Page(page), with);
        };
        for (kind, id) in ids {
            // What has no end of its own is in no generation: there it could only be mistaken.
            let expires_secs = expires_secs.filter(|_| kind.shows_end());
            match self.known.look(id, expires_secs, &mut read) {
                Found::Before(before_secs) if revokes(before_secs, *issued_secs) => {
                    return Looked::Rejected(Rejection::Revoked);
                }
                Found::Before(_) | Found::Clear => {}
                Found::Perhaps => seems_held = true,
            }
        }
        if seems_held {
            self.tally.asked_positive += 1;
        } else if !self.is_fresh && !ids.is_empty() {
            self.tally.asked_unsure += 1;
        } else {
            self.tally.clear += 1;
            return Looked::Clear;
        }
        Looked::Unsure
    }
}

impl Gate {
    /// Looks whether what a request shows is revoked.
    pub(super) fn look<F: Facts, G: Ground>(&mut self, ground: &mut G, facts: &mut F) -> Looked {
        let Self { policy, planner, reading, .. } = self;
        let (Some(revocations), Some(rules)) = (&mut self.revocations, &policy.revocation) else {
            return Looked::Clear;
        };
        let is_meant = planner.applies(
            &rules.when,
            policy,
            &mut WithClaims::new(&mut *facts, &mut *reading, policy),
        );
        if !is_meant {
            return Looked::Clear;
        }
        match revocations.read(rules, policy, facts, reading) {
            Ok(true) => revocations.look(ground),
            // No browser shows anything in a preflight: what does is looked at like any other.
            Ok(false) if rules.needs_token && !Planner::is_preflight(policy, facts) => {
                Looked::Rejected(Rejection::NoToken)
            }
            Ok(false) => Looked::Clear,
            Err(Unfit::Keyless) if self.is_open() => Looked::Clear,
            Err(Unfit::Keyless) => Looked::Rejected(Rejection::Unknown),
            Err(_) => Looked::Rejected(Rejection::Unfit),
        }
    }

    /// Holds a request until the host has told whether what it shows is revoked; or decides it
    /// now, where that cannot be asked.
    pub(super) fn check<G: Ground>(
        &mut self,
        ground: &mut G,
        plan: &[Applied],
        open: Option<Box<Open>>,
    ) -> Step {
        if !self.may_check() {
            return match self.without_answer() {
                Some(verdict) => Step::Answer(verdict),
                None => self.proceed(ground, plan, open),
            };
        }
        let until = ground.now().after(self.deadline());
        let ticket = Ticket(self.number());
        let Some(revocations) = &mut self.revocations else {
            return self.proceed(ground, plan, open);
        };
        revocations.checking += 1;
        let Identity { ids, issued_secs, .. } = &revocations.identity;
        let ids: Vec<Id> = ids.iter().map(|(_, id)| *id).take(CHECKED_MAX).collect();
        let ask = Asked::Check(Check { ids: ids.clone() });
        let checking =
            Checking { plan: plan.to_vec(), open, ids, issued_secs: *issued_secs, until };
        self.waiting.insert(ticket.0, Waiting::Checking(Box::new(checking)));
        self.put(ask, Purpose::Check(ticket), None);
        Step::Hold(ticket)
    }

    /// Refuses a request for what it shows, or does not show.
    pub(super) fn reject(&mut self, rejection: Rejection) -> Verdict {
        if let Some(Revocations { tally, .. }) = &mut self.revocations {
            match rejection {
                Rejection::Revoked => tally.revoked += 1,
                Rejection::Unfit | Rejection::NoToken => tally.unfit += 1,
                Rejection::Unknown => {}
            }
        }
        Verdict::Reject(rejection)
    }

    /// Goes on with a request that was asked about.
    pub(super) fn conclude_check<G: Ground>(
        &mut self,
        ground: &mut G,
        ticket: Ticket,
        reply: Result<Answered, NoAnswer>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let Some(revocations) = &mut self.revocations else { return };
        revocations.checking = revocations.checking.saturating_sub(1);
        let Some(Waiting::Checking(held)) = self.waiting.remove(ticket.0) else { return };
        let Checking { plan, open, ids, issued_secs, until } = *held;
        let stale_after = self.policy.revocation.as_ref().map_or(Span::ZERO, |it| it.stale_after);
        let answer = match reply {
            Ok(Answered::Checked(checked)) => {
                let heard = revocations.known.hear_checked(&ids, &checked, stale_after);
                let revoked = || checked.before_secs.iter().any(|it| revokes(*it, issued_secs));
                heard.map(|()| revoked())
            }
            Ok(_) | Err(_) => None,
        };
        if !is_there(ticket) {
            return;
        }
        let verdict = match answer {
            Some(true) => Some(self.reject(Rejection::Revoked)),
            Some(false) => {
                revocations.tally.clear += 1;
                None
            }
            None => self.without_answer(),
        };
        if let Some(verdict) = verdict {
            self.decided.push((ticket, verdict));
            return;
        }
        self.resumed = Some(Resumed { ticket, until });
        if let Step::Answer(verdict) = self.proceed(ground, &plan, open) {
            self.decided.push((ticket, verdict));
        }
        self.resumed = None;
    }

    /// What a request gets that only the host could tell of: a verdict, or `None` if it goes on.
    fn without_answer(&mut self) -> Option<Verdict> {
        if let Some(Revocations { tally, .. }) = &mut self.revocations {
            tally.degraded += 1;
        }
        (!self.is_open()).then_some(Verdict::Reject(Rejection::Unknown))
    }

    fn is_open(&self) -> bool {
        self.policy.revocation.as_ref().is_some_and(|rules| rules.is_open)
    }

    fn may_check(&self) -> bool {
        let checking = self.revocations.as_ref().map_or(0, |it| it.checking);
        checking < CHECKS_MAX && self.may_wait()
    }

    /// What happened to requests that showed something since the last call; `None` if the policy
    /// looks at nothing.
    pub fn take_revocation_tally(&mut self) -> Option<RevocationTally> {
        self.revocations.as_mut().map(|it| core::mem::take(&mut it.tally))
    }

    /// How long what was revoked or lifted took from its acceptance to this worker, for all that
    /// came since the last call.
    pub fn take_revocation_lags(&mut self) -> Vec<Span> {
        self.revocations.as_mut().map(|it| core::mem::take(&mut it.lags)).unwrap_or_default()
    }

    /// How this worker's knowledge of revocations is; `None` if the policy looks at nothing.
    pub fn revocation_state(&self) -> Option<RevocationState> {
        let Revocations { known, is_fresh, .. } = self.revocations.as_ref()?;
        let (image_bytes, deltas) = known.size();
        let number = known.position().number;
        Some(RevocationState { is_fresh: *is_fresh, number, image_bytes, deltas })
    }
}

/// Whether a token of this age is among those issued at or before then.
fn revokes(before_secs: u64, issued_secs: Option<u64>) -> bool {
    before_secs > 0 && issued_secs.unwrap_or(0) <= before_secs
}

/// What an id's parts are remembered by: each with its length, so none imitates another.
fn quick_key(mut hasher: SipHasher13, parts: &Parts<'_>) -> Key {
    hasher.write_u8(parts.kind as u8);
    let key = parts.key.map_or(&[][..], |key| &key[..]);
    for part in [key].iter().chain(parts.parts) {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    Key(hasher.finish128().as_bytes())
}
