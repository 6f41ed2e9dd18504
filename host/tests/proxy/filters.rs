//! Small filters, written out, and what the proxy makes of them.

use crate::common::DEADLINE;
use crate::home::{Answer, Client, Proxy, empty, get, post};
use crate::origin::{self, Origin};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a request takes at most where a start has 12 s, on a busy machine too.
pub const NEVER_SLOW: Duration = Duration::from_secs(8);

/// What every filter here has: its memory, an allocator that forgets nothing, and its
/// configuration, which is read when it starts, at `$config` and `$config_len`. It knows of
/// one configuration only: two of them want machines of their own, by their `vm_id`.
const COMMON: &str = r#"
  (memory (export "memory") 16)
  (global $free (mut i32) (i32.const 65536))
  (global $config (mut i32) (i32.const 0))
  (global $config_len (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 100) (i32.const 16) (i32.const 20)))
    (global.set $config (i32.load (i32.const 16)))
    (global.set $config_len (i32.load (i32.const 20)))
    ;; "bad" is refused.
    (i32.ne (i32.and (i32.load (global.get $config)) (i32.const 0xffffff)) (i32.const 0x646162)))
"#;

const GET_BUFFER: &str = r#"
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
"#;

/// Puts `x-mark: CONFIGURATION` on requests and responses.
pub const MARK: &str = r#"
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (data (i32.const 100) "x-mark")
  (func $mark (param $map i32) (result i32)
    (drop (call $add (local.get $map) (i32.const 100) (i32.const 6) (global.get $config) (global.get $config_len)))
    (i32.const 0))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $mark (i32.const 0)))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $mark (i32.const 2)))
"#;

/// Puts `<` before each part of a request's body that it is shown, and `>` of a response's.
const BRACKET: &str = r#"
  (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (data (i32.const 100) "<>")
  (func $put (param $buffer i32) (param $size i32) (result i32)
    (if (local.get $size) (then
      (drop (call $set (local.get $buffer) (i32.const 0) (i32.const 0)
        (i32.add (i32.const 100) (i32.and (local.get $buffer) (i32.const 1))) (i32.const 1)))))
    (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $put (i32.const 0) (local.get 1)))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $put (i32.const 1) (local.get 1)))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (call $put (i32.const 2) (local.get 1)))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32) (call $put (i32.const 3) (local.get 1)))
"#;

/// Holds request bodies until their end.
const HOLD: &str = r#"
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.eqz (local.get 2)))
"#;

/// Calls the cluster that its configuration names for each request, and answers with what
/// it gets. A cluster that is not there lets the request pass.
pub const CALL: &str = r#"
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $become (param i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (global $stream (mut i32) (i32.const 0))
  ;; :method GET, :path /asked, :authority helper
  (data (i32.const 200) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\0a\00\00\00\06\00\00\00:method\00GET\00:path\00/asked\00:authority\00helper\00")
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (global.set $stream (local.get $id))
    (i32.eqz (call $call (global.get $config) (global.get $config_len)
      (i32.const 200) (i32.const 71) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 300) (i32.const 24))))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (drop (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 100000) (i32.const 28) (i32.const 32)))
    (drop (call $become (global.get $stream)))
    (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0)
      (i32.load (i32.const 28)) (i32.load (i32.const 32)) (i32.const 0) (i32.const 0) (i32.const -1))))
"#;

