//! Keeps asks from a server that is known not to answer them.
//!
//! A connection may be fine and its server of no use: out of memory, without the replicas
//! that it wants, unable to save, busy with somebody's script, or silent. The first ask that
//! meets this opens the breaker; while it is open every other gets the same answer at once,
//! without a round trip and without waiting. Only the keeper's probe asks on, one for all keys,
//! and closes it when the script has run. Of a server without a connection there is nothing to
//! open: there the answer is [`Error::Away`] anyway.

use crate::error::Error;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Of one server. Closed at first.
#[derive(Default)]
pub(crate) struct Breaker {
    why: ArcSwapOption<Error>,
    opens: AtomicU64,
    bell: Notify,
}

impl Breaker {
    /// Why it is open, if it is: what whoever asks is told.
    pub(crate) fn why(&self) -> Option<Error> {
        self.why.load().as_deref().cloned()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.why.load().is_some()
    }

    /// How often it has opened.
    pub(crate) fn opens(&self) -> u64 {
        self.opens.load(Ordering::Relaxed)
    }

    /// Opens, or stays open for another reason; true if it was closed.
    pub(crate) fn open(&self, why: Error) -> bool {
        let was_closed = self.why.swap(Some(Arc::new(why))).is_none();
        if was_closed {
            self.opens.fetch_add(1, Ordering::Relaxed);
            self.bell.notify_one();
        }
        was_closed
    }

    /// Closes; true if it was open.
    pub(crate) fn close(&self) -> bool {
        self.why.swap(None).is_some()
    }

    /// The server was heard of: silence is no reason any more.
    pub(crate) fn heard(&self) -> bool {
        matches!(self.why(), Some(Error::Away)) && self.close()
    }

    /// Waits until it opens.
    pub(crate) async fn opened(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_why_and_counts_how_often() {
        let breaker = Breaker::default();
        assert!(!breaker.is_open() && !breaker.close());
        assert!(breaker.open(Error::Away));
        assert!(!breaker.open(Error::Busy), "open already");
        assert!(matches!(breaker.why(), Some(Error::Busy)));
        assert!(!breaker.heard(), "it was not for silence");
        assert!(breaker.close() && breaker.opens() == 1);
        assert!(breaker.open(Error::Away) && breaker.heard() && !breaker.is_open());
        assert_eq!(breaker.opens(), 2);
    }
}
