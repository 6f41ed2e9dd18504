//! What a component finds around it: the imports of its world.

use super::instance::State;
use super::world::{clock, log, shared, store, types};
use bytes::Bytes;

/// Who answers a component's imports. Calls must return at once, and must not call the component.
pub trait Shell {
    /// Nanoseconds on a clock that never goes back and is the same for all instances.
    fn now(&self) -> u64;

    /// A line that the component logs.
    fn log(&self, level: log::Level, message: &str);

    /// A value that all instances share, and its version, which is never 0.
    fn shared(&self, key: &[u8]) -> Option<(Bytes, u32)>;

    /// Shares a value if it has this version still (0: if there is none), or, without one, in any
    /// case. Whether it did.
    fn share(&self, key: &[u8], value: Vec<u8>, version: Option<u32>) -> bool;

    /// Takes a question, to be brought back with
    /// [`Instance::on_reply`](super::Instance::on_reply). Whether it did.
    fn send(&self, question: store::Question) -> bool;
}

/// The longest line that is logged.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The longest name and value that are shared.
const KEY_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 512 << 10;

/// The longest question: facts for a plugin may have 64 KiB.
const QUESTION_BYTES_MAX: usize = 128 << 10;

impl types::Host for State {}

impl clock::Host for State {
    fn now(&mut self) -> u64 {
        self.shell.now()
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, mut message: String) {
        if message.len() > LINE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(LINE_BYTES_MAX));
        }
        self.shell.log(level, &message);
    }
}

impl shared::Host for State {
    fn get(&mut self, key: Vec<u8>) -> Option<(Vec<u8>, u32)> {
        self.shell.shared(&key).map(|(value, version)| (value.to_vec(), version))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, version: Option<u32>) -> bool {
        let fits = key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX;
        fits && self.shell.share(&key, value, version)
    }
}

impl store::Host for State {
    fn send(&mut self, question: store::Question) -> bool {
        let bytes = question.body.as_ref().map_or(0, Vec::len);
        bytes <= QUESTION_BYTES_MAX && self.shell.send(question)
    }
}
