//! What requests are, and the policy that they meet.

use crate::scenario::Scenario;
use tidegate_core::ask::LimitTag;
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::key;
use tidegate_core::limit::Quota;
use tidegate_core::policy::{Cost, Limit, Matcher, Missing, OnError, Pattern, Policy, Preflight};
use tidegate_core::policy::{HeaderFields, Host, Scope, Subject};
use tidegate_core::time::Span;

pub(crate) const DEADLINE: Span = Span::from_millis(20);

/// The most leased limits of a policy.
pub(crate) const LIMITS_MAX: usize = 3;

const DOMAIN: &str = "sim";
const NAMES: [&str; LIMITS_MAX] = ["first", "second", "third"];
/// How a request names the limits that it meets.
const SIGNS: [char; LIMITS_MAX] = ['a', 'b', 'c'];

const COST: WantId = WantId(0);
const LIMITS: WantId = WantId(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) cost: u32,
    /// Which of the leased limits apply to it: a bit for each, and at least one.
    pub(crate) limits: u8,
}

/// A request as its gate sees it.
pub(crate) struct Text {
    cost: String,
    limits: String,
}

impl Request {
    pub(crate) fn facts(self) -> Text {
        let limits = (0..LIMITS_MAX).filter(|at| self.meets(*at)).map(|at| SIGNS[at]).collect();
        Text { cost: self.cost.to_string(), limits }
    }

    pub(crate) fn meets(self, limit: usize) -> bool {
        self.limits >> limit & 1 > 0
    }
}

impl Facts for Text {
    fn read(&mut self, id: WantId, _: &Want) -> Option<&[u8]> {
        Some(if id == COST { self.cost.as_bytes() } else { self.limits.as_bytes() })
    }
}

/// By limit: what its store calls it.
pub(crate) fn tags() -> [LimitTag; LIMITS_MAX] {
    NAMES.map(|name| key::tag(DOMAIN, name))
}

/// A policy of these leased limits; and, unless requests go on as soon as they have their units,
/// of an exact one beside them that admits all.
pub(crate) fn policy(scenario: &Scenario, quotas: &[Quota]) -> Policy {
    let is_only = quotas.len() == 1;
    let mut limits: Vec<Limit> = (0..quotas.len())
        .map(|at| Limit {
            when: if is_only { Matcher::All(Vec::new()) } else { names(SIGNS[at]) },
            scope: Scope::Global { exact: false, escrow: scenario.reserve > 0 },
            on_error: scenario.on_error,
            ..limit(NAMES[at], quotas[at])
        })
        .collect();
    if !scenario.at_once {
        limits.push(limit("exact", quotas[0]));
    }
    let proxies = if scenario.reserve > 0 { scenario.reserve } else { scenario.proxies as u32 };
    Policy {
        domain: DOMAIN.into(),
        wants: vec![Want::Header("cost".into()), Want::Header("limits".into())],
        limits,
        allow: Vec::new(),
        preflight: Preflight::Count,
        headers: HeaderFields { ratelimit: false, x_ratelimit: false, on_allow: false },
        host: Some(Host {
            cluster: "host".into(),
            authority: "host".into(),
            deadline: DEADLINE,
            breaker: Span::from_millis(100),
        }),
        proxies_max: proxies,
        table_keys_max: 16,
        token: None,
        plugins: Vec::new(),
        revocation: None,
    }
}

/// One that is exact, applies to all and lets all through while its store is away.
fn limit(name: &str, quota: Quota) -> Limit {
    Limit {
        name: name.into(),
        when: Matcher::All(Vec::new()),
        key: Vec::new(),
        missing: Missing::Shared,
        quota: Some(quota),
        overrides: Vec::new(),
        scope: Scope::Global { exact: true, escrow: false },
        on_error: OnError::Open,
        cost: Cost::Header { header: COST, default: 1, max: quota.burst() },
        shadow: false,
    }
}

fn names(sign: char) -> Matcher {
    let contains = ["".into(), sign.to_string().into(), "".into()];
    Matcher::Test {
        subject: Subject::Header(LIMITS),
        patterns: vec![Pattern::Glob(contains.into())],
    }
}
