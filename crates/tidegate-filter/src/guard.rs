//! A net under every callback: a panic is a bug of ours, not an outage.

use crate::vm;
use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use tidegate_core::time::Span;

/// At most one line a second about panics: a request that can cause one can be sent often.
const LOG_PAUSE: Span = Span::from_secs(1);

/// Runs a callback; `None` if it panicked.
pub(crate) fn guarded<R>(callback: impl FnOnce() -> R) -> Option<R> {
    // What a panic leaves half-done is this request's: the gate takes back nothing, which
    // is the safe direction, and its buffers are made anew.
    panic::catch_unwind(AssertUnwindSafe(callback)).ok()
}

/// Makes panics tell where they came from. Call it before anything can panic.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            if vm::may_log(LOG_PAUSE) {
                // The place, not the message: a message may quote what a client sent.
                let place = info.location().map_or_else(String::new, ToString::to_string);
                let line = format!("tidegate: a bug was caught at {place}; please report it");
                let _ = hostcalls::log(LogLevel::Critical, &line);
            }
        }));
    });
}

/// In the build that tests this net: panics if the request's header `x-fault` names `place`.
#[cfg(feature = "faults")]
#[allow(clippy::panic)] // what it is for
pub(crate) fn fault(place: &str) {
    use crate::abi::{Map, header};
    if header(Map::Request, "x-fault").is_some_and(|asked| *asked == *place.as_bytes()) {
        panic!("as the request asked");
    }
}

#[cfg(not(feature = "faults"))]
pub(crate) const fn fault(_place: &str) {}
