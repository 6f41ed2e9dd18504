//! What filters want of the world: clocks, randomness, a log, and calls to others.
//!
//! A call goes to a cluster by its name: one that the configuration names, or, for policies
//! without a host, the store in this very process. What is asked of a plugin that this process
//! runs is answered here as well, whoever keeps the store. A call is a task of its own and outlives
//! the exchange that it was made for; its answer goes to the worker, which knows whether anybody
//! still waits for it.

mod grpc;
mod http;

use super::metrics::LaneCounts;
use super::plan::{Peer, Plan};
use super::shared::Shared;
use super::upstream::Cluster;
use bytes::Bytes;
use grpc::Streams;
pub(crate) use http::ask_here;
use proxy_wasm_host::outside::{
    CallToken, GrpcOpen, HttpCall, HttpResponse, Level, Outside, UnknownCluster,
};
use proxy_wasm_host::worker::Worker;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tidegate_core::wire;

/// Calls under way at once, of one worker: a filter that makes more has lost count, and is
/// told that nobody answers.
const CALLS_MAX: usize = 16_384;

/// Whom filters may call, by name.
pub(super) type Callees = BTreeMap<String, Callee>;

/// Somebody to call.
#[derive(Clone)]
pub(super) enum Callee {
    Cluster(Rc<Cluster>),
    Embedded,
}

/// Whom filters may call now.
#[derive(Default)]
pub(super) struct Directory(RefCell<Rc<Callees>>);

/// The world of one worker's filters.
pub(super) struct Calls {
    shared: Arc<Shared>,
    counts: Arc<LaneCounts>,
    directory: Rc<Directory>,
    worker: RefCell<Weak<Worker>>,
    streams: Streams,
}

/// A call under way, counted while this is kept.
struct UnderWay(Arc<LaneCounts>);

/// Whom a plan's filters may call. `cluster` makes or keeps the connections.
pub(super) fn callees(plan: &Plan, cluster: &dyn Fn(&Arc<Peer>) -> Rc<Cluster>) -> Callees {
    let named =
        plan.peers.iter().map(|(name, peer)| (name.clone(), Callee::Cluster(cluster(peer))));
    let embedded = plan.embedded.iter().map(|name| (name.clone(), Callee::Embedded));
    named.chain(embedded).collect()
}

/// Those of them that have connections.
pub(super) fn clusters(callees: &Callees) -> impl Iterator<Item = Rc<Cluster>> {
    callees.values().filter_map(|callee| match callee {
        Callee::Cluster(cluster) => Some(Rc::clone(cluster)),
        Callee::Embedded => None,
    })
}

/// The least level that is logged at all.
pub(super) fn log_level() -> Level {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::TRACE => Level::Trace,
        LevelFilter::DEBUG => Level::Debug,
        LevelFilter::INFO => Level::Info,
        LevelFilter::WARN => Level::Warn,
        LevelFilter::ERROR => Level::Error,
        _ => Level::Critical,
    }
}

/// A line that a filter logged, or that is said about it.
pub(super) fn log(plugin: &str, level: Level, message: &str) {
    match level {
        Level::Trace => tracing::trace!(plugin, "{message}"),
        Level::Debug => tracing::debug!(plugin, "{message}"),
        Level::Info => tracing::info!(plugin, "{message}"),
        Level::Warn => tracing::warn!(plugin, "{message}"),
        Level::Error | Level::Critical => tracing::error!(plugin, "{message}"),
    }
}

impl Directory {
    /// Puts others in their place, and returns those who were there.
    pub(super) fn replace(&self, callees: Callees) -> Callees {
        let before = self.0.replace(Rc::new(callees));
        Rc::unwrap_or_clone(before)
    }

    fn find(&self, name: &str) -> Result<Callee, UnknownCluster> {
        self.0.borrow().get(name).cloned().ok_or(UnknownCluster)
    }
}

