//! Which limits apply to a request, with which keys, quotas and costs.
//!
//! Rules are read in the order written and every one that matches applies. The cost is
//! that of the facts first touched (a shell remembers them) plus a comparison for each
//! rule: no allocation once the buffers have grown.

use crate::ask::LimitTag;
use crate::client;
use crate::facts::{Facts, Want, WantId};
use crate::key::{self, Key, KeyHasher, KnownKeys, Parts, names};
use crate::limit::Quota;
use crate::policy::{
    APPLIED_MAX, Cost, Limit, Matcher, Pattern, Policy, Preflight, Scope, Subject,
};
use crate::verdict::LimitIndex;
use alloc::vec::Vec;

/// Works out plans for one policy.
pub struct Planner {
    hashers: Vec<KeyHasher>,
    /// By limit: how its keys are found among those that are known, if it is global.
    quick: Vec<Option<KeyHasher>>,
    known: KnownKeys,
    tags: Vec<LimitTag>,
    /// The client's address, if there is an allow list to hold it against.
    allow_address: Option<WantId>,
    parts: Parts,
    decoded: Vec<u8>,
}

/// One limit that applies to this request.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// Which limit.
    pub limit: LimitIndex,
    /// Whose budget.
    pub key: Key,
    /// Its quota, overrides considered.
    pub quota: Quota,
    /// How many units the request takes.
    pub cost: u32,
}

impl Planner {
    /// For `policy`; `seed` keys the hashes of local limits (see [`KeyHasher`]).
    pub fn new(policy: &Policy, seed: &[u8; 16]) -> Self {
        let hasher = |limit: &Limit| match limit.scope {
            Scope::Local => KeyHasher::local(seed, &policy.domain, &limit.name),
            Scope::Global { .. } => KeyHasher::global(&policy.domain, &limit.name),
        };
        let hashers = policy.limits.iter().map(hasher).collect();
        let quick = |limit: &Limit| {
            let is_global = limit.scope != Scope::Local;
            is_global.then(|| KeyHasher::local(seed, &policy.domain, &limit.name))
        };
        let quick = policy.limits.iter().map(quick).collect();
        let tag = |limit: &Limit| key::tag(&policy.domain, &limit.name);
        let tags = policy.limits.iter().map(tag).collect();
        let address = policy.wants.iter().position(|want| *want == Want::ClientAddress);
        let allow_address = address.filter(|_| !policy.allow.is_empty());
        let allow_address = allow_address.map(|place| WantId(place as u16));
        let (known, parts, decoded) = (KnownKeys::default(), Parts::default(), Vec::new());
        Self { hashers, quick, known, tags, allow_address, parts, decoded }
    }

    /// What a store calls a limit: the same in all proxies, and under any policy that has
    /// this limit in this domain.
    pub fn tag(&self, limit: LimitIndex) -> LimitTag {
        self.tags.get(usize::from(limit.0)).copied().unwrap_or(LimitTag(0))
    }

    /// Fills `plan` with the limits that apply; none if the client is on the allow list
    /// or the request is a preflight that the policy lets pass.
    ///
    /// At most [`APPLIED_MAX`] apply; a policy by which more could is refused with a
    /// diagnostic where that can be seen, and the first ones hold where it cannot.
    pub fn plan(&mut self, policy: &Policy, facts: &mut dyn Facts, plan: &mut Vec<Applied>) {
        plan.clear();
        if self.is_exempt(policy, facts) {
            return;
        }
        let hashers = self.hashers.iter().zip(&self.quick);
        for (index, (limit, (hasher, quick))) in policy.limits.iter().zip(hashers).enumerate() {
            if plan.len() == APPLIED_MAX {
                break;
            }
            if !matches(&limit.when, policy, facts, &mut self.decoded)
                || !self.parts.derive(policy, limit, facts)
            {
                continue;
            }
            let Some(quota) = quota_for(limit, &self.parts) else { continue };
            let cost = cost_of(limit.cost, policy, facts);
            let key = || hasher.key(&self.parts);
            let key = match quick {
                Some(quick) => self.known.key(quick.key(&self.parts), key),
                None => key(),
            };
            plan.push(Applied { limit: LimitIndex(index as u16), key, quota, cost });
        }
    }

    /// Whether what a rule's `when` says is true of this request.
    pub fn applies(&mut self, when: &Matcher, policy: &Policy, facts: &mut dyn Facts) -> bool {
        matches(when, policy, facts, &mut self.decoded)
    }

