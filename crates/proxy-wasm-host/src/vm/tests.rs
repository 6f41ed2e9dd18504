//! What host calls answer, in each phase. A status is a letter: `A` is 0, `B` 1, `C` 2, `G` 6.

use super::*;
use crate::outside::{CallToken, GrpcEvent, HttpResponse};
use crate::scene::{FAR, Guest, KNOWN, NEW, OUT, Open, Stage, VALUE, X_KEY, X_NONE, open};
use crate::worker::Filter;

const HEADERS: &str = "proxy_on_request_headers";
const GET: &str = "proxy_get_header_map_value";
const ADD: &str = "proxy_add_header_map_value";
const REPLACE: &str = "proxy_replace_header_map_value";
const REMOVE: &str = "proxy_remove_header_map_value";
const PAIRS: &str = "proxy_get_header_map_pairs";
const SET_PAIRS: &str = "proxy_set_header_map_pairs";
const SIZE: &str = "proxy_get_header_map_size";
const READ: &str = "proxy_get_buffer_bytes";
const WRITE: &str = "proxy_set_buffer_bytes";

/// Arguments of a call: numbers, and slices of the guest's text.
fn with<const N: usize>(parts: [&[i64]; N]) -> Vec<i64> {
    parts.concat()
}

fn get(map: i64, name: [i64; 2]) -> Vec<i64> {
    with([&[map], &name, &OUT])
}

/// A filter with an HTTP stream.
fn begin(guest: &Guest) -> (Stage, Filter, Open) {
    let stage = Stage::new();
    let filter = stage.start(guest).unwrap();
    let stream = open(&filter, StreamKind::Http).unwrap();
    stage.world.said();
    (stage, filter, stream)
}

/// What these calls answer in `proxy_on_request_headers`.
fn answers(calls: &[(&str, &[i64])]) -> String {
    let (stage, _filter, stream) = begin(&Guest::new().on(HEADERS, calls));
    stream.vm.on_request_headers(stream.id, true).unwrap();
    stage.world.said()
}

#[test]
fn a_header_that_is_there_is_got_and_one_that_is_not_is_not_found() {
    let calls: &[(&str, &[i64])] = &[
        (GET, &get(0, X_KEY)),
        (GET, &get(0, X_NONE)),
        (GET, &get(2, X_KEY)),
        (GET, &get(6, X_KEY)),
        (GET, &get(8, X_KEY)),
    ];
    assert_eq!(answers(calls), "A B C C C");
}

#[test]
fn to_0_1_0_a_header_that_is_not_there_is_empty() {
    let guest = Guest::new().version("0_1_0").on(HEADERS, &[(GET, &get(0, X_NONE))]);
    let (stage, _filter, stream) = begin(&guest);
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A");
}

#[test]
fn bad_pointers_are_a_status() {
    let far = [FAR, 5];
    let calls: &[(&str, &[i64])] = &[
        (GET, &get(0, far)),
        (GET, &with([&[0], &X_KEY, &[FAR, 20]])),
        (GET, &with([&[0], &X_KEY, &[16, FAR]])),
        (ADD, &with([&[0], &X_KEY, &far])),
        (SET_PAIRS, &[0, FAR, 5]),
        (PAIRS, &[0, FAR, FAR]),
        (SIZE, &[0, FAR]),
        (READ, &[6, 0, 9, FAR, FAR]),
        ("proxy_log", &[2, FAR, 5]),
        ("proxy_log", &[2, 8, -1]),
        ("proxy_get_property", &with([&far, &OUT])),
        ("proxy_set_shared_data", &with([&X_KEY, &far, &[0]])),
        ("proxy_get_current_time_nanoseconds", &[65_532]),
        ("proxy_http_call", &with([&far, &X_KEY, &X_KEY, &X_KEY, &[0, 16]])),
        ("proxy_send_local_response", &with([&[200], &far, &far, &far, &[-1]])),
    ];
    assert_eq!(answers(calls), "G ".repeat(calls.len()).trim_end());
}

