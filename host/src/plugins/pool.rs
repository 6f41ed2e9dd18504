//! All instances of one plugin: each on a thread of its own, fed from one short queue.
//!
//! A thread answers first and makes a new instance afterwards, where the old one ended, so nobody
//! waits for that. If that fails, others go on, and it tries again after a pause; while none has an
//! instance, who asks is answered at once. A new version is compiled, started and asked what it is
//! before any thread takes it; each then changes over between two calls.

use super::component::{Code, Description};
use super::counts::OfPlugin;
use super::instance::{Failure, Given, Instance};
use super::log::Line;
use super::rests::Rests;
use super::seats::{Seats, pause};
use super::text::Settings;
use crate::component::Engine;
use crate::files::Files;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidegate_core::plugin::{OUTPUT_BYTES_MAX, Resolve, Resolved, Unresolved};
use tidegate_core::policy::Plugin;
use tokio::runtime::Runtime;

/// Asks that may wait for an instance, for each that there is; more are answered at once.
const QUEUE_PER_INSTANCE: usize = 32;

/// For a first instance to be made and to say what it is: interpreters take their time.
pub(super) const START_MAX: Duration = Duration::from_secs(10);

/// For one that follows: so many times what the first took, and this at least.
const START_TIMES: u32 = 10;
const START_MIN: Duration = Duration::from_secs(1);

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
    deadline: Duration,
    rests: Rests,
    seats: Seats,
    queue: Mutex<Receiver<Job>>,
    /// `current` was replaced, or all is over.
    changed: Condvar,
    is_over: AtomicBool,
}

/// One state of the plugin's file.
struct Version {
    code: Code,
    description: Description,
    /// Instances made ahead, one for each thread.
    ready: Mutex<Vec<Instance>>,
    /// The longest that a further one may take to be made.
    start_max: Duration,
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
        let (jobs, queue) = sync_channel(settings.instances * QUEUE_PER_INSTANCE);
        let shared = Arc::new(Shared {
            current: Mutex::new(Arc::new(version)),
            engine: engine.clone(),
            line,
            counts,
            memory_max: settings.memory_max,
            deadline: settings.deadline,
            rests: Rests::new(),
            seats: Seats::new(),
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        // From here on, threads that run end with it.
        let pool = Self { settings: settings.clone(), shared, jobs };
        for number in 0..settings.instances {
            let (shared, runtime) = (Arc::clone(&pool.shared), runtime()?);
            std::thread::Builder::new()
                .name(format!("plugin-{number}"))
                .spawn(move || work(&shared, &runtime))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        Ok(pool)
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
        if shared.rests.is_resting(Instant::now()) || shared.has_nobody() {
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
        // The last may have left since it was looked at.
        if shared.has_nobody() {
            shared.turn_away();
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
                shared.changed.notify_all();
                shared.rests.forget();
                shared.counts.swapped(true);
            }
            Err(why) => {
                tracing::error!("plugin not replaced, the last good one stays: {why}");
                shared.counts.swapped(false);
            }
        }
    }
}

impl Drop for Pool {
    /// Threads that wait for asks end when nobody can ask; those that pause are told.
    fn drop(&mut self) {
        let current = self.shared.current();
        self.shared.is_over.store(true, Ordering::Relaxed);
        drop(current);
        self.shared.changed.notify_all();
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
        let make =
            |within| runtime.block_on(Instance::new(&code, line, settings.memory_max, within));
        let begun = Instant::now();
        let (first, description) = make(START_MAX)?;
        let start_max = (begun.elapsed() * START_TIMES).clamp(START_MIN, START_MAX);
        ready.push(first);
        for _ in 1..settings.instances {
            ready.push(make(start_max)?.0);
        }
        Ok(Self { code, description, ready: Mutex::new(ready), start_max })
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

    /// Whether no thread has an instance, nor will have one soon.
    fn has_nobody(&self) -> bool {
        self.seats.are_empty(Instant::now(), self.deadline)
    }

    /// The next ask; none when nobody can ask any more. The lock is given back before it is answered.
    fn next(&self) -> Option<Job> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// Answers all that are in line.
    fn turn_away(&self) {
        // Whoever has the lock does the same, or takes what is in line.
        let next = || self.queue.try_lock().ok()?.try_recv().ok();
        while let Some(job) = next() {
            self.counts.failed("resting");
            (job.answer)(Err(Unresolved::Busy));
        }
    }
}

/// A thread's instance, and of which version it is.
struct Seat {
    version: Arc<Version>,
    instance: Option<Instance>,
    /// How often in a row none could be made.
    failures: u32,
}

/// What each thread does until nobody can ask any more.
fn work(shared: &Shared, runtime: &Runtime) {
    let mut seat = Seat { version: Arc::clone(&shared.current()), instance: None, failures: 0 };
    seat.fill(shared, runtime);
    loop {
        if seat.instance.is_none() {
            if !seat.pause(shared) {
                break;
            }
            if !seat.change_over(shared, runtime) {
                seat.fill(shared, runtime);
            }
            continue;
        }
        let Some(Job { ask, until, answer }) = shared.next() else { break };
        seat.change_over(shared, runtime);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            shared.counts.failed("busy");
            answer(Err(Unresolved::Busy));
            continue;
        }
        let Some(instance) = &mut seat.instance else {
            shared.counts.failed("resting");
            answer(Err(Unresolved::Busy));
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
                shared.rests.note(false, Instant::now());
                answer(Ok(outputs));
            }
            Err((failure, lives)) => {
                shared.counts.failed(failure.name());
                // Who lives on has cost nothing.
                if !lives {
                    shared.rests.note(true, Instant::now());
                }
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
    /// Takes the plugin's next version, if there is one. Whether there was.
    fn change_over(&mut self, shared: &Shared, runtime: &Runtime) -> bool {
        let current = Arc::clone(&shared.current());
        let is_new = !Arc::ptr_eq(&current, &self.version);
        if is_new {
            self.empty(shared);
            (self.version, self.failures) = (current, 0);
            self.fill(shared, runtime);
        }
        is_new
    }

    /// Waits before it is filled again; a new version ends that. Whether it is to be filled at all.
    fn pause(&self, shared: &Shared) -> bool {
        if shared.has_nobody() {
            shared.turn_away();
        }
        let is_over = || shared.is_over.load(Ordering::Relaxed);
        let goes_on = |now: &mut Arc<Version>| Arc::ptr_eq(now, &self.version) && !is_over();
        let pause = pause(self.failures);
        drop(shared.changed.wait_timeout_while(shared.current(), pause, goes_on));
        !is_over()
    }

    fn fill(&mut self, shared: &Shared, runtime: &Runtime) {
        let Version { code, ready, start_max, .. } = &*self.version;
        let ahead = ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let made = ahead.map_or_else(
            || {
                let new = Instance::new(code, &shared.line, shared.memory_max, *start_max);
                runtime.block_on(new).map(|(instance, _)| instance)
            },
            Ok,
        );
        match made {
            Ok(instance) => {
                shared.counts.instances.inc();
                shared.seats.take();
                (self.instance, self.failures) = (Some(instance), 0);
            }
            Err(why) => {
                shared.line.warn("no instance", &why);
                shared.seats.fail();
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    fn empty(&mut self, shared: &Shared) {
        if self.instance.take().is_some() {
            shared.counts.instances.dec();
            shared.seats.leave(Instant::now());
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
