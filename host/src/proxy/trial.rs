//! What is new in a plan, tried before any lane has it.
//!
//! A lane that starts a filter or a component does nothing else meanwhile. So each is first started on
//! a thread for which nobody waits but who reloads: one that loops there, or fails, holds up no lane;
//! and how long it took bounds what the lanes then give it. Envoy tries filters like this, in
//! machines that it throws away.
//!
//! Nothing of a trial is left. The filters of a plan are tried together, as a process starts that has no
//! others: with shared data, queues and metrics of their own. They may call whom the plan names, and
//! hear nothing of it; what they log is passed on if one fails.

use super::calls;
use super::plan::Plan;
use super::shared::Shared;
use super::{ids, time};
use proxy_wasm_host::outside::{CallToken, GrpcOpen, HttpCall, Level, Outside, UnknownCluster};
use proxy_wasm_host::plugin::Limits;
use proxy_wasm_host::worker::{Process, Worker};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a thread may take of stack on which filters run.
pub(super) const STACK_BYTES: usize = 8 << 20;

/// A lane gives a start so many times what its trial took, on a busy machine to be done in time.
const START_TIMES: u32 = 10;

/// And so much in any case.
const START_MIN: Duration = Duration::from_millis(250);

/// What the thread of one is called.
pub(super) const TRIAL: &str = "trial";

/// So many lines of the filters that are tried are kept, the last ones.
const LINES_MAX: usize = 256;

/// How long a trial took to have something at work; nothing before.
#[derive(Default)]
pub(super) struct Tried(OnceLock<Duration>);

impl Tried {
    pub(super) fn is_done(&self) -> bool {
        self.0.get().is_some()
    }

    /// Only the first counts.
    pub(super) fn took(&self, time: Duration) {
        let _ = self.0.set(time);
    }

    /// Takes over what was found of the same, if there is such a thing.
    pub(super) fn learn(&self, same: Option<&Self>) {
        if let Some(took) = same.and_then(|same| same.0.get()) {
            self.took(*took);
        }
    }

    /// Limits for who serves requests too: once it was tried, a start may hold them up no longer than a
    /// call, or than it needs.
    pub(super) fn lane_limits(&self, limits: Limits) -> Limits {
        let needed = self.0.get().map_or(limits.start, |took| *took * START_TIMES);
        let start = needed.max(START_MIN).max(limits.callback).min(limits.start);
        Limits { start, ..limits }
    }
}

/// Does something on a thread of its own, of this name, which ends with the process at the latest.
///
/// # Errors
///
/// Its own, or if it panics, or there is no thread.
pub(super) async fn apart<T: Send + 'static>(
    name: &str,
    does: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (told, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    thread
        .spawn(move || told.send(does()))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    outcome.await.unwrap_or_else(|_| Err(format!("the {name} has ended without a word")))
}

/// Tries the filters of a plan, unless all are at work as they are.
///
/// # Errors
///
/// If one traps, takes too long, or refuses its configuration.
pub(super) async fn filters(
    plan: &Arc<Plan>,
    at_work: &Plan,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    for filter in plan.filters() {
        let known = at_work.filters().find(|known| known.is_as(filter));
        filter.tried.learn(known.map(|known| &known.tried));
    }
    if plan.filters().all(|filter| filter.tried.is_done()) {
        return Ok(());
    }
    let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
    apart(TRIAL, move || try_filters(plan, shared)).await
}

fn try_filters(plan: Arc<Plan>, shared: Arc<Shared>) -> Result<(), String> {
    let around = Rc::new(Alone { plan, shared, lines: RefCell::default() });
    let worker = Worker::new(&Process::new(), around.clone(), Arc::new(|| {}));
    let mut started = Vec::new();
    for filter in around.plan.filters() {
        let begun = Instant::now();
        let tried = worker.start(&filter.module, &filter.config);
        started.push(tried.map_err(|error| {
            around.tell();
            error.to_string()
        })?);
        filter.tried.took(begun.elapsed());
    }
    Ok(())
}

/// The world as a filter finds it there: nobody answers.
struct Alone {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    /// Of which filter, how much it matters, and what.
    lines: RefCell<VecDeque<(String, Level, String)>>,
}

impl Alone {
    fn tell(&self) {
        for (plugin, level, message) in self.lines.take() {
            calls::log(&plugin, level, &message);
        }
    }
}

impl Outside for Alone {
    fn wall_ns(&self) -> u64 {
        time::wall_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.shared.monotonic_ns()
    }

    fn fill_random(&self, to: &mut [u8]) {
        ids::fill_random(to);
    }

    fn log_level(&self) -> Level {
        calls::log_level()
    }

    fn log(&self, plugin: &str, level: Level, message: &str) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((plugin.to_owned(), level, message.to_owned()));
    }

    fn http_call(&self, _: CallToken, call: HttpCall) -> Result<(), UnknownCluster> {
        let Plan { peers, embedded, .. } = &*self.plan;
        let is_known = peers.contains_key(&call.cluster) || embedded.contains(&call.cluster);
        if is_known { Ok(()) } else { Err(UnknownCluster) }
    }

    fn grpc_open(&self, _: CallToken, call: GrpcOpen) -> Result<(), UnknownCluster> {
        let is_known = self.plan.peers.contains_key(&call.cluster);
        if is_known { Ok(()) } else { Err(UnknownCluster) }
    }
}
