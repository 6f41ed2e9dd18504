//! gRPC calls and streams.

use super::Exchange;
use crate::{shown, tell};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::time::Duration;

const SERVICE: &str = "conform.Echo";

pub(super) fn call(it: &Exchange) -> Action {
    let method = if it.case == "grpc_call" { "Unary" } else { "Fail" };
    let (metadata, second) = (vec![("x-ask", b"1".as_slice())], Duration::from_secs(1));
    let called = it.dispatch_grpc_call("grpc", SERVICE, method, metadata, Some(b"abc"), second);
    tell!(it.case, "called {}", called.is_ok());
    Action::Pause
}

pub(super) fn on_call_response(it: &Exchange, status: u32, size: usize) {
    tell!(it.case, "on_grpc_call_response {status} {size}");
    tell!(it.case, "{:?}", it.get_grpc_status());
    tell!(it.case, "{}", shown(it.get_grpc_call_response_body(0, size)));
    it.resume_http_request();
}

pub(super) fn stream(it: &Exchange) -> Action {
    match it.open_grpc_stream("grpc", SERVICE, "Stream", vec![]) {
        Ok(token) => it.send_grpc_stream_message(token, Some(b"one"), false),
        Err(status) => tell!(it.case, "no stream: {status:?}"),
    }
    Action::Pause
}

pub(super) fn on_message(it: &mut Exchange, token: u32, size: usize) {
    let message = it.get_grpc_stream_message(0, size);
    tell!(it.case, "on_grpc_stream_message {}", shown(message.clone()));
    if message.as_deref() == Some(b"one") {
        it.send_grpc_stream_message(token, Some(b"last"), true);
    }
}
