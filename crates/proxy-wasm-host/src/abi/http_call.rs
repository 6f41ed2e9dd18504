//! HTTP requests that filters make.

use super::headers::decode;
use super::{Calls, ENV, define};
use crate::outside::{CallToken, HttpCall};
use crate::status::Status;
use crate::vm::State;
use crate::vm::callouts::Kind;
use crate::vm::guest::{Guest, Outcome, Slice, read_body, read_text, write_u32};
use crate::vm::state::Mode;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_http_call" => call,
            (cluster: u32, cluster_len: u32, headers: u32, headers_len: u32, body: u32,
             body_len: u32, trailers: u32, trailers_len: u32, timeout_ms: u32, token: u32);
    });
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The ABI's, not ours.
fn call(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout_ms: u32,
    token: u32,
) -> Outcome {
    let (memory, state) = guest.split()?;
    let call = HttpCall {
        cluster: read_text(memory, Slice(cluster, cluster_len))?,
        body: read_body(memory, Slice(body, body_len))?,
        headers: decode(memory, Slice(headers, headers_len))?,
        trailers: decode(memory, Slice(trailers, trailers_len))?,
        timeout_ms: (timeout_ms > 0).then_some(timeout_ms),
    };
    // Written before anything is started, so that an answer always has somebody to go to.
    write_u32(memory, token, 0)?;
    let begun = begin(state, call)?;
    write_u32(memory, token, begun)
}

/// A call is its filter's, not the stream's on whose behalf it is made.
fn begin(state: &mut State, mut call: HttpCall) -> Result<u32, Status> {
    // Envoy reads it as a signed number.
    let is_negative = call.timeout_ms.is_some_and(|ms| i32::try_from(ms).is_err());
    let wanted: [&[u8]; 3] = [b":path", b":method", b":authority"];
    if is_negative || wanted.iter().any(|name| call.headers.get(name).is_none()) {
        return Err(Status::BadArgument);
    }
    if !call.body.is_empty() {
        call.headers.replace("content-length", call.body.len().to_string());
    }
    let fields = call.cluster.len() + call.headers.bytes() + call.trailers.bytes();
    let token = state.callouts.begin(Kind::Http, state.root(), fields + call.body.len())?;
    let whole = CallToken { vm: state.place.vm, token };
    if state.place.outside.http_call(whole, call).is_err() {
        state.callouts.end(token);
        return Err(Status::BadArgument);
    }
    Ok(token)
}
