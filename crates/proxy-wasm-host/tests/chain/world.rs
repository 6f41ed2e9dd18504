//! A chain of guests, in a world that stands still but for [`Stage::tick`].

use crate::guest;
use bytes::Bytes;
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpStream};
use proxy_wasm_host::outside::{Level, Outside};
use proxy_wasm_host::plugin::PluginConfig;
use proxy_wasm_host::worker::{Filter, Process, Worker};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

/// What filters see of it, and what they said.
pub(crate) struct World {
    now_ns: Cell<u64>,
    said: RefCell<Vec<String>>,
    buffer_bytes: usize,
    headers_alone: bool,
}

/// An exchange on its way through a chain.
pub(crate) struct Stage {
    pub(crate) world: Rc<World>,
    pub(crate) stream: HttpStream,
    worker: Rc<Worker>,
    filters: Vec<Filter>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now_ns: Cell::new(0),
            said: RefCell::default(),
            buffer_bytes: BUFFER_BYTES,
            headers_alone: false,
        }
    }

    pub(crate) fn buffer_bytes(self, buffer_bytes: usize) -> Self {
        Self { buffer_bytes, ..self }
    }

    /// Lets filters hold headers alone.
    pub(crate) fn headers_alone(self) -> Self {
        Self { headers_alone: true, ..self }
    }

    /// A chain of guests with these configurations, each in a machine of its own.
    pub(crate) fn chain(self, configurations: &[[u8; 6]]) -> Stage {
        static MODULE: OnceLock<Module> = OnceLock::new();
        let module = MODULE.get_or_init(|| {
            let engine = Engine::new(None).expect("an engine");
            engine.load(&wat::parse_str(guest::text()).expect("wasm")).expect("a filter")
        });
        let (buffer_bytes, headers_alone) = (self.buffer_bytes, self.headers_alone);
        let world = Rc::new(self);
        let outside: Rc<dyn Outside> = world.clone();
        let worker = Worker::new(&Process::new(), outside, Arc::new(|| {}));
        let filters: Vec<_> = configurations
            .iter()
            .enumerate()
            .map(|(place, configuration)| {
                let config = PluginConfig {
                    name: place.to_string(),
                    vm_id: place.to_string(),
                    configuration: configuration.to_vec(),
                    allow_on_headers_stop_iteration: headers_alone,
                    ..PluginConfig::default()
                };
                worker.start(module, &config).expect("a filter that starts")
            })
            .collect();
        let stream = HttpStream::new(&filters, Facts::default(), buffer_bytes);
        Stage { world, stream, worker, filters }
    }

    /// A worker in this world, and filters of one module, as text.
    pub(crate) fn filters(
        self: &Rc<Self>,
        text: &str,
        configs: &[PluginConfig],
    ) -> (Rc<Worker>, Vec<Filter>) {
        let engine = Engine::new(None).expect("an engine");
        let module = engine.load(&wat::parse_str(text).expect("wasm")).expect("a filter");
        let outside: Rc<dyn Outside> = self.clone();
        let worker = Worker::new(&Process::new(), outside, Arc::new(|| {}));
        let start = |config| worker.start(&module, config).expect("a filter that starts");
        let filters = configs.iter().map(start).collect();
        (worker, filters)
    }

    /// Lets a second pass.
    pub(crate) fn pass_second(&self) {
        self.now_ns.set(self.now_ns.get() + 1_000_000_000);
    }

    /// What filters said since the last time: `filter:line`.
    pub(crate) fn said(&self) -> String {
        self.said.take().join(" ")
    }
}

impl Stage {
    /// Lets a second pass, in which every filter lets go of what it holds.
    pub(crate) fn tick(&self) {
        self.world.pass_second();
        self.worker.run_due();
    }

    /// Ends the exchange; what its filters said then.
    pub(crate) fn end(self) -> String {
        drop(self.stream);
        let said = self.world.said();
        // Only now, for they have something to say to that as well.
        drop(self.filters);
        said
    }
}

/// Bytes as text.
pub(crate) fn shown(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

    fn log(&self, plugin: &str, _: Level, message: &str) {
        self.said.borrow_mut().push(format!("{plugin}:{message}"));
    }
}
