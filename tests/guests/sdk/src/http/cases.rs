//! What is done with an exchange in each phase, by case.

use super::{Exchange, grpc};
use crate::root::QUEUE;
use crate::{shown, tell};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, GrpcStatusCode, MetricType, Status};
use std::time::{Duration, UNIX_EPOCH};

pub(super) fn on_request_headers(it: &Exchange) -> Action {
    match it.case.as_str() {
        "headers" => request_headers(it),
        "all_headers" => {
            let mut fields = it.get_http_request_headers_bytes();
            fields.push(("x-more".to_owned(), b"\xff".to_vec()));
            let fields = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            it.set_http_request_headers_bytes(fields);
        }
        "replies" => {
            it.send_http_response(403, vec![("x-by", "sdk")], Some(b"no"));
            return Action::Pause;
        }
        "replies_to_grpc" => {
            let custom = vec![("x-detail", b"because".as_slice())];
            it.send_grpc_response(GrpcStatusCode::PermissionDenied, Some("no"), custom);
            return Action::Pause;
        }
        "resets" => it.reset_http_request(),
        "calls" | "calls_nobody" => return call(it),
        "calls_unknown" => {
            let called = it.dispatch_http_call(
                "unheard_of",
                vec![(":method", "GET"), (":path", "/"), (":authority", "a")],
                None,
                vec![],
                Duration::from_secs(1),
            );
            tell!(it.case, "called {called:?}");
        }
        "grpc_call" | "grpc_fails" => return grpc::call(it),
        "grpc_stream" => return grpc::stream(it),
        "shared" => shared(it),
        "queue" => queue(it),
        "metrics" => metrics(it),
        "properties" => properties(it),
        "ticks" => {
            if let Err(status) = hostcalls::set_tick_period(Duration::from_millis(20)) {
                tell!(it.case, "no ticks: {status:?}");
            }
        }
        "foreign" => {
            let compressed = it.call_foreign_function("compress", Some(b"hello hello"));
            tell!(it.case, "compress {}", compressed.is_ok());
            tell!(it.case, "none {:?}", it.call_foreign_function("no_such_function", None));
        }
        "panics" => panic!("as told"),
        _ => {}
    }
    Action::Continue
}

fn request_headers(it: &Exchange) {
    tell!(it.case, "x-a {:?}", it.get_http_request_header("x-a"));
    tell!(it.case, "none {:?}", it.get_http_request_header("x-none"));
    it.set_http_request_header("x-a", Some("changed"));
    it.add_http_request_header("x-a", "twice");
    it.add_http_request_header_bytes("x-bytes", b"\xfe\xff");
    it.set_http_request_header("x-gone", None);
    it.remove_http_request_header("x-removed");
    tell!(it.case, "{}", shown(it.get_http_request_header_bytes("x-bytes")));
    tell!(it.case, "{} of a response", it.get_http_response_headers().len());
}

pub(super) fn on_request_body(it: &Exchange, size: usize, is_end: bool) -> Action {
    match it.case.as_str() {
        "bodies" if !is_end => return Action::Pause,
        "bodies" => {
            tell!(it.case, "whole {}", shown(it.get_http_request_body(0, size)));
            it.set_http_request_body(0, size, b"changed");
        }
        _ => {}
    }
    Action::Continue
}

pub(super) fn on_request_trailers(it: &Exchange) {
    tell!(it.case, "x-end {:?}", it.get_http_request_trailer("x-end"));
    it.set_http_request_trailer("x-end", Some("changed"));
    it.add_http_request_trailer("x-more", "1");
    it.remove_http_request_trailer("x-gone");
    tell!(it.case, "{} trailers", it.get_http_request_trailers().len());
}

pub(super) fn on_response_headers(it: &Exchange) -> Action {
    match it.case.as_str() {
        "headers" => {
            tell!(it.case, "{} fields", it.get_http_response_headers().len());
            tell!(it.case, ":status {:?}", it.get_http_response_header(":status"));
            it.set_http_response_header("x-b", Some("changed"));
            it.add_http_response_header("x-more", "1");
            it.remove_http_response_header("x-gone");
            tell!(it.case, "{} of the request", it.get_http_request_headers().len());
        }
        "bodies" => it.set_http_response_header("content-length", None),
        "resets_response" => it.reset_http_response(),
        _ => {}
    }
    Action::Continue
}

