//! Leads an exchange and a connection through two guests, with all that can happen to them.

use crate::{guest, program};
use bytes::Bytes;
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::HttpStream;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{
    CallToken, GrpcEvent, GrpcOpen, HttpCall, HttpResponse, Level, Outside, UnknownCluster,
};
use proxy_wasm_host::plugin::{FailurePolicy, Limits, PluginConfig};
use proxy_wasm_host::tcp::{Peer, TcpStream};
use proxy_wasm_host::worker::{Process, Worker};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How much of a body a stream may hold: small, so that it is reached.
const BUFFER_BYTES: usize = 4_096;

/// How often answers are brought and ticks run: a program can only ask so much.
const ROUNDS: usize = 8;

/// Compiled once.
pub(crate) struct Arena {
    module: Module,
}

/// A world in which time passes when told to, and every call is noted.
#[derive(Default)]
struct World {
    now_ns: Cell<u64>,
    http: RefCell<Vec<CallToken>>,
    grpc: RefCell<Vec<(CallToken, bool)>>,
}

impl Arena {
    /// Compiles the guest.
    #[must_use]
    pub(crate) fn new() -> Self {
        let engine = Engine::new(None).expect("an engine");
        let code = wat::parse_str(guest::text()).expect("a module");
        let module = engine.load(&code).expect("a filter");
        Self { module }
    }

    /// Runs a program; panics only if the host is wrong.
    pub(crate) fn play(&self, bytes: &[u8]) {
        let world = Rc::new(World::default());
        let outside: Rc<dyn Outside> = world.clone();
        let worker = Worker::new(&Process::new(), outside, Arc::new(|| {}));
        let failure = match bytes.first() {
            Some(first) if first % 3 == 0 => FailurePolicy::Open,
            Some(first) if first % 3 == 1 => FailurePolicy::Reload { pause: Duration::ZERO },
            _ => FailurePolicy::Closed,
        };
        let config = |name: &str| PluginConfig {
            name: name.to_owned(),
            configuration: program::program(bytes),
            failure,
            allow_on_headers_stop_iteration: bytes.len().is_multiple_of(2),
            limits: Limits { callback: Duration::from_secs(5), ..Limits::default() },
            ..PluginConfig::default()
        };
        // Two filters that share a machine.
        let filters: Vec<_> = ["first", "second"]
            .iter()
            .filter_map(|name| worker.start(&self.module, &config(name)).ok())
            .collect();
        let other = HttpStream::new(&filters, Facts::default(), BUFFER_BYTES);
        other.on_request_headers(headers(":method"), false);
        other.on_request_data(Bytes::from_static(&[b'd'; 100]), true);
        let stream = HttpStream::new(&filters, Facts::default(), BUFFER_BYTES);
        stream.on_request_headers(headers(":method"), false);
        stream.on_request_data(Bytes::from_static(&[b'a'; 1000]), false);
        world.go_on(&worker);
        stream.on_request_data(Bytes::from_static(&[b'b'; 3000]), false);
        stream.on_request_trailers(headers("t"));
        stream.on_response_headers(headers(":status"), false);
        world.go_on(&worker);
        stream.on_response_data(Bytes::from_static(&[b'c'; 5000]), false);
        stream.on_response_trailers(headers("t"));
        world.go_on(&worker);
        while stream.next_event().is_some() {}
        drop(stream);
        world.go_on(&worker);
        other.on_response_headers(headers(":status"), true);
        while other.next_event().is_some() {}
        drop(other);
        let stream = TcpStream::new(&filters, Facts::default());
        stream.on_downstream_data(Bytes::from_static(b"hello"), false);
        stream.on_upstream_data(Bytes::from_static(b"world"), true);
        world.go_on(&worker);
        stream.on_downstream_close(Peer::Remote);
        while stream.next_event().is_some() {}
        drop(stream);
        drop(filters);
        world.go_on(&worker);
        drop(worker);
        assert_eq!(Rc::strong_count(&world), 1, "something of the worker is left");
    }
}

impl World {
    /// Lets time pass, and answers what was asked.
    fn go_on(&self, worker: &Worker) {
        for _ in 0..ROUNDS {
            self.now_ns.set(self.now_ns.get() + 7_000_000);
            worker.run_due();
            for (place, token) in self.http.take().into_iter().enumerate() {
                let response = HttpResponse {
                    headers: headers(":status"),
                    body: Bytes::from_static(b"body"),
                    trailers: HeaderMap::new(),
                };
                let responses =
                    [response, HttpResponse::timeout(), HttpResponse::unreachable("refused")];
                for response in responses.into_iter().cycle().skip(place).take(2) {
                    worker.on_http_response(token, response);
                }
            }
            for (token, is_stream) in self.grpc.take() {
                if is_stream {
                    worker.on_grpc(token, GrpcEvent::InitialMetadata(headers("m")));
                }
                worker.on_grpc(token, GrpcEvent::Message(Bytes::from_static(b"message")));
                worker.on_grpc(token, GrpcEvent::TrailingMetadata(headers("t")));
                worker.on_grpc(token, GrpcEvent::Close(13, "no".to_owned()));
            }
        }
    }
}

impl Outside for World {
    fn wall_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn monotonic_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn fill_random(&self, to: &mut [u8]) {
        to.fill(7);
    }

    fn log_level(&self) -> Level {
        Level::Info
    }

    fn log(&self, _: &str, _: Level, _: &str) {}

    fn http_call(&self, token: CallToken, _: HttpCall) -> Result<(), UnknownCluster> {
        self.http.borrow_mut().push(token);
        Ok(())
    }

    fn grpc_open(&self, token: CallToken, call: GrpcOpen) -> Result<(), UnknownCluster> {
        self.grpc.borrow_mut().push((token, call.message.is_none()));
        Ok(())
    }
}

fn headers(first: &'static str) -> HeaderMap {
    let fields = [(first, "200"), (":path", "/"), (":authority", "a"), ("x-key", "\u{ff}")];
    fields.into_iter().collect()
}
