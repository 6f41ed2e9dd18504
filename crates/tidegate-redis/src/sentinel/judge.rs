//! Whom to believe when sentinels differ.
//!
//! Each fail-over has an epoch, agreed upon by a majority of the sentinels, so the view with
//! the highest epoch is the newest. The highest that was ever heard is remembered: a sentinel
//! that comes back, or that alone can be reached through a partition, cannot take us back to
//! a master that was replaced and that goes on taking writes.
//!
//! Two things look like a step back and are none. Sentinels that were made anew begin at
//! epoch 0 again: if most of them agree on the master that we know, that is the epoch now;
//! if on another, then after [`BEHIND_FOR`] without a master of our own. And an address may
//! change within an epoch, where it stands for a name: a majority is believed in that.

use crate::settings::Address;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a majority with an older epoch is doubted. A sentinel that was away hears of the
/// present master within 2 s of its return, by the others' greetings.
const BEHIND_FOR: Duration = Duration::from_secs(10);

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    /// Of the fail-over that made this the master.
    pub(super) epoch: u64,
    pub(super) master: Address,
}

/// What is known, and since when most say otherwise.
pub(super) struct Judge {
    known: Option<View>,
    sentinels: usize,
    behind_since: Option<Instant>,
}

impl Judge {
    /// Nothing is known, of a master that has so many sentinels.
    pub(super) const fn new(sentinels: usize) -> Self {
        Self { known: None, sentinels, behind_since: None }
    }

    /// The master, if this view alone says that it is another than was known.
    pub(super) fn hear(&mut self, view: &View) -> Option<Address> {
        match &self.known {
            Some(known) if view.epoch > known.epoch => self.believe(view),
            _ => None,
        }
    }

    /// The master, if all views together say that it is another than was known; `is_up` is
    /// whether the one that was known still answers us.
    pub(super) fn conclude(
        &mut self,
        views: &[View],
        is_up: bool,
        now: Instant,
    ) -> Option<Address> {
        let newest = views.iter().max_by_key(|view| view.epoch)?;
        let Some(known) = &mut self.known else { return self.believe(newest) };
        let mut count = HashMap::new();
        views.iter().for_each(|view| *count.entry(view).or_insert(0_usize) += 1);
        let most = count.into_iter().find(|(_, count)| *count > self.sentinels / 2);
        let Some((view, _)) = most.filter(|(view, _)| *view != known) else {
            self.behind_since = None;
            return None;
        };
        if view.master == known.master {
            known.epoch = view.epoch;
            self.behind_since = None;
            return None;
        }
        if view.epoch >= known.epoch {
            return self.believe(view);
        }
        let since = *self.behind_since.get_or_insert(now);
        if is_up || now.saturating_duration_since(since) < BEHIND_FOR {
            return None;
        }
        tracing::warn!(epoch = view.epoch, known = known.epoch, "sentinels began anew");
        self.believe(view)
    }

    fn believe(&mut self, view: &View) -> Option<Address> {
        self.behind_since = None;
        self.known = Some(view.clone());
        Some(view.master.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, port: u16) -> View {
        View { epoch, master: Address::new("10.0.0.1", port) }
    }

    fn port(master: Option<Address>) -> Option<u16> {
        master.map(|master| master.port)
    }

    /// A judge of three sentinels who knows of epoch 5, port 1.
    fn judge() -> Judge {
        let mut judge = Judge::new(3);
        let views = [view(4, 9), view(5, 1), view(5, 1)];
        assert_eq!(port(judge.conclude(&views, false, Instant::now())), Some(1));
        judge
    }

    #[test]
    fn the_highest_epoch_counts_and_one_voice_is_enough_for_it() {
        let mut judge = judge();
        assert_eq!(port(judge.hear(&view(6, 2))), Some(2));
        let views = [view(6, 2), view(5, 1), view(5, 1)];
        assert_eq!(judge.conclude(&views, true, Instant::now()), None);
    }

    #[test]
    fn a_sentinel_that_is_behind_takes_nobody_back() {
        let mut judge = judge();
        assert_eq!(judge.hear(&view(4, 9)), None);
        let now = Instant::now();
        for later in [0, 60] {
            let now = now + Duration::from_secs(later);
            assert_eq!(judge.conclude(&[view(4, 9)], false, now), None);
        }
        assert_eq!(judge.conclude(&[], false, now), None);
    }

    #[test]
    fn one_voice_does_not_move_the_master_within_an_epoch() {
        let mut judge = judge();
        let now = Instant::now();
        assert_eq!(judge.hear(&view(5, 2)), None);
        assert_eq!(judge.conclude(&[view(5, 2), view(5, 1)], false, now), None);
        assert_eq!(port(judge.conclude(&[view(5, 2), view(5, 2)], false, now)), Some(2));
    }

    #[test]
    fn sentinels_made_anew_are_believed_once_they_agree() {
        let now = Instant::now();
        // On the master that we know: at once, so that the next fail-over is followed.
        let mut same = judge();
        assert_eq!(same.conclude(&[view(0, 1), view(0, 1)], true, now), None);
        assert_eq!(port(same.hear(&view(1, 2))), Some(2));
        // On another: not while ours answers, and not before some time.
        let mut other = judge();
        let views = [view(0, 2), view(0, 2), view(0, 2)];
        assert_eq!(other.conclude(&views, true, now), None);
        assert_eq!(other.conclude(&views, true, now + BEHIND_FOR), None);
        assert_eq!(port(other.conclude(&views, false, now + BEHIND_FOR)), Some(2));
        let mut doubted = judge();
        assert_eq!(doubted.conclude(&views, false, now), None);
        assert_eq!(doubted.conclude(&[view(5, 1)], false, now + BEHIND_FOR / 2), None);
        assert_eq!(doubted.conclude(&views, false, now + BEHIND_FOR), None);
    }
}
