//! One limit: its name, its quota and what surrounds it.
//!
//! ```yaml
//! name: per-tenant
//! key: [{ header: x-tenant }]
//! rate: 100/1m                     # or unlimited, with overrides
//! burst: 20
//! overrides:
//!   - { key: acme, rate: unlimited }
//!   - { key: trial, rate: 10/1m }
//! cost: { header: x-cost, default: 1, max: 20 }   # or plugin: NAME.OUTPUT
//! scope: global                    # local unless said; leased ahead from the host service, unless
//! exact: false                     #   true: it is asked for each request
//! escrow: true                     #   a key's first request is let through before it is asked for
//! on_error: local_share            #   while the store is away; or open, or closed
//! ```

use super::Resolver;
use super::key::covers;
use crate::diagnostic::found;
use crate::reading::{Reader, Spot};
use crate::spelling;
use crate::text::Value;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_core::facts::Want;
use tidegate_core::lease::Terms;
use tidegate_core::limit::{Algorithm, Impossible, PERIOD_MAX, PERIOD_MIN, Quota};
use tidegate_core::policy::{
    Cost, Limit, Matcher, Missing, OVERRIDES_MAX, OnError, Override, Scope,
};
use tidegate_core::time::Span;

const LIMIT_FIELDS: &[&str] = &[
    "name",
    "when",
    "key",
    "missing",
    "rate",
    "burst",
    "algorithm",
    "overrides",
    "scope",
    "exact",
    "escrow",
    "on_error",
    "cost",
    "shadow",
];

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("token_bucket", Algorithm::TokenBucket),
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_counter", Algorithm::SlidingCounter),
];

const MISSING: &[(&str, Missing)] = &[("shared", Missing::Shared), ("skip", Missing::Skip)];

const SCOPES: &[(&str, Scope)] =
    &[("local", Scope::Local), ("global", Scope::Global { exact: false, escrow: false })];

const ON_ERROR: &[(&str, OnError)] =
    &[("local_share", OnError::LocalShare), ("open", OnError::Open), ("closed", OnError::Closed)];

