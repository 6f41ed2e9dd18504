//! The shipped filter in a machine, ready to decide, with nothing around it.

use anyhow::{anyhow, bail};
use harness::{Result, parts};
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{Level, Outside};
use proxy_wasm_host::plugin::PluginConfig;
use proxy_wasm_host::worker::{self, Process, Worker};
use serde_json::Value;
use std::fs;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::Instant;

/// The filter, in a machine.
pub(crate) struct Filter {
    filter: worker::Filter,
    _worker: Rc<Worker>,
}

/// What it sees of the world.
struct World(Instant);

/// The filter as it is shipped.
pub(crate) fn module() -> Result<Module> {
    let engine = Engine::new(None).map_err(|error| anyhow!(error.0))?;
    engine.load(&fs::read(parts::filter()?)?).map_err(|error| anyhow!(error.0))
}

impl Filter {
    pub(crate) fn start(process: &Arc<Process>, module: &Module, policy: &Value) -> Result<Self> {
        let worker = Worker::new(process, Rc::new(World(Instant::now())), Arc::new(|| {}));
        let config = PluginConfig {
            name: "tidegate".to_owned(),
            configuration: policy.to_string().into_bytes(),
            ..PluginConfig::default()
        };
        let filter = worker.start(module, &config).map_err(|error| anyhow!(error.to_string()))?;
        Ok(Self { filter, _worker: worker })
    }

    /// Decides a request, which is to be let through.
    pub(crate) fn passes(&mut self, request: HeaderMap) -> Result<()> {
        let filters = slice::from_ref(&self.filter);
        let stream = HttpStream::new(filters, Facts::default(), BUFFER_BYTES);
        stream.on_request_headers(request, true);
        match stream.next_event() {
            Some(HttpEvent::RequestHeaders(..)) => Ok(()),
            other => bail!("the filter says {other:?}"),
        }
    }
}

impl Outside for World {
    fn wall_ns(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn fill_random(&self, to: &mut [u8]) {
        to.fill(7);
    }

    fn log_level(&self) -> Level {
        Level::Warn
    }

    fn log(&self, _: &str, level: Level, message: &str) {
        eprintln!("the filter: {level:?}: {message}");
    }
}

/// What a browser sends, about.
pub(crate) fn request(key: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.add(":method", "GET");
    headers.add(":path", "/");
    headers.add(":authority", "shop.example");
    headers.add(":scheme", "http");
    headers.add("user-agent", "bench");
    headers.add("x-key", key.to_owned());
    headers
}
