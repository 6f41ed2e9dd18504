//! What a policy does, in plain words and with numbers: who is limited, to how much, what
//! it comes to at worst, and what happens when the store is away.

mod revocation;

use std::fmt::{self, Write as _};
use tidegate_core::facts::{Want, WantId};
use tidegate_core::lease::Terms;
use tidegate_core::limit::{Algorithm, Quota, sliding_window};
use tidegate_core::policy::{
    Cost, KeyPart, KeyValue, Limit, Matcher, Missing, OnError, Pattern, Policy, Preflight, Scope,
    Subject,
};
use tidegate_core::time::Span;

/// How many overrides of a limit are told one by one.
const OVERRIDES_TOLD: usize = 16;

/// The whole account, lines ended.
pub(super) fn of(policy: &Policy) -> String {
    let mut account = Account { policy, text: String::new() };
    let count = policy.limits.len();
    let limits = if count == 1 { "limit" } else { "limits" };
    account.text = format!("domain {}, {count} {limits}\n", policy.domain);
    for limit in &policy.limits {
        account.limit(limit);
    }
    if let Some(revocation) = &policy.revocation {
        account.revocation(revocation);
    }
    account.everywhere();
    account.text
}

struct Account<'a> {
    policy: &'a Policy,
    text: String,
}