impl Resolver {
    /// Adds a limit to the policy.
    pub(super) fn limit(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, LIMIT_FIELDS)?;
        self.policy.limits.push(Limit {
            name: Box::default(),
            when: Matcher::All(Vec::new()),
            key: Vec::new(),
            missing: Missing::Shared,
            quota: None,
            overrides: Vec::new(),
            scope: Scope::Local,
            on_error: OnError::LocalShare,
            cost: Cost::Const(1),
            shadow: false,
        });
        self.read_required(spot, "name", "a name, to tell limits apart", |this, at| {
            this.last()?.name = this.name(at)?;
            Some(())
        });
        self.read(spot, "when", |this, at| {
            // One that cannot be read shall not count as one that applies to all.
            this.last()?.when = this.matcher(at).unwrap_or(Matcher::Any(Vec::new()));
            Some(())
        });
        let told = self.errors();
        self.read(spot, "key", |this, at| {
            this.last()?.key = this.key(at)?;
            Some(())
        });
        let has_key = self.errors() == told;
        self.read(spot, "missing", |this, at| {
            this.last()?.missing = this.choice(at, MISSING)?;
            Some(())
        });
        let algorithm = self.optional(spot, "algorithm", Algorithm::TokenBucket, |this, at| {
            this.choice(at, ALGORITHMS)
        });
        // An algorithm that cannot be read is told once; the rest is judged by the default.
        let counted_by = algorithm.unwrap_or(Algorithm::TokenBucket);
        let quota = self.quota(spot, counted_by);
        self.last()?.quota = quota.flatten();
        if let Some(at) = spot.field("overrides") {
            self.overrides(&at, has_key, counted_by);
        }
        self.scope(spot);
        self.cost(spot);
        self.read(spot, "shadow", |this, at| {
            this.last()?.shadow = this.flag(at)?;
            Some(())
        });
        if let (Some(None), Some(rate)) = (quota, spot.field("rate"))
            && self.last()?.overrides.iter().all(|other| other.quota.is_none())
        {
            let wanted = format_args!("a rate here or in an override: this limits nothing");
            self.doubt(&rate, "unlimited", wanted, None);
        }
        Some(())
    }

    /// The limit that is being read.
    fn last(&mut self) -> Option<&mut Limit> {
        self.policy.limits.last_mut()
    }

    /// `rate` and `burst` of a limit or an override; `Some(None)` is unlimited.
    fn quota(&mut self, spot: &Spot<'_>, algorithm: Algorithm) -> Option<Option<Quota>> {
        let rate = self.required(spot, "rate", "a rate such as 100/1m", Self::rate);
        let (count, burst) = (rate.flatten().map(|(count, _)| count), spot.field("burst"));
        let burst = match burst {
            None => count,
            Some(at) => Some(self.burst(&at, rate, algorithm)?),
        };
        let Some((count, period)) = rate? else { return Some(None) };
        let possible = Quota::new(algorithm, count, period, burst.unwrap_or(count));
        if let (Err(impossible), Some(at)) = (possible, spot.field("rate")) {
            self.impossible(&at, impossible);
        }
        Some(Some(possible.ok()?))
    }

    /// `100/1m`; `None` is `unlimited`.
    fn rate(&mut self, spot: &Spot<'_>) -> Option<Option<(u32, Span)>> {
        let typed = spot.text().unwrap_or_default();
        if typed == "unlimited" {
            return Some(None);
        }
        if let Some(rate) = spelling::rate(typed) {
            return Some(Some(rate));
        }
        let meant = spelling::meant(typed).filter(|meant| spelling::rate(meant).is_some());
        let hint = match spot.node.value {
            Value::Whole(number) => Some(format!("{number}/s is {number} each second")),
            _ => meant.map(|meant| format!("write {meant}")),
        };
        let wanted = format_args!("a rate such as 100/1m or 5/s, or unlimited");
        self.wrong_found(spot, &found(spot.node), wanted, hint);
        None
    }

    /// `burst` beside a rate, which may not have been readable.
    fn burst(
        &mut self,
        spot: &Spot<'_>,
        rate: Option<Option<(u32, Span)>>,
        algorithm: Algorithm,
    ) -> Option<u32> {
        let burst = self.whole(spot, (1, u32::MAX))?;
        match rate {
            Some(None) => {
                self.wrong(spot, format_args!("no burst beside an unlimited rate"));
                None
            }
            Some(Some((count, _))) if algorithm != Algorithm::TokenBucket && burst != count => {
                let hint = "algorithm: token_bucket has bursts".into();
                let wanted = format_args!("no burst: a window admits its whole count at once");
                self.wrong_found(spot, &found(spot.node), wanted, Some(hint));
                None
            }
            _ => Some(burst),
        }
    }

    fn impossible(&mut self, rate: &Spot<'_>, impossible: Impossible) {
        match impossible {
            Impossible::Zero => {
                let hint = "a route can refuse every request without counting any".into();
                let wanted = format_args!("a count of at least 1");
                self.wrong_found(rate, &found(rate.node), wanted, Some(hint));
            }
            Impossible::Period => {
                let wanted =
                    format_args!("a time from {PERIOD_MIN} to {PERIOD_MAX}, in whole milliseconds");
                self.wrong(rate, wanted);
            }
            Impossible::TooFine => {
                let hint = "a rounder count, a shorter time or a smaller burst will do".into();
                let wanted = format_args!("a rate and burst that can be counted exactly");
                self.wrong_found(rate, &found(rate.node), wanted, Some(hint));
            }
        }
    }

    /// Quotas for particular keys, if the limit's own could be read.
    fn overrides(&mut self, spot: &Spot<'_>, has_key: bool, algorithm: Algorithm) -> Option<()> {
        let items = self.items(spot, OVERRIDES_MAX, "overrides")?;
        if has_key && self.last()?.key.is_empty() {
            let wanted = format_args!("a key, whose values they are for");
            self.wrong_found(spot, "overrides without a key", wanted, None);
            return None;
        }
        for (index, item) in items.iter().enumerate() {
            if self.overridden(item, has_key, algorithm).is_none() {
                continue;
            }
            let [earlier @ .., later] = self.last()?.overrides.as_slice() else { continue };
            let mut earlier = earlier.iter();
            let first = earlier.position(|other| covers(&other.values, &later.values));
            if let Some(first) = first.filter(|first| *first < index) {
                let wanted = format_args!("a key that overrides[{first}] does not cover already");
                self.doubt(item, "an override that never applies", wanted, None);
            }
        }
        Some(())
    }

    fn overridden(&mut self, spot: &Spot<'_>, has_key: bool, algorithm: Algorithm) -> Option<()> {
        self.fields(spot, &["key", "rate", "burst"])?;
        let values = self.required(spot, "key", "the values it is for", |this, at| {
            if has_key { this.values(at) } else { None }
        });
        let quota = self.quota(spot, algorithm)?;
        self.last()?.overrides.push(Override { values: values?, quota });
        Some(())
    }

    /// `scope`, and what depends on it.
    fn scope(&mut self, spot: &Spot<'_>) -> Option<()> {
        let scope =
            self.optional(spot, "scope", Scope::Local, |this, at| this.choice(at, SCOPES))?;
        self.last()?.scope = scope;
        let is_local = scope == Scope::Local;
        let is_exact = self.optional(spot, "exact", false, Self::flag)?;
        if let Some(at) = spot.field("exact").filter(|_| is_local && is_exact) {
            let hint = Some("scope: global".into());
            let wanted = format_args!("exact only with scope: global; local is always exact");
            self.wrong_found(&at, "true", wanted, hint);
        }
        let has_escrow = self.optional(spot, "escrow", false, Self::flag)?;
        if let Some(at) = spot.field("escrow").filter(|_| has_escrow) {
            self.escrow(&at, is_local || is_exact);
        }
        if !is_local {
            self.last()?.scope = Scope::Global { exact: is_exact, escrow: has_escrow };
        }
        if let Some(at) = spot.field("on_error") {
            self.last()?.on_error = self.choice(&at, ON_ERROR)?;
            if is_local {
                let wanted = format_args!("on_error only with scope: global");
                let hint = "a local limit asks nobody, so nothing can fail".into();
                self.wrong_found(&at, &found(at.node), wanted, Some(hint));
            }
        }
        Some(())
    }

    fn escrow(&mut self, spot: &Spot<'_>, cannot_be: bool) -> Option<()> {
        if cannot_be {
            let wanted = format_args!("escrow only with scope: global that is not exact");
            let hint = "only a limit that is leased can let a key's first request through at once";
            self.wrong_found(spot, "true", wanted, Some(hint.into()));
            return None;
        }
        let (quota, proxies) = (self.last()?.quota?, self.policy.proxies_max);
        let reserve = Terms::new(quota, Span::ZERO, proxies).map_or(0, |it| it.reserve());
        if reserve != proxies {
            let most = u64::from(proxies) * 8;
            let wanted = format_args!(
                "a token bucket with a burst of at least {most}, 8 x proxies_max: nothing is kept \
                 back here"
            );
            self.doubt(spot, "true", wanted, None);
        }
        Some(())
    }

    /// A constant, or `{ header, default, max }`.
    fn cost(&mut self, limit: &Spot<'_>) -> Option<()> {
        let at = limit.field("cost")?;
        let cost = if let Value::Map(_) = at.node.value {
            self.header_cost(&at)?
        } else if let Value::Whole(_) = at.node.value {
            Cost::Const(self.whole(&at, (1, u32::MAX))?)
        } else {
            let wanted =
                format_args!("a whole number, or {{ header: NAME, default: 1, max: 100 }}");
            self.wrong(&at, wanted);
            return None;
        };
        let limit = self.last()?;
        limit.cost = cost;
        let usual = match cost {
            Cost::Const(units) => units,
            Cost::Header { default, .. } => default,
        };
        let quotas = limit.overrides.iter().filter_map(|other| other.quota);
        let smallest = quotas.chain(limit.quota).map(|quota| quota.burst()).min();
        if let Some(burst) = smallest.filter(|burst| usual > *burst) {
            let found = format!("a cost of {usual}");
            let wanted = format_args!("at most the burst of {burst}: no request could ever pass");
            self.wrong_found(&at, &found, wanted, None);
        }
        Some(())
    }

    fn header_cost(&mut self, spot: &Spot<'_>) -> Option<Cost> {
        self.fields(spot, &["header", "plugin", "default", "max"])?;
        let (source, usual) = match spot.field("plugin") {
            Some(at) if spot.field("header").is_none() => match self.cost_output(&at) {
                Some((output, default)) => (Some(output), default),
                None => (None, None),
            },
            Some(_) => {
                self.wrong(spot, format_args!("one of header: NAME and plugin: NAME.OUTPUT"));
                return None;
            }
            None => {
                let name = self.required(spot, "header", "a header's name", Self::header_name);
                (name.and_then(|name| self.want(spot, Want::Header(name))), None)
            }
        };
        let usual = usual.unwrap_or(1);
        let default =
            self.optional(spot, "default", usual, |this, at| this.whole(at, (0, u32::MAX)));
        // A request of more than the burst could never pass.
        let most = self.last()?.quota.map_or(u32::MAX, |quota| quota.burst());
        let max = self.optional(spot, "max", most, |this, at| this.whole(at, (1, u32::MAX)));
        let (default, max) = (default?, max?);
        if default > max {
            let found: String = format!("a default of {default}");
            self.wrong_found(spot, &found, format_args!("at most the max of {max}"), None);
            return None;
        }
        Some(Cost::Header { header: source?, default, max })
    }
}
