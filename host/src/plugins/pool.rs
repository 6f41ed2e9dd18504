//! All instances of one plugin: each on a thread of its own, fed from one short queue.
//!
//! A thread answers first and makes a new instance afterwards, where the old one ended, so nobody
//! waits for that. A new version is compiled, started and asked what it is before any thread
//! takes it; each then changes over between two calls.

use super::component::{Code, Description};
use super::counts::OfPlugin;
use super::instance::{Failure, Given, Instance};
use super::log::Line;
use super::text::Settings;
use crate::component::Engine;
use crate::files::Files;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidegate_core::plugin::{OUTPUT_BYTES_MAX, Resolve, Resolved, Unresolved};
use tidegate_core::policy::Plugin;
use tokio::runtime::Runtime;

/// Asks that may wait for an instance, for each that there is; more are answered at once.
const QUEUE_PER_INSTANCE: usize = 32;

/// So many calls in a row that ended their instance, and the plugin rests: it would cost each
/// request its deadline, and a new instance.
const FAILURES_MAX: u32 = 5;
const REST: Duration = Duration::from_millis(500);

/// For an instance to be made and to say what it is: interpreters take their time.
pub(super) const START_MAX: Duration = Duration::from_secs(10);

/// For the way to a thread and back, beyond the deadline.
const SLACK: Duration = Duration::from_millis(2);

pub(super) struct Pool {
    settings: Settings,
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
}

/// What a plugin's threads share.
struct Shared {
    current: Mutex<Arc<Version>>,
    engine: Engine,
    line: Arc<Line>,
    counts: OfPlugin,
    memory_max: usize,
    failures_in_a_row: AtomicU32,
    rests_until: Mutex<Option<Instant>>,
}

/// One state of the plugin's file.
struct Version {
    code: Code,
    description: Description,
    /// Instances made ahead, one for each thread.
    ready: Mutex<Vec<Instance>>,
}

type Answer = Box<dyn FnOnce(Resolved) + Send>;

struct Job {
    ask: Resolve,
    until: Instant,
    answer: Answer,
}

impl Pool {
    /// Loads a plugin, and starts its threads.
    ///
    /// # Errors
    ///
    /// One line, if it cannot be used.
    pub(super) fn start(
        name: &str,
        settings: &Settings,
        engine: &Engine,
        bytes: &[u8],
        counts: OfPlugin,
    ) -> Result<Self, String> {
        let line = Line::new(name);
        let version = Version::load(engine, bytes, &line, settings)?;
        let Description { name: own, version: number, .. } = &version.description;
        tracing::info!(plugin = name, %own, version = %number, "plugin loaded");
        let shared = Arc::new(Shared {
            current: Mutex::new(Arc::new(version)),
            engine: engine.clone(),
            line,
            counts,
            memory_max: settings.memory_max,
            failures_in_a_row: AtomicU32::new(0),
            rests_until: Mutex::new(None),
        });
        let (jobs, queue) = sync_channel(settings.instances * QUEUE_PER_INSTANCE);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..settings.instances {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            let runtime = runtime()?;
            std::thread::Builder::new()
                .name(format!("plugin-{number}"))
                .spawn(move || work(&shared, &queue, &runtime))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        Ok(Self { settings: settings.clone(), shared, jobs })
    }

    /// Puts an ask in line; or answers it at once, where it cannot be.
    pub(super) fn ask(&self, ask: Resolve, answer: Answer) {
        let shared = &self.shared;
        let version = Arc::clone(&shared.current());
        let description = &version.description;
        let outputs = ask.outputs.iter().map(|name| &**name);
        if let Some(why) = description.differs((ask.form, ask.facts.len()), outputs) {
            return shared.refuse(("mismatch", Unresolved::Mismatch), &why, answer);
        }
        if shared.rests() {
            shared.counts.failed("resting");
            return answer(Err(Unresolved::Busy));
        }
        let until = Instant::now() + self.settings.deadline;
        if let Err(refused) = self.jobs.try_send(Job { ask, until, answer }) {
            shared.counts.failed("busy");
            let (std::sync::mpsc::TrySendError::Full(job)
            | std::sync::mpsc::TrySendError::Disconnected(job)) = refused;
            (job.answer)(Err(Unresolved::Busy));
        }
    }

    /// Why a policy cannot use it so, if that is so.
    pub(super) fn differs(&self, plugin: &Plugin) -> Option<String> {
        self.shared.current().description.differs_from(plugin)
    }

    pub(super) fn patience(&self) -> Duration {
        self.settings.deadline + SLACK
    }

    /// Takes what the file holds now, or says why not.
    pub(super) fn replace(&self, files: &mut Files) {
        let shared = &self.shared;
        let mut load = || {
            let bytes = files.read(&self.settings.file)?;
            let next = Version::load(&shared.engine, &bytes, &shared.line, &self.settings)?;
            let current = Arc::clone(&shared.current());
            next.may_follow(&current)?;
            Ok::<_, String>(next)
        };
        match load() {
            Ok(next) => {
                let Description { name, version, .. } = &next.description;
                tracing::info!(plugin = %name, %version, "plugin replaced");
                *shared.current() = Arc::new(next);
                shared.failures_in_a_row.store(0, Ordering::Relaxed);
                shared.counts.swapped(true);
            }
            Err(why) => {
                tracing::error!("plugin not replaced, the last good one stays: {why}");
                shared.counts.swapped(false);
            }
        }
    }
}

impl Version {
    fn load(
        engine: &Engine,
        bytes: &[u8],
        line: &Arc<Line>,
        settings: &Settings,
    ) -> Result<Self, String> {
        let code = Code::compile(engine, bytes)?;
        let (runtime, mut ready) = (runtime()?, Vec::new());
        let make = || runtime.block_on(Instance::new(&code, line, settings.memory_max, START_MAX));
        let (first, description) = make()?;
        ready.push(first);
        for _ in 1..settings.instances {
            ready.push(make()?.0);
        }
        Ok(Self { code, description, ready: Mutex::new(ready) })
    }