impl Account<'_> {
    fn row(&mut self, label: &str, text: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {label:<11} {text}");
    }

    fn heading(&mut self, text: &str) {
        let _ = write!(self.text, "\n{text}\n");
    }

    fn limit(&mut self, limit: &Limit) {
        self.heading(&limit.name);
        self.conditions("counts", &limit.when);
        self.key(limit);
        self.cost(limit);
        match &limit.quota {
            Some(quota) => {
                self.row("admits", format_args!("{}", admits(quota, units(limit))));
                self.row("at worst", format_args!("{}", worst(quota, limit)));
            }
            None => self.row("admits", format_args!("everything")),
        }
        self.overrides(limit);
        match limit.scope {
            Scope::Local => {
                self.row("kept", format_args!("in each proxy process, by all its workers together"))
            }
            Scope::Global { exact, escrow } => {
                let asked = match (exact || !is_leased(limit), escrow) {
                    (true, _) => ", asked for each request",
                    (false, false) => "; each takes units ahead",
                    (false, true) => "; each takes units ahead, and a key's first one on trust",
                };
                self.row("kept", format_args!("in the store, by all proxies together{asked}"));
                self.away(limit);
            }
        }
        if limit.shadow {
            self.row("shadow", format_args!("it counts and reports, and never refuses"));
        }
    }

    /// Which requests something applies to, one condition a row.
    fn conditions(&mut self, label: &str, when: &Matcher) {
        let conditions = match when {
            Matcher::All(all) if all.is_empty() => {
                self.row(label, format_args!("every request"));
                return;
            }
            Matcher::All(all) => all,
            only => std::slice::from_ref(only),
        };
        for (place, condition) in conditions.iter().enumerate() {
            let (label, join) = if place == 0 { (label, "requests where") } else { ("", "and") };
            let condition = self.grouped(condition);
            self.row(label, format_args!("{join} {condition}"));
        }
    }

    fn key(&mut self, limit: &Limit) {
        let parts: Vec<String> = limit.key.iter().map(|part| self.part(part)).collect();
        match parts.as_slice() {
            [] => self.row("for", format_args!("all of them together")),
            [one] => self.row("for", format_args!("each {one}")),
            several => {
                let several = joined(several, "and");
                self.row("for", format_args!("each combination of {several}"));
            }
        }
        let optional = limit.key.iter().filter(|part| is_optional(part));
        let optional: Vec<String> = optional.map(|part| self.part(part)).collect();
        match limit.missing {
            _ if optional.is_empty() => {}
            Missing::Shared => {
                for part in optional {
                    self.row(
                        "",
                        format_args!("all without {part} count as having one and the same"),
                    );
                }
            }
            Missing::Skip => {
                let optional = joined(&optional, "or");
                self.row("", format_args!("requests without {optional} are not counted"));
            }
        }
    }

    fn cost(&mut self, limit: &Limit) {
        match limit.cost {
            Cost::Const(1) => {}
            Cost::Const(units) => self.row("each takes", format_args!("{units} units")),
            Cost::Header { header, default, max } => {
                let header = self.fact(header);
                self.row(
                    "each takes",
                    format_args!("units as {header} says: {default} without it, {max} at most"),
                );
            }
        }
    }

    fn overrides(&mut self, limit: &Limit) {
        for (place, over) in limit.overrides.iter().take(OVERRIDES_TOLD).enumerate() {
            let named = over.values.iter().zip(&limit.key).filter_map(|(value, part)| {
                Some(match value.as_ref()? {
                    KeyValue::Is(text) => format!("{} {text:?}", self.part(part)),
                    KeyValue::In(network) => format!("clients in {network}"),
                })
            });
            let named: Vec<String> = named.collect();
            let named = if named.is_empty() { "any".into() } else { joined(&named, "and") };
            let quota = match &over.quota {
                Some(quota) => admits(quota, units(limit)),
                None => "unlimited".to_owned(),
            };
            let label = if place == 0 { "except" } else { "" };
            self.row(label, format_args!("{named}: {quota}"));
        }
        let more = limit.overrides.len().saturating_sub(OVERRIDES_TOLD);
        if more > 0 {
            self.row("", format_args!("and {more} more"));
        }
    }

    /// What happens to a global limit while its store is away.
    fn away(&mut self, limit: &Limit) {
        match (limit.on_error, self.policy.proxies_max) {
            (OnError::Open, _) => self.row("store away", format_args!("all requests pass")),
            (OnError::Closed, _) => {
                self.row("store away", format_args!("all are refused with 503; gRPC status 14"));
            }
            (OnError::LocalShare, proxies) => {
                self.row(
                    "store away",
                    format_args!("each proxy keeps to its share of recent demand"),
                );
                let share = match proxies {
                    1 => "all of it: with several proxies, set proxies_max".to_owned(),
                    several => format!("1/{several} of it, as proxies_max says"),
                };
                self.row("", format_args!("before it knows one: {share}"));
                self.row(
                    "",
                    format_args!("what it lets through is charged once the store is back"),
                );
            }
        }
    }

    fn everywhere(&mut self) {
        self.heading("for all of them");
        let headers = &self.policy.headers;
        let mut fields = vec!["Retry-After"];
        if headers.ratelimit {
            fields.extend(["RateLimit", "RateLimit-Policy"]);
        }
        if headers.x_ratelimit {
            fields.extend(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]);
        }
        let told = fields.join(", ");
        self.row("a refusal", format_args!("is a 429 with {told}; gRPC status 8"));
        if headers.on_allow && fields.len() > 1 {
            let told = fields.get(1..).unwrap_or_default().join(", ");
            self.row("others", format_args!("carry {told} too"));
        }
        if !self.policy.allow.is_empty() {
            let networks: Vec<String> = self.policy.allow.iter().map(ToString::to_string).collect();
            self.row("not limited", format_args!("clients in {}", networks.join(", ")));
        }
        if let Preflight::Bypass { .. } = self.policy.preflight {
            self.row("not counted", format_args!("CORS preflight requests"));
        }
        if self.policy.limits.iter().any(|limit| limit.scope == Scope::Local) {
            let keys = self.policy.table_keys_max;
            self.row(
                "local keys",
                format_args!("{keys} in each proxy; beyond them the least indebted are forgotten"),
            );
        }
        if let Some(host) = &self.policy.host {
            let (cluster, deadline, breaker) = (&host.cluster, host.deadline, host.breaker);
            self.row(
                "the store",
                format_args!(
                    "is asked through cluster {cluster}; a request waits {deadline} at most"
                ),
            );
            self.row(
                "",
                format_args!("after a failure none waits: it is probed, at least each {breaker}"),
            );
        }
    }

    fn condition(&self, matcher: &Matcher) -> String {
        match matcher {
            Matcher::All(all) if all.is_empty() => "anything".to_owned(),
            Matcher::All(all) => self.join_conditions(all, " and "),
            Matcher::Any(any) if any.is_empty() => "nothing".to_owned(),
            Matcher::Any(any) => self.join_conditions(any, " or "),
            Matcher::Not(inner) => format!("not ({})", self.condition(inner)),
            Matcher::Test { subject, patterns } => {
                let subject = self.subject(subject);
                let patterns: Vec<String> = patterns.iter().map(spelled).collect();
                format!("{subject} is {}", joined(&patterns, "or"))
            }
            Matcher::Present { subject, present: true } => {
                format!("{} is there", self.subject(subject))
            }
            Matcher::Present { subject, present: false } => {
                format!("{} is not there", self.subject(subject))
            }
            Matcher::ClientIn { networks, .. } => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                format!("client is in {}", joined(&networks, "or"))
            }
        }
    }

    fn join_conditions(&self, matchers: &[Matcher], join: &str) -> String {
        let each = matchers.iter().map(|matcher| self.grouped(matcher));
        each.collect::<Vec<_>>().join(join)
    }

    /// A condition that can stand beside others.
    fn grouped(&self, matcher: &Matcher) -> String {
        match matcher {
            Matcher::All(inner) | Matcher::Any(inner) if inner.len() > 1 => {
                format!("({})", self.condition(matcher))
            }
            _ => self.condition(matcher),
        }
    }

    fn subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::Path(_) => "path".to_owned(),
            Subject::Method(_) => "method".to_owned(),
            Subject::Host(_) => "host".to_owned(),
            Subject::Header(id) | Subject::Property(id) => self.fact(*id),
            Subject::Cookie { name, .. } => format!("cookie {name}"),
            Subject::Query { name, .. } => format!("query parameter {name:?}"),
        }
    }

    fn part(&self, part: &KeyPart) -> String {
        match part {
            KeyPart::ClientIp { v4_bits: 32, v6_bits: 128, .. } => "client address".to_owned(),
            KeyPart::ClientIp { v4_bits: 32, v6_bits, .. } => {
                format!("client address (of IPv6 its /{v6_bits})")
            }
            KeyPart::ClientIp { v4_bits, v6_bits, .. } => {
                format!("client network (/{v4_bits} of IPv4, /{v6_bits} of IPv6)")
            }
            KeyPart::Header(id) | KeyPart::Property(id) => self.fact(*id),
            KeyPart::Cookie { name, .. } => format!("cookie {name}"),
            KeyPart::Query { name, .. } => format!("query parameter {name:?}"),
            KeyPart::Path(_) => "path".to_owned(),
            KeyPart::Method(_) => "method".to_owned(),
            KeyPart::Host(_) => "host".to_owned(),
            KeyPart::Const(text) => format!("constant {text:?}"),
        }
    }

    fn fact(&self, id: WantId) -> String {
        match self.policy.want(id) {
            Some(Want::Header(name) | Want::SoleHeader(name)) => format!("header {name}"),
            Some(Want::ClientAddress) => "client address".to_owned(),
            Some(Want::Route) => "route".to_owned(),
            Some(Want::Property(path)) => {
                let path: Vec<&str> = path.iter().map(|element| &**element).collect();
                match path.as_slice() {
                    [_, _, "envoy.filters.http.jwt_authn", _, claim @ ..] => {
                        format!("JWT claim {:?}", claim.join("."))
                    }
                    [_, _, path @ ..] => format!("metadata {:?}", path.join("/")),
                    path => format!("property {:?}", path.join("/")),
                }
            }
            Some(Want::Claim { claim, unverified }) => {
                let names = self.policy.token.as_ref().map(|token| token.claims.as_slice());
                let name = names.unwrap_or_default().get(usize::from(claim.0));
                let name = name.map_or("", |name| &**name);
                format!("{}claim {name:?}", if *unverified { "unverified " } else { "" })
            }
            Some(Want::Output { plugin, output }) => {
                let plugin = self.policy.plugins.get(usize::from(*plugin));
                let output = plugin.and_then(|it| it.outputs.get(usize::from(*output)));
                plugin.zip(output).map_or_else(String::new, |(plugin, output)| {
                    format!("plugin {}.{}", plugin.name, output.name)
                })
            }
            None => "nothing".to_owned(),
        }
    }
}

