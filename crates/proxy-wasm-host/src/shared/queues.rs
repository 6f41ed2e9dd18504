//! Queues that modules share by name: `proxy_register_shared_queue` and its kin.
//!
//! A queue is known by a token from 1 up, the same for all. What is put in stays until some
//! machine takes it out. Whoever registered last is told of each new thing, also if the queue
//! was named first by a module with another `vm_id`: telling is the caller's part, with the
//! [`Listener`] that [`Queues::enqueue`] returns, after all locks are free.

use super::quota::{Bounds, Quota};
use crate::status::Status;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What may wait in all queues that one `vm_id` named: what a slow consumer leaves behind in
/// a minute of a thousand requests a second, each with a kilobyte to say.
const BOUNDS: Bounds = Bounds { things: 1 << 16, bytes: 64 << 20 };

/// All queues of a process: a module that makes up names as it goes would never end.
const QUEUES_MAX: usize = 4096;

/// The longest name of a queue, in bytes: more than any that a person would write.
const NAME_BYTES_MAX: usize = 1024;

/// Who is told that a queue holds something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The worker that its machine runs on.
    pub(crate) worker: u64,
    /// Its machine.
    pub(crate) vm: u64,
    /// Its root context in there.
    pub(crate) root: u32,
}

/// All queues of a process.
pub(crate) struct Queues {
    known: RwLock<Known>,
    bounds: Bounds,
}

#[derive(Default)]
struct Known {
    tokens: HashMap<Box<str>, HashMap<Box<str>, u32>>,
    quotas: HashMap<Box<str>, Arc<Quota>>,
    /// The queue with token 1 comes first.
    queues: Vec<Queue>,
}

struct Queue {
    quota: Arc<Quota>,
    inner: Mutex<Inner>,
}

struct Inner {
    waiting: VecDeque<Bytes>,
    listener: Option<Listener>,
}

impl Queues {
    /// No queues yet.
    pub(crate) fn new() -> Self {
        Self::with_bounds(BOUNDS)
    }

    fn with_bounds(bounds: Bounds) -> Self {
        Self { known: RwLock::default(), bounds }
    }

    /// The token of the queue that a `vm_id` knows by this name, which is made if it is not
    /// there. From now on `who` is told, and no longer who was told before; what waits stays.
    ///
    /// # Errors
    ///
    /// `InternalFailure` if there are too many queues, or the name is too long.
    pub(crate) fn register(&self, vm_id: &str, name: &str, who: Listener) -> Result<u32, Status> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = known.token(vm_id, name) {
            if let Some(queue) = known.queue(token) {
                queue.lock().listener = Some(who);
            }
            return Ok(token);
        }
        known.add(vm_id, name, who)
    }

    /// The token of a queue that is there already.
    pub(crate) fn resolve(&self, vm_id: &str, name: &str) -> Option<u32> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).token(vm_id, name)
    }

    /// Puts something in, and returns whom to tell; nobody, if the machine that would be told
    /// has ended.
    ///
    /// # Errors
    ///
    /// `NotFound` for a token of no queue; `InternalFailure` at the bound.
    pub(crate) fn enqueue(&self, token: u32, value: Bytes) -> Result<Option<Listener>, Status> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let queue = known.queue(token).ok_or(Status::NotFound)?;
        queue.quota.take(1, value.len(), self.bounds)?;
        let mut inner = queue.lock();
        inner.waiting.push_back(value);
        Ok(inner.listener)
    }

    /// Takes out what was put in first.
    ///
    /// # Errors
    ///
    /// `NotFound` for a token of no queue; `Empty` if nothing waits.
    pub(crate) fn dequeue(&self, token: u32) -> Result<Bytes, Status> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let queue = known.queue(token).ok_or(Status::NotFound)?;
        let value = queue.lock().waiting.pop_front().ok_or(Status::Empty)?;
        queue.quota.give_back(1, value.len());
        Ok(value)
    }

    /// A machine has ended: it is told nothing any more.
    pub(crate) fn forget(&self, vm: u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for queue in &known.queues {
            let mut inner = queue.lock();
            inner.listener = inner.listener.filter(|listener| listener.vm != vm);
        }
    }
}

impl Known {
    fn token(&self, vm_id: &str, name: &str) -> Option<u32> {
        self.tokens.get(vm_id)?.get(name).copied()
    }

    fn queue(&self, token: u32) -> Option<&Queue> {
        self.queues.get(usize::try_from(token.checked_sub(1)?).ok()?)
    }

    fn add(&mut self, vm_id: &str, name: &str, who: Listener) -> Result<u32, Status> {
        if self.queues.len() >= QUEUES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let quota = self.quotas.entry(vm_id.into()).or_default().clone();
        let inner = Inner { waiting: VecDeque::new(), listener: Some(who) };
        self.queues.push(Queue { quota, inner: Mutex::new(inner) });
        let token = u32::try_from(self.queues.len()).map_err(|_| Status::InternalFailure)?;
        self.tokens.entry(vm_id.into()).or_default().insert(name.into(), token);
        Ok(token)
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
