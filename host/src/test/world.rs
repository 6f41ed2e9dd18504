//! What a proxy's filter sees of the world: a virtual clock, randomness from a seed, and
//! nobody to call but the store.

use super::clock::Clock;
use proxy_wasm_host::outside::{CallToken, HttpCall, Level, Outside, UnknownCluster};
use std::cell::RefCell;
use std::collections::VecDeque;

/// The most calls that wait to be answered: more than the filter makes for one request.
const CALLS_MAX: usize = 1_024;

/// The last lines of the log that a failure shows.
const LINES_MAX: usize = 16;

pub(super) struct World {
    clock: Clock,
    random: RefCell<fastrand::Rng>,
    /// The only cluster there is.
    cluster: Option<Box<str>>,
    calls: RefCell<VecDeque<(CallToken, HttpCall)>>,
    lines: RefCell<VecDeque<String>>,
}

impl World {
    pub(super) fn new(clock: Clock, seed: u64, cluster: Option<Box<str>>) -> Self {
        Self {
            clock,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            cluster,
            calls: RefCell::default(),
            lines: RefCell::default(),
        }
    }

    /// The call that has waited longest for an answer.
    pub(super) fn take_call(&self) -> Option<(CallToken, HttpCall)> {
        self.calls.borrow_mut().pop_front()
    }

    /// What was logged lately, warnings and worse.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}

impl Outside for World {
    fn wall_ns(&self) -> u64 {
        self.clock.wall_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn fill_random(&self, to: &mut [u8]) {
        self.random.borrow_mut().fill(to);
    }

    fn log_level(&self) -> Level {
        Level::Warn
    }

    fn log(&self, _plugin: &str, _level: Level, message: &str) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(message.to_owned());
    }

    fn http_call(&self, token: CallToken, call: HttpCall) -> Result<(), UnknownCluster> {
        let mut calls = self.calls.borrow_mut();
        if self.cluster.as_deref() != Some(&call.cluster) || calls.len() == CALLS_MAX {
            return Err(UnknownCluster);
        }
        calls.push_back((token, call));
        Ok(())
    }
}
