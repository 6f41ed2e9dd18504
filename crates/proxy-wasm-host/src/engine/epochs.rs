//! What stops code that runs for too long: wasmtime's epochs, a new one every so often, and a watch
//! for each store, which looks at the time when one begins.
//!
//! A call that ends before the next epoch has cost no look at any clock. One that does not ends when
//! its time is over, never before, and some two epochs after that, or as much later as epochs begin late
//! on a busy machine.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

/// Who sees no epoch for longer was stopped, and most likely the whole process with it: no call is to
/// blame for that, once. More often it is the call itself, with what takes long in one go.
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
    /// Whether it was found to have been stopped.
    is_forgiven: bool,
    /// Whether its time is that of any clock, also while it is stopped or waits.
    is_strict: bool,
}

impl Watch {
    /// A watch where an epoch begins `every` so often. Until the first [`Watch::arm`] nothing may run
    /// beyond one.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        let (limit, spent, seen) = (Duration::ZERO, Duration::ZERO, None);
        Self { every, limit, spent, seen, is_forgiven: false, is_strict: false }
    }

    /// The same for calls that may wait: a clock is read when each begins, and nothing is forgiven.
    #[must_use]
    pub const fn strict(every: Duration) -> Self {
        Self { is_strict: true, ..Self::new(every) }
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
        of(store.data_mut()).begin(limit);
        store.set_epoch_deadline(1);
    }

    fn begin(&mut self, limit: Duration) {
        (self.limit, self.spent, self.is_forgiven) = (limit, Duration::ZERO, self.is_strict);
        self.seen = self.is_strict.then(Instant::now);
    }

    /// Whether what runs may go on; an epoch begins now.
    fn goes_on(&mut self, now: Instant) -> bool {
        if let Some(seen) = self.seen.replace(now) {
            let passed = now.saturating_duration_since(seen);
            let was_stopped = passed > STALL_MIN && !std::mem::replace(&mut self.is_forgiven, true);
            self.spent += if was_stopped { self.every } else { passed };
        }
        self.spent < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a loop runs that may for 10 ms, where epochs begin so many microseconds after it.
    fn ended(epochs: impl IntoIterator<Item = u64>) -> Option<u64> {
        ended_of(Watch::new(Duration::from_millis(1)), epochs)
    }

    fn ended_of(mut watch: Watch, epochs: impl IntoIterator<Item = u64>) -> Option<u64> {
        watch.begin(Duration::from_millis(10));
        let start = watch.seen.unwrap_or_else(Instant::now);
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
    fn a_process_that_was_stopped_is_no_calls_fault_once() {
        assert_eq!(ended([1_000, 9_000_000, 9_008_999, 9_009_000]), Some(9_009_000));
        // What takes that long each time is the call itself.
        assert_eq!(ended((0..100).map(|n| n * 200_000)), Some(400_000));
    }

    #[test]
    fn a_strict_watch_counts_from_the_beginning_and_all_that_passes() {
        let strict = || Watch::strict(Duration::from_millis(1));
        assert_eq!(ended_of(strict(), (1..100).map(|n| n * 1_000)), Some(10_000));
        assert_eq!(ended_of(strict(), [1_000, 9_000_000]), Some(9_000_000));
    }
}
