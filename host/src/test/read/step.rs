//! Steps, and the times at which they are.
//!
//! ```yaml
//! steps:
//!   - { expect: allowed }                              # at 0s
//!   - { at: 1h30m, times: 50, every: 100ms, expect: { allowed: 20, limited: 30 } }
//!   - { at: +10s, store: away }                        # so long after the step before
//!   - { metrics: { per-client: { limited: 30 } } }
//! ```
//!
//! A step that says no time comes right after the one before. Time never goes back, which is
//! checked here, so that no case can fail of it.

use super::super::case::{Action, Metric, Request, Sending, Step, StoreChange};
use super::super::clock::METRICS_TOLD_WITHIN;
use super::{CaseReader, mark};
use tidegate_core::time::{Instant, Span};
use tidegate_policy::diagnostic::found;
use tidegate_policy::reading::{Reader, Spot};
use tidegate_policy::spelling;
use tidegate_policy::text::Value;

/// The most steps of one case.
const STEPS_MAX: usize = 4_096;

/// The most requests of one step: a few seconds of real time.
const TIMES_MAX: u32 = 1_000_000;

/// The longest history: longer than the longest period of a quota, several times over.
const AT_MAX: Span = Span::from_secs(10 * 366 * 86_400);

const EVERY: (Span, Span) = (Span::from_micros(1), Span::from_secs(366 * 86_400));

const STEP_FIELDS: &[&str] = &["at", "request", "times", "every", "expect", "store", "metrics"];

/// Of [`STEP_FIELDS`], those that speak of requests.
const SENDING_FIELDS: &[&str] = &["request", "times", "every", "expect"];

const STORE: &[(&str, StoreChange)] = &[
    ("away", StoreChange::Away),
    ("back", StoreChange::Back),
    ("back_empty", StoreChange::BackEmpty),
];

const OUTCOMES: &[&str] = &["allowed", "limited", "shadowed", "degraded"];

/// How far a case has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// When the last request was sent, or whatever else the last step did.
    last: Instant,
    /// From when on the next step may be.
    free: Instant,
}

impl CaseReader<'_> {
    pub(super) fn steps(&mut self, spot: &Spot<'_>, usual: &Request) -> Option<Vec<Step>> {
        let items = self.items(spot, STEPS_MAX, "steps")?;
        if items.is_empty() {
            self.wrong(spot, format_args!("at least one step"));
        }
        let mut progress = Progress::default();
        self.every(&items, |this, item| this.step(item, usual, &mut progress))
    }

    fn step(&mut self, spot: &Spot<'_>, usual: &Request, progress: &mut Progress) -> Option<Step> {
        self.fields(spot, STEP_FIELDS)?;
        let at = self.optional(spot, "at", progress.free, |this, at| this.moment(at, *progress));
        let action = self.action(spot, usual);
        let metrics = self.optional(spot, "metrics", Vec::new(), Self::metrics);
        let (at, action, metrics) = (at?, action?, metrics?);
        progress.last = match &action {
            Action::Send(sending) => at.after(sending.offset(sending.times - 1)),
            Action::Store(_) | Action::Look => at,
        };
        let looks = if metrics.is_empty() { Span::ZERO } else { METRICS_TOLD_WITHIN };
        progress.free = progress.last.after(looks);
        Some(Step { mark: mark(spot), at, action, metrics })
    }

    /// `1h30m` since the case's start, or `+10s` since the step before.
    fn moment(&mut self, spot: &Spot<'_>, progress: Progress) -> Option<Instant> {
        let typed = spot.text().unwrap_or_default();
        let moment = match typed.strip_prefix('+') {
            Some(later) => spelling::duration(later).map(|span| progress.last.after(span)),
            None => spelling::duration(typed).map(|span| Instant::default().after(span)),
        };
        let Some(moment) = moment.filter(|moment| moment.0 <= AT_MAX.0) else {
            let meant = spelling::meant(typed)
                .filter(|meant| meant != typed && spelling::duration(meant).is_some());
            let hint = match spot.node.value {
                Value::Whole(number) => Some(format!("write {number}s")),
                _ => meant.map(|meant| format!("write {meant}")),
            };
            let wanted = format_args!("a time up to {AT_MAX}, such as 90s, 1h30m or +10s");
            self.wrong_found(spot, &found(spot.node), wanted, hint);
            return None;
        };
        if moment < progress.free {
            let free = Span(progress.free.0);
            let looked = progress.free > progress.last;
            let hint = looked.then(|| {
                format!("the step before looks at metrics, which takes {METRICS_TOLD_WITHIN}")
            });
            let wanted = format_args!("{free} or later, when the step before is over");
            self.wrong_found(spot, &found(spot.node), wanted, hint);
            return None;
        }
        Some(moment)
    }

    fn action(&mut self, spot: &Spot<'_>, usual: &Request) -> Option<Action> {
        let sends = SENDING_FIELDS.iter().find_map(|name| spot.field(name));
        match (spot.field("store"), sends) {
            (Some(store), None) => self.choice(&store, STORE).map(Action::Store),
            (Some(_), Some(at)) => {
                let wanted = format_args!("a step of its own for the store");
                self.wrong_found(&at, "a request beside store", wanted, None);
                None
            }
            (None, Some(_)) => self.sending(spot, usual).map(|sent| Action::Send(Box::new(sent))),
            (None, None) if spot.field("metrics").is_some() => Some(Action::Look),
            (None, None) => {
                let wanted = "expect (sends a request), store, or metrics";
                self.wrong_found(spot, "a step that does nothing", format_args!("{wanted}"), None);
                None
            }
        }
    }

    fn sending(&mut self, spot: &Spot<'_>, usual: &Request) -> Option<Sending> {
        let request =
            self.optional(spot, "request", usual.clone(), |this, at| this.request(at, usual));
        let times = self.optional(spot, "times", 1, |this, at| this.whole(at, (1, TIMES_MAX)));
        let every = self.optional(spot, "every", Span::ZERO, |this, at| this.duration(at, EVERY));
        if let (Some(at), None) = (spot.field("every"), spot.field("times")) {
            let hint = Some("times: 10".to_owned());
            self.wrong_found(&at, "every alone", format_args!("times beside it"), hint);
        }
        let wanted =
            "allowed, limited, a status, or a map: a step that expects nothing shows nothing";
        let expect = match (spot.field("expect"), times) {
            (None, _) => {
                self.missing(spot, "expect", format_args!("{wanted}"), None);
                None
            }
            (Some(at), times) => self.expect(&at, times),
        };
        Some(Sending { request: request?, times: times?, every: every?, expect: expect? })
    }

    /// `{ LIMIT: { limited: 30 } }`
    fn metrics(&mut self, spot: &Spot<'_>) -> Option<Vec<Metric>> {
        let mut metrics = Vec::new();
        let limits = self.entries(spot, "a map of limits, such as { login: { limited: 3 } }")?;
        for (name, counts) in &limits {
            let limit = self.limit_named(name, counts);
            self.fields(counts, OUTCOMES)?;
            if OUTCOMES.iter().all(|outcome| counts.field(outcome).is_none()) {
                self.wrong_found(counts, "no count", format_args!("at least one"), None);
            }
            for outcome in OUTCOMES {
                let Some(at) = counts.field(outcome) else { continue };
                let count = self.whole(&at, (0, u32::MAX));
                metrics.push(limit.clone().zip(count).map(|(limit, count)| Metric {
                    limit,
                    outcome,
                    count,
                }));
            }
        }
        if limits.is_empty() {
            self.wrong(spot, format_args!("at least one limit"));
        }
        metrics.into_iter().collect()
    }
}
