//! A net under every callback: a panic is a bug of ours, not an outage.

use crate::abi;
use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use tidegate_core::time::{Instant, Span};

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
            if may_log() {
                // The place, not the message: a message may quote what a client sent.
                let place = info.location().map_or_else(String::new, ToString::to_string);
                let line = format!("tidegate: a bug was caught at {place}; please report it");
                let _ = hostcalls::log(LogLevel::Critical, &line);
            }
        }));
    });
}

/// Whether the last such line is long enough ago. Its time is kept apart from the VM's state,
/// which a panic usually finds in use.
fn may_log() -> bool {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant(abi::monotonic_nanos());
    let may = LAST.get().is_none_or(|last| now.since(last) >= LOG_PAUSE);
    if may {
        LAST.set(Some(now));
    }
    may
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
