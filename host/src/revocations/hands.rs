//! How whoever wants something written reaches who writes; and the threads of both that do.

use super::draft::Step;
use super::maker::{Maker, Making};
use super::scribe::{Job, NotDone, Scribe, Task};
use super::{Problem, Shared};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use tidegate_core::revoke::Position;
use tokio::sync::{mpsc, oneshot};

/// How many calls may wait for the scribe; more wait to be let wait.
const JOBS_MAX: usize = 1_024;

/// How whoever wants something written reaches who writes.
pub(super) enum Hands {
    /// On a thread of its own, for disks are slow.
    Threads(Threads),
    /// Right here, for memory is not.
    Here(Here),
}

/// The threads, which end with this.
pub(super) struct Threads {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// Who writes in whoever asks for it.
pub(super) struct Here {
    shared: Arc<Shared>,
    scribe: Mutex<Scribe>,
    /// When it was looked for what is over.
    looked_ms: AtomicU64,
}

impl Hands {
    pub(super) fn threads(shared: Arc<Shared>) -> Result<Self, Problem> {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let (order, orders) = std::sync::mpsc::sync_channel(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let scribe = Scribe::new(shared.clone(), Maker::Thread(order, is_busy.clone()));
        let mut threads = Threads { shared: shared.clone(), jobs: None, threads: Vec::new() };
        threads.start("tidegate-ledger", move || scribe.run(waiting))?;
        let making = Making { shared, orders, is_busy, jobs: jobs.downgrade() };
        threads.start("tidegate-images", move || making.run())?;
        threads.jobs = Some(jobs);
        Ok(Self::Threads(threads))
    }

    pub(super) fn here(shared: Arc<Shared>) -> Self {
        let mut scribe = Scribe::new(shared.clone(), Maker::Here(shared.clone()));
        scribe.look();
        Self::Here(Here { shared, scribe: Mutex::new(scribe), looked_ms: AtomicU64::new(0) })
    }

    /// Has this done, and waits until it is durable.
    pub(super) async fn write(&self, task: Task) -> Result<Position, NotDone> {
        let (done, answer) = oneshot::channel();
        let job = Job { task, done };
        match self {
            Self::Threads(Threads { jobs, .. }) => {
                let jobs = jobs.as_ref().ok_or(NotDone::Ending)?;
                jobs.send(job).await.map_err(|_| NotDone::Ending)?;
            }
            Self::Here(here) => here.scribe().write(vec![job]),
        }
        answer.await.unwrap_or(Err(NotDone::Ending))
    }

    /// A proxy asks: where no thread does so, look whether there is something to do.
    pub(super) fn look(&self) {
        if let Self::Here(here) = self {
            here.look();
        }
    }
}

impl Here {
    fn look(&self) {
        let mut scribe = self.scribe();
        scribe.look();
        let now_ms = self.shared.wall.now_ms();
        let every_ms = u64::from(self.shared.span_secs) * 1_000;
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        if now_ms < looked_ms + every_ms {
            return;
        }
        self.looked_ms.store(now_ms, Ordering::Relaxed);
        let (done, _) = oneshot::channel();
        let task = Task::One(Step::Forget(self.shared.over()));
        scribe.write(vec![Job { task, done }]);
    }

    fn scribe(&self) -> MutexGuard<'_, Scribe> {
        self.scribe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(|error| Problem::thread(&error))?);
        Ok(())
    }
}

impl Drop for Threads {
    /// Returns when all is written that was asked for, and nobody holds the file.
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