    /// Whether policies that used that one can use this one.
    fn may_follow(&self, before: &Self) -> Result<(), String> {
        let (ours, theirs) = (&self.description, &before.description);
        if ours.form != theirs.form {
            let (ours, theirs) = (ours.spelled(), theirs.spelled());
            return Err(format!("it {ours}; the one in use {theirs}: that changes with a restart"));
        }
        match theirs.gives.iter().find(|output| !ours.gives.contains(output)) {
            None => Ok(()),
            Some(output) => Err(format!(
                "it does not give {output}, as the one in use does: that changes with a restart"
            )),
        }
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Arc<Version>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, (reason, told): (&'static str, Unresolved), why: &str, answer: Answer) {
        self.counts.failed(reason);
        self.line.warn(reason, why);
        answer(Err(told));
    }

    fn rests(&self) -> bool {
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = until.filter(|until| Instant::now() < *until);
        until.is_some()
    }

    /// Notes how a call ended.
    fn note(&self, ended: Result<(), Failure>) {
        let Err(failure) = ended else {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            return;
        };
        if matches!(failure, Failure::Nonsense | Failure::CannotTell) {
            return;
        }
        if self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
            *until = Some(Instant::now() + REST);
        }
    }
}

/// A thread's instance, and of which version it is.
struct Seat {
    version: Arc<Version>,
    instance: Option<Instance>,
}

/// What each thread does until nobody can ask any more.
fn work(shared: &Shared, queue: &Mutex<Receiver<Job>>, runtime: &Runtime) {
    let mut seat = Seat { version: Arc::clone(&shared.current()), instance: None };
    seat.fill(shared, runtime);
    loop {
        // The lock is given back before the job is done.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { ask, until, answer }) = job else { break };
        seat.change_over(shared, runtime);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            shared.counts.failed("busy");
            answer(Err(Unresolved::Busy));
            continue;
        }
        let Some(instance) = &mut seat.instance else {
            shared.counts.failed("trap");
            answer(Err(Unresolved::Failed));
            seat.fill(shared, runtime);
            continue;
        };
        let start = Instant::now();
        let given = runtime.block_on(instance.resolve(&ask.facts, left));
        shared.counts.seconds.observe(start.elapsed().as_secs_f64());
        let given = given.and_then(|given| {
            picked(given, &ask, &seat.version.description).ok_or((Failure::Nonsense, true))
        });
        match given {
            Ok(outputs) => {
                shared.counts.calls.inc();
                shared.note(Ok(()));
                answer(Ok(outputs));
            }
            Err((failure, lives)) => {
                shared.counts.failed(failure.name());
                shared.note(Err(failure));
                answer(Err(Unresolved::Failed));
                if !lives {
                    seat.empty(shared);
                    seat.fill(shared, runtime);
                }
            }
        }
    }
    seat.empty(shared);
}

impl Seat {
    /// Takes the plugin's next version, if there is one.
    fn change_over(&mut self, shared: &Shared, runtime: &Runtime) {
        let current = Arc::clone(&shared.current());
        if !Arc::ptr_eq(&current, &self.version) {
            self.empty(shared);
            self.version = current;
            self.fill(shared, runtime);
        }
    }

    fn fill(&mut self, shared: &Shared, runtime: &Runtime) {
        let Version { code, ready, .. } = &*self.version;
        let ahead = ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let made = ahead.map_or_else(
            || {
                let new = Instance::new(code, &shared.line, shared.memory_max, START_MAX);
                runtime.block_on(new).map(|(instance, _)| instance)
            },
            Ok,
        );
        match made {
            Ok(instance) => {
                shared.counts.instances.inc();
                self.instance = Some(instance);
            }
            Err(why) => shared.line.warn("no instance", &why),
        }
    }

    fn empty(&mut self, shared: &Shared) {
        if self.instance.take().is_some() {
            shared.counts.instances.dec();
        }
    }
}

/// The outputs that were asked for; `None` if what the plugin gave is not what it said.
fn picked(given: Given, ask: &Resolve, description: &Description) -> Option<Vec<Option<Box<str>>>> {
    let fits =
        |output: &Option<String>| output.as_ref().is_none_or(|text| text.len() <= OUTPUT_BYTES_MAX);
    if given.len() != description.gives.len() || !given.iter().all(fits) {
        return None;
    }
    let pick = |name: &str| {
        let place = description.gives.iter().position(|output| **output == *name)?;
        Some(given.get(place)?.as_deref().map(Box::from))
    };
    ask.outputs.iter().map(|name| pick(name)).collect()
}

/// For one thread: it runs one call, and the clock that ends it.
pub(super) fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}