#[test]
fn an_allocator_that_has_nothing_is_a_status() {
    let guest = Guest::new().on(HEADERS, &[(GET, &get(0, X_KEY))]);
    let text = guest.text().replace("(local.get $at))", "(i32.const 0))");
    let module = crate::scene::engine().load(&wat::parse_str(text).unwrap()).unwrap();
    let stage = Stage::new();
    let filter = stage.worker.start(&module, &PluginConfig::default()).unwrap();
    let stream = open(&filter, StreamKind::Http).unwrap();
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Ok(0));
    assert_eq!(stage.world.said(), "G");
}

#[test]
fn an_allocator_may_only_call_so_much() {
    let guest = Guest::new().on(HEADERS, &[(GET, &get(0, X_KEY)), ("proxy_get_log_level", &[0])]);
    let allocate = "(local.set $at (global.get $free))";
    let text = guest
        .text()
        .replace(allocate, &format!("(drop (call $proxy_get_log_level (i32.const 0))) {allocate}"));
    let module = crate::scene::engine().load(&wat::parse_str(text).unwrap()).unwrap();
    let stage = Stage::new();
    let filter = stage.worker.start(&module, &PluginConfig::default()).unwrap();
    let stream = open(&filter, StreamKind::Http).unwrap();
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Err(Failed));
    let said = stage.world.said();
    assert!(
        said.contains("restricted_callback: called proxy_get_log_level while it allocates"),
        "{said}"
    );
}

#[test]
fn headers_are_changed_at_once() {
    let calls: &[(&str, &[i64])] = &[
        (ADD, &with([&[0], &X_NONE, &NEW])),
        (REPLACE, &with([&[0], &X_KEY, &NEW])),
        (REMOVE, &with([&[0], &KNOWN])),
        (ADD, &with([&[2], &X_NONE, &NEW])),
        (ADD, &with([&[6], &X_NONE, &NEW])),
        (SIZE, &[0, 16]),
        (SIZE, &[2, 16]),
    ];
    let (stage, _filter, stream) = begin(&Guest::new().on(HEADERS, calls));
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A A A C C A C");
    // What was replaced stands at the end.
    let wanted: HeaderMap =
        [(":method", "GET"), ("x-none", "new"), ("x-key", "new")].into_iter().collect();
    assert_eq!(stream.exchange.borrow().request_headers, Some(wanted));
}

#[test]
fn pairs_of_a_map_that_is_not_there_are_nothing() {
    let calls: &[(&str, &[i64])] = &[
        (PAIRS, &[0, 16, 20]),
        (PAIRS, &[2, 16, 20]),
        (PAIRS, &[8, 16, 20]),
        (SET_PAIRS, &[2, 0, 0]),
        (SET_PAIRS, &[0, 0, 0]),
    ];
    let (stage, _filter, stream) = begin(&Guest::new().on(HEADERS, calls));
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A A C C A");
    assert_eq!(stream.exchange.borrow().request_headers, Some(HeaderMap::new()));
}

#[test]
fn a_map_is_seen_until_its_callback_lets_it_go() {
    let look: &[(&str, &[i64])] = &[(GET, &get(0, X_KEY))];
    for (action, seen) in [(0, "C"), (1, "A"), (2, "C"), (3, "A")] {
        let guest = Guest::new()
            .on_and(HEADERS, look, &format!("(i32.const {action})"))
            .on("proxy_on_request_body", look)
            .on("proxy_on_log", look);
        let (stage, _filter, stream) = begin(&guest);
        assert_eq!(stream.vm.on_request_headers(stream.id, false), Ok(action));
        stream.vm.on_request_body(stream.id, true).unwrap();
        stream.vm.log(stream.id);
        assert_eq!(stage.world.said(), format!("A {seen} A"), "after {action}");
    }
}

