//! What the outcomes of a load come to, and which promises they break.

use crate::fault::{Fault, Heals};
use crate::load::{Outcome, Whose};
use crate::{BURST, MODES, RATE};
use std::ops::Range;
use std::time::Duration;

/// The worst that the fault may add to the worst request before it: the filter's deadline, and what
/// a machine with two cores adds to that.
const WORST_ADDED_MAX: Duration = Duration::from_millis(150);

/// How long after a fault all have found out.
const KNOWN_AFTER: Duration = Duration::from_millis(500);

/// The limit that is closed without its store: its 503s tell when decisions by the store stop
/// and begin.
const CLOSED: usize = MODES.len() - 1;

/// The figures of one fault.
pub(crate) struct Figures {
    /// Neither admitted, nor limited, nor refused by a closed limit.
    errors: usize,
    /// Of each mode: how many were admitted, and how many were sent, under the fault.
    under: [(usize, usize); MODES.len()],
    /// Of other shards: decided without their store.
    elsewhere: usize,
    worst: Duration,
    /// Before the fault: what the machine makes of it by itself.
    worst_before: Duration,
    /// 99 of 100 requests took no longer: before the fault, under it, and under it once it
    /// was known.
    p99: [Duration; 3],
    /// Admitted beyond the bound of `local_share`, over all the time.
    over: f64,
    /// From the fault, or if it must be mended, from that, to the last refusal of the closed
    /// limit.
    back: Duration,
    /// Calls at a server that was not to be asked any more.
    stale: u64,
}

impl Figures {
    pub(crate) fn of<L>(
        fault: &Fault<L>,
        outcomes: &[Outcome],
        under: Range<Duration>,
        stale: u64,
    ) -> Self {
        let is_under = |outcome: &&Outcome| under.contains(&outcome.due);
        let is_hit = |it: &&Outcome| it.whose == Whose::Hit;
        let is_known = |it: &&Outcome| is_under(it) && it.due >= under.start + KNOWN_AFTER;
        let is_away = |it: &&Outcome| it.mode == CLOSED && it.status == Some(503);
        let hit = || outcomes.iter().filter(is_hit);
        let before = || outcomes.iter().filter(|it| it.due < under.start);
        let by_mode = std::array::from_fn(|mode| {
            let sent = hit().filter(is_under).filter(|it| it.mode == mode);
            (sent.clone().filter(|it| it.status == Some(200)).count(), sent.count())
        });
        let last_away = hit().filter(is_away).map(|it| it.due + it.took).max();
        let from = match fault.heals {
            Heals::Mended(_) => under.end,
            Heals::Itself(_) | Heals::Unhurt => under.start,
        };
        Self {
            errors: outcomes.iter().filter(|it| is_error(it)).count(),
            under: by_mode,
            elsewhere: outcomes.iter().filter(|it| !is_hit(it)).filter(is_away).count(),
            worst: outcomes.iter().map(|it| it.took).max().unwrap_or_default(),
            worst_before: before().map(|it| it.took).max().unwrap_or_default(),
            p99: [
                p99(before()),
                p99(outcomes.iter().filter(is_under)),
                p99(outcomes.iter().filter(is_known)),
            ],
            over: over(outcomes, Whose::Hit).max(over(outcomes, Whose::Elsewhere)),
            back: last_away.unwrap_or_default().saturating_sub(from),
            stale,
        }
    }

    /// The promises that are broken, one line each.
    pub(crate) fn broken<L>(&self, fault: &Fault<L>) -> Vec<String> {
        let over_max = fault.over_max;
        let back_max = match fault.heals {
            Heals::Unhurt => Duration::ZERO,
            Heals::Itself(most) | Heals::Mended(most) => most,
        };
        let mut broken = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("{}: {what}", fault.name));
            }
        };
        must(self.errors == 0, format!("{} requests got no proper answer", self.errors));
        must(self.elsewhere == 0, format!("{} of other shards were hit", self.elsewhere));
        let worst_max = self.worst_before + WORST_ADDED_MAX;
        must(self.worst <= worst_max, format!("one took {:?}, above {worst_max:?}", self.worst));
        must(self.back <= back_max, format!("back after {:?}", self.back));
        must(self.over <= over_max, format!("{:.1} too many, {over_max} may be", self.over));
        must(self.stale == 0, format!("{} calls at a stale master", self.stale));
        broken
    }

    fn row(&self, name: &str) -> String {
        let [share, open, closed] =
            self.under.map(|(admitted, sent)| format!("{admitted} of {sent}"));
        let [before, under, known] = self.p99.map(ms);
        format!(
            "| {name} | {} | {share} | {open} | {closed} | {} | {before} | {under} | {known} | {:.0} | {:.1} s |",
            self.errors,
            ms(self.worst),
            self.over,
            self.back.as_secs_f64(),
        )
    }
}

/// Prints the table of a lab.
pub(crate) fn print(lab: &str, under: Duration, rows: &[(&'static str, Figures)]) {
    println!(
        "| {lab}, for {} s | errors | `local_share` | `open` | `closed` | worst | p99 before | p99 under | p99 once known | over the bound | back after |",
        under.as_secs()
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (name, figures) in rows {
        println!("{}", figures.row(name));
    }
    println!();
}

fn is_error(outcome: &Outcome) -> bool {
    match outcome.status {
        Some(200 | 429) => false,
        Some(503) => outcome.mode != CLOSED,
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
fn over(outcomes: &[Outcome], whose: Whose) -> f64 {
    let is_admitted = |it: &&Outcome| it.mode == 0 && it.whose == whose && it.status == Some(200);
    let admitted: Vec<&Outcome> = outcomes.iter().filter(is_admitted).collect();
    let mut worst = f64::MIN;
    for (first, from) in admitted.iter().enumerate() {
        for (more, to) in admitted[first..].iter().enumerate() {
            let span = (to.due + to.took).saturating_sub(from.due).as_secs_f64();
            worst = worst.max((more + 1) as f64 - f64::from(BURST) - 1.0 - RATE * span);
        }
    }
    worst.max(0.0)
}

fn ms(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
