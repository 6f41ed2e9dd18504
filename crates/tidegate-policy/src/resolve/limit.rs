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
//! cost: { header: x-cost, default: 1, max: 20 }
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
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_core::facts::Want;
use tidegate_core::lease::Terms;
use tidegate_core::limit::{Algorithm, Impossible, PERIOD_MAX, PERIOD_MIN, Quota};
use tidegate_core::policy::{
    Cost, KeyPart, Limit, Matcher, Missing, OVERRIDES_MAX, OnError, Override, Scope,
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
    pub(super) fn limit(&mut self, spot: &Spot<'_>) -> Option<Limit> {
        self.fields(spot, LIMIT_FIELDS)?;
        let name = self.required(spot, "name", "a name, to tell limits apart", Self::name);
        let when = self.optional(spot, "when", Matcher::All(Vec::new()), Self::matcher);
        let key = self.optional(spot, "key", Vec::new(), Self::key);
        let missing =
            self.optional(spot, "missing", Missing::Shared, |this, at| this.choice(at, MISSING));
        let algorithm = self.optional(spot, "algorithm", Algorithm::TokenBucket, |this, at| {
            this.choice(at, ALGORITHMS)
        });
        // An algorithm that cannot be read is told once; the rest is judged by the default.
        let counted_by = algorithm.unwrap_or(Algorithm::TokenBucket);
        let quota = self.quota(spot, counted_by);
        let overrides = self.optional(spot, "overrides", Vec::new(), |this, at| {
            this.overrides(at, key.as_deref(), counted_by)
        });
        let scope = self.scope(spot, quota.flatten());
        let on_error = self.on_error(spot, scope);
        let cost = self.cost(spot, quota.flatten(), overrides.as_deref());
        let shadow = self.optional(spot, "shadow", false, Self::flag);
        algorithm?;
        let (quota, overrides) = (quota?, overrides?);
        if quota.is_none()
            && overrides.iter().all(|other| other.quota.is_none())
            && let Some(rate) = spot.field("rate")
        {
            let wanted = format_args!("a rate here or in an override: this limits nothing");
            self.doubt(&rate, "unlimited", wanted, None);
        }
        Some(Limit {
            name: name?,
            when: when?,
            key: key?,
            missing: missing?,
            quota,
            overrides,
            scope: scope?,
            on_error: on_error?,
            cost: cost?,
            shadow: shadow?,
        })
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

    /// Quotas for particular keys. `key` is `None` if the limit's own could not be read.
    fn overrides(
        &mut self,
        spot: &Spot<'_>,
        key: Option<&[KeyPart]>,
        algorithm: Algorithm,
    ) -> Option<Vec<Override>> {
        let items = self.items(spot, OVERRIDES_MAX, "overrides")?;
        if key.is_some_and(<[KeyPart]>::is_empty) {
            let wanted = format_args!("a key, whose values they are for");
            self.wrong_found(spot, "overrides without a key", wanted, None);
            return None;
        }
        let overrides = self.every(&items, |this, item| this.overridden(item, key, algorithm))?;
        for (index, (item, later)) in items.iter().zip(&overrides).enumerate() {
            let mut earlier = overrides.iter().take(index);
            if let Some(first) = earlier.position(|other| covers(&other.values, &later.values)) {
                let wanted = format_args!("a key that overrides[{first}] does not cover already");
                self.doubt(item, "an override that never applies", wanted, None);
            }
        }
        Some(overrides)
    }

    fn overridden(
        &mut self,
        spot: &Spot<'_>,
        key: Option<&[KeyPart]>,
        algorithm: Algorithm,
    ) -> Option<Override> {
        self.fields(spot, &["key", "rate", "burst"])?;
        let values =
            self.required(spot, "key", "the values it is for", |this, at| this.values(at, key?));
        let quota = self.quota(spot, algorithm);
        Some(Override { values: values?, quota: quota? })
    }

    fn scope(&mut self, spot: &Spot<'_>, quota: Option<Quota>) -> Option<Scope> {
        let scope =
            self.optional(spot, "scope", Scope::Local, |this, at| this.choice(at, SCOPES))?;
        let exact = self.optional(spot, "exact", false, Self::flag)?;
        let escrow = self.escrow(spot, scope, exact, quota)?;
        match (scope, spot.field("exact")) {
            (Scope::Local, Some(at)) if exact => {
                let hint = Some("scope: global".into());
                let wanted = format_args!("exact only with scope: global; local is always exact");
                self.wrong_found(&at, "true", wanted, hint);
                None
            }
            (Scope::Global { .. }, _) => Some(Scope::Global { exact, escrow }),
            _ => Some(scope),
        }
    }

    fn escrow(
        &mut self,
        spot: &Spot<'_>,
        scope: Scope,
        exact: bool,
        quota: Option<Quota>,
    ) -> Option<bool> {
        let escrow = self.optional(spot, "escrow", false, Self::flag)?;
        let Some(at) = spot.field("escrow").filter(|_| escrow) else { return Some(false) };
        if scope == Scope::Local || exact {
            let wanted = format_args!("escrow only with scope: global that is not exact");
            let hint = "only a limit that is leased can let a key's first request through at once";
            self.wrong_found(&at, "true", wanted, Some(hint.into()));
            return None;
        }
        let proxies = self.proxies_max;
        let reserve = |quota| Terms::new(quota, Span::ZERO, proxies).map_or(0, |it| it.reserve());
        if quota.is_some_and(|quota| reserve(quota) != proxies) {
            let most = u64::from(proxies) * 8;
            let wanted = format_args!(
                "a token bucket with a burst of at least {most}, 8 x proxies_max: nothing is kept \
                 back here"
            );
            self.doubt(&at, "true", wanted, None);
        }
        Some(true)
    }

    fn on_error(&mut self, spot: &Spot<'_>, scope: Option<Scope>) -> Option<OnError> {
        let Some(at) = spot.field("on_error") else { return Some(OnError::LocalShare) };
        let on_error = self.choice(&at, ON_ERROR)?;
        if scope == Some(Scope::Local) {
            let wanted = format_args!("on_error only with scope: global");
            let hint = "a local limit asks nobody, so nothing can fail".into();
            self.wrong_found(&at, &found(at.node), wanted, Some(hint));
            return None;
        }
        Some(on_error)
    }

    /// A constant, or `{ header, default, max }`.
    fn cost(
        &mut self,
        limit: &Spot<'_>,
        quota: Option<Quota>,
        overrides: Option<&[Override]>,
    ) -> Option<Cost> {
        let Some(at) = limit.field("cost") else { return Some(Cost::Const(1)) };
        let cost = if let Value::Map(_) = at.node.value {
            self.header_cost(&at, quota)?
        } else if let Value::Whole(_) = at.node.value {
            Cost::Const(self.whole(&at, (1, u32::MAX))?)
        } else {
            let wanted =
                format_args!("a whole number, or {{ header: NAME, default: 1, max: 100 }}");
            self.wrong(&at, wanted);
            return None;
        };
        let usual = match cost {
            Cost::Const(units) => units,
            Cost::Header { default, .. } => default,
        };
        let quotas = overrides.unwrap_or_default().iter().filter_map(|other| other.quota);
        let smallest = quotas.chain(quota).map(|quota| quota.burst()).min();
        if let Some(burst) = smallest.filter(|burst| usual > *burst) {
            let found = format!("a cost of {usual}");
            let wanted = format_args!("at most the burst of {burst}: no request could ever pass");
            self.wrong_found(&at, &found, wanted, None);
            return None;
        }
        Some(cost)
    }

    fn header_cost(&mut self, spot: &Spot<'_>, quota: Option<Quota>) -> Option<Cost> {
        self.fields(spot, &["header", "default", "max"])?;
        let name = self.required(spot, "header", "a header's name", Self::header_name);
        let default = self.optional(spot, "default", 1, |this, at| this.whole(at, (0, u32::MAX)));
        // A request of more than the burst could never pass.
        let most = quota.map_or(u32::MAX, |quota| quota.burst());
        let max = self.optional(spot, "max", most, |this, at| this.whole(at, (1, u32::MAX)));
        let (default, max) = (default?, max?);
        if default > max {
            let found: String = format!("a default of {default}");
            self.wrong_found(spot, &found, format_args!("at most the max of {max}"), None);
            return None;
        }
        let header = self.want(spot, Want::Header(name?))?;
        Some(Cost::Header { header, default, max })
    }
}