#[test]
fn to_go_on_hides_what_was_held() {
    let look: &[(&str, &[i64])] = &[(GET, &get(0, X_KEY))];
    let guest = Guest::new()
        .on_and(HEADERS, look, "(i32.const 1)")
        .on("proxy_on_request_body", &[("proxy_continue_stream", &[0]), (GET, &get(0, X_KEY))]);
    let (stage, _filter, stream) = begin(&guest);
    stream.vm.on_request_headers(stream.id, false).unwrap();
    stream.vm.on_request_body(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A A C");
    assert_eq!(stream.owner.effects.take(), [Effect::ContinueRequest]);
    assert_eq!(stream.owner.pumps.get(), 1);
}

#[test]
fn while_it_logs_a_filter_sees_all_but_changes_nothing() {
    let calls: &[(&str, &[i64])] = &[
        (GET, &get(0, X_KEY)),
        (GET, &get(2, X_KEY)),
        (GET, &get(3, X_KEY)),
        (ADD, &with([&[0], &X_NONE, &NEW])),
    ];
    let (stage, _filter, stream) = begin(&Guest::new().on("proxy_on_log", calls));
    stream.exchange.borrow_mut().response_headers = Some([("x-key", "1")].into_iter().collect());
    stream.vm.log(stream.id);
    assert_eq!(stage.world.said(), "A A B C");
}

#[test]
fn headers_callbacks_of_two_arguments_are_called_with_two() {
    let two = r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        (call $say (local.get 1)) (i32.const 0))"#;
    let (stage, _filter, stream) = begin(&Guest::new().with(two));
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Ok(0));
    assert_eq!(stage.world.said(), "C", "two fields");
}

#[test]
fn a_buffer_that_is_not_there_is_empty_but_for_two() {
    let calls: Vec<Vec<i64>> = (0..10).map(|buffer| with([&[buffer, 0, 100], &OUT])).collect();
    let calls: Vec<(&str, &[i64])> = calls.iter().map(|call| (READ, &**call)).collect();
    assert_eq!(answers(&calls), "A A A A B A A B A C");
    let status = "proxy_get_buffer_status";
    assert_eq!(answers(&[(status, &[0, 16, 20]), (status, &[4, 16, 20])]), "A B");
}

#[test]
fn a_plugins_configuration_is_readable_while_it_is_configured() {
    let stage = Stage::new();
    let calls: &[(&str, &[i64])] =
        &[(READ, &[7, 0, 9, 16, 20]), ("proxy_get_configuration", &[16, 20])];
    let guest = Guest::new().on("proxy_on_vm_start", calls).on("proxy_on_configure", calls);
    let _filter = stage.start(&guest).unwrap();
    assert_eq!(stage.world.said(), "B A A A");
}

/// A body of "body" after one edit.
fn edited(start: i64, len: i64) -> (String, Bytes) {
    let edit = with([&[0, start, len], &NEW]);
    let (stage, _filter, stream) =
        begin(&Guest::new().on("proxy_on_request_body", &[(WRITE, &edit)]));
    stream.buffers.borrow_mut().request = Some(Bytes::from_static(b"body"));
    stream.vm.on_request_body(stream.id, true).unwrap();
    let body = stream.buffers.borrow_mut().request.take().unwrap();
    (stage.world.said(), body)
}

#[test]
fn a_body_is_changed_at_its_ends() {
    let ok = |body: &'static str| ("A".to_owned(), Bytes::from_static(body.as_bytes()));
    assert_eq!(edited(0, 0), ok("newbody"));
    assert_eq!(edited(0, 2), ok("newdy"));
    assert_eq!(edited(0, 4), ok("new"));
    assert_eq!(edited(0, 1000), ok("new"));
    assert_eq!(edited(4, 0), ok("bodynew"));
    assert_eq!(edited(9, 3), ok("bodynew"));
    assert_eq!(edited(2, 1), ("C".to_owned(), Bytes::from_static(b"body")));
}

#[test]
fn without_a_body_nothing_is_changed() {
    let calls: &[(&str, &[i64])] = &[
        (WRITE, &with([&[0, 0, 0], &NEW])),
        (WRITE, &with([&[4, 0, 0], &NEW])),
        (WRITE, &with([&[6, 0, 0], &NEW])),
        (WRITE, &with([&[9, 0, 0], &NEW])),
    ];
    assert_eq!(answers(calls), "C B C C");
}

