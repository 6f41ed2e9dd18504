//! Which writes a server has: whether a fail-over lost some that we were told were done.
//!
//! A Redis names the history of its writes by an id and counts its bytes by an offset. A
//! replica that becomes master begins a new history, and tells which one it continues and up
//! to where (`INFO replication`). So we keep, of each history, what had been acknowledged to
//! us when the server stood at which offset; whoever continues it from an earlier offset
//! lacks at most what was acknowledged since. That is a bound, seldom the exact number:
//! offsets are read with each probe, once a second.
//!
//! A server that continues nothing we know of, where another stood before, has lost all: it
//! was started again, empty, or from a file of another time.

use crate::stats::Stats;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Histories remembered: of each server of a large cluster the present one, and some more.
/// Beyond that the eldest is forgotten, and a fail-over from it is not noticed.
const HISTORIES_MAX: usize = 2_048;

/// Offsets remembered of a history. A replica more than 16 probes behind lacks more than we
/// can tell, and is taken to lack all.
const MARKS_MAX: usize = 16;

/// What `INFO replication` says of a server's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) is_master: bool,
    id: String,
    offset: u64,
    /// The history that this one continues, and the offset at which it was left.
    continues: Option<(String, u64)>,
}

/// One history, and what was acknowledged to us as part of it.
pub(crate) struct History {
    id: String,
    /// The same for all who see it: drawn from its id.
    pub(crate) stamp: u64,
    /// When it was first seen in the place of another, which may have had more.
    began: Option<Instant>,
    acknowledged: AtomicU64,
    marks: Mutex<VecDeque<Mark>>,
}

/// So much was acknowledged when the server stood there.
#[derive(Clone, Copy)]
struct Mark {
    offset: u64,
    acknowledged: u64,
}

/// The histories of all servers of a store.
#[derive(Default)]
pub(crate) struct Histories(Mutex<VecDeque<Arc<History>>>);

impl Lineage {
    /// From the text of `INFO replication`; `None` if it is none.
    pub(crate) fn of_info(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let offset = number("master_repl_offset").unwrap_or(0);
        // -1 where nothing is continued; otherwise the first offset that is not shared.
        let left = number("second_repl_offset").and_then(|first| first.checked_sub(1));
        Some(Self {
            is_master: field("role")? == "master",
            id: field("master_replid")?.to_owned(),
            offset,
            continues: field("master_replid2").map(str::to_owned).zip(left),
        })
    }
}