impl Calls {
    pub(super) fn new(
        shared: &Arc<Shared>,
        counts: &Arc<LaneCounts>,
        directory: &Rc<Directory>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            counts: Arc::clone(counts),
            directory: Rc::clone(directory),
            worker: RefCell::default(),
            streams: Streams::default(),
        }
    }

    /// Whose filters these are: they get the answers.
    pub(super) fn answer_to(&self, worker: &Rc<Worker>) {
        self.worker.replace(Rc::downgrade(worker));
    }

    /// Whether there is anybody of that name.
    pub(super) fn knows(&self, cluster: &str) -> bool {
        self.directory.find(cluster).is_ok()
    }

    /// Makes a call, and hands over what comes of it.
    ///
    /// # Errors
    ///
    /// If there is nobody of that name: then nothing is started and nothing handed over.
    pub(super) fn ask(
        &self,
        call: HttpCall,
        told: impl FnOnce(HttpResponse) + 'static,
    ) -> Result<(), UnknownCluster> {
        let callee = match self.is_of_own_plugin(&call) {
            true => Callee::Embedded,
            false => self.directory.find(&call.cluster)?,
        };
        let counts = Arc::clone(&self.counts);
        let (under_way, embedded) = (self.begin(), self.shared.embedded.clone());
        tokio::task::spawn_local(async move {
            let answer = match under_way {
                Some(_held) => http::call(&callee, &embedded, call).await,
                None => Err(HttpResponse::unreachable("reset reason: overflow")),
            };
            counts.callout_ended(answer.is_ok());
            told(answer.unwrap_or_else(|failed| failed));
        });
        Ok(())
    }

    fn is_of_own_plugin(&self, call: &HttpCall) -> bool {
        let plugins = &self.shared.plugins;
        let is = |name: &str, value: &str| {
            call.headers.get(name.as_bytes()).is_some_and(|found| *found == *value.as_bytes())
        };
        plugins.are_any()
            && is("content-type", wire::ASK_TYPE)
            && is(":path", "/v1/ask")
            && wire::plugin::plugin_asked(&call.body).is_some_and(|name| plugins.has(&name))
    }

    fn worker(&self) -> Weak<Worker> {
        self.worker.borrow().clone()
    }

    fn begin(&self) -> Option<UnderWay> {
        (self.counts.callouts() < CALLS_MAX).then(|| {
            self.counts.callout_began();
            UnderWay(Arc::clone(&self.counts))
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.callout_left();
    }
}

impl Outside for Calls {
    fn wall_ns(&self) -> u64 {
        super::time::wall_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.shared.monotonic_ns()
    }

    fn fill_random(&self, to: &mut [u8]) {
        super::ids::fill_random(to);
    }

    fn log_level(&self) -> Level {
        log_level()
    }

    fn log(&self, plugin: &str, level: Level, message: &str) {
        log(plugin, level, message);
    }

    fn http_call(&self, token: CallToken, call: HttpCall) -> Result<(), UnknownCluster> {
        let worker = self.worker();
        self.ask(call, move |answer| {
            if let Some(worker) = worker.upgrade() {
                worker.on_http_response(token, answer);
            }
        })
    }

    fn grpc_open(&self, token: CallToken, call: GrpcOpen) -> Result<(), UnknownCluster> {
        let Callee::Cluster(cluster) = self.directory.find(&call.cluster)? else {
            return Err(UnknownCluster);
        };
        let (worker, counts, under_way) = (self.worker(), Arc::clone(&self.counts), self.begin());
        self.streams.open(token, call, cluster, worker, counts, under_way);
        Ok(())
    }

    fn grpc_send(&self, token: CallToken, message: Bytes, is_last: bool) {
        self.streams.send(token, &message, is_last);
    }

    fn grpc_close(&self, token: CallToken) {
        self.streams.close(token);
    }

    fn grpc_cancel(&self, token: CallToken) {
        self.streams.cancel(token);
    }
}
