//! What the outcomes of a load come to, and which promises they break.

use crate::fault::Fault;
use crate::load::Outcome;
use crate::{BEFORE, BURST, MODES, RATE, UNDER};
use std::time::Duration;

/// The worst that the fault may add to a request: the filter's deadline, and what a machine
/// with two cores adds to that.
const WORST_MAX: Duration = Duration::from_millis(150);

/// How long after its mending global decisions may stay away.
const BACK_MAX: Duration = Duration::from_secs(3);

/// How long after a fault the filter has found out.
const KNOWN_AFTER: Duration = Duration::from_millis(500);

/// The figures of one fault.
pub(crate) struct Figures {
    /// Neither admitted, nor limited, nor refused by a closed limit.
    errors: usize,
    /// Of each mode: how many were admitted, and how many were sent, under the fault.
    under: [(usize, usize); MODES.len()],
    worst: Duration,
    /// 99 of 100 requests took no longer: before the fault, under it once it was known.
    p99_before: Duration,
    p99_known: Duration,
    /// Admitted beyond the bound of `local_share`, over all the time.
    over: f64,
    /// From the mending to the last refusal of the closed limit.
    back: Duration,
}

impl Figures {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let is_under = |outcome: &&Outcome| outcome.due >= BEFORE && outcome.due < BEFORE + UNDER;
        let under = std::array::from_fn(|mode| {
            let sent = outcomes.iter().filter(is_under).filter(|it| it.mode == mode);
            (sent.clone().filter(|it| it.status == Some(200)).count(), sent.count())
        });
        let closed = MODES.len() - 1;
        let is_known = |it: &&Outcome| is_under(it) && it.due >= BEFORE + KNOWN_AFTER;
        let is_away = |it: &&Outcome| it.mode == closed && it.status == Some(503);
        let last_away = outcomes.iter().filter(is_away).map(|it| it.due + it.took).max();
        Self {
            errors: outcomes.iter().filter(|it| is_error(it)).count(),
            under,
            worst: outcomes.iter().map(|it| it.took).max().unwrap_or_default(),
            p99_before: p99(outcomes.iter().filter(|it| it.due < BEFORE)),
            p99_known: p99(outcomes.iter().filter(is_known)),
            over: over(outcomes),
            back: last_away.unwrap_or_default().saturating_sub(BEFORE + UNDER),
        }
    }

    /// The promises that are broken, one line each.
    pub(crate) fn broken(&self, fault: &Fault) -> Vec<String> {
        let over_max = if fault.forgets { f64::from(BURST) } else { 0.0 };
        let mut broken = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("{}: {what}", fault.name));
            }
        };
        must(self.errors == 0, format!("{} requests got no proper answer", self.errors));
        must(self.worst <= WORST_MAX, format!("one took {:?}", self.worst));
        must(self.back <= BACK_MAX, format!("back after {:?}", self.back));
        must(self.over <= over_max, format!("{:.1} too many, {over_max} may be", self.over));
        broken
    }
}

fn is_error(outcome: &Outcome) -> bool {
    match outcome.status {
        Some(200 | 429) => false,
        Some(503) => outcome.mode + 1 != MODES.len(),
        _ => true,
    }
}

fn p99<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Duration {
    let mut all: Vec<Duration> = outcomes.map(|it| it.took).collect();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).copied().unwrap_or_default()
}

/// How many more than its bound `local_share` admitted, in the worst span of all. A request
/// was admitted between its being sent and its answer: only what certainly lies in a span
/// counts. One more is allowed: a share is never less than one request at a time.
fn over(outcomes: &[Outcome]) -> f64 {
    let admitted: Vec<&Outcome> =
        outcomes.iter().filter(|it| it.mode == 0 && it.status == Some(200)).collect();
    let mut worst = f64::MIN;
    for (first, from) in admitted.iter().enumerate() {
        for (more, to) in admitted[first..].iter().enumerate() {
            let span = (to.due + to.took).saturating_sub(from.due).as_secs_f64();
            worst = worst.max((more + 1) as f64 - f64::from(BURST) - 1.0 - RATE * span);
        }
    }
    worst.max(0.0)
}

/// Prints the table.
pub(crate) fn print(table: &[(&Fault, Figures)]) {
    println!(
        "| fault, for {} s | errors | `local_share` | `open` | `closed` | worst | p99 before | p99 once known | over the bound | back after |",
        UNDER.as_secs()
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (fault, figures) in table {
        let [share, open, closed] =
            figures.under.map(|(admitted, sent)| format!("{admitted} of {sent}"));
        println!(
            "| {} | {} | {share} | {open} | {closed} | {} | {} | {} | {:.0} | {:.1} s |",
            fault.name,
            figures.errors,
            ms(figures.worst),
            ms(figures.p99_before),
            ms(figures.p99_known),
            figures.over,
            figures.back.as_secs_f64(),
        );
    }
}

fn ms(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