#[test]
fn at_a_bodys_end_trailers_can_be_added() {
    let add = with([&[1], &X_NONE, &NEW]);
    let guest = Guest::new().on("proxy_on_request_body", &[(ADD, &add)]);
    let (stage, _filter, stream) = begin(&guest);
    stream.buffers.borrow_mut().request = Some(Bytes::from_static(b"body"));
    stream.vm.on_request_body(stream.id, false).unwrap();
    assert_eq!(stage.world.said(), "C");
    stream.vm.on_request_body(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A");
    let trailers = stream.exchange.borrow().request_trailers.clone();
    assert_eq!(trailers, Some([("x-none", "new")].into_iter().collect()));
}

#[test]
fn what_a_stream_is_to_do_is_told_afterwards_and_once() {
    let (go_on, close) = ("proxy_continue_stream", "proxy_close_stream");
    let calls: &[(&str, &[i64])] = &[
        (go_on, &[0]),
        (go_on, &[0]),
        (go_on, &[1]),
        (go_on, &[2]),
        (go_on, &[3]),
        (go_on, &[4]),
        (close, &[0]),
        (close, &[3]),
        (close, &[4]),
        ("proxy_continue_request", &[]),
        ("proxy_clear_route_cache", &[]),
    ];
    let (stage, _filter, stream) = begin(&Guest::new().on(HEADERS, calls));
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A A A A M C A A C A A");
    let wanted = [Effect::ContinueRequest, Effect::ContinueResponse, Effect::CloseRequest];
    assert_eq!(stream.owner.effects.take(), wanted);
    assert_eq!(stream.owner.pumps.get(), 1);
}

#[test]
fn a_root_context_has_no_stream_to_do_anything_with() {
    let stage = Stage::new();
    let calls: &[(&str, &[i64])] = &[
        ("proxy_continue_stream", &[0]),
        ("proxy_close_stream", &[1]),
        (GET, &get(0, X_KEY)),
        ("proxy_set_property", &with([&X_KEY, &NEW])),
        ("proxy_send_local_response", &[200, 0, 0, 0, 0, 0, 0, -1]),
        ("proxy_done", &[]),
    ];
    let _filter = stage.start(&Guest::new().on("proxy_on_configure", calls)).unwrap();
    assert_eq!(stage.world.said(), "A A C B A B");
}

#[test]
fn a_local_reply_wins_over_what_the_callback_returns() {
    let reply = with([&[403], &[64, 11], &VALUE, &[0, 0], &[-1]]);
    let calls: &[(&str, &[i64])] = &[("proxy_send_local_response", &reply)];
    let guest = Guest::new().on(HEADERS, calls);
    let (stage, _filter, stream) = begin(&guest);
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Ok(4));
    let guest = Guest::new().on("proxy_on_request_body", calls);
    let (other, _filter, body) = begin(&guest);
    assert_eq!(body.vm.on_request_body(body.id, true), Ok(3));
    assert_eq!((stage.world.said(), other.world.said()), ("A".into(), "A".into()));
    let effects = stream.owner.effects.take();
    let Some(Effect::Reply(reply)) = effects.first() else { unreachable!("{effects:?}") };
    assert_eq!((reply.status, &*reply.details, &*reply.body), (403, "x-keyx-none", &b"value"[..]));
    assert_eq!(reply.grpc_status, None);
}

#[test]
fn an_effective_context_is_one_that_is_known() {
    let stage = Stage::new();
    let enter = "proxy_set_effective_context";
    // The root context is 1, the first stream 2.
    let calls: &[(&str, &[i64])] = &[
        (enter, &[7]),
        (GET, &get(0, X_KEY)),
        (enter, &[2]),
        ("proxy_continue_stream", &[1]),
        (enter, &[0]),
        ("proxy_close_stream", &[0]),
    ];
    let guest = Guest::new()
        .on("proxy_on_configure", &[("proxy_set_tick_period_milliseconds", &[1])])
        .on("proxy_on_tick", calls);
    let filter = stage.start(&guest).unwrap();
    let stream = open(&filter, StreamKind::Http).unwrap();
    stage.world.said();
    stage.world.pass_ms(1);
    stage.worker.run_due();
    assert_eq!(stage.world.said(), "C C A A A A");
    assert_eq!(stream.owner.effects.take(), [Effect::ContinueResponse]);
}

