//! When images are made: at which entries of the log.
//!
//! Two hosts that cut at the same entry make the same images, and a proxy that asks both in turn
//! fetches each once. So where to cut is told by the log itself, as far as that goes:
//!
//! - where a window of 30 seconds ends, by the times that stand in the records; the more ids
//!   there are the more windows go by, for whoever cuts sends all that changed to every proxy
//! - within a window at each 4,096th record, if that many changed, or a twentieth of all
//!
//! Hosts whose clocks disagree, or one that has just started, cut elsewhere for once: that costs
//! their proxies some fetches, and no more.

/// A window's length.
pub(super) const WINDOW_MS: u64 = 30_000;

/// How long after a window's end its last records may still come from other hosts.
const LATE_MS: u64 = 1_000;

/// For each so many ids one window more goes by between cuts: a proxy fetches a megabyte in half
/// a minute at most, unless there is much that is new.
const WINDOW_IDS: u64 = 1_000_000;

/// The most windows between cuts: 8 minutes.
const WINDOWS_MAX: u64 = 16;

/// Within a window it is looked at each so many records whether to cut.
const STEP: u64 = 4_096;

/// So many changes are enough to cut, however many ids there are: proxies keep each of them
/// until then.
const CHANGES_MAX: u64 = 32_768;

/// Where the log is between two cuts.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// The window of the newest record.
    window: u64,
    /// Records in it.
    in_window: u64,
    /// The window of the last cut …
    last: u64,
    /// … and the records since.
    changes: u64,
    /// Whether a window has ended at which to cut.
    is_due: bool,
}

impl Cuts {
    /// Whether to cut before an entry that was made then, if there are so many ids.
    pub(super) fn before(&mut self, made_ms: u64, now_ms: u64, ids: u64) -> bool {
        // What says that it is made in the future says nothing.
        self.turn(made_ms.min(now_ms) / WINDOW_MS, ids)
    }

    /// Whether to cut behind an entry of so many records.
    pub(super) fn behind(&mut self, records: u64, ids: u64) -> bool {
        let steps = self.in_window / STEP;
        self.in_window += records;
        self.changes += records;
        let enough = (ids / 20).clamp(STEP, CHANGES_MAX);
        self.in_window / STEP > steps && self.changes >= enough
    }

    /// Whether to cut now that nothing comes.
    pub(super) fn meanwhile(&mut self, now_ms: u64, ids: u64) -> bool {
        self.turn(now_ms.saturating_sub(LATE_MS) / WINDOW_MS, ids)
    }

    /// Images of what is up to here are being made.
    pub(super) fn cut(&mut self) {
        self.last = self.window;
        self.changes = 0;
        self.is_due = false;
    }

    fn turn(&mut self, window: u64, ids: u64) -> bool {
        if window > self.window {
            self.window = window;
            self.in_window = 0;
            let span = (ids / WINDOW_IDS + 1).next_power_of_two().min(WINDOWS_MAX);
            self.is_due |= self.changes > 0 && window / span > self.last / span;
        }
        self.is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of one record each, some milliseconds apart; tells behind which it was cut.
    fn cuts(cuts: &mut Cuts, times_ms: impl IntoIterator<Item = u64>, ids: u64) -> Vec<u64> {
        let mut at = Vec::new();
        for (number, time_ms) in (0..).zip(times_ms) {
            if cuts.before(time_ms, time_ms, ids) {
                cuts.cut();
                at.push(number);
            }
            if cuts.behind(1, ids) {
                cuts.cut();
                at.push(number + 1);
            }
        }
        at
    }

    #[test]
    fn two_hosts_cut_at_the_same_entries_whenever_they_started() {
        let times = || (0..400_u64).map(|n| 1_000_000_000 + n * 700);
        let all = cuts(&mut Cuts::default(), times(), 100);
        let late = cuts(&mut Cuts::default(), times().skip(170), 100);
        let late: Vec<u64> = late.into_iter().map(|number| number + 170).collect();
        assert!(all.len() >= 8, "{all:?}");
        assert!(all.ends_with(&late[..]) && late.len() >= 4, "{all:?} {late:?}");
    }

    #[test]
    fn much_that_is_new_is_cut_at_once_and_little_of_much_is_not() {
        let burst = |ids| cuts(&mut Cuts::default(), vec![1_000_000_000; 100_000], ids);
        assert_eq!(burst(0)[..3], [4_096, 8_192, 12_288]);
        assert_eq!(burst(10_000_000), [32_768, 65_536, 98_304]);
        assert_eq!(burst(200_000)[..2], [12_288, 24_576], "a twentieth");
    }

    #[test]
    fn the_more_there_is_the_longer_it_takes_to_the_next_cut() {
        let slow = |ids| {
            let times = (0..960_u64).map(|n| 480_000 * 2_000 + n * 1_000);
            cuts(&mut Cuts::default(), times, ids).len()
        };
        assert_eq!([0, 1_000_000, 10_000_000].map(slow), [31, 16, 2]);
    }

    #[test]
    fn a_quiet_log_is_cut_once() {
        let mut cuts = Cuts::default();
        assert!(!cuts.before(30_000, 30_000, 1));
        assert!(!cuts.behind(1, 1));
        assert!(!cuts.meanwhile(60_500, 1), "some may still come");
        assert!(cuts.meanwhile(61_000, 1));
        assert!(cuts.meanwhile(61_500, 1), "until it is done");
        cuts.cut();
        assert!(!cuts.meanwhile(999_000, 1), "nothing is new");
    }

    #[test]
    fn a_clock_that_is_ahead_ends_no_window() {
        let mut cuts = Cuts::default();
        cuts.behind(1, 1);
        cuts.before(30_000, 30_000, 1);
        cuts.cut();
        cuts.behind(1, 1);
        assert!(!cuts.before(999_000, 31_000, 1));
        assert!(cuts.meanwhile(62_000, 1));
    }
}
