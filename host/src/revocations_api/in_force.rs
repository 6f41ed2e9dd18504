//! What is acknowledged as revoked is revoked, whatever clocks say.
//!
//! Of a revocation and a lifting of one thing the later one holds, by the clocks of the hosts that
//! made them, and these differ. What is said now is made later than what is known here. But another
//! host may have acknowledged a lifting that this one has not followed the log to: so once a
//! record is in the log, and with it all that is before it known here, it is looked at again, and
//! what lost to a lifting is said once more, later than that. Of what is held because the log is
//! away nobody can tell what came before it: there clocks decide.

use super::batches::both;
use crate::revocations::{
    Accepted, Durability, ENTRY_RECORDS_MAX, Fault, NotAccepted, Revocations,
};
use futures_util::future::try_join_all;
use tidegate_core::revoke::Record;

/// How often it is said. Who lifts it each time in between has the last word.
const TIMES_MAX: usize = 4;

/// A record on its way, and what it holds against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) record: Record,
    pub(super) over: Over,
}

/// Against which liftings a revocation holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Over {
    /// Any: somebody wants it now.
    Any,
    /// Those up to this second: what happened then does not undo what was done since.
    UpTo(u64),
    /// Those that are older by the clocks: it was made some time ago, and says when.
    Older,
}

impl Said {
    /// Makes it later than what it holds against; returns whether it had to.
    pub(super) fn outlast(&mut self, known: Option<Record>) -> bool {
        let Some(known) = known.filter(|known| known.lifts != self.record.lifts) else {
            return false;
        };
        let holds = match self.over {
            Over::Any => true,
            Over::UpTo(secs) => known.at_ms / 1_000 <= secs,
            Over::Older => false,
        };
        // At the same millisecond the revocation holds.
        let at_ms = known.at_ms + u64::from(self.record.lifts);
        let is_behind = self.record.at_ms < at_ms;
        if holds && is_behind {
            self.record.at_ms = at_ms;
        }
        holds && is_behind
    }
}

/// Has these in force: returns how durable, or nothing if there are none.
///
/// # Errors
///
/// [`NotAccepted`]; some of them may be in force.
pub(super) async fn accept(
    revocations: &Revocations,
    mut said: Vec<Said>,
    wanted: Durability,
) -> Result<Option<Accepted>, NotAccepted> {
    let mut all: Option<Accepted> = None;
    for _ in 0..TIMES_MAX {
        let records: Vec<Record> = said.iter().map(|said| said.record).collect();
        let chunks = records.chunks(ENTRY_RECORDS_MAX);
        let accepting = chunks.map(|some| revocations.accept(some.to_vec(), wanted));
        let accepted = try_join_all(accepting).await?;
        all = all.into_iter().chain(accepted).reduce(|one, other| both(&one, &other));
        said = lost(revocations, said).map_err(NotAccepted::Fault)?;
        if said.is_empty() {
            break;
        }
    }
    Ok(all)
}

/// Revocations that are not in force, made later than what lifted them.
fn lost(revocations: &Revocations, said: Vec<Said>) -> Result<Vec<Said>, Fault> {
    let mut lost = Vec::new();
    for mut said in said {
        let may_be = !said.record.lifts && !matches!(said.over, Over::Older);
        if may_be && said.outlast(revocations.get(said.record.id)?) {
            lost.push(said);
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::{Accepting, Entry, Follow, Reach, Settings, Wall};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Weak};
    use tidegate_core::revoke::{EVER, Id, Kind};

    const NOW_MS: u64 = 2_000_000_000_000;

    /// A log into which another host writes a lifting before each of our first entries, by a clock
    /// that is ahead.
    struct Log {
        ledger: Weak<Revocations>,
        liftings: AtomicUsize,
    }

    impl Follow for Log {
        fn accept<'a>(&'a self, records: Vec<Record>, _: Durability) -> Accepting<'a> {
            Box::pin(async move {
                let ledger = self.ledger.upgrade().unwrap();
                let mut position = ledger.position();
                let mut entry = |records: Vec<Record>| {
                    position = position.then(&records[0].to_bytes());
                    Entry { position, records }
                };
                let mut entries = Vec::new();
                let left = self.liftings.load(Ordering::Relaxed);
                if left > 0 {
                    self.liftings.store(left - 1, Ordering::Relaxed);
                    let at_ms = records[0].at_ms + 200;
                    entries.push(entry(vec![Record { lifts: true, at_ms, ..records[0] }]));
                }
                entries.push(entry(records));
                let position = ledger.apply(entries).await.unwrap();
                Ok(Accepted { position, reach: Reach::Shared { replicas: 0 } })
            })
        }
    }

    fn said(over: Over) -> Said {
        let id = Id::of(Kind::Session, &[b"i", b"s"]);
        let (before_secs, until_secs) = (EVER, NOW_MS / 1_000 + 600);
        let kind = Kind::Session;
        let at_ms = NOW_MS;
        let record =
            Record { id, kind, lifts: false, before_secs, until_secs, by_exp: false, at_ms };
        Said { record, over }
    }

    /// Whether it is revoked after it was said, so many liftings having come between.
    async fn is_revoked(over: Over, liftings: usize) -> bool {
        let settings = Settings { is_shared: true, ..Settings::in_memory(Wall::of_this_machine()) };
        let ledger = Revocations::open(&settings).unwrap();
        let log = Log { ledger: Arc::downgrade(&ledger), liftings: AtomicUsize::new(liftings) };
        ledger.follow(Arc::new(log));
        let said = said(over);
        let accepted = accept(&ledger, vec![said], Durability::Shared).await.unwrap();
        assert_eq!(accepted.unwrap().position, ledger.position());
        !ledger.get(said.record.id).unwrap().unwrap().lifts
    }

    #[tokio::test]
    async fn what_is_said_now_holds_whoever_lifted_it_unheard_by_whatever_clock() {
        assert!(is_revoked(Over::Any, 0).await);
        assert!(is_revoked(Over::Any, 1).await);
        assert!(is_revoked(Over::Any, 2).await);
        assert!(!is_revoked(Over::Any, usize::MAX).await, "who lifts it again and again means it");
    }

    #[tokio::test]
    async fn what_happened_before_it_was_lifted_leaves_that_be() {
        let then_secs = NOW_MS / 1_000;
        assert!(is_revoked(Over::UpTo(then_secs), 1).await);
        assert!(!is_revoked(Over::UpTo(then_secs - 1), 1).await);
        assert!(!is_revoked(Over::Older, 1).await);
    }

    #[test]
    fn what_is_said_now_is_later_than_what_is_known() {
        let known = Record { lifts: true, at_ms: NOW_MS + 500, ..said(Over::Any).record };
        let mut again = said(Over::Any);
        assert!(again.outlast(Some(known)) && !again.record.and(&known).lifts);
        assert!(!again.outlast(Some(known)) && !again.outlast(None));
        let mut lifting = said(Over::Any);
        lifting.record.lifts = true;
        let known = Record { at_ms: NOW_MS + 500, ..said(Over::Any).record };
        assert!(lifting.outlast(Some(known)) && known.and(&lifting.record).lifts);
    }
}