#[test]
fn a_machine_that_fails_tells_all_its_streams() {
    let guest = Guest::new().on_and(HEADERS, &[], "unreachable").on("proxy_on_log", &[]);
    let (stage, filter, stream) = begin(&guest);
    let other = open(&filter, StreamKind::Http).unwrap();
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Err(Failed));
    for stream in [&stream, &other] {
        assert_eq!(stream.owner.effects.take(), [Effect::Failed]);
        assert_eq!(stream.owner.pumps.get(), 1);
        stream.vm.log(stream.id);
        stream.vm.close(stream.id);
        assert_eq!(stream.vm.on_request_headers(stream.id, true), Err(Failed));
    }
    let said = stage.world.said();
    assert!(said.starts_with("proxy_on_request_headers trapped: "), "{said}");
}

#[test]
fn recursion_without_end_is_a_trap() {
    let guest = Guest::new()
        .on_and(HEADERS, &[], "(call $deeper (i32.const 0))")
        .with("(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))");
    let (stage, _filter, stream) = begin(&guest);
    assert_eq!(stream.vm.on_request_headers(stream.id, true), Err(Failed));
    assert!(stage.world.said().contains("call stack exhausted"));
}

/// Headers of an HTTP call, encoded, as a data segment at 2048; and their slice.
fn encoded(fields: &[(&'static str, &'static str)]) -> (String, [i64; 2]) {
    let mut bytes = Vec::new();
    fields.iter().copied().collect::<HeaderMap>().encode(&mut bytes);
    let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    (format!("(data (i32.const 2048) \"{text}\")"), [2048, bytes.len() as i64])
}

const REQUEST: [(&str, &str); 3] = [(":method", "GET"), (":path", "/"), (":authority", "")];

#[test]
fn an_http_call_is_answered_once_and_to_its_root() {
    let (data, headers) = encoded(&REQUEST);
    let none = [0, 0];
    let call = |cluster: [i64; 2], headers: [i64; 2], ms: i64| {
        with([&cluster, &headers, &NEW, &none, &[ms, 16]])
    };
    let enter = "proxy_set_effective_context";
    let guest = Guest::new()
        .on(
            HEADERS,
            &[
                ("proxy_http_call", &call(KNOWN, headers, 100)),
                ("proxy_http_call", &call(NEW, headers, 100)),
                ("proxy_http_call", &call(KNOWN, none, 100)),
                ("proxy_http_call", &call(KNOWN, headers, -1)),
                ("proxy_http_call", &call(KNOWN, headers, 0)),
            ],
        )
        .on(
            "proxy_on_http_call_response",
            &[
                (GET, &get(6, X_KEY)),
                (GET, &get(6, X_NONE)),
                (GET, &get(7, X_KEY)),
                (READ, &[4, 0, 9, 16, 20]),
                (enter, &[2]),
                (GET, &get(6, X_KEY)),
                (READ, &[4, 0, 9, 16, 20]),
                (GET, &get(0, X_KEY)),
            ],
        )
        .with(&data);
    let (stage, _filter, stream) = begin(&guest);
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "A C C C A");
    let calls = stage.world.http.take();
    let tokens: Vec<u32> = calls.iter().map(|(token, _)| token.token).collect();
    assert_eq!(tokens, [4, 12], "8 went to a cluster that nobody knows");
    let (token, call) = &calls[0];
    assert_eq!((call.timeout_ms, &*call.body), (Some(100), &b"new"[..]));
    assert_eq!(call.headers.get(b"content-length").unwrap(), "3");
    assert_eq!(calls[1].1.timeout_ms, None);

    let response = || {
        let headers = [("x-key", "1")].into_iter().collect();
        HttpResponse { headers, body: Bytes::new(), trailers: HeaderMap::new() }
    };
    stage.worker.on_http_response(*token, response());
    assert_eq!(stage.world.said(), "A B C A A A A C");
    stage.worker.on_http_response(*token, response());
    stage.worker.on_http_response(CallToken { vm: 99, token: 4 }, response());
    assert_eq!(stage.world.said(), "", "nobody waits any more");
    // An answer may come when its stream is no more.
    stream.vm.close(stream.id);
    stage.worker.on_http_response(calls[1].0, response());
    assert_eq!(stage.world.said(), "A B C A C A A C", "the stream is not known any more");
}