pub(super) fn on_response_body(it: &Exchange, size: usize, is_end: bool) -> Action {
    match it.case.as_str() {
        "bodies" if !is_end => return Action::Pause,
        "bodies" => it.set_http_response_body(0, size, b"answer changed"),
        _ => {}
    }
    Action::Continue
}

pub(super) fn on_response_trailers(it: &Exchange) {
    tell!(it.case, "x-end {:?}", it.get_http_response_trailer("x-end"));
    it.set_http_response_trailers(vec![("x-end", "changed"), ("x-more", "1")]);
}

fn call(it: &Exchange) -> Action {
    let cluster = if it.case == "calls" { "callee" } else { "nobody" };
    let called = it.dispatch_http_call(
        cluster,
        vec![(":method", "POST"), (":path", "/?h.x-c=1"), (":authority", "callee")],
        Some(b"question"),
        vec![],
        Duration::from_secs(1),
    );
    tell!(it.case, "called {}", called.is_ok());
    Action::Pause
}

pub(super) fn on_http_call_response(it: &Exchange, _: usize, size: usize, trailers: usize) {
    tell!(it.case, "on_http_call_response {size} {trailers}");
    tell!(it.case, ":status {:?}", it.get_http_call_response_header(":status"));
    tell!(it.case, "x-c {:?}", it.get_http_call_response_header("x-c"));
    tell!(it.case, "body {}", shown(it.get_http_call_response_body(0, 5)));
    tell!(it.case, "{} trailers", it.get_http_call_response_trailers().len());
    it.set_http_request_header("x-called", Some("yes"));
    it.resume_http_request();
}

fn shared(it: &Exchange) {
    let (value, version) = it.get_shared_data("key");
    tell!(it.case, "{} {}", shown(value), version.is_some());
    tell!(it.case, "set {:?}", it.set_shared_data("key", Some(b"one"), None));
    let (value, version) = it.get_shared_data("key");
    tell!(it.case, "{} {}", shown(value), version.is_some());
    tell!(it.case, "swap {:?}", it.set_shared_data("key", Some(b"two"), version));
    let late = it.set_shared_data("key", Some(b"three"), version);
    tell!(it.case, "late {:?}", late == Err(Status::CasMismatch));
    tell!(it.case, "clear {:?}", it.set_shared_data("key", None, None));
    tell!(it.case, "{}", shown(it.get_shared_data("key").0));
}

fn queue(it: &Exchange) {
    let queue = it.register_shared_queue(QUEUE);
    tell!(it.case, "none {:?}", it.resolve_shared_queue("sdk", "no-such-queue"));
    tell!(it.case, "same {}", it.resolve_shared_queue("sdk", QUEUE) == Some(queue));
    tell!(it.case, "put {:?}", it.enqueue_shared_queue(queue, Some(b"item")));
    tell!(it.case, "lost {:?}", it.enqueue_shared_queue(queue + 1000, Some(b"item")));
}

fn metrics(it: &Exchange) {
    for kind in [MetricType::Counter, MetricType::Gauge] {
        let defined = hostcalls::define_metric(kind, "sdk.metric");
        let Ok(id) = defined else { return tell!(it.case, "{defined:?}") };
        let by = hostcalls::increment_metric(id, 3);
        let value = hostcalls::get_metric(id);
        tell!(it.case, "{by:?} {value:?}");
        tell!(it.case, "{:?} {:?}", hostcalls::record_metric(id, 10), hostcalls::get_metric(id));
    }
    tell!(it.case, "{:?}", hostcalls::get_metric(4_000_000));
}

fn properties(it: &Exchange) {
    for path in [
        vec!["plugin_name"],
        vec!["plugin_root_id"],
        vec!["request", "path"],
        vec!["request", "headers", "x-a"],
        vec!["xds", "cluster_name"],
        vec!["no_such_thing"],
    ] {
        let value = shown(it.get_property(path.clone()));
        tell!(it.case, "{} {value}", path.join("."));
    }
    it.set_property(vec!["mine"], Some(b"value"));
    tell!(it.case, "mine {}", shown(it.get_property(vec!["mine"])));
    tell!(it.case, "a time {}", it.get_current_time() > UNIX_EPOCH);
}
