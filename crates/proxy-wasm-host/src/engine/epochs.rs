//! The clock that stops what runs for too long: wasmtime's epochs, a new one every so often.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use wasmtime::Engine;

/// A clock that wakes up later than this was stopped, and most likely the whole process with it: no
/// call is to blame for that.
const STALL_MIN: Duration = Duration::from_millis(100);

/// It ticks as long as this or a clone of it exists, and the engine does.
#[derive(Clone)]
pub struct Epochs(#[allow(dead_code, reason = "what it does is to be dropped")] Sender<()>);

impl Epochs {
    /// Begins a new epoch of this engine `every` so often, on a thread of this name. What the thread
    /// wakes up too late it makes up for, unless the process was stopped.
    ///
    /// # Errors
    ///
    /// If there can be no more threads.
    pub fn start(engine: &Engine, every: Duration, thread: &str) -> io::Result<Self> {
        let (running, stopped) = channel();
        let engine = engine.weak();
        thread::Builder::new().name(thread.to_owned()).spawn(move || {
            let mut next = Instant::now() + every;
            loop {
                let wait = next.saturating_duration_since(Instant::now());
                let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) else { return };
                let Some(engine) = engine.upgrade() else { return };
                for _ in 0..due(&mut next, Instant::now(), every) {
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Self(running))
    }
}

/// How many epochs begin now; `next` is when one does after that.
fn due(next: &mut Instant, now: Instant, every: Duration) -> u32 {
    if now.saturating_duration_since(*next) > STALL_MIN {
        *next = now;
    }
    let mut count = 0;
    while *next <= now {
        *next += every;
        count += 1;
    }
    count
}

/// How many epochs a time is, at least, if there is a new one `every` so often: the first comes at
/// any moment.
#[must_use]
pub fn epochs_of(time: Duration, every: Duration) -> u64 {
    let epochs = time.as_nanos().div_ceil(every.as_nanos());
    u64::try_from(epochs).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_wakes_up_late_keeps_time_and_one_that_was_stopped_does_not() {
        let every = Duration::from_millis(1);
        let start = Instant::now();
        let at = |micros: u64| start + Duration::from_micros(micros);
        let mut next = at(1_000);
        // Each a little late: as timers are, and more so on a busy machine.
        let count: u32 = (1..=500).map(|n| due(&mut next, at(n * 1_070), every)).sum();
        assert_eq!(count, 535);
        assert_eq!((due(&mut next, at(535_900), every), next), (0, at(536_000)));
        assert_eq!(due(&mut next, at(9_000_000), every), 1);
        assert_eq!((due(&mut next, at(9_003_500), every), next), (3, at(9_004_000)));
    }
}