#[test]
fn a_grpc_stream_lives_until_both_sides_have_ended_it() {
    let stream = with([&KNOWN, &X_KEY, &X_KEY, &[0, 0, 16]]);
    let unknown = with([&NEW, &X_KEY, &X_KEY, &[0, 0, 16]]);
    let call = with([&KNOWN, &X_KEY, &X_KEY, &[0, 0], &NEW, &[100, 16]]);
    let (send, close, cancel) = ("proxy_grpc_send", "proxy_grpc_close", "proxy_grpc_cancel");
    let guest = Guest::new()
        .on(
            "proxy_on_configure",
            &[
                ("proxy_grpc_stream", &stream),
                ("proxy_grpc_stream", &unknown),
                ("proxy_grpc_call", &call),
                (send, &[6, 64, 3, 0]),
                (send, &[5, 64, 3, 0]),
                (send, &[14, 64, 3, 0]),
                (close, &[4]),
                (cancel, &[9]),
            ],
        )
        .on(
            "proxy_on_grpc_receive_initial_metadata",
            &[(GET, &get(4, X_KEY)), (GET, &get(5, X_KEY))],
        )
        .on("proxy_on_grpc_receive_trailing_metadata", &[(GET, &get(5, X_KEY))])
        .on("proxy_on_grpc_receive", &[(READ, &[5, 0, 9, 16, 20])])
        .on(
            "proxy_on_grpc_close",
            &[
                ("proxy_get_status", &[24, 16, 20]),
                (send, &[6, 64, 3, 0]),
                (close, &[6]),
                (close, &[6]),
            ],
        );
    let stage = Stage::new();
    let _filter = stage.start(&guest).unwrap();
    assert_eq!(stage.world.said(), "A E A A C B C B");
    let (token, call) = {
        let grpc = stage.world.grpc.borrow();
        let what: Vec<_> = grpc.iter().map(|(token, what)| (token.token, &**what)).collect();
        assert_eq!(what, [(6, "open"), (5, "open"), (6, "send")]);
        (grpc[0].0, grpc[1].0)
    };
    let map = || [("x-key", "1")].into_iter().collect::<HeaderMap>();
    stage.worker.on_grpc(token, GrpcEvent::InitialMetadata(map()));
    stage.worker.on_grpc(token, GrpcEvent::Message(Bytes::from_static(b"hi")));
    stage.worker.on_grpc(token, GrpcEvent::TrailingMetadata(map()));
    assert_eq!(stage.world.said(), "A C A A");
    stage.worker.on_grpc(token, GrpcEvent::Close(14, "gone".into()));
    assert_eq!(stage.world.said(), "A A A B", "closed by both, and then forgotten");
    stage.worker.on_grpc(token, GrpcEvent::Close(14, "gone".into()));
    assert_eq!(stage.world.said(), "");
    stage.worker.on_grpc(call, GrpcEvent::Message(Bytes::new()));
    stage.worker.on_grpc(call, GrpcEvent::Close(0, String::new()));
    assert_eq!(stage.world.said(), "A", "a call has one answer");
}

#[test]
fn a_filter_that_ends_cancels_its_calls() {
    let stream = with([&KNOWN, &X_KEY, &X_KEY, &[0, 0, 16]]);
    let stage = Stage::new();
    let guest = Guest::new().on("proxy_on_configure", &[("proxy_grpc_stream", &stream)]);
    drop(stage.start(&guest).unwrap());
    let grpc = stage.world.grpc.take();
    let what: Vec<_> = grpc.iter().map(|(token, what)| (token.token, &**what)).collect();
    assert_eq!(what, [(6, "open"), (6, "cancel")]);
}