/// Whether a request may lack this part.
fn is_optional(part: &KeyPart) -> bool {
    matches!(
        part,
        KeyPart::Header(_) | KeyPart::Cookie { .. } | KeyPart::Query { .. } | KeyPart::Property(_)
    )
}

/// What is counted: requests, unless they cost more or less than one.
fn units(limit: &Limit) -> &'static str {
    if limit.cost == Cost::Const(1) { "" } else { " units" }
}

fn admits(quota: &Quota, units: &str) -> String {
    let (count, period, burst) = (quota.count(), quota.period(), quota.burst());
    match quota.algorithm() {
        Algorithm::TokenBucket => {
            let each = Span(period.0 / u64::from(count));
            let every = match period.0 % u64::from(count) {
                0 => format!("one every {each}"),
                // A third of a second would be told in nanoseconds.
                _ => "evenly spread".to_owned(),
            };
            format!("{count}{units} in {period}, {every}; {burst} at once")
        }
        Algorithm::SlidingWindow => {
            let step = period.0.div_ceil(sliding_window::SUB_COUNTERS as u64);
            let latest = Span((period.0 + step).next_multiple_of(1_000_000));
            format!(
                "{count}{units} in {period}; one taken is free again {period} to {latest} later"
            )
        }
        Algorithm::SlidingCounter => {
            format!("about {count}{units} in {period}, if they come evenly")
        }
    }
}

/// Whether any of a limit's quotas can be leased.
fn is_leased(limit: &Limit) -> bool {
    let overrides = limit.overrides.iter().filter_map(|other| other.quota);
    let mut quotas = limit.quota.into_iter().chain(overrides);
    quotas.any(|quota| Terms::new(quota, Span::ZERO, 0).is_some())
}

/// The most that the algorithm lets through in any one period.
fn worst(quota: &Quota, limit: &Limit) -> String {
    let (count, period) = (u64::from(quota.count()), quota.period());
    let most = match quota.algorithm() {
        Algorithm::TokenBucket => format!("{}", count + u64::from(quota.burst())),
        Algorithm::SlidingWindow => format!("{count}"),
        Algorithm::SlidingCounter => format!("nearly {}", 2 * count),
    };
    let (units, place) = (
        units(limit),
        match limit.scope {
            Scope::Local => ", times the number of proxies",
            Scope::Global { .. } => "",
        },
    );
    format!("{most}{units} in any {period}{place}")
}

/// A pattern as it was typed.
fn spelled(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(text) => format!("{text:?}"),
        Pattern::Prefix(text) => format!("{:?}", format!("{text}*")),
        Pattern::Suffix(text) => format!("{:?}", format!("*{text}")),
        Pattern::Glob(pieces) => format!("{:?}", pieces.join("*")),
    }
}

/// `a`, `a or b`, `a, b or c`; nothing at all is `nothing`.
fn joined(parts: &[String], join: &str) -> String {
    match parts {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} {join} {last}", start.join(", ")),
    }
}
