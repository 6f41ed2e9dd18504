//! The filter as it is shipped, in a machine with nothing around it.
//!
//! It comes to know what is revoked from a real host, as in any proxy. Then its clock is stopped:
//! what it knows stays fresh, no tick comes between requests, and what it asks from then on is
//! counted and answered with the truth, which whoever sends knows.

use crate::revocation_tokens::Token;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use harness::client::{Client, post};
use harness::{Result, wait};
use proxy_wasm_host::engine::Module;
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{CallToken, HttpCall, HttpResponse, Level, Outside, UnknownCluster};
use proxy_wasm_host::plugin::{Limits, PluginConfig};
use proxy_wasm_host::worker::{Filter, Process, Worker};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate_core::revoke::message::Checked;
use tidegate_core::revoke::{EVER, Position};
use tidegate_core::wire;
use tidegate_core::wire::revoke::{decode_check, decode_news, encode_checked};
use tokio::sync::mpsc;

/// The longest until it knows all.
const KNOWS_WITHIN: Duration = Duration::from_secs(120);

/// A machine, and the world as its filter sees it.
pub(crate) struct Machine {
    world: Rc<World>,
    process: Arc<Process>,
    worker: Rc<Worker>,
    filter: Filter,
}

struct World {
    begun: Instant,
    /// Set once the clock stands.
    stands_at_ns: Cell<Option<u64>>,
    calls: RefCell<Vec<(CallToken, HttpCall)>>,
    /// Up to where the filter knows the log.
    position: Cell<Position>,
}

/// What a request came to.
pub(crate) struct Seen {
    /// Whether it was let through; refused with 401 otherwise.
    pub(crate) passed: bool,
    /// Whether the host was asked.
    pub(crate) asked: bool,
}

impl Machine {
    /// One with this policy, whose calls nobody answers yet.
    pub(crate) fn start(module: &Module, policy: &Value) -> Result<Self> {
        let world = Rc::new(World {
            begun: Instant::now(),
            stands_at_ns: Cell::default(),
            calls: RefCell::default(),
            position: Cell::default(),
        });
        let process = Process::new();
        let worker = Worker::new(&process, world.clone(), Arc::new(|| {}));
        let config = PluginConfig {
            name: "tidegate".to_owned(),
            configuration: policy.to_string().into_bytes(),
            limits: Limits { callback: Duration::from_secs(30), ..Limits::default() },
            ..PluginConfig::default()
        };
        let filter = worker.start(module, &config).map_err(|error| anyhow::anyhow!(error.0))?;
        Ok(Self { world, process, worker, filter })
    }

    /// Has it hear from this host until it decides by what it knows; then stops its clock.
    pub(crate) async fn learn(&self, host: SocketAddr) -> Result<()> {
        let (give, mut answers) = mpsc::unbounded_channel();
        let begun = Instant::now();
        while self.metric("workers_sure") != 1 {
            ensure!(begun.elapsed() < KNOWS_WITHIN, "the machine does not come to know all");
            self.worker.run_due();
            for (token, call) in self.world.calls.take() {
                let give = give.clone();
                tokio::spawn(async move {
                    // Nobody takes what comes once it knows enough.
                    let _ = give.send((token, forward(call, host).await));
                });
            }
            while let Ok((token, answer)) = answers.try_recv() {
                let answer = answer?;
                if let Ok(news) = decode_news(&answer.body) {
                    self.world.position.set(news.position);
                }
                self.worker.on_http_response(token, answer);
            }
            wait::pass(Duration::from_millis(1)).await;
        }
        self.stop();
        Ok(())
    }

    /// Stops its clock.
    pub(crate) fn stop(&self) {
        self.world.stands_at_ns.set(Some(self.world.monotonic_ns()));
        self.world.calls.take();
    }