/// Makes a gRPC call for each request, of a method that is the path without its slash, and
/// answers with what it gets: the message, or `status N`. A path that begins with `/s` makes it
/// a stream.
pub const GRPC: &str = r#"
  (import "env" "proxy_grpc_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $become (param i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (global $stream (mut i32) (i32.const 0))
  (data (i32.const 100) ":path")
  (data (i32.const 110) "helper")
  (data (i32.const 120) "hello")
  (data (i32.const 130) "status 00")
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (global.set $stream (local.get $id))
    (drop (call $get (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 24) (i32.const 28)))
    (if (i32.eq (i32.load8_u (i32.add (i32.load (i32.const 24)) (i32.const 1))) (i32.const 115))
      (then
        (drop (call $open (i32.const 110) (i32.const 6) (i32.const 110) (i32.const 6)
          (i32.add (i32.load (i32.const 24)) (i32.const 1)) (i32.sub (i32.load (i32.const 28)) (i32.const 1))
          (i32.const 0) (i32.const 0) (i32.const 40)))
        (drop (call $send (i32.load (i32.const 40)) (i32.const 120) (i32.const 5) (i32.const 1))))
      (else
        (drop (call $call (i32.const 110) (i32.const 6) (i32.const 110) (i32.const 6)
          (i32.add (i32.load (i32.const 24)) (i32.const 1)) (i32.sub (i32.load (i32.const 28)) (i32.const 1))
          (i32.const 0) (i32.const 0) (i32.const 120) (i32.const 5) (i32.const 300) (i32.const 40)))))
    (i32.const 1))
  (func $answer (param $at i32) (param $size i32)
    (drop (call $become (global.get $stream)))
    (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0)
      (local.get $at) (local.get $size) (i32.const 0) (i32.const 0) (i32.const -1))))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (drop (call $get_buffer (i32.const 5) (i32.const 0) (i32.const 100000) (i32.const 28) (i32.const 32)))
    (call $answer (i32.load (i32.const 28)) (i32.load (i32.const 32))))
  (func (export "proxy_on_grpc_close") (param i32 i32) (param $status i32)
    (i32.store8 (i32.const 137) (i32.add (i32.const 48) (i32.div_u (local.get $status) (i32.const 10))))
    (i32.store8 (i32.const 138) (i32.add (i32.const 48) (i32.rem_u (local.get $status) (i32.const 10))))
    (call $answer (i32.const 130) (i32.const 9)))
"#;

/// Traps, or never returns, if a request's path is that long.
const FAIL: &str = r#"
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (data (i32.const 100) ":path")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 24) (i32.const 28)))
    (if (i32.eq (i32.load (i32.const 28)) (i32.const 5)) (then (unreachable)))
    (if (i32.eq (i32.load (i32.const 28)) (i32.const 6)) (then (loop (br 0))))
    (i32.const 0))
"#;

/// Says that it starts, and never comes to an end of that.
pub const STUBBORN: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (data (i32.const 100) "starting for ever")
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 17)))
    (loop (br 0))
    (i32.const 1))
"#;

/// Counts and logs its starts.
const COUNTED: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $add (param i32 i64) (result i32)))
  (data (i32.const 100) "started")
  (data (i32.const 110) "starts")
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 7)))
    (drop (call $define (i32.const 0) (i32.const 110) (i32.const 6) (i32.const 24)))
    (drop (call $add (i32.load (i32.const 24)) (i64.const 1)))
    (i32.const 1))
"#;

/// Takes its configuration in one worker only.
pub const ODD: &str = r#"
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (data (i32.const 100) "here")
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    ;; By a version that no value has: only where nothing is.
    (i32.eqz (call $set (i32.const 100) (i32.const 4) (i32.const 100) (i32.const 4) (i32.const -1))))
"#;

/// Traps for each request, and starts no more after the first.
const ONCE: &str = r#"
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (data (i32.const 100) "dead")
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (if (i32.eqz (call $get (i32.const 100) (i32.const 4) (i32.const 24) (i32.const 28) (i32.const 32)))
      (then (loop (br 0))))
    (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $set (i32.const 100) (i32.const 4) (i32.const 100) (i32.const 4) (i32.const 0)))
    (unreachable))
"#;

/// Puts a filter into a folder.
pub fn put(folder: &Path, name: &str, what: &str) {
    // Imports stand before anything else.
    let is_import = |line: &&str| line.trim_start().starts_with("(import");
    let imports: Vec<&str> = what.lines().filter(is_import).collect();
    let rest: Vec<&str> = what.lines().filter(|line| !is_import(line)).collect();
    let text =
        format!("(module {GET_BUFFER}\n{}\n{COMMON}\n{})", imports.join("\n"), rest.join("\n"));
    let code = wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::fs::write(folder.join(name), code).unwrap();
}

