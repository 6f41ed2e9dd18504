//! What filters do to their chains that they should not: none of it may hurt the host, or
//! leave an exchange hanging.

use crate::world::World;
use bytes::Bytes;
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::plugin::{FailurePolicy, PluginConfig};
use proxy_wasm_host::worker::Filter;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

/// A guest with these functions; the host calls that they need have short names.
fn guest(functions: &str) -> String {
    format!(
        r#"(module
        (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $enter (param i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
        (import "env" "proxy_done" (func $done (result i32)))
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response"
          (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "tick")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 1024))
        (func $refuse (drop (call $answer (i32.const 429) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))
        {functions})"#
    )
}

fn world(functions: &str, configs: &[PluginConfig]) -> (Rc<World>, Vec<Filter>, impl Fn() + use<>) {
    let world = Rc::new(World::new());
    let (worker, filters) = world.filters(&guest(functions), configs);
    let tick = {
        let world = world.clone();
        move || {
            world.pass_second();
            worker.run_due();
        }
    };
    (world, filters, tick)
}

fn stream(filters: &[Filter]) -> HttpStream {
    HttpStream::new(filters, Facts::default(), BUFFER_BYTES)
}

fn request() -> HeaderMap {
    [(":method", "POST"), (":path", "/")].into_iter().collect()
}

fn events(stream: &HttpStream) -> Vec<HttpEvent> {
    std::iter::from_fn(|| stream.next_event()).collect()
}

/// The status of the response among these.
fn status(events: &[HttpEvent]) -> Option<Bytes> {
    events.iter().find_map(|event| match event {
        HttpEvent::ResponseHeaders(headers, _) => headers.get(b":status").cloned(),
        _ => None,
    })
}

#[test]
fn streams_that_let_each_other_go_do_not_fill_the_stack() {
    let (_, filters, tick) = world(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (call $period (i32.const 9)) drop (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
        (func (export "proxy_on_request_body") (param $id i32) (param i32 i32) (result i32)
          (drop (call $enter (i32.add (local.get $id) (i32.const 1))))
          (call $continue (i32.const 0)))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $enter (i32.const 2)))
          (drop (call $continue (i32.const 0))))"#,
        &[PluginConfig::default()],
    );
    let streams: Vec<_> = (0..5_000).map(|_| stream(&filters)).collect();
    for stream in &streams {
        stream.on_request_headers(request(), false);
        stream.on_request_data(Bytes::from_static(b"a"), true);
    }
    tick();
    assert!(streams.iter().all(|stream| events(stream).len() == 2));
}

#[test]
fn an_answer_to_ones_own_answer_does_not_hold_it() {
    let (_, filters, _) = world(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $refuse) (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $refuse) (i32.const 0))"#,
        &[PluginConfig::default()],
    );
    let stream = stream(&filters);
    stream.on_request_headers(request(), true);
    assert_eq!(status(&events(&stream)).unwrap(), "429");
}

#[test]
fn an_answer_to_another_stream_does_not_hold_ones_own() {
    let (_, filters, _) = world(
        r#"(func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
          (if (i32.eq (local.get $id) (i32.const 2)) (then (return (i32.const 1))))
          (drop (call $enter (i32.const 2)))
          (call $refuse)
          (i32.const 0))"#,
        &[PluginConfig::default()],
    );
    let (first, second) = (stream(&filters), stream(&filters));
    first.on_request_headers(request(), true);
    second.on_request_headers(request(), true);
    assert_eq!(status(&events(&first)).unwrap(), "429");
    assert_eq!(events(&second), [HttpEvent::RequestHeaders(request(), true)]);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn whoever_was_told_to_wait_is_woken_when_there_is_room() {
    // The first makes the sender wait, the second drops what it gets: no event comes of it.
    let stage = World::new().buffer_bytes(4).chain(&[[0, 2, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(request(), false);
    assert_eq!(events(&stage.stream).len(), 1);
    stage.stream.on_request_data(Bytes::from_static(b"abcd"), false);
    assert!(stage.stream.is_request_full());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert!(stage.stream.poll_event(&mut Context::from_waker(&waker)).is_pending());
    stage.tick();
    assert!(stage.stream.next_event().is_none() && !stage.stream.is_request_full());
    assert_eq!(woken.0.load(Relaxed), 1);
}

#[test]
fn a_filter_that_failed_before_the_request_reached_it_is_gone_around() {
    let config = PluginConfig { failure: FailurePolicy::Open, ..PluginConfig::default() };
    let (_, filters, _) = world(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))"#,
        &[config],
    );
    let (first, second) = (stream(&filters), stream(&filters));
    first.on_request_headers(request(), true);
    assert_eq!(status(&events(&first)).unwrap(), "503");
    second.on_request_headers(request(), true);
    assert_eq!(events(&second), [HttpEvent::RequestHeaders(request(), true)]);
}

#[test]
fn a_root_that_another_ended_does_not_tick_any_more() {
    // The second says that it has things to do yet; the first one's tick says it is done.
    let (world, mut filters, tick) = world(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
          (call $period (i32.const 9)) drop (i32.const 1))
        (func (export "proxy_on_done") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $log (i32.const 2) (i32.const 64) (i32.const 4)))
          (drop (call $enter (i32.const 2)))
          (drop (call $done)))"#,
        &[PluginConfig::default(), PluginConfig::default()],
    );
    drop(filters.pop());
    tick();
    assert_eq!(world.said(), ":tick");
}
