//! One exchange through one filter: `cargo run -p proxy-wasm-host --example one_request`.
//!
//! The filter, in text form, gives each request a header. What a proxy would read from a
//! socket is handed in here, and what it would send comes out as events.

use proxy_wasm_host::engine::Engine;
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::outside::{Level, Outside};
use proxy_wasm_host::plugin::PluginConfig;
use proxy_wasm_host::worker::{Process, Worker};
use std::fs::File;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const FILTER: &str = r#"(module
  (import "env" "proxy_add_header_map_value"
    (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "x-seen-byfilter")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 64) (i32.const 9) (i32.const 73) (i32.const 6)))
    (i32.const 0)))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Once a process: the engine, with a folder for what it compiled if that is to be kept;
    // the code; and what all filters share.
    let engine = Engine::new(None)?;
    let module = engine.load(&wat::parse_str(FILTER)?)?;
    let process = Process::new();

    // Once a thread: a worker, which calls the function when it has something to do in
    // `run_due`, and its filters.
    let outside = Rc::new(Surroundings { start: Instant::now() });
    let worker = Worker::new(&process, outside, Arc::new(|| {}));
    let config = PluginConfig { name: "example".into(), ..PluginConfig::default() };
    let filter = worker.start(&module, &config)?;

    // Once an exchange: parts go in, events come out. A proxy awaits `poll_event`.
    let stream = HttpStream::new(&[filter], Facts::default(), BUFFER_BYTES);
    let request = [(":authority", "example.org"), (":path", "/"), (":method", "GET")];
    stream.on_request_headers(request.into_iter().collect(), true);
    stream.on_response_headers([(":status", "200")].into_iter().collect(), true);
    while let Some(event) = stream.next_event() {
        match event {
            HttpEvent::RequestHeaders(headers, _) => {
                assert_eq!(headers.get(b"x-seen-by").map(|value| &**value), Some(&b"filter"[..]));
                println!("to upstream: {headers:?}");
            }
            event => println!("{event:?}"),
        }
    }
    Ok(())
}

/// What filters see of the world. This one has clocks and a log, and makes no calls.
struct Surroundings {
    start: Instant,
}

impl Outside for Surroundings {
    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn fill_random(&self, to: &mut [u8]) {
        let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(to));
        read.expect("randomness");
    }

    fn log_level(&self) -> Level {
        Level::Info
    }

    fn log(&self, plugin: &str, level: Level, message: &str) {
        eprintln!("{level:?} {plugin}: {message}");
    }
}