#[tokio::test]
async fn a_chain_sees_requests_in_order_and_responses_in_reverse() {
    let origin = Origin::start().await;
    let filters = "filters:\n\
        - { wasm: FOLDER/mark.wasm, vm_id: one, configuration: one }\n\
        - { wasm: FOLDER/mark.wasm, vm_id: two, configuration: two }\n";
    let proxy = Proxy::serve_with(&format!("{filters}upstream: {}\n", origin.url()), |folder| {
        put(folder, "mark.wasm", MARK);
    });
    let marks = |headers: &hyper::HeaderMap| -> Vec<String> {
        headers.get_all("x-mark").iter().map(|mark| mark.to_str().unwrap().to_owned()).collect()
    };
    for mut client in [Client::http1(proxy.address).await, Client::http2(proxy.address).await] {
        let answer = client.send(get("/a")).await;
        assert_eq!(marks(origin.last().headers()), ["one", "two"]);
        assert_eq!(marks(&answer.headers), ["two", "one"]);
    }
    // Two for each worker.
    proxy.await_metric("tidegate_proxy_machines", 4.0).await;
}

#[tokio::test]
async fn configurations_are_texts_files_or_json() {
    let proxy = Proxy::serve_with(
        "filters:\n\
         - { wasm: FOLDER/mark.wasm, vm_id: a, configuration: '1.0' }\n\
         - { wasm: FOLDER/mark.wasm, vm_id: b, configuration_file: FOLDER/c.txt }\n\
         - { wasm: FOLDER/mark.wasm, vm_id: c, configuration: { a: [1, 1.5, true, null, no, '1', 010] } }\n\
         respond: {}\n",
        |folder| {
            put(folder, "mark.wasm", MARK);
            std::fs::write(folder.join("c.txt"), "from a file").unwrap();
        },
    );
    let answer = proxy.get("/").await;
    let marks: Vec<&str> =
        answer.headers.get_all("x-mark").iter().map(|mark| mark.to_str().unwrap()).collect();
    assert_eq!(marks, [r#"{"a":[1,1.5,true,null,"no","1","010"]}"#, "from a file", "1.0"]);
}

#[tokio::test]
async fn filters_change_bodies_as_they_pass() {
    let origin = Origin::start().await;
    let filters = "filters: [{ wasm: FOLDER/f.wasm }]\n";
    let proxy = Proxy::serve_with(&format!("{filters}upstream: {}\n", origin.url()), |folder| {
        put(folder, "f.wasm", BRACKET);
    });
    for mut client in [Client::http1(proxy.address).await, Client::http2(proxy.address).await] {
        // Without a length: it changes on the way.
        let (to, body) = origin::channel();
        let request = Request::post("/echo").header("host", "shop").body(body).unwrap();
        let begun = client.begin(request);
        to.send(Ok(hyper::body::Frame::data("a".into()))).await.unwrap();
        drop(to);
        assert_eq!(Answer::of(begun.await.unwrap()).await.text(), "><a");
    }
}

#[tokio::test]
async fn a_held_body_has_a_bound() {
    let origin = Origin::start().await;
    let filters = "bounds: { buffer_kib: 64 }\nfilters: [{ wasm: FOLDER/f.wasm }]\n";
    let proxy = Proxy::serve_with(&format!("{filters}upstream: {}\n", origin.url()), |folder| {
        put(folder, "f.wasm", HOLD);
    });
    let mut client = Client::http1(proxy.address).await;
    assert_eq!(client.send(post("/echo", vec![b'x'; 60 << 10])).await.body.len(), 60 << 10);
    let answer = client.send(post("/echo", vec![b'x'; 100 << 10])).await;
    assert_eq!(answer.status, 413);
    assert_eq!(origin.received(), 60 << 10);
}

#[tokio::test]
async fn an_upgraded_connection_goes_through_the_filters() {
    let origin = Origin::start().await;
    let filters = "filters: [{ wasm: FOLDER/f.wasm }]\n";
    let proxy = Proxy::serve_with(&format!("{filters}upstream: {}\n", origin.url()), |folder| {
        put(folder, "f.wasm", BRACKET);
    });
    let request = Request::get("/upgrade")
        .header("host", "shop")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let mut client = Client::http1(proxy.address).await;
    let response = client.begin(request.body(empty()).unwrap()).await.unwrap();
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let talk = async {
        let mut bytes = [0; 8];
        io.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b">welcome");
        io.write_all(b"a").await.unwrap();
        io.read_exact(&mut bytes[..3]).await.unwrap();
        assert_eq!(&bytes[..3], b"><a");
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_http_goes_through_the_filters() {
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let proxy = Proxy::serve_with(
        &format!(
            "listeners: [{{ address: 127.0.0.1:0, protocol: tcp }}]\n\
             filters: [{{ wasm: FOLDER/f.wasm }}]\nupstream: tcp://{address}\n"
        ),
        |folder| put(folder, "f.wasm", BRACKET),
    );
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let talk = async {
        stream.write_all(b"a").await.unwrap();
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"><a");
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
    proxy.await_metric("tidegate_proxy_connections", 0.0).await;
}

#[tokio::test]
async fn a_tcp_upstream_that_is_not_there_closes_the_connection() {
    let proxy = Proxy::serve(&format!(
        "listeners: [{{ address: 127.0.0.1:0, protocol: tcp }}]\nupstream: tcp://{}\n",
        origin::nobody().await
    ));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _ = tokio::time::timeout(DEADLINE, read).await.expect("its end");
}

#[tokio::test]
async fn a_filter_that_fails_fails_alone() {
    let filters = |failure: &str| {
        format!(
            "workers: 1\nfilters: [{{ wasm: FOLDER/f.wasm, limits: {{ callback: 100ms }}, \
             on_failure: {failure} }}]\nrespond: {{ body: ok }}\n"
        )
    };
    for (failure, after) in [("closed", 503), ("open", 200)] {
        for path in ["/trap", "/loops"] {
            let proxy = Proxy::serve_with(&filters(failure), |folder| put(folder, "f.wasm", FAIL));
            assert_eq!(proxy.get("/").await.status, 200);
            assert_eq!(proxy.get(path).await.status, 503, "{failure} {path}");
            assert_eq!(proxy.get("/").await.status, after, "{failure} {path}");
        }
    }
    let reload = filters("reload, reload_pause: 1ms");
    let proxy = Proxy::serve_with(&reload, |folder| put(folder, "f.wasm", FAIL));
    assert_eq!(proxy.get("/trap").await.status, 503);
    let end = Instant::now() + DEADLINE;
    while proxy.get("/").await.status != 200 {
        assert!(Instant::now() < end, "it did not start anew");
    }
    proxy.await_metric("tidegate_proxy_machine_restarts_total", 1.0).await;
}

/// A lane does nothing else while it starts a filter.
#[tokio::test]
async fn a_filter_that_cannot_start_again_holds_nobody_up_for_long() {
    let proxy = started_once("callback: 100ms, start: 12s", "1ms");
    let end = Instant::now() + DEADLINE;
    while !proxy.logs().text().contains("proxy_on_vm_start") {
        assert!(Instant::now() < end, "it was not tried again");
        let took = refused(&proxy).await;
        assert!(took < NEVER_SLOW, "{took:?}");
    }
}

/// Else, where a start takes longer than the pause, one would follow the other.
#[tokio::test]
async fn a_pause_is_from_the_end_of_the_last_try() {
    let proxy = started_once("callback: 3s, start: 12s", "1s");
    let end = Instant::now() + DEADLINE;
    while refused(&proxy).await < Duration::from_millis(2_500) {
        assert!(Instant::now() < end, "it was not tried again");
    }
    let took = refused(&proxy).await;
    assert!(took < Duration::from_millis(1_500), "{took:?} after a start that took 3 s");
}

fn started_once(limits: &str, pause: &str) -> Proxy {
    let filter = format!("wasm: FOLDER/f.wasm, limits: {{ {limits} }}");
    let failure = format!("on_failure: reload, reload_pause: {pause}");
    let yaml =
        format!("workers: 1\nfilters: [{{ {filter}, {failure} }}]\nrespond: {{ body: ok }}\n");
    Proxy::serve_with(&yaml, |folder| put(folder, "f.wasm", ONCE))
}

/// How long it took to be.
async fn refused(proxy: &Proxy) -> Duration {
    let begun = Instant::now();
    assert_eq!(proxy.get("/").await.status, 503);
    begun.elapsed()
}

#[tokio::test]
async fn of_a_trial_nothing_is_left() {
    let yaml = "filters: [{ wasm: FOLDER/f.wasm }]\nrespond: { body: ok }\n";
    let proxy = Proxy::serve_with(yaml, |folder| put(folder, "f.wasm", COUNTED));
    proxy.await_metric("wasmcustom_starts", 2.0).await;
    let lines = proxy.logs().text().matches("started").count();
    assert_eq!(lines, 2, "one for each worker");
}
