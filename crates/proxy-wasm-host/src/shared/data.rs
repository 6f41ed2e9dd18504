//! Data that modules share by key: `proxy_get_shared_data` and `proxy_set_shared_data`.
//!
//! Each `vm_id` has keys of its own. Every value carries a number (`cas`) from one counter
//! for the whole process; who sets a value can ask that it still carries the number that was
//! read with it. Values stay until they are set anew: nothing lapses and nothing is removed.
//!
//! Keys are spread over [`SHARDS`] maps, each under a lock of its own, so that workers meet
//! only by chance. A value is handed in and out as [`Bytes`]: a count goes up under the lock,
//! no byte is copied there, and a replaced value is freed after it.

use super::quota::{Bounds, Quota};
use crate::status::Status;
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// For dozens of workers that all come at once to meet seldom; idle, a shard is 56 bytes.
const SHARDS: usize = 64;

/// What one `vm_id` may keep: a million keys is a limiter with a counter for every client of
/// a large site, and 256 MiB leaves each of them as many bytes as its map entry takes.
const BOUNDS: Bounds = Bounds { things: 1 << 20, bytes: 256 << 20 };

/// All shared data of a process.
pub(crate) struct Data {
    shards: Box<[Mutex<Shard>]>,
    /// One a `vm_id`, which are the operator's to name: no module can add to them.
    quotas: Mutex<HashMap<Box<str>, Arc<Quota>>>,
    hasher: RandomState,
    bounds: Bounds,
    next_cas: AtomicU32,
}

type Shard = HashMap<Box<str>, Keys>;

/// The keys of one `vm_id` in one shard.
struct Keys {
    entries: HashMap<Box<[u8]>, Entry>,
    quota: Arc<Quota>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    cas: u32,
}

impl Data {
    /// No data yet.
    pub(crate) fn new() -> Self {
        Self::with_bounds(BOUNDS)
    }

    fn with_bounds(bounds: Bounds) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            quotas: Mutex::default(),
            hasher: RandomState::new(),
            bounds,
            next_cas: AtomicU32::new(1),
        }
    }

    /// A key's value and the number that it carries; `None` if it was never set.
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Bytes, u32)> {
        self.with_shard(vm_id, key, |shard| {
            let entry = shard?.get(vm_id)?.entries.get(key)?;
            Some((entry.value.clone(), entry.cas))
        })
    }

    /// Sets a key's value. A `cas` other than 0 must be the number that the present value
    /// carries; for a key that was never set any will do.
    ///
    /// # Errors
    ///
    /// `CasMismatch` if somebody else was faster; `InternalFailure` at the bound. The old
    /// value stays then.
    pub(crate) fn set(
        &self,
        vm_id: &str,
        key: &[u8],
        value: Bytes,
        cas: u32,
    ) -> Result<(), Status> {
        // What was there is handed out of the lock, to be freed without it.
        let replaced = self.with_shard(vm_id, key, |shard| {
            let shard = shard.ok_or(Status::InternalFailure)?;
            if !shard.contains_key(vm_id) {
                let keys = Keys { entries: HashMap::new(), quota: self.quota(vm_id) };
                shard.insert(vm_id.into(), keys);
            }
            let keys = shard.get_mut(vm_id).ok_or(Status::InternalFailure)?;
            self.set_in(keys, key, value, cas)
        });
        replaced.map(drop)
    }

    fn set_in(
        &self,
        keys: &mut Keys,
        key: &[u8],
        value: Bytes,
        cas: u32,
    ) -> Result<Option<Bytes>, Status> {
        let Some(entry) = keys.entries.get_mut(key) else {
            keys.quota.take(1, key.len().saturating_add(value.len()), self.bounds)?;
            keys.entries.insert(key.into(), Entry { value, cas: self.next_cas() });
            return Ok(None);
        };
        if cas != 0 && cas != entry.cas {
            return Err(Status::CasMismatch);
        }
        let (more, less) = (value.len(), entry.value.len());
        if more > less {
            keys.quota.take(0, more - less, self.bounds)?;
        } else {
            keys.quota.give_back(0, less - more);
        }
        entry.cas = self.next_cas();
        Ok(Some(std::mem::replace(&mut entry.value, value)))
    }

    /// The next number; 0 means "whatever is there" and is passed over.
    fn next_cas(&self) -> u32 {
        loop {
            let cas = self.next_cas.fetch_add(1, Relaxed);
            if cas != 0 {
                return cas;
            }
        }
    }

    fn quota(&self, vm_id: &str) -> Arc<Quota> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota) = quotas.get(vm_id) {
            return quota.clone();
        }
        let quota = Arc::<Quota>::default();
        quotas.insert(vm_id.into(), quota.clone());
        quota
    }

    fn with_shard<T>(
        &self,
        vm_id: &str,
        key: &[u8],
        run: impl FnOnce(Option<&mut Shard>) -> T,
    ) -> T {
        // Less than SHARDS, so the cast loses nothing; `get` spares a panic's path.
        let at = self.hasher.hash_one((vm_id, key)) as usize % SHARDS;
        let mut shard =
            self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        run(shard.as_deref_mut())
    }
}

#[cfg(test)]
mod tests;
