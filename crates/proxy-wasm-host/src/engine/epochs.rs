//! What stops code that runs for too long: wasmtime's epochs, a new one every so often, and a watch
//! for each store, which looks at the time when one begins.
//!
//! A call that ends before the next epoch has cost no look at any clock. One that does not ends when
//! its time is over, never before, and some two epochs after that at the latest, however late epochs
//! begin on a busy machine.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

/// Who sees no epoch for longer was stopped, and most likely the whole process with it: no call is to
/// blame for that.
const STALL_MIN: Duration = Duration::from_millis(100);

/// The epochs of an engine. They go on as long as this or a clone of it exists, and the engine does.
#[derive(Clone)]
pub struct Epochs(#[allow(dead_code, reason = "what it does is to be dropped")] Sender<()>);

impl Epochs {
    /// Begins a new epoch of this engine `every` so often, or a little later, on a thread of this name.
    ///
    /// # Errors
    ///
    /// If there can be no more threads.
    pub fn start(engine: &Engine, every: Duration, thread: &str) -> io::Result<Self> {
        let (running, stopped) = channel();
        let engine = engine.weak();
        thread::Builder::new().name(thread.to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self(running))
    }
}

/// How long a call has run, and may: a part of a store's data.
#[derive(Debug)]
pub struct Watch {
    /// How often epochs begin, about.
    every: Duration,
    limit: Duration,
    spent: Duration,
    /// When the last epoch began, of those in this call.
    seen: Option<Instant>,
}

impl Watch {
    /// A watch where an epoch begins `every` so often. Until the first [`Watch::arm`] nothing may run
    /// beyond one.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, limit: Duration::ZERO, spent: Duration::ZERO, seen: None }
    }

    /// Has a store's calls end by its watch, with [`Trap::Interrupt`].
    pub fn keep<T: 'static>(store: &mut Store<T>, of: fn(&mut T) -> &mut Self) {
        store.epoch_deadline_callback(move |mut store| {
            match of(store.data_mut()).goes_on(Instant::now()) {
                true => Ok(UpdateDeadline::Continue(1)),
                false => Err(Trap::Interrupt.into()),
            }
        });
        store.set_epoch_deadline(1);
    }

    /// From now on a store's calls may run for so long, all together.
    pub fn arm<T>(store: &mut Store<T>, of: fn(&mut T) -> &mut Self, limit: Duration) {
        let watch = of(store.data_mut());
        (watch.limit, watch.spent, watch.seen) = (limit, Duration::ZERO, None);
        store.set_epoch_deadline(1);
    }

    /// Whether what runs may go on; an epoch begins now.
    fn goes_on(&mut self, now: Instant) -> bool {
        if let Some(seen) = self.seen.replace(now) {
            let passed = now.saturating_duration_since(seen);
            self.spent += if passed > STALL_MIN { self.every } else { passed };
        }
        self.spent < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a loop runs that may for 10 ms, where epochs begin so many microseconds after it.
    fn ended(epochs: impl IntoIterator<Item = u64>) -> Option<u64> {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_millis(1));
        watch.limit = Duration::from_millis(10);
        let mut epochs = epochs.into_iter();
        epochs.find(|at| !watch.goes_on(start + Duration::from_micros(*at)))
    }

    #[test]
    fn no_call_ends_before_its_time_and_none_long_after() {
        // At once, or after nearly a whole epoch.
        assert_eq!(ended((0..100).map(|n| 1 + n * 1_000)), Some(10_001));
        assert_eq!(ended((0..100).map(|n| 999 + n * 1_000)), Some(10_999));
        // Each late, as timers are; and one so late that several would have begun.
        assert_eq!(ended((1..100).map(|n| n * 1_070)), Some(11_770));
        assert_eq!(ended([50_000, 50_001, 51_000, 59_999, 60_000]), Some(60_000));
    }

    #[test]
    fn a_process_that_was_stopped_is_no_calls_fault_but_a_loop_ends() {
        assert_eq!(ended([1_000, 9_000_000, 9_008_999, 9_009_000]), Some(9_009_000));
        // Where each is as late as if it had been stopped.
        assert_eq!(ended((0..100).map(|n| n * 200_000)), Some(10 * 200_000));
    }
}
