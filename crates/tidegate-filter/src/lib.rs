//! Tidegate as a proxy-wasm filter: the callbacks that a proxy calls.
//!
//! No decisions here: a callback gathers facts, drives [`tidegate_core::gate::Gate`] and
//! does what its step says. Each request costs one entry into this module; state is kept
//! only for requests that wait for the host service.
//!
//! **Only these callbacks are exported.** A proxy skips what a module does not export,
//! while the SDK exports all there are and would cost every request two to three times as
//! much. So they carry names of their own here, and the build gives them the ABI's names
//! in place of the SDK's.
//!
//! **Nothing may kill the VM.** Every callback runs under [`guard`]: a panic ends in an
//! answer for its request, by the policy, and the VM lives on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
mod config;
mod facts;
mod ground;
mod guard;
mod http;
mod metrics;
mod vm;

use guard::guarded;

/// Tells the proxy to go on with the request.
const CONTINUE: u32 = 0;
/// Tells the proxy to hold the request until it is continued or answered.
const PAUSE: u32 = 1;

#[unsafe(no_mangle)]
extern "C" fn tidegate_on_configure(root: u32, size: usize) -> u32 {
    u32::from(guarded(|| vm::configure(root, size)).unwrap_or(false))
}

#[unsafe(no_mangle)]
extern "C" fn tidegate_on_tick(root: u32) {
    guarded(|| vm::tick(root));
}

#[unsafe(no_mangle)]
extern "C" fn tidegate_on_request_headers(stream: u32, _headers: u32, _end: u32) -> u32 {
    guarded(|| http::on_request(stream)).unwrap_or_else(|| http::answer_panic(stream))
}

#[unsafe(no_mangle)]
extern "C" fn tidegate_on_http_call_response(
    _root: u32,
    token: u32,
    _headers: u32,
    body_size: usize,
    _trailers: u32,
) {
    let Some(call) = guarded(|| vm::take_call(token)).flatten() else { return };
    if guarded(|| http::on_call_response(call, body_size)).is_none() {
        // Without an answer the requests that waited would hang for ever.
        guarded(|| http::release_after_panic(call.plugin));
    }
}

#[cfg(feature = "standing")]
#[unsafe(no_mangle)]
extern "C" fn tidegate_on_response_headers(stream: u32, _headers: u32, _end: u32) -> u32 {
    guarded(|| http::on_response(stream));
    CONTINUE
}

#[cfg(feature = "standing")]
#[unsafe(no_mangle)]
extern "C" fn tidegate_on_delete(stream: u32) {
    guarded(|| http::on_delete(stream));
}
