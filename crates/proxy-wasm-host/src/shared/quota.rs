//! How much the modules of one `vm_id` may keep: things and their bytes, counted across
//! threads.

use crate::status::Status;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most of each that may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) things: usize,
    pub(super) bytes: usize,
}

/// What is kept now.
#[derive(Debug, Default)]
pub(super) struct Quota {
    things: AtomicUsize,
    bytes: AtomicUsize,
}

impl Quota {
    /// Makes room for so much more, or changes nothing.
    ///
    /// Threads that come at the same time may be refused a little early, because each sees
    /// what the other asks for; they are never let in too late.
    pub(super) fn take(&self, things: usize, bytes: usize, bounds: Bounds) -> Result<(), Status> {
        let things_before = self.things.fetch_add(things, Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Relaxed);
        let fits = things_before.saturating_add(things) <= bounds.things
            && bytes_before.saturating_add(bytes) <= bounds.bytes;
        if !fits {
            self.give_back(things, bytes);
            return Err(Status::InternalFailure);
        }
        Ok(())
    }

    /// So much is no longer kept.
    pub(super) fn give_back(&self, things: usize, bytes: usize) {
        self.things.fetch_sub(things, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let (quota, bounds) = (Quota::default(), Bounds { things: 2, bytes: 10 });
        assert_eq!(quota.take(1, 6, bounds), Ok(()));
        assert_eq!(quota.take(1, 5, bounds), Err(Status::InternalFailure));
        assert_eq!(quota.take(2, 1, bounds), Err(Status::InternalFailure));
        assert_eq!(quota.take(1, 4, bounds), Ok(()));
        quota.give_back(1, 4);
        assert_eq!(quota.take(1, usize::MAX - 5, bounds), Err(Status::InternalFailure));
        assert_eq!(quota.take(1, 4, bounds), Ok(()));
    }
}
