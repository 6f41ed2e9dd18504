//! What all workers of a process share, and how one worker's filters reach another's.

use crate::foreign::Functions;
use crate::shared::data::Data;
use crate::shared::metrics::Metrics;
use crate::shared::queues::{Listener, Queues};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all workers of a process share: shared data, queues, metrics, foreign functions.
pub struct Process {
    pub(crate) data: Data,
    pub(crate) queues: Queues,
    pub(crate) metrics: Metrics,
    pub(crate) functions: Functions,
    inboxes: Mutex<HashMap<u64, Arc<Inbox>>>,
    workers: AtomicU64,
    machines: AtomicU64,
}

/// What was sent to a worker and it has not yet seen.
pub(super) struct Inbox {
    worker: u64,
    /// How many times each listener is to be told of each queue. So there are at most as many
    /// entries as listeners and queues, which have bounds of their own.
    waiting: Mutex<BTreeMap<Notice, u64>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// There is something in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Notice {
    pub(super) vm: u64,
    pub(super) root: u32,
    pub(super) queue: u32,
}

/// Notices that a worker takes at once: requests wait meanwhile.
const NOTICES_AT_ONCE: usize = 256;

impl Process {
    /// What a process needs once, with the foreign functions that Envoy has.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(Functions::with_envoys())
    }

    /// As [`Process::new`], with foreign functions of one's own choice.
    #[must_use]
    pub fn with(functions: Functions) -> Arc<Self> {
        Arc::new(Self {
            data: Data::new(),
            queues: Queues::new(),
            metrics: Metrics::new(),
            functions,
            inboxes: Mutex::default(),
            workers: AtomicU64::new(1),
            machines: AtomicU64::new(1),
        })
    }

    /// All metrics of filters: name and value, in Prometheus' text form, each name with
    /// `prefix` before it and what the text form does not allow replaced by `_`.
    pub fn write_metrics(&self, prefix: &str, to: &mut String) {
        self.metrics.write(prefix, to);
    }

    /// The value of a counter or gauge, by the name that a filter gave it.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<i64> {
        self.metrics.value(name)
    }

    /// What modules of a `vm_id` share under a key, and the number that it carries; for a host that
    /// runs others beside filters.
    #[must_use]
    pub fn shared(&self, vm_id: &str, key: &[u8]) -> Option<(Bytes, u32)> {
        self.data.get(vm_id, key)
    }

    /// Shares a value if the present one carries this number (0: if there is none); without one in
    /// any case. Whether it did; not at the bound either.
    pub fn share(&self, vm_id: &str, key: &[u8], value: Bytes, version: Option<u32>) -> bool {
        // Of the ABI's own number zero stands for whatever is there; what no value carries is
        // taken only where nothing is.
        let cas = match version {
            None => 0,
            Some(0) => u32::MAX,
            Some(version) => version,
        };
        self.data.set(vm_id, key, value, cas).is_ok()
    }

    /// Adds to the counter of a name, which there is from now on; nothing at the bound.
    pub fn count(&self, name: &str, by: u64) {
        self.metrics.count(name, by);
    }

    /// Adds to the gauge of a name, or takes from it.
    pub fn level(&self, name: &str, by: i64) {
        self.metrics.level(name, by);
    }

    /// Puts a value into the histogram of a name.
    pub fn sample(&self, name: &str, value: u64) {
        self.metrics.sample(name, value);
    }

    /// Lets a filter know, on whatever worker it runs, that there is something in a queue.
    pub(crate) fn notify(&self, to: Listener, queue: u32) {
        let Some(inbox) = lock(&self.inboxes).get(&to.worker).cloned() else { return };
        let notice = Notice { vm: to.vm, root: to.root, queue };
        *lock(&inbox.waiting).entry(notice).or_default() += 1;
        (inbox.wake)();
    }

    /// Lets a worker know that it is due at another time than it said.
    pub(crate) fn wake(&self, worker: u64) {
        if let Some(inbox) = lock(&self.inboxes).get(&worker).cloned() {
            (inbox.wake)();
        }
    }

    pub(super) fn open_inbox(&self, wake: Arc<dyn Fn() + Send + Sync>) -> Arc<Inbox> {
        let worker = self.workers.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::new(Inbox { worker, waiting: Mutex::default(), wake });
        lock(&self.inboxes).insert(worker, inbox.clone());
        inbox
    }

    pub(super) fn close_inbox(&self, inbox: &Inbox) {
        lock(&self.inboxes).remove(&inbox.worker);
    }

    pub(super) fn next_vm(&self) -> u64 {
        self.machines.fetch_add(1, Ordering::Relaxed)
    }
}

impl Inbox {
    pub(super) fn worker(&self) -> u64 {
        self.worker
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.waiting).is_empty()
    }

    /// The next notices, each as often as it was sent.
    pub(super) fn take(&self) -> Vec<Notice> {
        let mut waiting = lock(&self.waiting);
        let mut taken = Vec::new();
        while taken.len() < NOTICES_AT_ONCE
            && let Some(mut first) = waiting.first_entry()
        {
            taken.push(*first.key());
            *first.get_mut() -= 1;
            if *first.get() == 0 {
                first.remove();
            }
        }
        if !waiting.is_empty() {
            drop(waiting);
            (self.wake)();
        }
        taken
    }
}

/// Nothing runs under these locks that could leave things half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
