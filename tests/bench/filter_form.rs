//! The shipped filter in a machine, ready to decide, with nothing around it but plugins, if there
//! are any.

use anyhow::{anyhow, bail};
use harness::{Result, parts};
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{CallToken, HttpCall, HttpResponse, Level, Outside, UnknownCluster};
use proxy_wasm_host::plugin::PluginConfig;
use proxy_wasm_host::worker::{self, Process, Worker};
use serde_json::Value;
use std::fs;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tidegate::plugins::Plugins;
use tidegate_core::plugin::Resolved;
use tidegate_core::wire;
use tidegate_core::wire::plugin::{decode_resolve, encode_resolved};

/// The longest wait for a plugin.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// The filter, in a machine.
pub(crate) struct Filter {
    filter: worker::Filter,
    worker: Rc<Worker>,
    answers: Receiver<Answer>,
}

/// What came of a call.
type Answer = (CallToken, Resolved);

/// What it sees of the world.
struct World {
    begun: Instant,
    plugins: Option<Plugins>,
    answers: Sender<Answer>,
}

/// The filter as it is shipped.
pub(crate) fn module() -> Result<Module> {
    let engine = Engine::new(None).map_err(|error| anyhow!(error.0))?;
    engine.load(&fs::read(parts::filter()?)?).map_err(|error| anyhow!(error.0))
}

impl Filter {
    pub(crate) fn start(
        process: &Arc<Process>,
        module: &Module,
        policy: &Value,
        plugins: Option<Plugins>,
    ) -> Result<Self> {
        let (told, answers) = channel();
        let world = World { begun: Instant::now(), plugins, answers: told };
        let worker = Worker::new(process, Rc::new(world), Arc::new(|| {}));
        let config = PluginConfig {
            name: "tidegate".to_owned(),
            configuration: policy.to_string().into_bytes(),
            ..PluginConfig::default()
        };
        let filter = worker.start(module, &config).map_err(|error| anyhow!(error.to_string()))?;
        Ok(Self { filter, worker, answers })
    }

    /// Decides a request, which is to be let through.
    pub(crate) fn passes(&mut self, request: HeaderMap) -> Result<()> {
        let filters = slice::from_ref(&self.filter);
        let stream = HttpStream::new(filters, Facts::default(), BUFFER_BYTES);
        stream.on_request_headers(request, true);
        loop {
            match stream.next_event() {
                Some(HttpEvent::RequestHeaders(..)) => return Ok(()),
                Some(other) => bail!("the filter says {other:?}"),
                None => {
                    let (token, resolved) = self.answers.recv_timeout(ANSWERED_WITHIN)?;
                    self.worker.on_http_response(token, response(&resolved));
                }
            }
        }
    }
}

/// As the host service answers.
fn response(resolved: &Resolved) -> HttpResponse {
    let mut headers = HeaderMap::new();
    headers.add(":status", "200");
    headers.add(wire::MARK, "1");
    let body = encode_resolved(resolved, true).into();
    HttpResponse { headers, body, trailers: HeaderMap::new() }
}

impl Outside for World {
    fn http_call(
        &self,
        token: CallToken,
        call: HttpCall,
    ) -> std::result::Result<(), UnknownCluster> {
        let plugins = self.plugins.as_ref().ok_or(UnknownCluster)?;
        let ask = decode_resolve(&call.body).map_err(|_| UnknownCluster)?;
        let answers = self.answers.clone();
        plugins.ask(ask, move |resolved| {
            // Nobody hears it once the measuring is over.
            let _ = answers.send((token, resolved));
        });
        Ok(())
    }

    fn wall_ns(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