#[test]
fn other_calls_than_those_allowed_are_refused() {
    let stage = Stage::new();
    let allowed = ["proxy_log".to_owned()].into_iter().collect();
    let config = PluginConfig { allowed_calls: Some(allowed), ..PluginConfig::default() };
    let guest = Guest::new()
        .on("proxy_on_configure", &[("proxy_get_log_level", &[0]), ("random_get", &[0, 4])]);
    let _filter = stage.start_with(&guest, &config).unwrap();
    // 10 and 76, of which the second is beyond the letters that are text.
    assert_eq!(stage.world.said(), "K \u{fffd}");
}

#[test]
fn wasi_is_there_as_far_as_it_goes() {
    let calls: &[(&str, &[i64])] = &[
        ("environ_sizes_get", &[16, 20]),
        ("environ_get", &[24, 32]),
        ("args_sizes_get", &[16, 20]),
        ("fd_fdstat_get", &[1, 256]),
        ("fd_fdstat_get", &[3, 256]),
        ("fd_prestat_get", &[3, 256]),
        ("random_get", &[256, 4]),
        ("random_get", &[FAR, 4]),
        ("random_get", &[0, 65_537]),
        ("poll_oneoff", &[0, 0, 1, 16]),
        ("fd_close", &[1]),
        ("sched_yield", &[]),
    ];
    let name = |errno: u8| char::from(65 + errno).to_string();
    let wanted = [0, 0, 0, 0, 8, 8, 0, 21, 28, 0, 0, 0].map(name).join(" ");
    assert_eq!(answers(calls), wanted);
}

#[test]
fn standard_output_is_a_log_without_its_last_line_end() {
    let guest = Guest::new()
        .on("proxy_on_configure", &[("fd_write", &[1, 128, 2, 16]), ("fd_write", &[7, 128, 2, 16])])
        .with(r#"(data (i32.const 128) "\90\00\00\00\03\00\00\00\93\00\00\00\05\00\00\00one\0atwo\0a")"#);
    let stage = Stage::new();
    let _filter = stage.start(&guest).unwrap();
    assert_eq!(stage.world.said(), "one\ntwo A I");
}

#[test]
fn a_machine_that_was_only_tried_cancels_its_calls() {
    let stream = with([&KNOWN, &X_KEY, &X_KEY, &[0, 0, 16]]);
    let stage = Stage::new();
    let guest = Guest::new().on("proxy_on_configure", &[("proxy_grpc_stream", &stream)]);
    let _first = stage.start(&guest).unwrap();
    let _second = stage.start(&guest).unwrap();
    let grpc = stage.world.grpc.take();
    let what: Vec<_> = grpc.iter().map(|(token, what)| (token.vm, &**what)).collect();
    assert_eq!(what, [(1, "open"), (2, "open"), (2, "cancel"), (1, "open")]);
}

#[test]
fn texts_and_bodies_beyond_their_bounds_are_refused() {
    let (text, body) = (guest::TEXT_BYTES_MAX as i64, guest::BODY_BYTES_MAX as i64);
    let reply = "proxy_send_local_response";
    let stream = |name: i64| with([&KNOWN, &[64, name], &X_KEY, &[0, 0, 16]]);
    let calls: &[(&str, &[i64])] = &[
        (reply, &[200, 64, 3, 64, body + 1, 0, 0, -1]),
        (reply, &[200, 64, text + 1, 0, 0, 0, 0, -1]),
        ("proxy_define_metric", &[0, 64, text + 1, 16]),
        ("proxy_grpc_stream", &stream(text + 1)),
        ("proxy_grpc_stream", &stream(text)),
        (reply, &[200, 64, FAR, 0, 0, 0, 0, -1]),
        (reply, &[200, 64, text, 64, 3, 0, 0, -1]),
    ];
    let grown = "(drop (memory.grow (i32.const 1100)))";
    let guest = Guest::new().on_and("_initialize", &[], grown).on(HEADERS, calls);
    let (stage, _filter, stream) = begin(&guest);
    stream.vm.on_request_headers(stream.id, true).unwrap();
    assert_eq!(stage.world.said(), "C C C C A G A");
}