    /// One of its metrics of revocations.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let name = format!("wasm_filter.tidegate.revocation.{name}");
        self.process.metric(&name).unwrap_or_default()
    }

    /// Sends a request that shows this token; what the host is asked of it is answered with the
    /// truth.
    pub(crate) fn shows(&self, token: &Token, is_revoked: bool) -> Result<Seen> {
        self.send(request(&token.payload()), Some((token, is_revoked)))
    }

    /// Sends a request of which nothing is to be asked.
    pub(crate) fn passes(&self, request: HeaderMap) -> Result<()> {
        let seen = self.send(request, None)?;
        ensure!(seen.passed, "what is not revoked was refused");
        Ok(())
    }

    fn send(&self, request: HeaderMap, truth: Option<(&Token, bool)>) -> Result<Seen> {
        let filters = slice::from_ref(&self.filter);
        let stream = HttpStream::new(filters, Facts::default(), BUFFER_BYTES);
        stream.on_request_headers(request, true);
        let mut asked = false;
        loop {
            match stream.next_event() {
                Some(HttpEvent::RequestHeaders(..)) => return Ok(Seen { passed: true, asked }),
                Some(HttpEvent::ResponseHeaders(headers, _)) => {
                    let status = headers.get(b":status").context("a status")?;
                    ensure!(&**status == b"401", "the filter answers {status:?}");
                    return Ok(Seen { passed: false, asked });
                }
                Some(event) => bail!("neither let through nor answered: {event:?}"),
                None => {
                    let (token, is_revoked) = truth.context("nothing to be asked")?;
                    self.answer(token, is_revoked)?;
                    asked = true;
                }
            }
        }
    }

    fn answer(&self, token: &Token, is_revoked: bool) -> Result<()> {
        let calls = self.world.calls.take();
        ensure!(!calls.is_empty(), "a request that waits for nothing");
        for (to, call) in calls {
            let check = decode_check(&call.body).map_err(|error| anyhow::anyhow!("{error}"))?;
            let (id, position) = (token.id(), self.world.position.get());
            let before = |known| if is_revoked && known == id { EVER } else { 0 };
            let before_secs = check.ids.iter().map(|known| before(*known)).collect();
            let checked = encode_checked(&Checked { position, age_ms: 0, before_secs });
            self.worker.on_http_response(to, marked(checked.into()));
        }
        Ok(())
    }
}

/// A request that shows a token of this payload.
pub(crate) fn request(payload: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.add(":method", "GET");
    headers.add(":path", "/");
    headers.add(":authority", "shop.example");
    headers.add(":scheme", "http");
    headers.add("x-key", "a");
    headers.add(crate::revocation_tokens::PAYLOAD_HEADER, payload.to_owned());
    headers
}

impl Outside for World {
    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        let passes = || u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.stands_at_ns.get().unwrap_or_else(passes)
    }

    fn fill_random(&self, to: &mut [u8]) {
        // For what must differ between proxies, of which there is one here.
        to.fill(7);
    }

    fn log_level(&self) -> Level {
        Level::Warn
    }

    fn log(&self, _: &str, level: Level, message: &str) {
        eprintln!("the filter: {level:?}: {message}");
    }

    fn http_call(
        &self,
        token: CallToken,
        call: HttpCall,
    ) -> std::result::Result<(), UnknownCluster> {
        self.calls.borrow_mut().push((token, call));
        Ok(())
    }
}

/// Brings a filter's call to the host; its answer.
async fn forward(call: HttpCall, host: SocketAddr) -> Result<HttpResponse> {
    let path = call.headers.get(b":path").context("a path")?;
    let mut sent = post(str::from_utf8(path)?, call.body);
    for (name, value) in call.headers.iter().filter(|(name, _)| !name.starts_with(b":")) {
        sent = sent.header(str::from_utf8(name)?, value);
    }
    let answer = Client::http1(host).await?.send(sent).await?;
    ensure!(answer.status == 200, "the host says {}: {:?}", answer.status, answer.body);
    Ok(marked(answer.body))
}

/// An answer of a host.
fn marked(body: Bytes) -> HttpResponse {
    let mut headers = HeaderMap::new();
    headers.add(":status", "200");
    headers.add(wire::MARK, "1");
    HttpResponse { headers, body, trailers: HeaderMap::new() }
}