impl History {
    fn new(id: String, began: Option<Instant>) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha1_smol::Sha1::from(&id).digest().bytes();
        let stamp = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { id, stamp, began, acknowledged: AtomicU64::new(0), marks: Mutex::default() }
    }

    /// For how long it has been in the place of another, in microseconds; `None` if none is
    /// known to have been there before.
    pub(crate) fn age_us(&self) -> Option<u64> {
        let age = self.began?.elapsed();
        Some(u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
    }

    /// So many asks were answered by its server.
    pub(crate) fn acknowledge(&self, asks: usize) {
        self.acknowledged.fetch_add(asks as u64, Ordering::Relaxed);
    }

    /// What is acknowledged so far; to be read before its server is asked where it stands.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Its server stands there, and so has all that was acknowledged before it was asked.
    pub(crate) fn mark(&self, lineage: &Lineage, acknowledged: u64) {
        if lineage.id != self.id {
            return;
        }
        let mut marks = self.marks();
        if marks.len() == MARKS_MAX {
            marks.pop_front();
        }
        marks.push_back(Mark { offset: lineage.offset, acknowledged });
    }

    /// The most that whoever continues this from `offset` may lack.
    fn lacking(&self, offset: u64) -> u64 {
        let marks = self.marks();
        let had = marks.iter().rev().find(|mark| mark.offset <= offset);
        self.acknowledged().saturating_sub(had.map_or(0, |mark| mark.acknowledged))
    }

    fn marks(&self) -> MutexGuard<'_, VecDeque<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Histories {
    /// The history of a master that was just connected to, where `before` is that of the
    /// last one at its place. Counts what that change lost.
    pub(crate) fn enter(
        &self,
        lineage: &Lineage,
        before: Option<&Arc<History>>,
        stats: &Stats,
    ) -> Arc<History> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |id: &str| all.iter().find(|history| history.id == id).cloned();
        if let Some(same) = find(&lineage.id) {
            return same;
        }
        let continued =
            lineage.continues.as_ref().and_then(|(id, offset)| Some((find(id)?, *offset)));
        let follows_another = continued.is_some() || before.is_some();
        match (continued, before) {
            (Some((history, offset)), _) => {
                let lacking = history.lacking(offset);
                tracing::warn!(lacking_at_most = lacking, "redis failed over");
                stats.failed_over(lacking);
            }
            (None, Some(_)) => {
                tracing::error!("redis is there again without what it had counted");
                stats.lost_all();
            }
            (None, None) => {}
        }
        if all.len() == HISTORIES_MAX {
            all.pop_front();
        }
        let began = follows_another.then(Instant::now);
        let history = Arc::new(History::new(lineage.id.clone(), began));
        all.push_back(history.clone());
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        master_failover_state:no-failover\r\nmaster_replid:aaa\r\nmaster_replid2:000\r\n\
        master_repl_offset:100\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\n";

    fn lineage(id: &str, offset: u64, continues: Option<(&str, u64)>) -> Lineage {
        let continues = continues.map(|(id, offset)| (id.to_owned(), offset));
        Lineage { is_master: true, id: id.to_owned(), offset, continues }
    }

    #[test]
    fn info_tells_the_history() {
        assert_eq!(Lineage::of_info(MASTER), Some(lineage("aaa", 100, None)));
        let promoted = MASTER
            .replace("replid:aaa", "replid:bbb")
            .replace("replid2:000", "replid2:aaa")
            .replace("second_repl_offset:-1", "second_repl_offset:91");
        assert_eq!(Lineage::of_info(&promoted), Some(lineage("bbb", 100, Some(("aaa", 90)))));
        let replica = Lineage::of_info(&MASTER.replace("role:master", "role:slave")).unwrap();
        assert!(!replica.is_master);
        assert_eq!(Lineage::of_info("role:master\r\n"), None);
    }

    #[test]
    fn a_fail_over_lacks_at_most_what_came_after_the_last_offset_it_has() {
        let (histories, stats) = (Histories::default(), Stats::default());
        let old = histories.enter(&lineage("aaa", 0, None), None, &stats);
        for (offset, asks) in [(10, 5), (20, 5), (30, 5)] {
            old.acknowledge(asks);
            old.mark(&lineage("aaa", offset, None), old.acknowledged());
        }
        old.acknowledge(2);
        // It has the bytes up to 25, and so the ten asks acknowledged at 20.
        let new = histories.enter(&lineage("bbb", 25, Some(("aaa", 25))), Some(&old), &stats);
        assert_eq!((stats.fail_overs(), stats.lost_asks_max(), stats.resets()), (1, 7, 0));
        // The same server again, and one of the old history: nothing happened.
        assert!(Arc::ptr_eq(&new, &histories.enter(&lineage("bbb", 40, None), Some(&new), &stats)));
        histories.enter(&lineage("aaa", 30, None), Some(&new), &stats);
        assert_eq!((stats.fail_overs(), stats.resets()), (1, 0));
        // A clean one: everything acknowledged had been seen at an offset that it has.
        let clean = lineage("ccc", 40, Some(("bbb", 40)));
        new.acknowledge(3);
        new.mark(&lineage("bbb", 40, None), new.acknowledged());
        histories.enter(&clean, Some(&new), &stats);
        assert_eq!((stats.fail_overs(), stats.lost_asks_max()), (2, 7));
    }

    #[test]
    fn a_server_that_continues_nothing_known_has_lost_all() {
        let (histories, stats) = (Histories::default(), Stats::default());
        let old = histories.enter(&lineage("aaa", 0, None), None, &stats);
        histories.enter(&lineage("bbb", 0, Some(("xxx", 7))), Some(&old), &stats);
        assert_eq!((stats.fail_overs(), stats.resets()), (0, 1));
        // The first server that is ever met continues nothing known either.
        histories.enter(&lineage("ccc", 0, None), None, &stats);
        assert_eq!(stats.resets(), 1);
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let (histories, stats) = (Histories::default(), Stats::default());
        for number in 0..=HISTORIES_MAX {
            let history = histories.enter(&lineage(&number.to_string(), 0, None), None, &stats);
            for offset in 0..=MARKS_MAX as u64 {
                history.mark(&lineage(&number.to_string(), offset, None), offset);
            }
            assert_eq!(history.marks().len(), MARKS_MAX);
        }
        assert_eq!(histories.0.lock().unwrap().len(), HISTORIES_MAX);
    }
}
