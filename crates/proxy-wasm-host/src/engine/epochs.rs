//! The clock that stops what runs for too long: wasmtime's epochs, a new one every so often.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use wasmtime::Engine;

/// It ticks as long as this or a clone of it exists, and the engine does.
#[derive(Clone)]
pub struct Epochs(#[allow(dead_code, reason = "what it does is to be dropped")] Sender<()>);

impl Epochs {
    /// Begins a new epoch of this engine `every` so often, on a thread of this name.
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

/// How many epochs a time is, at least, if there is a new one `every` so often: the first comes at
/// any moment.
#[must_use]
pub fn epochs_of(time: Duration, every: Duration) -> u64 {
    let epochs = time.as_nanos().div_ceil(every.as_nanos());
    u64::try_from(epochs).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}
