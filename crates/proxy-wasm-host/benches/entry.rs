//! What an exchange costs in here, on this machine: `cargo bench -p proxy-wasm-host`.
//!
//! A whole exchange of headers alone, from the request to its log, with ten request headers
//! and four of the response: without a filter, and through ones that read a request header.
//! Beside the time stands what was allocated.

use divan::{AllocProfiler, Bencher};
use proxy_wasm_host::engine::Engine;
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{Level, Outside};
use proxy_wasm_host::plugin::PluginConfig;
use proxy_wasm_host::worker::{Filter, Process, Worker};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Reads `x-key` and lets the request go on.
const GUEST: &str = r#"(module
  (import "env" "proxy_get_header_map_value"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "x-key")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 16) (i32.const 20)))
    (i32.const 0)))"#;

const REQUEST: [(&str, &str); 10] = [
    (":authority", "example.org"),
    (":path", "/a/path?of=some&length=1"),
    (":method", "GET"),
    (":scheme", "http"),
    ("user-agent", "bench"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-request-id", "0c7c8b0e-3b1f-4b0e-9d0e-000000000000"),
    ("x-key", "value"),
];

const RESPONSE: [(&str, &str); 4] =
    [(":status", "200"), ("server", "bench"), ("content-length", "0"), ("date", "today")];

fn main() {
    divan::main();
}

#[divan::bench(args = [0, 1, 2])]
fn filters(bencher: Bencher<'_, '_>, count: usize) {
    let (_worker, filters) = filters_that_read(count);
    bencher
        .with_inputs(|| (HeaderMap::from_iter(REQUEST), HeaderMap::from_iter(RESPONSE)))
        .bench_local_values(|(request, response)| {
            let stream = HttpStream::new(&filters, Facts::default(), BUFFER_BYTES);
            stream.on_request_headers(request, true);
            black_box(stream.next_event());
            stream.on_response_headers(response, true);
            black_box(stream.next_event());
        });
}

fn filters_that_read(count: usize) -> (Rc<Worker>, Vec<Filter>) {
    let engine = Engine::new(None).expect("an engine");
    let module = engine.load(&wat::parse_str(GUEST).expect("wasm")).expect("a filter");
    let worker = Worker::new(&Process::new(), Rc::new(Still), Arc::new(|| {}));
    let config = PluginConfig::default();
    let filters = (0..count).map(|_| worker.start(&module, &config).expect("a start")).collect();
    (worker, filters)
}

/// A world in which nothing happens.
struct Still;

impl Outside for Still {
    fn wall_ns(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }

    fn fill_random(&self, to: &mut [u8]) {
        to.fill(7);
    }

    fn log_level(&self) -> Level {
        Level::Warn
    }

    fn log(&self, _: &str, _: Level, message: &str) {
        eprintln!("{message}");
    }
}