    /// Whether this is a preflight that the policy lets pass, by its method and headers. A browser's
    /// shows no credentials (Fetch, CORS-preflight fetch); another client's may.
    pub fn is_preflight(policy: &Policy, facts: &mut dyn Facts) -> bool {
        match policy.preflight {
            Preflight::Count => false,
            Preflight::Bypass { method, origin, requested } => {
                read(policy, facts, method) == Some(b"OPTIONS")
                    && read(policy, facts, origin).is_some()
                    && read(policy, facts, requested).is_some()
            }
        }
    }

    fn is_exempt(&self, policy: &Policy, facts: &mut dyn Facts) -> bool {
        let is_preflight = Self::is_preflight(policy, facts);
        let mut is_allowed = || {
            let ip = read(policy, facts, self.allow_address?).and_then(client::address)?;
            Some(policy.allow.iter().any(|network| network.contains(ip)))
        };
        is_preflight || is_allowed().unwrap_or(false)
    }
}

/// The first override that names these key values, else the limit's own quota; `None`
/// is unlimited.
fn quota_for(limit: &Limit, parts: &Parts) -> Option<Quota> {
    let matching = limit.overrides.iter().find(|over| {
        over.values.iter().zip(parts.values()).all(|(expected, value)| {
            let names = |expected| value.is_some_and(|value| names(expected, value));
            expected.as_ref().is_none_or(names)
        })
    });
    matching.map_or(limit.quota, |over| over.quota)
}

fn cost_of(cost: Cost, policy: &Policy, facts: &mut dyn Facts) -> u32 {
    match cost {
        Cost::Const(units) => units,
        Cost::Header { header, default, max } => {
            let text = read(policy, facts, header).and_then(|text| core::str::from_utf8(text).ok());
            // A number beyond u32 is a number, and more than `max`: it must not fall to the default.
            let digits = text
                .map(str::trim)
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.map_or(default, |digits| digits.parse().unwrap_or(u32::MAX)).min(max)
        }
    }
}

/// Whether a rule applies to this request.
fn matches(
    matcher: &Matcher,
    policy: &Policy,
    facts: &mut dyn Facts,
    decoded: &mut Vec<u8>,
) -> bool {
    match matcher {
        Matcher::All(all) => all.iter().all(|inner| matches(inner, policy, facts, decoded)),
        Matcher::Any(any) => any.iter().any(|inner| matches(inner, policy, facts, decoded)),
        Matcher::Not(inner) => !matches(inner, policy, facts, decoded),
        Matcher::Test { subject, patterns } => value(subject, policy, facts, decoded)
            .is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value))),
        Matcher::Present { subject, present } => {
            value(subject, policy, facts, decoded).is_some() == *present
        }
        Matcher::ClientIn { address, networks } => {
            let ip = read(policy, facts, *address).and_then(client::address);
            ip.is_some_and(|ip| networks.iter().any(|network| network.contains(ip)))
        }
    }
}

/// A subject's bytes, if the request has it.
fn value<'a>(
    subject: &Subject,
    policy: &Policy,
    facts: &'a mut dyn Facts,
    decoded: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    match subject {
        Subject::Path(id) => read(policy, facts, *id).map(client::path),
        Subject::Method(id) | Subject::Header(id) | Subject::Property(id) => {
            read(policy, facts, *id)
        }
        Subject::Host(id) => {
            let host = client::host(read(policy, facts, *id)?);
            decoded.clear();
            decoded.extend(host.iter().map(u8::to_ascii_lowercase));
            Some(decoded)
        }
        Subject::Cookie { header, name } => client::cookie(read(policy, facts, *header)?, name),
        Subject::Query { path, name } => {
            decoded.clear();
            let found = client::query(read(policy, facts, *path)?, name, decoded);
            found.then_some(decoded.as_slice())
        }
    }
}

fn read<'a>(policy: &Policy, facts: &'a mut dyn Facts, id: WantId) -> Option<&'a [u8]> {
    facts.read(id, policy.want(id)?)
}

impl Pattern {
    /// Whether these bytes are what the pattern means.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Glob(pieces) => matches_glob(pieces, value),
        }
    }
}

/// Leftmost matching of each middle piece is enough: a star gives back nothing that a
/// later piece could want. Time is linear in `value` for each piece.
fn matches_glob(pieces: &[alloc::boxed::Box<str>], value: &[u8]) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_none_or(|only| value == only.as_bytes());
    };
    let Some(mut rest) = value.strip_prefix(first.as_bytes()) else { return false };
    for piece in middle {
        let Some(at) = find(rest, piece.as_bytes()) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    rest.ends_with(last.as_bytes())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}
